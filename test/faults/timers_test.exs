defmodule Pyre.Faults.TimersTest do
  # Promise: a timer fires whatever happens to the interpreter, to its agent's process and to the process that fires it.
  use Pyre.Case, async: true

  alias Pyre.{Address, Instance}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    id = start_agent!(pyre, "Clockwork")
    pendulum = start_agent!(pyre, "Pendulum", max_restarts: 1_000)
    {:ok, nil} = Pyre.call(pyre, id, :set_every, %{period: 0.05})
    {:ok, nil} = Pyre.call(pyre, id, :set_after, %{seconds: 0.4, key: "once", what: "once"})
    {:ok, nil} = Pyre.call(pyre, id, :set_at, %{seconds: 0.4, what: "instant"})
    {:ok, pyre: pyre, id: id, pendulum: pendulum}
  end

  defp assert_all_fire(%{pyre: pyre, id: id, pendulum: pendulum}) do
    before = {count(pyre, id, "tick"), swings(pyre, pendulum)}

    eventually(
      fn ->
        count(pyre, id, "tick") >= elem(before, 0) + 3 and swings(pyre, pendulum) >= elem(before, 1) + 3 and
          count(pyre, id, "once") >= 1 and count(pyre, id, "instant") >= 1
      end,
      10_000
    )

    assert {count(pyre, id, "once"), count(pyre, id, "instant")} == {1, 1}
  end

  defp count(pyre, id, what) do
    {:ok, state, _revision} = Pyre.state(pyre, id)
    Enum.count((state || %{})["ticks"] || [], &(&1 == what))
  end

  defp swings(pyre, id) do
    {:ok, state, _revision} = Pyre.state(pyre, id)
    (state || %{})["swings"] || 0
  end

  defp kill(find) do
    pid = eventually(find)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
    eventually(fn -> find.() not in [nil, pid] end)
  end

  test "kill -9 of the interpreter", %{pyre: pyre} = context do
    kill_interpreter(pyre)
    assert_all_fire(context)
  end

  test "a kill of the process that fires timers, several times", %{pyre: pyre} = context do
    for _time <- 1..3, do: kill(fn -> process(pyre, :timers) end)
    assert_all_fire(context)
  end

  test "a kill of the agent's process", %{pyre: pyre, id: id, pendulum: pendulum} = context do
    kill(fn -> Pyre.whereis(pyre, id) end)
    kill(fn -> Pyre.whereis(pyre, pendulum) end)
    assert_all_fire(context)
  end

  test "kill -9 of the interpreter before a cron run and in it: it is run to its end, once", %{pyre: pyre} do
    folder = workspace()
    id = start_agent!(pyre, "Clockwork")
    options = %{folder: folder, name: "cron", tz: "Europe/Berlin"}

    {:ok, nil} =
      Pyre.call(pyre, id, :set_cron, %{expression: "* * * * *", handler: "stand", options: options})

    {:ok, %{handle: handle}} = Address.fetch(Instance.get(pyre), id)
    [planned] = :ets.match(Instance.get(pyre).timers, {:_, handle, :_, :_, :_, :_, :_, :"$1", :_}) |> hd()
    kill_interpreter(pyre)

    # As if the minute were about to end.
    ahead = planned - System.os_time(:millisecond) - 200
    timers = process(pyre, :timers)
    :sys.replace_state(timers, &%{&1 | wall: fn -> System.os_time(:millisecond) + ahead end})
    send(timers, {:CHANGE, make_ref(), :time_offset, :clock_service, 0})

    assert await_gate(folder, "cron") == ["1"]
    kill_interpreter(pyre)
    assert await_gate(folder, "cron", 2) == ["1", "2"]
    open_gate(folder, "cron")
    eventually(fn -> count(pyre, id, "cron") == 1 end)
    {:ok, nil} = Pyre.call(pyre, id, :cancel, %{key: "stand"})
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, id)) end)
    assert count(pyre, id, "cron") == 1
  end

  # Symptom: nobody told the successor that the run had ended for which the next was held.
  test "a kill of the process that fires timers, while one is held", %{pyre: pyre} do
    folder = workspace()
    id = start_agent!(pyre, "Clockwork")
    options = %{folder: folder, name: "slow"}
    {:ok, nil} = Pyre.call(pyre, id, :set_every, %{period: 0.02, handler: "stand", options: options})
    await_gate(folder, "slow")
    {:ok, %{handle: handle}} = Address.fetch(Instance.get(pyre), id)
    table = Instance.get(pyre).timers

    eventually(fn ->
      :ets.match(table, {{:held, :_}, handle, :_, :_, :_, :_, :_, :_, :"$1"}) != []
    end)

    timers = process(pyre, :timers)
    :ok = :sys.suspend(timers)
    open_gate(folder, "slow")
    eventually(fn -> count(pyre, id, "slow") == 1 end)
    kill(fn -> process(pyre, :timers) end)
    eventually(fn -> count(pyre, id, "slow") >= 3 end)
    {:ok, nil} = Pyre.call(pyre, id, :cancel, %{key: "stand"})
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, id)) end)
  end
end
