# What an idle agent weighs, and how fast agents are started.
#
#     mix run bench/memory_bench.exs [SAMPLES]
#
# The BEAM keeps much of the memory that it has freed, so each sample is a BEAM of its own (bench/support/idle_agents.exs).
Code.require_file("support/bench.exs", __DIR__)

defmodule MemoryBench do
  alias Bench.{Programs, Report, Stats}

  @script Path.expand("support/idle_agents.exs", __DIR__)
  @agents 100_000
  @limit_seconds 180

  @wanted_idle 1_800
  @wanted_activation 500
  @wanted_spawns 20_000

  def run(samples) do
    told = for _sample <- 1..samples, do: Programs.sample(@script, ["#{@agents}"], @limit_seconds)

    figures =
      for key <- [:idle_bytes, :activation_bytes, :spawns_per_s], into: %{} do
        {key, told |> Enum.map(&Map.fetch!(&1, key)) |> Stats.summary()}
      end

    parts = Enum.map(told, & &1.parts)

    Report.write(
      "memory",
      "Memory",
      Map.merge(figures, %{agents: @agents, parts: parts}),
      text(figures, parts)
    )
  end

  defp text(figures, parts) do
    """
    #{@agents} agents with a supervisor, an address and 40 bytes of committed state; all idle, so hibernating. PSS of the BEAM's
    process and all below it, beyond what the same instance held with 100 agents. Medians of
    #{length(parts)} samples, each in processes of its own.

    #{Report.table(["", "median", "least", "most", "wanted", ""], [row("bytes for an idle agent", figures.idle_bytes, "≤ #{@wanted_idle}", figures.idle_bytes.median <= @wanted_idle), row("bytes more with an activation", figures.activation_bytes, "≤ #{@wanted_activation}", figures.activation_bytes.median <= @wanted_activation), row("agents started per second, one caller", figures.spawns_per_s, "≥ #{@wanted_spawns}", figures.spawns_per_s.median >= @wanted_spawns)])}
    Where these bytes are, as the BEAM counts them and as the system does (medians):

    #{Report.table(["part", "bytes an agent"], part_rows(parts))}
    """
  end

  defp row(text, summary, wanted, met?),
    do: [text, summary.median, summary.min, summary.max, wanted, Report.verdict(met?)]

  defp part_rows(parts) do
    for key <- parts |> Enum.flat_map(&Map.keys/1) |> Enum.uniq() |> Enum.sort(),
        do: [key, parts |> Enum.map(&Map.get(&1, key, 0)) |> Stats.median()]
  end
end

samples = System.argv() |> List.first("3") |> String.to_integer()
MemoryBench.run(samples)
