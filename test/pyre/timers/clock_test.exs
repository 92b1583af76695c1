defmodule Pyre.Timers.ClockTest do
  # The wall's clock is set while timers follow it.
  use Pyre.Case, async: true

  alias Pyre.{Instance, Timers}
  alias Pyre.Timers.Schedule

  @hour_ms 3_600_000

  setup do
    pyre = start_pyre!()
    id = start_agent!(pyre, "Clockwork")
    {:ok, %{handle: handle}} = Pyre.Address.fetch(Instance.get(pyre), id)
    %{pyre: pyre, id: id, agent: {id, handle}}
  end

  # As if the machine's clock had been set.
  defp set_clock(pyre, by_ms) do
    timers = process(pyre, :timers)
    :sys.replace_state(timers, &%{&1 | wall: fn -> System.os_time(:millisecond) + by_ms end})
    send(timers, {:CHANGE, make_ref(), :time_offset, :clock_service, 0})
    _handled = :sys.get_state(timers)
  end

  defp ticks(pyre, id) do
    {:ok, state, _revision} = Pyre.state(pyre, id)
    (state || %{})["ticks"] || []
  end

  defp schedule(pyre, agent, key, schedule),
    do: Timers.schedule(Instance.get(pyre), agent, key, schedule, "tick", <<0x80>>)

  defp row(pyre, {_id, handle}, key) do
    instance = Instance.get(pyre)
    [{_owner, due, unique}] = :ets.lookup(instance.timer_index, {handle, key})
    [row] = :ets.lookup(instance.timers, {due, unique})
    row
  end

  defp due(row), do: row |> elem(0) |> elem(0)

  test "an instant comes with the clock; delays and periods don't", %{pyre: pyre, id: id, agent: agent} do
    {:ok, nil} = Pyre.call(pyre, id, :set_at, %{seconds: 3_600})
    {:ok, nil} = Pyre.call(pyre, id, :set_after, %{seconds: 3_600, key: "delay"})
    schedule(pyre, agent, "period", {:every, @hour_ms, 0, :run_once, false})
    set_clock(pyre, @hour_ms + 1_000)
    eventually(fn -> ticks(pyre, id) == ["at"] end)
    assert Enum.map(Timers.list(Instance.get(pyre), elem(agent, 1)), & &1.kind) == ["after", "every"]
  end

  test "set back, an instant waits for it", %{pyre: pyre, agent: agent} do
    schedule(pyre, agent, "at", {:at, System.os_time(:millisecond) + @hour_ms})
    before = due(row(pyre, agent, "at"))
    set_clock(pyre, -@hour_ms)
    assert_in_delta due(row(pyre, agent, "at")), before + @hour_ms, 1_000
  end

  test "a timer that is due by a clock that has just been set back waits", %{pyre: pyre, id: id, agent: agent} do
    :sys.replace_state(process(pyre, :timers), fn state ->
      %{state | wall: fn -> System.os_time(:millisecond) - @hour_ms end}
    end)

    schedule(pyre, agent, "at", {:at, System.os_time(:millisecond)})
    eventually(fn -> due(row(pyre, agent, "at")) > Instance.now_ms() + @hour_ms - 20_000 end)
    assert ticks(pyre, id) == []
  end

  test "a cron follows the clock, and repeats no run that a small step back brings again", %{
    pyre: pyre,
    agent: agent
  } do
    hourly = {:cron, {1, Bitwise.bsl(1, 24) - 1, -1, -1, -1, false}, <<-1::64, 0::32>>, 0, :run_once, false}
    schedule(pyre, agent, "hourly", hourly)
    planned = elem(row(pyre, agent, "hourly"), 7)
    assert planned == Schedule.first(hourly, {0, System.os_time(:millisecond)})
    set_clock(pyre, 5 * @hour_ms)
    # It missed some: one run for all of them, and the next hour.
    eventually(fn -> elem(row(pyre, agent, "hourly"), 7) == planned + 5 * @hour_ms end)
    set_clock(pyre, 4 * @hour_ms)
    assert elem(row(pyre, agent, "hourly"), 7) == planned + 5 * @hour_ms
    # That was no step back, the clock was wrong.
    set_clock(pyre, 0)
    eventually(fn -> elem(row(pyre, agent, "hourly"), 7) in [planned, planned + @hour_ms] end)
  end

  test "once a timer follows it, the clock is looked at, also by a successor", %{pyre: pyre, agent: agent} do
    refute :sys.get_state(process(pyre, :timers)).watching?
    schedule(pyre, agent, "at", {:at, System.os_time(:millisecond) + @hour_ms})
    eventually(fn -> :sys.get_state(process(pyre, :timers)).watching? end)
    timers = process(pyre, :timers)
    Process.exit(timers, :kill)
    successor = eventually(fn -> Enum.find([process(pyre, :timers)], &(&1 not in [nil, timers])) end)
    eventually(fn -> :sys.get_state(successor).watching? end)
  end
end
