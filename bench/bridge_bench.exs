# The bridge: what a call costs, against the floor of a C program behind the same Elixir path (bench/floor/echo.c).
#
#     mix run bench/bridge_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule BridgeBench do
  alias Bench.{Load, Machine, Report, Stats}

  @agents 100
  @callers [1, 64, 256, 1_024]
  @window_ms 1_500
  @warm_up_ms 1_000
  @calls_alone 3_000
  @call_timeout_ms 60_000
  # Which cores the BEAM and the interpreter may use, while one caller's latency is measured.
  @placements [{"both on core 0", "0", "0"}, {"BEAM on core 0, interpreter on core 1", "0", "1"}]

  @percents [1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9]

  @wanted_ratio 0.6
  @wanted_added_us 30
  @wanted_p99_ratio 2
  # Of all cores: with more of them busy with other programs, the figures are those of another machine.
  @quiet_share 0.1

  def run(rounds) do
    Logger.configure(level: :error)
    ours = Bench.start_counters(BridgeBench.Ours, @agents, [])
    {floor, told} = Bench.start_floor(BridgeBench.Floor, @agents)
    subjects = %{ours: ours, floor: floor}

    try do
      for subject <- present(subjects), do: load(subject, 256, @warm_up_ms)
      load = for callers <- @callers, do: {callers, rounds(rounds, subjects, &load(&1, callers, @window_ms))}
      alone = for placement <- @placements, do: {placement, alone(rounds, subjects, placement)}
      for subject <- present(subjects), do: check(subject)
      report(load, alone, if(floor, do: nil, else: told))
    after
      for {name, _ids} <- present(subjects), do: Supervisor.stop(name)
      if floor, do: File.rm(told)
    end
  end

  defp present(subjects), do: for({_side, subject} <- subjects, subject, do: subject)

  defp rounds(rounds, subjects, measure) do
    Bench.alternate(rounds, fn side -> if subjects[side], do: measure.(subjects[side]) end)
  end

  ## Many callers

  defp load({name, ids}, callers, window_ms) do
    interpreter = Bench.interpreter(name)

    call = fn n ->
      {:ok, _total} = Pyre.call(name, elem(ids, rem(n, @agents)), :add, %{n: 1}, timeout: @call_timeout_ms)
    end

    %{count: count, spent: spent, rate: rate} =
      Load.run(callers, window_ms, call, fn -> clocks(interpreter) end)

    %{
      rate: rate,
      interpreter_us: spent.interpreter / count,
      beam_us: spent.beam / count,
      others: (spent.machine - spent.beam - spent.interpreter) / spent.wall
    }
  end

  defp clocks(interpreter) do
    %{
      beam: Machine.cpu_us(System.pid()),
      interpreter: Machine.cpu_us(interpreter),
      machine: Machine.busy_us()
    }
  end

  ## One caller

  defp alone(rounds, subjects, {_text, beam_cores, interpreter_cores}) do
    pinned? =
      Enum.all?([
        Machine.pin(System.pid(), beam_cores)
        | for({name, _ids} <- present(subjects), do: Machine.pin(Bench.interpreter(name), interpreter_cores))
      ])

    pairs = rounds(rounds, subjects, &latencies/1)
    Machine.pin(System.pid(), Machine.all_cores())
    for {name, _ids} <- present(subjects), do: Machine.pin(Bench.interpreter(name), Machine.all_cores())
    {pinned?, pairs}
  end

  defp latencies({name, ids}) do
    all = Load.latencies(@calls_alone, fn -> {:ok, _total} = Pyre.call(name, elem(ids, 0), :add, %{n: 1}) end)
    %{p50: Stats.percentile(all, 50), p99: Stats.percentile(all, 99), all: distribution(all)}
  end

  # For the plot.
  defp distribution(all), do: for(percent <- @percents, do: Stats.percentile(all, percent))

  ## Afterwards

  # Each call has changed the state and each change was committed, or the figures mean nothing.
  defp check({name, ids}) do
    %{counters: %{calls: calls, commits: commits}} = Pyre.info(name)

    totals =
      for id <- Tuple.to_list(ids) do
        {:ok, %{"total" => total}, revision} = Pyre.state(name, id)
        ^revision = total
      end

    ^calls = Enum.sum(totals)
    ^calls = commits
  end

  defp report(load, alone, note) do
    load = for {callers, pairs} <- load, do: load_row(callers, pairs)
    alone = for {placement, {pinned?, pairs}} <- alone, do: alone_row(placement, pinned?, pairs)
    Report.write("bridge", "Bridge", %{load: load, alone: alone}, text(load, alone, note))
  end

  defp load_row(callers, pairs) do
    column = fn side, key -> for pair <- pairs, sample = elem(pair, side), do: sample[key] end
    ratios = for {%{rate: ours}, %{rate: floor}} <- pairs, do: ours / floor

    %{
      callers: callers,
      ours_per_s: summary(column.(0, :rate)),
      floor_per_s: summary(column.(1, :rate)),
      ratio: summary(ratios),
      interpreter_us_per_call: summary(column.(0, :interpreter_us)),
      beam_us_per_call: summary(column.(0, :beam_us)),
      floor_us_per_call: summary(column.(1, :interpreter_us)),
      floor_beam_us_per_call: summary(column.(1, :beam_us)),
      cores_used_by_others: summary(column.(0, :others) ++ column.(1, :others))
    }
  end

  defp alone_row({text, _beam, _interpreter}, pinned?, pairs) do
    column = fn side, key -> for pair <- pairs, sample = elem(pair, side), do: sample[key] end

    %{
      placement: if(pinned?, do: text, else: "not pinned: there is no taskset"),
      ours_p50_us: summary(column.(0, :p50)),
      ours_p99_us: summary(column.(0, :p99)),
      floor_p50_us: summary(column.(1, :p50)),
      floor_p99_us: summary(column.(1, :p99)),
      added_p50_us: summary(for {%{p50: ours}, %{p50: floor}} <- pairs, do: ours - floor),
      percents: @percents,
      ours_distribution_us: middle(column.(0, :all)),
      floor_distribution_us: middle(column.(1, :all)),
      p99_ratio: summary(for {%{p99: ours}, %{p99: floor}} <- pairs, do: ours / floor)
    }
  end

  # The median round at each percentile.
  defp middle([]), do: []
  defp middle(rounds), do: rounds |> Enum.zip() |> Enum.map(&(&1 |> Tuple.to_list() |> Stats.median()))

  defp summary([]), do: nil
  defp summary(values), do: Stats.summary(values)

  defp text(load, alone, note) do
    """
    #{note || "The floor is `bench/floor/echo.c` behind the same Elixir path."} Medians of
    #{length(hd(load).ours_per_s.values)} rounds, ours and the floor in turns.

    One worker, #{@agents} agents, no core pinned; each call changes the agent's state of 40 bytes and commits it:

    #{Report.table(["callers", "ours, calls/s", "floor, calls/s", "ratio", "interpreter, µs of CPU a call", "BEAM", "BEAM at the floor", "cores busy with others"], Enum.map(load, &load_cells/1))}
    #{quiet(load)}One caller, one call after the other:

    #{Report.table(["all threads pinned", "ours p50, µs", "p99", "floor p50, µs", "p99", "added at p50"], Enum.map(alone, &alone_cells/1))}
    #{wanted(load, alone)}
    """
  end

  defp quiet(load) do
    others = load |> Enum.map(& &1.cores_used_by_others.median) |> Enum.max()

    if others > @quiet_share * System.schedulers_online(),
      do:
        "Other programs used up to #{Float.round(others, 1)} cores meanwhile: read the ratios with care, and the absolute figures not at all.\n\n",
      else: ""
  end

  defp load_cells(row) do
    [
      row.callers,
      round(row.ours_per_s.median),
      row.floor_per_s && round(row.floor_per_s.median),
      row.ratio && row.ratio.median,
      row.interpreter_us_per_call.median,
      row.beam_us_per_call.median,
      row.floor_beam_us_per_call && row.floor_beam_us_per_call.median,
      max(row.cores_used_by_others.median, 0.0)
    ]
  end

  defp alone_cells(row) do
    medians = [row.ours_p50_us, row.ours_p99_us, row.floor_p50_us, row.floor_p99_us, row.added_p50_us]
    [row.placement | Enum.map(medians, &(&1 && Float.round(&1.median, 1)))]
  end

  defp wanted([%{ratio: nil} | _rows], _alone), do: ""

  defp wanted(load, alone) do
    %{ratio: %{median: ratio}} = Enum.find(load, &(&1.callers == 256))

    added =
      for %{placement: placement, added_p50_us: %{median: us}} <- alone do
        "* wanted: at most #{@wanted_added_us} µs added at p50, #{placement}: " <>
          "#{Float.round(us, 1)}, #{Report.verdict(us <= @wanted_added_us)}"
      end

    p99 =
      for %{placement: placement, p99_ratio: %{median: ratio}} <- alone do
        "* wanted: p99 of one caller at most #{@wanted_p99_ratio} × the floor's, #{placement}: " <>
          "#{Float.round(ratio, 2)}, #{Report.verdict(ratio <= @wanted_p99_ratio)}"
      end

    Enum.join(
      [
        "* wanted: at least #{@wanted_ratio} × the floor at 256 callers: " <>
          "#{Float.round(ratio, 2)}, #{Report.verdict(ratio >= @wanted_ratio)}"
        | added ++ p99
      ],
      "\n"
    )
  end
end

rounds = System.argv() |> List.first("5") |> String.to_integer()
BridgeBench.run(rounds)
