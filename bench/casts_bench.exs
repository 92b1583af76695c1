# Casts: how many are accepted, and how many processed.
#
#     mix run bench/casts_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule CastsBench do
  alias Bench.{Load, Machine, Report, Stats}

  @agents 100
  @senders 8
  # So many wait at most in each mailbox.
  @casts 100_000
  @wanted 200_000
  # In bulk, each sender hands over so many at once.
  @at_once 1_000
  @in_bulk 400_000
  @workers [1, 2]
  @limit_ms 60_000

  def run(rounds) do
    Logger.configure(level: :error)

    rows =
      for workers <- @workers,
          {senders, how} <- [{1, :one}, {@senders, :one}, {1, :bulk}, {@senders, :bulk}],
          do: row(workers, senders, how, rounds)

    report(rows)
  end

  defp row(workers, senders, how, rounds) do
    {name, ids} = Bench.start_counters(CastsBench.Instance, @agents, workers: workers)
    _warm = round(name, ids, senders, how)
    pids = [System.pid() | for(%{os_pid: os_pid} <- Pyre.workers(name), do: os_pid)]

    {told, others} =
      Machine.with_others(pids, fn -> for _round <- 1..rounds, do: round(name, ids, senders, how) end)

    check(name, ids, (rounds + 1) * @casts)
    Supervisor.stop(name)

    %{
      workers: workers,
      senders: senders,
      how: how,
      accepted_per_s: Stats.summary(Enum.map(told, &elem(&1, 0))),
      processed_per_s: Stats.summary(Enum.map(told, &elem(&1, 1))),
      cores_used_by_others: others
    }
  end

  # From the first cast until the last is accepted, and until the last is committed.
  defp round(name, ids, senders, how) do
    Machine.await_quiet()
    committed = commits(name)
    began = System.monotonic_time(:microsecond)

    accepted_us = cast(how, name, ids, senders)

    await(name, committed + @casts, System.monotonic_time(:millisecond) + @limit_ms)
    {@casts / accepted_us * 1.0e6, @casts / (System.monotonic_time(:microsecond) - began) * 1.0e6}
  end

  defp cast(:one, name, ids, senders),
    do:
      Load.each(@casts, senders, fn n -> :ok = Pyre.cast(name, elem(ids, rem(n, @agents)), :add, %{n: 1}) end)

  # The list is made by the sender, too.
  defp cast(:bulk, name, ids, senders) do
    Load.each(div(@casts, @at_once), senders, fn _part ->
      casts = for n <- 1..@at_once, do: {elem(ids, rem(n, @agents)), :add, %{n: 1}}
      for :ok <- Pyre.cast_many(name, casts), reduce: 0, do: (count -> count + 1)
    end)
  end

  defp commits(name), do: Pyre.info(name).counters.commits

  defp await(name, commits, limit) do
    cond do
      commits(name) >= commits ->
        :ok

      System.monotonic_time(:millisecond) > limit ->
        raise "the casts were not processed within #{@limit_ms} ms"

      true ->
        Process.sleep(5) && await(name, commits, limit)
    end
  end

  defp check(name, ids, casts) do
    totals =
      for id <- Tuple.to_list(ids), {:ok, %{"total" => total}, _revision} = Pyre.state(name, id), do: total

    ^casts = Enum.sum(totals)
  end

  defp report(rows) do
    [eight, bulk] =
      for how <- [:one, :bulk],
          do: Enum.find(rows, &(&1.workers == 1 and &1.senders == @senders and &1.how == how))

    text = """
    #{@casts} casts to #{@agents} agents; each changes the state and is committed. *Accepted*: in a mailbox, where no death of a process loses it.
    *Processed*: from the first cast until the last commit. Medians of #{length(eight.accepted_per_s.values)} rounds. *In bulk*: by `Pyre.cast_many/3`, #{@at_once} at once.

    #{Report.table(["workers", "senders", "", "accepted/s", "processed/s", "cores busy with others"], for row <- rows do
      [row.workers, row.senders, if(row.how == :bulk, do: "in bulk", else: "one by one"), round(row.accepted_per_s.median), round(row.processed_per_s.median), row.cores_used_by_others]
    end)}
    #{Report.wanted("at least #{@wanted} accepted/s with #{@senders} senders", round(eight.accepted_per_s.median), eight.accepted_per_s.median >= @wanted)}
    #{Report.wanted("at least #{@wanted} processed/s with #{@senders} senders", round(eight.processed_per_s.median), eight.processed_per_s.median >= @wanted)}
    #{Report.wanted("at least #{@in_bulk} accepted/s in bulk, with #{@senders} senders", round(bulk.accepted_per_s.median), bulk.accepted_per_s.median >= @in_bulk)}
    #{Report.wanted("at least #{@in_bulk} processed/s in bulk, with #{@senders} senders", round(bulk.processed_per_s.median), bulk.processed_per_s.median >= @in_bulk)}
    """

    Report.write("casts", "Casts", rows, text)
  end
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
CastsBench.run(rounds)
