defmodule Pyre.History.RingTest do
  use ExUnit.Case, async: true

  alias Pyre.History.Ring
  alias Pyre.Instance

  @handle 7

  defp instance(most \\ 50) do
    table = :ets.new(:history, [:set, :public, write_concurrency: true])
    %Instance{name: :ring, config: %{history: most}, history: table}
  end

  defp entry(at, more \\ %{}),
    do: Map.merge(%{at: at, kind: :call, handler: "add", attempt: 1, id: at, took: 10 * at}, Map.new(more))

  defp read(instance), do: instance |> Ring.read(@handle) |> Enum.map(&elem(&1, 1)) |> Enum.sort_by(& &1.at)

  test "every column comes back as it was, up to its bound" do
    instance = instance()
    now = System.os_time(:microsecond)

    entries =
      for {kind, n} <-
            Enum.with_index([:call, :cast, :timer, :on_start, :on_down, :event, :stream, :put_state]),
          do: entry(now + n, kind: kind, handler: "h#{n}", attempt: n + 1, id: 4_398_046_511_103 - n, took: n)

    {fit, [eighth_attempt]} = Enum.split(entries, 7)
    for entry <- fit, do: assert({:ok, _slot} = Ring.put(instance, @handle, entry))
    assert :error = Ring.put(instance, @handle, eighth_attempt)
    assert read(instance) == fit
    last = entry(now + 9, kind: :put_state, handler: "", id: 1)
    assert {:ok, 7} = Ring.put(instance, @handle, last)
    assert List.last(read(instance)) == last
  end

  test "what doesn't fit into small integers is refused, and nothing is written" do
    instance = instance()
    assert :error = Ring.put(instance, @handle, entry(1, kind: :no_such_kind))
    assert :error = Ring.put(instance, @handle, entry(1, id: 4_398_046_511_104))
    assert read(instance) == []
  end

  test "an instant of the year 2255 is still a small integer" do
    instance = instance()
    {:ok, at, 0} = DateTime.from_iso8601("2255-01-01T00:00:00Z")
    far = entry(DateTime.to_unix(at, :microsecond), kind: :put_state, attempt: 7, id: 1)
    {:ok, 0} = Ring.put(instance, @handle, far)
    assert read(instance) == [far]
    [row] = :ets.lookup(instance.history, @handle)
    assert :erts_debug.flat_size(row) == tuple_size(row) + 1
  end

  for most <- [2, 3, 4, 8, 9, 32, 50, 70] do
    test "with room for #{most} the newest #{most} are there, at any time" do
      instance = instance(unquote(most))

      for at <- 1..200 do
        {:ok, slot} = Ring.put(instance, @handle, entry(at))
        assert slot < unquote(most)
        assert Enum.map(read(instance), & &1.at) == Enum.to_list(max(1, at - unquote(most) + 1)..at)
      end
    end
  end

  # Its writer may be killed at any instant: here after it had taken a slot.
  test "a slot that was taken and never written is no entry, and the next ones find their places" do
    instance = instance(5)
    {:ok, 0} = Ring.put(instance, @handle, entry(1))

    for at <- 2..20 do
      :ets.update_counter(instance.history, @handle, {2, Bitwise.bsl(1, 14)})
      assert {:ok, _slot} = Ring.put(instance, @handle, entry(at))
      assert List.last(read(instance)).at == at
      assert length(read(instance)) <= 5
    end
  end

  test "each agent has its own, and names are shared" do
    instance = instance()
    {:ok, 0} = Ring.put(instance, 1, entry(1))
    {:ok, 0} = Ring.put(instance, 2, entry(2))
    assert [{0, %{at: 1}}] = Ring.read(instance, 1)
    Ring.delete(instance, 1)
    assert Ring.read(instance, 1) == []
    assert [{0, %{at: 2, handler: "add"}}] = Ring.read(instance, 2)
    assert [{"add", 1}] = :ets.lookup(instance.history, "add")
  end

  test "an agent with one or two entries pays 115 bytes at most, one with 50 pays 1,300" do
    instance = instance()
    bytes = fn -> 8 * :ets.info(instance.history, :memory) end
    {:ok, 0} = Ring.put(instance, 0, entry(1))
    before = bytes.()
    for handle <- 1..20_000, at <- 1..2, do: Ring.put(instance, handle, entry(at))
    assert (bytes.() - before) / 20_000 <= 115
    for handle <- 1..20_000, at <- 3..50, do: Ring.put(instance, handle, entry(at))
    assert (bytes.() - before) / 20_000 <= 1_300
  end
end
