# Scale: from a thousand to a million agents in one instance; what each costs must not grow with their number.
#
#     mix run bench/scale_bench.exs [MOST]
#
# A million agents take about 4 GB.
Code.require_file("support/bench.exs", __DIR__)

defmodule ScaleBench do
  alias Bench.{Programs, Report}

  @script Path.expand("support/many_agents.exs", __DIR__)
  @counts [1_000, 10_000, 100_000, 1_000_000]
  @limit_seconds 420
  # The default allows 262,144 processes; a library can't raise it.
  @env [{"ELIXIR_ERL_OPTIONS", "+P 2100000"}]

  # The cost at the most agents, as a multiple of that at so many. Tables of a million rows no longer fit into the processor's caches.
  @compared_to 10_000
  @wanted_growth 2.0
  @costs [
    idle_bytes: "bytes for an idle agent",
    spawn_us: "µs to start an agent",
    look_up_ns: "a look-up of an address",
    hot_p50_us: "p50 of one caller"
  ]

  def run(most) do
    rows = for count <- @counts, count <= most, do: sample(count)
    Report.write("scale", "Scale", rows, text(rows))
  end

  defp sample(count) do
    told = Programs.sample(@script, ["#{count}"], @limit_seconds, @env)
    IO.puts("#{count} agents: #{round(told.total_mb)} MB")
    true = told.kept
    Map.put(told, :spawn_us, 1.0e6 / told.spawns_per_s)
  end

  defp text(rows) do
    """
    Each count in a BEAM of its own (`+P 2100000`: the default allows 262,144 processes), one worker and a spare, `Counter` agents as in `Bridge`. Memory is PSS of everything, of an
    idle agent beyond the same instance with 100; such an agent has answered nothing yet. *Hot*: 100 agents; *any*: taken at random from all, so most are activated by
    the call, and with more than `max_activations` (50,000) others are put away for them.

    #{Report.table(["agents", "bytes each", "MB in all", "started/s", "look-up, ns", "cores busy with others"], for row <- rows do
      [row.agents, round(row.idle_bytes), round(row.total_mb), round(row.spawns_per_s), round(row.look_up_ns), row.cores_used_by_others]
    end)}
    #{Report.table(["agents", "one caller of the hot p50, µs", "p99", "of any p50", "p99", "256 callers of the hot, calls/s", "of any"], for row <- rows do
      [row.agents, row.hot_p50_us, row.hot_p99_us, row.any_p50_us, row.any_p99_us, round(row.hot_per_s), round(row.any_per_s)]
    end)}
    `kill -9` of the interpreter, a spare being there: ms until the first of all agents answers, and until 1,000 taken at random have, each with its committed state.

    #{Report.table(["agents", "first answer, ms", "1,000 answers, ms"], Enum.map(rows, &[&1.agents, &1.recovered_first_ms, &1.recovered_all_ms]))}
    #{growth(rows)}
    Agents that are asleep, whose process has ended, are in `Sleep`.
    """
  end

  defp growth(rows) do
    base = Enum.find(rows, List.first(rows), &(&1.agents == @compared_to))
    last = List.last(rows)

    for {key, text} <- @costs, into: "" do
      growth = last[key] / base[key]

      Report.wanted(
        "#{text} at #{last.agents} agents at most #{@wanted_growth} × that at #{base.agents}",
        growth,
        growth <= @wanted_growth
      ) <> "\n"
    end
  end
end

most = System.argv() |> List.first("1000000") |> String.to_integer()
ScaleBench.run(most)
