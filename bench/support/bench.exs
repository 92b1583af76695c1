# What the benchmarks share. Scripts are not compiled with the library, so each loads this file first.
for file <- ~w(stats json machine programs report), do: Code.require_file("#{file}.exs", __DIR__)

defmodule Bench do
  @moduledoc false

  # Two candidates are measured alternately, A B A B, so that whatever else the machine does meets both alike; what
  # is compared are the two halves of a pair, and what is told is the median over the pairs.

  @agents Path.expand("../agents", __DIR__)
  @troubled Path.expand("../troubled", __DIR__)

  @doc "The directory of the benchmarks' agents."
  def agents, do: @agents

  @doc "The directory of those that fail and block."
  def troubled, do: @troubled

  @doc "Runs `measure` for :ours and :floor in turns. Gives `[{ours, floor}]`, one for each round."
  def alternate(rounds, measure) do
    for _round <- 1..rounds do
      ours = measure.(:ours)
      {ours, measure.(:floor)}
    end
  end

  @doc "An instance with one worker and `count` agents of the class Counter. Gives its name and the agents' ids."
  def start_counters(name, count, opts) do
    {:ok, _pid} = Pyre.start_link([name: name, agents: @agents, workers: 1] ++ opts)
    :ok = Pyre.await_ready(name, 30_000)
    ids = for n <- 1..count, do: "counter-#{n}"
    for id <- ids, do: {:ok, ^id} = Pyre.start_agent(name, "Counter", id: id)
    {name, List.to_tuple(ids)}
  end

  @doc "The operating system's pid of an instance's only shared interpreter."
  def interpreter(name) do
    %{os_pid: os_pid, status: :ready} = Enum.find(Pyre.workers(name), &(&1.role == :shared))
    os_pid
  end
end
