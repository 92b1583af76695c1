defmodule Pyre.Integration.TimersTest do
  # What a handler can say about time, through a real interpreter.
  use Pyre.Case, async: true

  setup_all do
    %{pyre: start_pyre!()}
  end

  defp clockwork(pyre), do: start_agent!(pyre, "Clockwork")

  defp ticks(pyre, id) do
    case Pyre.state(pyre, id) do
      {:ok, %{"ticks" => ticks}, _revision} -> ticks
      _none_yet -> []
    end
  end

  defp run(pyre, id, handler, args), do: {:ok, nil} = Pyre.call(pyre, id, handler, args)

  # Before the folder goes in which they stand.
  defp end_runs(pyre, id) do
    run(pyre, id, :cancel, %{key: "stand"})
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, id)) end)
  end

  describe "cancel_timer and timers:" do
    test "a timer that is taken back does not fire", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_after, %{seconds: 0.1, key: "a", what: "a"})
      run(pyre, id, :set_after, %{seconds: 0.15, key: "b", what: "b"})
      run(pyre, id, :cancel, %{key: "a"})
      eventually(fn -> ticks(pyre, id) == ["b"] end)
      assert {:ok, []} = Pyre.call(pyre, id, :timers)
    end

    test "it rides with the commit: a handler that fails takes nothing back", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_after, %{seconds: 0.2, key: "a"})
      {:error, _failed} = Pyre.call(pyre, id, :cancel_and_fail, %{key: "a"})
      eventually(fn -> ticks(pyre, id) == ["after"] end)
    end

    test "they are told in the order in which they are due", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_after, %{seconds: 300, key: "late"})
      run(pyre, id, :set_every, %{period: 100})
      run(pyre, id, :set_at, %{seconds: 200})

      assert {:ok, [["tick", "tick", "every"], ["at", "tick", "at"], ["late", "tick", "after"]]} =
               Pyre.call(pyre, id, :timers)

      assert {:ok, %{timers: 3}} = Pyre.info(pyre, id)
    end
  end

  describe "every:" do
    test "fires again and again, counted from the schedule", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_every, %{period: 0.02})
      eventually(fn -> length(ticks(pyre, id)) >= 5 end)
      run(pyre, id, :cancel, %{key: "tick"})
      assert {:ok, []} = Pyre.call(pyre, id, :timers)
    end

    test "setting the same again leaves it as it is, another one replaces", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_every, %{period: 100})
      [first] = rows(pyre, id)
      run(pyre, id, :set_every, %{period: 100})
      assert rows(pyre, id) == [first]
      run(pyre, id, :set_every, %{period: 200})
      assert [other] = rows(pyre, id)
      assert other != first
    end

    test "the next run is held until the last one has ended, and there is one of it", %{pyre: pyre} do
      id = clockwork(pyre)
      folder = workspace()
      options = %{folder: folder, name: "slow"}
      run(pyre, id, :set_every, %{period: 0.02, handler: "stand", options: options})
      await_gate(folder, "slow")
      eventually(fn -> match?([{{:held, _message}, _, _, _, _, _, _, _, _}], rows(pyre, id)) end)
      assert {:ok, %{mailbox: 1}} = Pyre.info(pyre, id)
      open_gate(folder, "slow")
      eventually(fn -> length(ticks(pyre, id)) >= 3 end)
      end_runs(pyre, id)
    end

    test "taken back while it fires, it leaves nothing behind", %{pyre: pyre} do
      id = clockwork(pyre)
      agent = {id, handle(pyre, id)}
      instance = Pyre.Instance.get(pyre)
      period = {:every, 10, 5, :run_once, true}

      for _time <- 1..40, key <- ["a", "b", "c", "d", "e"] do
        :ok = Pyre.Timers.schedule(instance, agent, key, period, "tick", <<0x80>>)
        {:ok, _ticks} = Pyre.call(pyre, id, :timers)
        :ok = Pyre.Timers.cancel(instance, agent, "Clockwork", key)
      end

      # Whatever was about to be fired is.
      _state = :sys.get_state(process(pyre, :timers))
      assert rows(pyre, id) == []
      assert :ets.match(instance.timer_index, {{elem(agent, 1), :"$1"}, :_, :_}) == []
    end

    test "with overlap, runs queue", %{pyre: pyre} do
      id = clockwork(pyre)
      folder = workspace()
      options = %{folder: folder, name: "slow", overlap: true}
      run(pyre, id, :set_every, %{period: 0.02, handler: "stand", options: options})
      await_gate(folder, "slow")
      eventually(fn -> match?({:ok, %{mailbox: n}} when n >= 3, Pyre.info(pyre, id)) end)
      open_gate(folder, "slow")
      end_runs(pyre, id)
    end

    test "a period of less than 10 ms, and nonsense, are refused where they are written", %{pyre: pyre} do
      for {period, options, words} <- [
            {0.005, %{}, "at least 0.01"},
            {1, %{missed: "never"}, "run_once, skip, run_all"},
            {1, %{jitter: 2}, "less than the period"},
            {1, %{key: ""}, "not empty"}
          ] do
        assert {:error, error} =
                 Pyre.call(pyre, clockwork(pyre), :set_every, %{period: period, options: options})

        assert Exception.message(error) =~ words
      end
    end
  end

  describe "at:" do
    test "fires at its instant, at once where that is past", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_at, %{seconds: 0.05, what: "soon"})
      run(pyre, id, :set_at, %{seconds: -5, what: "past"})
      eventually(fn -> Enum.sort(ticks(pyre, id)) == ["past", "soon"] end)
      assert {:ok, []} = Pyre.call(pyre, id, :timers)
    end
  end

  describe "cron:" do
    test "is planned, told, and refused with the reason", %{pyre: pyre} do
      id = clockwork(pyre)
      run(pyre, id, :set_cron, %{expression: "* * * * *", options: %{tz: "Europe/Berlin", jitter: 0.5}})
      assert {:ok, [["tick", "tick", "cron"]]} = Pyre.call(pyre, id, :timers)

      assert [{{due, _unique}, _, _, _, _, _, {:cron, _, _, 500, :run_once, false}, planned, nil}] =
               rows(pyre, id)

      assert rem(planned, 60_000) == 0
      assert (due - Pyre.Instance.now_ms()) in -1_000..61_000
      assert {:error, error} = Pyre.call(pyre, id, :set_cron, %{expression: "0 25 * * *"})
      assert Exception.message(error) =~ ~s(cron expression '0 25 * * *': hour 25 is not in 0 to 23)
    end
  end

  describe "@every:" do
    test "runs by itself, is kept by restarts, and ends with the agent", %{pyre: pyre} do
      id = start_agent!(pyre, "Pendulum")
      eventually(fn -> match?({:ok, %{"swings" => n}, _} when n >= 3, Pyre.state(pyre, id)) end)
      assert {:ok, ["new-year", "swing", "wind"]} = Pyre.call(pyre, id, :keys)
      wind = Enum.find(rows(pyre, id), &(elem(&1, 2) == "wind"))
      {:error, _failed} = Pyre.call(pyre, id, :fail)
      assert {:ok, ["new-year", "swing", "wind"]} = Pyre.call(pyre, id, :keys)
      assert wind in rows(pyre, id)
      handle = handle(pyre, id)
      :ok = Pyre.stop_agent(pyre, id)
      assert timers_of(pyre, handle) == []
    end

    test "one that was cancelled stays so over a restart", %{pyre: pyre} do
      id = start_agent!(pyre, "Pendulum")
      run(pyre, id, :cancel, %{key: "wind"})
      assert {:ok, %{timers: 2}} = Pyre.info(pyre, id)
      {:error, _failed} = Pyre.call(pyre, id, :fail)
      assert {:ok, ["new-year", "swing"]} = Pyre.call(pyre, id, :keys)
    end

    test "on_restart: :initial keeps those of decorators only", %{pyre: pyre} do
      id = start_agent!(pyre, "Pendulum", on_restart: :initial)
      run(pyre, id, :remind, %{})
      run(pyre, id, :cancel, %{key: "wind"})
      assert {:ok, ["extra", "new-year", "swing"]} = Pyre.call(pyre, id, :keys)
      {:error, _failed} = Pyre.call(pyre, id, :fail)
      assert {:ok, ["new-year", "swing", "wind"]} = Pyre.call(pyre, id, :keys)
    end
  end

  defp handle(pyre, id) do
    {:ok, %{handle: handle}} = Pyre.Address.fetch(Pyre.Instance.get(pyre), id)
    handle
  end

  defp rows(pyre, id), do: timers_of(pyre, handle(pyre, id))

  defp timers_of(pyre, handle) do
    for row <- :ets.tab2list(Pyre.Instance.get(pyre).timers), elem(row, 1) == handle, do: row
  end
end
