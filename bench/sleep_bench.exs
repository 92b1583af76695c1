# What an agent weighs that is asleep, and what it costs to wake one.
#
#     mix run bench/sleep_bench.exs [SAMPLES [AGENTS]]
#
# The BEAM keeps much of the memory that it has freed, so each sample is a BEAM of its own (bench/support/sleeping_agents.exs).
Code.require_file("support/bench.exs", __DIR__)

defmodule SleepBench do
  alias Bench.{Programs, Report, Stats}

  @script Path.expand("support/sleeping_agents.exs", __DIR__)
  @limit_seconds 600
  @wanted_bytes 500

  def run(samples, agents) do
    told = for _sample <- 1..samples, do: Programs.sample(@script, ["#{agents}"], @limit_seconds)

    figures =
      for key <- [:asleep_bytes, :filled_per_s, :woken_per_s, :awake_per_s], into: %{} do
        {key, told |> Enum.map(&Map.fetch!(&1, key)) |> Stats.summary()}
      end

    latencies =
      for who <- [:asleep_us, :awake_us], at <- [:p50, :p99], into: %{} do
        {:"#{who}_#{at}", told |> Enum.map(&(&1 |> Map.fetch!(who) |> Map.fetch!(at))) |> Stats.summary()}
      end

    parts = Enum.map(told, & &1.parts)
    figures = Map.merge(figures, latencies)
    text = text(agents, figures, parts)
    Report.write("sleep", "Sleep", Map.merge(figures, %{agents: agents, parts: parts}), text)
  end

  defp text(agents, figures, parts) do
    """
    #{agents} agents, each with an address, 40 bytes of committed state and one entry of history, all asleep: rows, and no process. PSS of
    the BEAM's process and all below it, beyond what the same instance held with 100 agents that were asleep too. Medians of
    #{length(parts)} samples, each in processes of its own.

    #{Report.table(["", "median", "least", "most", "wanted", ""], [row("bytes for an agent that is asleep", figures.asleep_bytes, @wanted_bytes)] ++ for({text, key} <- rows(), do: row(text, figures[key], nil)))}
    Where these bytes are, as the BEAM counts them (medians):

    #{Report.table(["part", "bytes an agent"], part_rows(parts))}
    """
  end

  defp rows do
    [
      {"a call that finds its agent asleep, µs, median", :asleep_us_p50},
      {"... the slowest of 100", :asleep_us_p99},
      {"the same call again, µs, median", :awake_us_p50},
      {"... the slowest of 100", :awake_us_p99},
      {"woken and answered per second, 64 callers", :woken_per_s},
      {"the same again, all awake", :awake_per_s},
      {"started, given a state and asleep per second, 64 callers", :filled_per_s}
    ]
  end

  defp row(text, summary, nil), do: [text, summary.median, summary.min, summary.max, "", ""]

  defp row(text, summary, wanted) do
    verdict = Report.verdict(summary.median <= wanted)
    [text, summary.median, summary.min, summary.max, "≤ #{wanted}", verdict]
  end

  defp part_rows(parts) do
    for key <- parts |> Enum.flat_map(&Map.keys/1) |> Enum.uniq() |> Enum.sort(),
        do: [key, parts |> Enum.map(&Map.get(&1, key, 0)) |> Stats.median()]
  end
end

[samples, agents] =
  Enum.take(
    Enum.map(System.argv(), &String.to_integer/1) ++ Enum.drop([3, 1_000_000], length(System.argv())),
    2
  )

SleepBench.run(samples, agents)
