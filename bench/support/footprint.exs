# One sample for bench/claims_bench.exs: agents that have all answered once, and what everything holds then: the BEAM, interpreters, all.
#
#     footprint.exs COUNT WORKERS SPARE
Code.require_file("bench.exs", __DIR__)

defmodule Bench.Footprint do
  alias Bench.{Load, Programs, Settled}

  @instance Bench.Footprint.Instance
  @at_once 64

  def run(count, workers, spare?) do
    Logger.configure(level: :error)
    workers = if workers == 0, do: [], else: [workers: workers]
    {:ok, _pid} = Pyre.start_link([name: @instance, agents: Bench.agents(), spare: spare?] ++ workers)
    :ok = Pyre.await_ready(@instance, 30_000)
    if spare?, do: Bench.await_spare(@instance)
    for n <- 1..count, do: {:ok, _id} = Pyre.start_agent(@instance, "Counter", id: "a#{n}")

    Load.each(count, @at_once, fn n ->
      {:ok, 1} = Pyre.call(@instance, "a#{n}", :add, %{n: 1}, timeout: 60_000)
    end)

    {pss, parts} = Settled.pss(1..count, fn n -> Pyre.whereis(@instance, "a#{n}") end)
    Supervisor.stop(@instance)

    Programs.tell(%{mb: pss / 1.0e6, parts: for({name, bytes} <- parts, do: %{name: name, mb: bytes / 1.0e6})})
  end
end

[count, workers, spare] = System.argv()
Bench.Footprint.run(String.to_integer(count), String.to_integer(workers), spare == "true")
