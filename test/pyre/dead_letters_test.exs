defmodule Pyre.DeadLettersTest do
  # The tables alone: no agent's process, no interpreter.
  use ExUnit.Case, async: true

  alias Pyre.{Address, DeadLetters, Error, Instance, PythonError, State}

  setup context do
    name = Module.concat(__MODULE__, "I#{:erlang.phash2(context.test)}")
    start_supervised!({State, Instance.config(name: name, max_dead_letters: 50)})
    instance = Instance.fetch!(name)
    true = Address.reserve(instance, "a", "Counter", <<0x80>>, [])
    %{instance: instance}
  end

  @error Error.new(:stopped, "over")

  defp put(instance, n, args \\ <<0x80>>) do
    message = %{key: {1, 2, n}, kind: :cast, handler: "add", args: args, attempt: 1}
    DeadLetters.put(instance, %{id: "a", class: "Counter"}, message, :stopped, @error)
  end

  defp keys(instance),
    do: for({_id, _claimant, letter} <- :ets.tab2list(instance.dead_letters), do: elem(letter.key, 2))

  test "the oldest goes beyond the bytes, but one alone may be as large as it is", %{instance: instance} do
    large = :binary.copy(<<0>>, 10 * 1024 * 1024)
    put(instance, 1, large)
    put(instance, 2)
    assert keys(instance) == [1, 2]
    put(instance, 3, large)
    assert keys(instance) == [2, 3]
    put(instance, 4, :binary.copy(<<0>>, 16 * 1024 * 1024))
    assert keys(instance) == [4]
    put(instance, 5)
    assert keys(instance) == [5]
    assert Instance.counters(instance).dead_letters_dropped == 4
    assert {:ok, 1} = DeadLetters.discard(instance, :all)
    assert Instance.letter_bytes(instance) == 0
  end

  test "many who put at once leave no more than may be, and count the others", %{instance: instance} do
    1..8
    |> Enum.map(fn task -> Task.async(fn -> for n <- 1..100, do: put(instance, 1_000 * task + n) end) end)
    |> Task.await_many()

    left = length(keys(instance))
    # Two who make room at the same time may make one place too many.
    assert left in 40..50
    assert Instance.counters(instance).dead_letters_dropped == 800 - left
    assert {:ok, ^left} = DeadLetters.discard(instance, :all)
    assert Instance.letter_bytes(instance) == 0
  end

  test "of many who retry one letter at once, one does", %{instance: instance} do
    for n <- 1..30 do
      put(instance, n)
      [{id, nil, _letter}] = :ets.tab2list(instance.dead_letters)

      results =
        1..4
        |> Enum.map(fn _n -> Task.async(fn -> DeadLetters.retry(instance, id) end) end)
        |> Task.await_many()

      assert Enum.count(results, &(&1 == :ok)) == 1
      assert :ets.info(instance.mailbox, :size) == n
    end
  end

  test "a message that is a letter is settled", %{instance: instance} do
    put(instance, 7)
    assert DeadLetters.settled?(instance, {1, 2, 7})
    refute DeadLetters.settled?(instance, {1, 2, 8})
  end

  test "reasons follow from what a caller would be told" do
    assert DeadLetters.reason(%PythonError{type: "ValueError"}) == :failed
    assert DeadLetters.reason(%PythonError{type: "Reject", expected: true}) == :refused
    assert DeadLetters.reason(Error.new(:worker_down, "")) == :attempts
    assert DeadLetters.reason(Error.new(:invalid_args, "")) == :refused
    assert DeadLetters.reason(Error.new(:parked, "")) == :parked
  end

  test "a summary names the most frequent, and says how many it leaves out" do
    messages =
      for(n <- 1..25, do: {"a#{n}", "Counter", "add"}) ++ [{"b", "Counter", "add"}, {"b", "Counter", "add"}]

    summary = DeadLetters.summary(messages)
    assert summary =~ ~r/^2 Counter.add to "b", 1 Counter.add to "a1"/
    assert summary =~ ", and 6 more"
  end
end
