# Workers: what more interpreters bring, from one to twice as many as there are cores.
#
#     mix run bench/workers_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule WorkersBench do
  alias Bench.{Load, Machine, Report, Stats}

  @instance WorkersBench.Instance
  @agents 100
  @callers 256
  @warm_up_ms 1_000
  @window_ms 1_500
  # About a millisecond of Python.
  @rounds_of_compute 15_000
  @calls_alone 2_000
  @timeout_ms 60_000

  def run(rounds) do
    Logger.configure(level: :error)
    counts = 1..(2 * System.schedulers_online()) |> Enum.filter(&(&1 in [1, 2, 3, 4] or rem(&1, 4) == 0))
    # In turns, so that whatever else the machine does meets all alike.
    told = for _round <- 1..rounds, count <- counts, do: {count, measure(count)}
    report(for count <- counts, do: row(count, for({^count, figures} <- told, do: figures)))
  end

  defp measure(workers) do
    {name, ids} = Bench.start_counters(@instance, @agents, workers: workers)
    Bench.await_spare(name)
    load(name, ids, :add, %{n: 1}, @warm_up_ms)
    {pss, _parts} = Machine.pss(System.pid())
    pids = [System.pid() | for(%{os_pid: os_pid} <- Pyre.workers(name), do: os_pid)]

    {figures, others} =
      Machine.with_others(pids, fn ->
        alone = Load.latencies(@calls_alone, fn -> call(name, elem(ids, 0), :add, %{n: 1}) end)

        %{
          calls_per_s: load(name, ids, :add, %{n: 1}, @window_ms),
          computed_per_s: load(name, ids, :compute, %{rounds: @rounds_of_compute}, @window_ms),
          p50_us: Stats.median(alone),
          p99_us: Stats.percentile(alone, 99),
          mb: pss / 1.0e6
        }
      end)

    Supervisor.stop(name)
    Map.put(figures, :cores_used_by_others, others)
  end

  defp load(name, ids, handler, args, window_ms),
    do: Load.run(@callers, window_ms, fn n -> call(name, elem(ids, rem(n, @agents)), handler, args) end).rate

  defp call(name, id, handler, args),
    do: {:ok, _reply} = Pyre.call(name, id, handler, args, timeout: @timeout_ms)

  defp row(count, told) do
    for key <- Map.keys(hd(told)),
        into: %{workers: count},
        do: {key, told |> Enum.map(& &1[key]) |> Stats.summary()}
  end

  defp report(rows) do
    text = """
    #{@agents} agents, one spare interpreter beside the workers. *Calls*: #{@callers} callers of a handler that changes the state. *Computing*: the same callers, each handler
    takes about a millisecond of Python. Medians of #{length(hd(rows).mb.values)} rounds, the counts in turns. On #{System.schedulers_online()} cores the BEAM shares them with
    its interpreters.

    #{Report.table(["workers", "calls/s", "computing, calls/s", "one caller p50, µs", "p99", "MB in all", "cores busy with others"], for row <- rows do
      [row.workers, round(row.calls_per_s.median), round(row.computed_per_s.median), row.p50_us.median, row.p99_us.median, row.mb.median, row.cores_used_by_others.median]
    end)}
    """

    Report.write("workers", "Workers", rows, text)
  end
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
WorkersBench.run(rounds)
