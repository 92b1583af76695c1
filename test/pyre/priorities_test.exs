defmodule Pyre.PrioritiesTest do
  # Properties of the order in which a mailbox gives its messages, over random ones; the tables alone.
  use ExUnit.Case, async: true

  alias Pyre.{Address, Instance, Mailbox, State}

  @lanes %{high: 1, normal: 2, low: 3}
  @fair_turn 8

  setup context do
    name = Module.concat(__MODULE__, "I#{:erlang.phash2(context.test)}")
    start_supervised!({State, Instance.config(name: name)})
    instance = Instance.fetch!(name)
    true = Address.reserve(instance, "a", "Counter", <<0x80>>, [])
    {:ok, %{handle: handle}} = Address.fetch(instance, "a")
    %{instance: instance, handle: handle}
  end

  defp put(instance, priority) do
    {:ok, key} = Mailbox.put(instance, "a", :cast, "add", <<0x80>>, 0, nil, priority)
    {elem(key, 1), elem(key, 2)}
  end

  defp take(instance, handle, turn) do
    with %{key: {^handle, lane, seq} = key} = message <- Mailbox.next(instance, handle, turn) do
      true = Mailbox.claim(instance, key)
      Mailbox.delete(instance, "a", message)
      {lane, seq}
    end
  end

  for seed <- 1..20 do
    test "random puts and takes agree with a model (seed #{seed})", %{instance: instance, handle: handle} do
      :rand.seed(:exsss, {unquote(seed), 1, 2})
      bias = :rand.uniform(8)

      Enum.reduce(1..600, {[], 0}, fn _n, {waiting, turn} ->
        if :rand.uniform(10) <= bias do
          {[put(instance, Enum.random([:high, :normal, :normal, :low])) | waiting], turn}
        else
          taken = take(instance, handle, turn)
          assert taken == expected(waiting, turn)
          {List.delete(waiting, taken), turn + 1}
        end
      end)
    end
  end

  defp expected([], _turn), do: nil

  defp expected(waiting, turn) do
    if rem(turn, @fair_turn) == @fair_turn - 1 and
         Enum.any?(waiting, fn {lane, _seq} -> lane != @lanes.normal end),
       do: Enum.min_by(waiting, fn {_lane, seq} -> seq end),
       else: Enum.min(waiting)
  end

  test "no message starves, however many of a higher priority come", %{instance: instance, handle: handle} do
    low = put(instance, :low)
    normal = put(instance, :normal)

    # Two come for each that is taken.
    taken =
      for turn <- 0..40 do
        put(instance, :high)
        put(instance, :high)
        take(instance, handle, turn)
      end

    assert Enum.find_index(taken, &(&1 == low)) < @fair_turn
    assert Enum.find_index(taken, &(&1 == normal)) < 2 * @fair_turn
  end

  test "what is wanted of the agent itself comes before everything", %{instance: instance, handle: handle} do
    for _n <- 1..10, do: put(instance, :high)
    {:ok, {_handle, lane, seq}} = Mailbox.put(instance, "a", :stop, <<>>, :delete, 0, nil)
    for turn <- 0..15, do: assert(%{key: {_handle, ^lane, ^seq}} = Mailbox.next(instance, handle, turn))
  end
end
