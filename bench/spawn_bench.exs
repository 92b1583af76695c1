# Spawning: how fast agents are started, in one list, one after the other, by many callers, and where each runs an `on_start`.
#
#     mix run bench/spawn_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule SpawnBench do
  alias Bench.{Load, Machine, Report, Stats}

  @instance SpawnBench.Instance
  @at_once 8

  # A text, the class, how many, how they are started, and how many a second are wanted.
  @ways [
    {"in bulk, `start_agents`", "Counter", 20_000, :bulk, 50_000},
    {"one caller", "Counter", 20_000, 1, 20_000},
    {"#{@at_once} callers", "Counter", 20_000, @at_once, nil},
    {"with an `on_start`, one caller", "Greeter", 2_000, 1, nil},
    {"with an `on_start`, 64 callers", "Greeter", 10_000, 64, 5_000}
  ]

  def run(rounds) do
    Logger.configure(level: :error)

    {told, others} =
      Machine.with_others([System.pid()], fn -> for _round <- 1..rounds, way <- @ways, do: measure(way) end)

    rows =
      for {{text, _class, count, _how, wanted} = way, index} <- Enum.with_index(@ways) do
        rates = told |> Enum.drop(index) |> Enum.take_every(length(@ways))
        {way, %{way: text, agents: count, per_s: Stats.summary(rates), wanted: wanted}}
      end
      |> Enum.map(&elem(&1, 1))

    report(rows, others)
  end

  # Each in an instance of its own: the one before would leave its agents.
  defp measure({_text, class, count, how, _wanted}) do
    {:ok, _pid} = Pyre.start_link(name: @instance, agents: Bench.agents(), workers: 1)
    :ok = Pyre.await_ready(@instance, 30_000)
    Bench.await_spare(@instance)
    Machine.await_quiet()
    us = start(how, class, count)
    %{agents: %{running: ^count}} = Pyre.info(@instance)
    Supervisor.stop(@instance)
    count / us * 1.0e6
  end

  defp start(:bulk, class, count) do
    {us, started} =
      :timer.tc(fn -> Pyre.start_agents(@instance, for(n <- 1..count, do: {class, id: "a#{n}"})) end)

    true = Enum.all?(started, &match?({:ok, _id}, &1))
    us
  end

  defp start(callers, class, count) do
    Load.each(count, callers, fn n ->
      {:ok, _id} = Pyre.start_agent(@instance, class, id: "a#{n}", timeout: 30_000)
    end)
  end

  defp report(rows, others) do
    text = """
    One worker; agents with a supervisor, an address and a mailbox. Where the class has an `on_start`, starting one waits until it has run in the
    interpreter and its state is committed. Medians of #{length(hd(rows).per_s.values)} rounds; other programs, and the interpreters, kept #{Float.round(others, 2)} cores busy.

    #{Report.table(["", "agents", "started/s", "least", "most", "wanted", ""], for row <- rows do
      [row.way, row.agents, round(row.per_s.median), round(row.per_s.min), round(row.per_s.max), row.wanted && "≥ #{row.wanted}", row.wanted && Report.verdict(row.per_s.median >= row.wanted)]
    end)}
    """

    Report.write("spawn", "Spawning", %{rows: rows, cores_used_by_others: others}, text)
  end
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
SpawnBench.run(rounds)
