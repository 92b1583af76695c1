# How soon an agent, a worker's agents and the neighbours of a blocked one answer again.
#
#     mix run bench/recovery_bench.exs [CRASHES]
Code.require_file("support/bench.exs", __DIR__)

defmodule RecoveryBench do
  alias Bench.{Crashes, Report, Stats, Timeline}

  @crowd 10_000
  @busy 200
  @callers 64
  @kill_rounds 5
  @block_rounds 9
  @stall_ms 1_000
  @wanted_kill_factor 2
  @wanted_extra_ms 300
  @timeout_ms 60_000
  @poll_ms 1
  @timeline_agents 100
  @timeline_ms 4_000
  @event_ms 1_000
  @acts [:kill_interpreter, :kill_worker, :kill_agent, :kill_partition]
  @soak_limit_seconds 300
  @soak_pause_ms 25

  def run(crashes) do
    Logger.configure(level: :none)
    crashed = for strategy <- Crashes.strategies(), do: {strategy, Crashes.run(strategy, crashes)}
    killed = kill_worker()
    blocked = for kind <- ["sleep_on_loop", "spin_on_loop"], do: {kind, block(kind)}
    lost = for act <- @acts, do: {act, soak(act, div(crashes * 3, 10))}
    timelines = for event <- [:kill, :sleep_on_loop], into: %{}, do: {event, timeline(event)}
    report(crashes, {crashed, killed, blocked, lost}, timelines)
  end

  ## A worker is killed

  defp kill_worker do
    for _round <- 1..@kill_rounds do
      name = Bench.start_troubled(workers: 1)
      ids = List.to_tuple(for n <- 1..@crowd, do: "a#{n}")
      for id <- Tuple.to_list(ids), do: {:ok, ^id} = Pyre.start_agent(name, "Crasher", id: id)
      {_ms, :ok} = call_all(name, ids, 1)
      {undisturbed_ms, :ok} = call_all(name, ids, 2)
      busy(name)
      os_pid = Bench.interpreter(name)
      {_text, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
      {killed_ms, :ok} = call_all(name, ids, 3)
      Supervisor.stop(name)
      %{undisturbed_ms: undisturbed_ms, killed_ms: killed_ms}
    end
  end

  # Handlers that wait, and a child of the interpreter that holds its pipe open.
  defp busy(name) do
    for n <- 1..@busy do
      {:ok, id} = Pyre.start_agent(name, "Holder", id: "busy#{n}")
      :ok = Pyre.cast(name, id, :wait)
    end

    {:ok, "parent"} = Pyre.start_agent(name, "Holder", id: "parent")
    {:ok, _pid} = Pyre.call(name, "parent", :leave_child)
    until(fn -> running(name) >= @busy end)
    Bench.await_spare(name)
  end

  defp running(name), do: name |> Pyre.Instance.fetch!() |> Pyre.Mailbox.running_count()

  # Every agent once, by so many callers; each must answer with what it has committed.
  defp call_all(name, ids, expected) do
    {us, :ok} =
      :timer.tc(fn ->
        for caller <- 1..@callers do
          Task.async(fn -> walk(name, ids, caller, expected) end)
        end
        |> Task.await_many(:infinity)

        :ok
      end)

    {us / 1_000, :ok}
  end

  defp walk(_name, ids, n, _expected) when n > tuple_size(ids), do: :ok

  defp walk(name, ids, n, expected) do
    {:ok, ^expected} = add(name, elem(ids, n - 1))
    walk(name, ids, n + @callers, expected)
  end

  # A call that had been written to the pipe of the one that died may have begun: its caller is told, and asks again.
  # What it may not be is committed and not answered.
  defp add(name, id) do
    with {:error, %Pyre.Error{kind: :worker_down}} <- Pyre.call(name, id, :add, %{}, timeout: @timeout_ms),
         do: add(name, id)
  end

  ## A loop is blocked

  defp block(handler) do
    for _round <- 1..@block_rounds do
      name = Bench.start_troubled(workers: 1, stall_timeout: @stall_ms)
      {:ok, "n"} = Pyre.start_agent(name, "Crasher", id: "n")
      {:ok, "bad"} = Pyre.start_agent(name, "Holder", id: "bad")
      {:ok, 1} = Pyre.call(name, "n", :add)
      Bench.await_spare(name)
      :ok = Pyre.cast(name, "bad", handler)
      until(fn -> running(name) == 1 end)
      {us, :ok} = :timer.tc(fn -> first_reply(name) end)
      Supervisor.stop(name)
      us / 1_000
    end
  end

  defp first_reply(name) do
    case Pyre.call(name, "n", :add, %{}, timeout: @timeout_ms) do
      {:ok, 2} -> :ok
      {:error, %Pyre.Error{kind: :worker_down}} -> first_reply(name)
    end
  end

  ## From moment to moment

  defp timeline(event) do
    name = Bench.start_troubled(workers: 1, stall_timeout: @stall_ms)

    ids =
      for n <- 1..@timeline_agents, do: elem({:ok, _id} = Pyre.start_agent(name, "Crasher", id: "a#{n}"), 1)

    {:ok, "bad"} = Pyre.start_agent(name, "Holder", id: "bad")
    {:ok, nil} = Pyre.call(name, "bad", :wait, %{seconds: 0})
    Bench.await_spare(name)
    told = Timeline.run(name, List.to_tuple(ids), @timeline_ms, @event_ms, fn -> happen(event, name) end)
    Supervisor.stop(name)
    told
  end

  defp happen(:kill, name), do: {_text, 0} = System.cmd("kill", ["-KILL", "#{Bench.interpreter(name)}"])
  defp happen(handler, name), do: :ok = Pyre.cast(name, "bad", handler)

  ## Kills under load, against a ledger

  defp soak(act, kills) do
    options = %{only: act, most: kills, seconds: @soak_limit_seconds, pause_ms: @soak_pause_ms}
    report = Pyre.Chaos.run(Map.merge(Pyre.Chaos.defaults(), options))

    %{
      kills: Map.get(report.acts, act, 0),
      calls: report.load.calls,
      casts: Map.get(report.load.outcomes, :cast_accepted, 0),
      violations: report.violations
    }
  end

  ## Helpers

  defp until(done?) do
    unless done?.() do
      Process.sleep(@poll_ms)
      until(done?)
    end
  end

  defp report(crashes, {crashed, killed, blocked, lost}, timelines) do
    limits = for pair <- killed, do: @wanted_kill_factor * pair.undisturbed_ms + @wanted_extra_ms
    ratios = for {pair, limit} <- Enum.zip(killed, limits), do: pair.killed_ms / limit

    figures = %{
      crashes: crashes,
      crashed: Map.new(crashed, fn {strategy, told} -> {strategy, %{told | ms: Stats.summary(told.ms)}} end),
      timelines: timelines,
      killed: killed,
      killed_to_limit: Stats.summary(ratios),
      lost: Map.new(lost),
      blocked_ms: Map.new(blocked, fn {kind, ms} -> {kind, Stats.summary(ms)} end)
    }

    Report.write("recovery", "Recovery", figures, text({crashed, killed, blocked, lost}, ratios))
  end

  defp text({crashed, killed, blocked, lost}, ratios) do
    """
    A handler raises; then the same agent is called, and answers with its committed state. One worker; each agent fails once, in
    groups of #{Crashes.group_size()} (*nested*: such groups, `one_for_one`, in one of `rest_for_one`).

    #{Report.table(["strategy", "crashes", "recovered", "next reply p50, ms", "p99", "most"], for {strategy, told} <- crashed do
      [strategy, length(told.ms), told.recovered, Stats.median(told.ms), Stats.percentile(told.ms, 99), Enum.max(told.ms)]
    end)}
    `kill -9` of the worker of #{@crowd} agents, #{@busy} of them busy, with a child that holds the pipe. #{@callers} callers then call every agent once, as
    they did before; every answer is checked against the committed state. Medians of #{@kill_rounds} rounds.

    #{Report.table(["", "ms"], [["undisturbed", Stats.median(for pair <- killed, do: pair.undisturbed_ms)], ["after the kill", Stats.median(for pair <- killed, do: pair.killed_ms)]])}
    * wanted: within #{@wanted_kill_factor} × the undisturbed time + #{@wanted_extra_ms} ms: #{Float.round(Stats.median(ratios), 2)} of that, #{Report.verdict(Stats.median(ratios) <= 1)}

    Kills under load, held against a ledger of what #{Pyre.Chaos.defaults().senders} senders were told (`mix pyre.chaos` does it with all kinds at once).

    #{Report.table(["killed", "times", "casts accepted", "calls answered", "lost, reordered, answered twice or not", ""], for {act, told} <- lost do
      [act, told.kills, told.casts, told.calls, length(told.violations), Report.verdict(told.violations == [])]
    end)}
    A handler blocks its loop for ever; the first reply of a neighbour, with `stall_timeout` #{@stall_ms} ms. Medians of #{@block_rounds}.

    #{Report.table(["handler", "median, ms", "least", "most", "wanted", ""], for {kind, ms} <- blocked do
      [kind, Stats.median(ms), Enum.min(ms), Enum.max(ms), "≤ #{@stall_ms + @wanted_extra_ms}", Report.verdict(Stats.median(ms) <= @stall_ms + @wanted_extra_ms)]
    end)}
    """
  end
end

crashes = System.argv() |> List.first("300") |> String.to_integer()
RecoveryBench.run(crashes)
