defmodule Pyre.ErrorTest do
  use ExUnit.Case, async: true

  alias Pyre.{Error, PythonError}
  alias Pyre.Wire.MsgPack

  doctest Pyre.Error
  doctest Pyre.PythonError

  test "every kind goes over the wire and comes back" do
    for kind <- Error.kinds() do
      error = Error.new(kind, "what happened", %{:begun => true, "limit of theirs" => 3})
      assert {:ok, bytes} = MsgPack.encode(Error.to_body(error))
      assert {:ok, body} = MsgPack.decode(bytes)
      assert Error.from_body(body) == error
    end
  end

  test "a Python error goes over the wire and comes back" do
    error = %PythonError{type: "Reject", message: "no", traceback: "t", expected: true, data: %{"id" => 1}}
    assert {:ok, bytes} = MsgPack.encode(Error.to_body(error))
    assert {:ok, body} = MsgPack.decode(bytes)
    assert Error.from_body(body) == error
  end

  test "retryable? follows the table of the kinds" do
    retryable = fn kind, details -> Error.retryable?(Error.new(kind, "", details)) end

    for kind <- [
          :overloaded,
          :rate_limited,
          :budget_exhausted,
          :stopping,
          :worker_start,
          :not_ready,
          :deadline
        ],
        do: assert(retryable.(kind, %{}))

    for kind <- [:worker_down, :agent_down, :restarted] do
      refute retryable.(kind, %{})
      refute retryable.(kind, %{begun: true})
      assert retryable.(kind, %{begun: false})
      assert retryable.(kind, %{begun: true, idempotent: true})
    end

    refute retryable.(:timeout, %{begun: false})
    assert retryable.(:timeout, %{idempotent: true})
    for kind <- [:not_found, :encode, :cancelled, :internal], do: refute(retryable.(kind, %{begun: false}))
    refute Error.retryable?(%PythonError{type: "ValueError"})
  end

  test "details that Pyre knows get atoms, others stay strings, and no atom is made" do
    details = %{"retry_after_ms" => 5, "committed" => "unknown", "a key nobody knows" => 1}
    body = %{"kind" => "overloaded", "message" => "full", "details" => details}
    assert %Error{details: details} = Error.from_body(body)
    assert details == %{:retry_after_ms => 5, :committed => :unknown, "a key nobody knows" => 1}
  end

  test "an unknown kind is internal, and the kind is kept" do
    assert %Error{kind: :internal, message: "x", details: %{kind: "from_the_future"}} =
             Error.from_body(%{"kind" => "from_the_future", "message" => "x", "details" => %{}})
  end

  test "whatever an interpreter sends becomes an error" do
    for body <- [
          nil,
          1,
          "text",
          [],
          %{},
          %{"kind" => 1},
          %{"kind" => "timeout", "message" => 3, "details" => 4}
        ] do
      assert %Error{message: message} = Error.from_body(body)
      assert is_binary(message)
    end

    assert %PythonError{message: "", data: nil, expected: false} = Error.from_body(%{"type" => nil})
  end

  test "to_body makes everything encodable" do
    error = Error.new(:internal, <<255>>, %{pid: self(), chain: ["a", "b"], pair: {1, 2}})
    assert {:ok, _bytes} = MsgPack.encode(Error.to_body(error))
    assert %{"details" => %{"chain" => ["a", "b"], "pair" => "{1, 2}"}} = Error.to_body(error)
  end

  test "both are exceptions with their message" do
    assert_raise Error, "no agent", fn -> raise Error.new(:not_found, "no agent") end
    assert_raise PythonError, "ValueError: negative size", fn -> raise python_error("negative size") end
    assert Exception.message(python_error("")) == "ValueError"
  end

  test "a kind outside the set is refused" do
    assert_raise FunctionClauseError, fn -> Error.new(:no_such_kind, "") end
  end

  defp python_error(message), do: %PythonError{type: "ValueError", message: message}
end
