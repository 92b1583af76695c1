# What one bad agent costs the others: on its own worker, and on another.
#
#     mix run bench/fairness_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule FairnessBench do
  alias Bench.{Report, Stats, Trouble}

  @settings Trouble.settings()
  @window_ms @settings.window_ms
  @begin_ms @settings.begin_ms
  @stall_ms @settings.stall_ms
  @wanted_extra_ms 300
  @wanted_share 0.2
  @asyncio Path.expand("support/asyncio_actors.py", __DIR__)
  @scenarios [:none, :outside, :spin_on_loop, :sleep_on_loop, :spin_in_thread, :sleep_in_thread]

  def run(rounds) do
    Logger.configure(level: :none)

    told =
      for _round <- 1..rounds, scenario <- @scenarios do
        {scenario, Trouble.scenario(scenario)}
      end
      |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

    report(told, for(_round <- 1..rounds, do: asyncio()))
  end

  defp asyncio do
    {:ok, python} = Pyre.Python.find(nil)
    # For as long as the window lasts; it has nobody who would end it.
    blocked = (@window_ms - @begin_ms) / 1_000
    {text, 0} = System.cmd(python, [@asyncio, "#{@window_ms / 1_000}", "#{blocked}"])

    [p50, p99, max] =
      for key <- ["p50_ms", "p99_ms", "max_ms"] do
        [_all, figure] = Regex.run(~r/"#{key}": ([0-9.e-]+)/, text)
        figure |> Float.parse() |> elem(0)
      end

    %{p50: p50, p99: p99, max: max}
  end

  ## The report

  defp report(told, asyncio) do
    rows =
      for scenario <- @scenarios, side <- [:same, :other] do
        {scenario, side, told[scenario] |> Enum.map(&of(&1[side])) |> medians()}
      end

    figures = %{
      rows: for({scenario, side, row} <- rows, do: Map.merge(row, %{scenario: scenario, side: side})),
      asyncio: medians(asyncio)
    }

    Report.write("fairness", "Fairness", figures, text(rows, medians(asyncio)))
  end

  defp of(latencies),
    do: %{
      p50: Stats.median(latencies),
      p99: Stats.percentile(latencies, 99),
      max: Enum.max(latencies),
      # Calls that were held up by a stall, of each caller at most one.
      held: Enum.count(latencies, &(&1 >= @stall_ms / 2))
    }

  defp medians(list) do
    for key <- Map.keys(hd(list)),
        into: %{},
        do: {key, list |> Enum.map(&Map.fetch!(&1, key)) |> Stats.median()}
  end

  defp text(rows, asyncio) do
    outside = find(rows, :outside, :other)
    spun = find(rows, :spin_on_loop, :other)
    ratio = spun.p50 / outside.p50
    worst = for {scenario, :same, row} <- rows, scenario in [:spin_on_loop, :sleep_on_loop], do: row.max
    limit = @stall_ms + @wanted_extra_ms

    """
    One bad agent among #{@settings.neighbours}, two workers. #{@settings.callers} callers call neighbours at random, with a pause of #{@settings.pause_ms} ms; after #{@begin_ms} ms of
    #{@window_ms} the trouble begins. *outside* is a Python that spins beside Pyre for as long as Pyre lets one spin. Latencies in ms, medians of the rounds.
    *held up* counts calls of more than #{div(@stall_ms, 2)} ms.

    #{Report.table(["trouble", "neighbours on", "p50", "p99", "max", "held up"], for {scenario, side, row} <- rows do
      [scenario, if(side == :same, do: "its worker", else: "the other"), row.p50, row.p99, row.max, row.held]
    end)}
    Plain asyncio, the same load, one task that sleeps on the loop: p50 #{round2(asyncio.p50)}, p99 #{round2(asyncio.p99)}, max #{round2(asyncio.max)} ms: as long as it sleeps.

    * wanted: neighbours on the other worker as with the spinner outside, ± #{round(@wanted_share * 100)} % at p50: × #{round2(ratio)}, #{Report.verdict(abs(ratio - 1) <= @wanted_share)}
    * wanted: neighbours on its worker held up once, for at most #{limit} ms: #{round2(Enum.max(worst))}, #{Report.verdict(Enum.max(worst) <= limit)}
    """
  end

  defp find(rows, scenario, side),
    do: Enum.find_value(rows, fn {s, d, row} -> s == scenario and d == side && row end)

  defp round2(value), do: Float.round(value * 1.0, 2)
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
FairnessBench.run(rounds)
