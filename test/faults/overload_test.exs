defmodule Pyre.Faults.OverloadTest do
  # Promise: mailboxes are bounded, and what is refused is told.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault

  test "of many senders at once, exactly as many are accepted as the mailbox holds" do
    pyre = start_pyre!()
    folder = workspace()
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g", max_mailbox: 50)
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")

    results =
      1..200
      |> Task.async_stream(fn _n -> Pyre.cast(pyre, "g", :passed) end, max_concurrency: 50)
      |> Enum.map(fn {:ok, result} -> result end)

    # The running one is in the mailbox, too.
    assert Enum.count(results, &(&1 == :ok)) == 49
    refused = for {:error, %Error{kind: :overloaded} = error} <- results, do: error
    assert length(refused) == 151

    for error <- refused do
      assert Error.retryable?(error)
      assert error.message =~ "50 messages"
      assert is_integer(error.details.retry_after_ms)
    end

    assert {:ok, %{mailbox: 50}} = Pyre.info(pyre, "g")
    assert {:error, %Error{kind: :overloaded}} = Pyre.call(pyre, "g", :passed)
    assert Pyre.info(pyre).counters.overloaded == 152
    open_gate(folder, "a")
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, "g")) end)
    assert Pyre.call(pyre, "g", :passed) == {:ok, [["a", 1]]}
  end

  test "a full mailbox can still be stopped" do
    pyre = start_pyre!(drain_timeout: 50)
    folder = workspace()
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g", max_mailbox: 1)
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "g", :passed)
    assert Pyre.stop_agent(pyre, "g") == :ok
  end

  test "bytes are bounded, too, and are counted out again" do
    pyre = start_pyre!(max_mailbox_bytes: 100_000)
    folder = workspace()
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    big = %{value: String.duplicate("x", 40_000)}
    assert :ok = Pyre.cast(pyre, "g", :passed, big)
    assert :ok = Pyre.cast(pyre, "g", :passed, big)
    assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "g", :passed, big)
    assert :ok = Pyre.cast(pyre, "g", :passed)
    open_gate(folder, "a")
    eventually(fn -> match?({:ok, %{mailbox: 0, mailbox_bytes: 0}}, Pyre.info(pyre, "g")) end)
  end

  test "messages that were withdrawn make room" do
    pyre = start_pyre!()
    folder = workspace()
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g", max_mailbox: 2)
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")

    for _time <- 1..5,
        do: assert({:error, %Error{kind: :deadline}} = Pyre.call(pyre, "g", :passed, %{}, timeout: 10))

    assert {:ok, %{mailbox: 1}} = Pyre.info(pyre, "g")
    open_gate(folder, "a")
    assert Pyre.call(pyre, "g", :passed) == {:ok, [["a", 1]]}
  end
end
