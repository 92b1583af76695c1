# What the benchmarks share. Scripts are not compiled with the library, so each loads this file first.
for file <- ~w(stats json machine programs report load settled venv start guard timeline),
    do: Code.require_file("#{file}.exs", __DIR__)

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

  @doc """
  Compiles the floor and starts an instance with it, `count` agents as `start_counters/3` does: `{subject, executable}`. Where there is no
  compiler `{nil, what to tell}`.
  """
  def start_floor(name, count, opts \\ []) do
    case Bench.Programs.floor() do
      # It has no watchdog that beats: it would be taken for stuck.
      {:ok, path} ->
        {start_counters(name, count, [python: path, stall_timeout: :infinity, spare: false] ++ opts), path}

      {:error, text} ->
        {nil, text}
    end
  end

  @doc "An instance with one worker and `count` agents of the class Counter. Gives its name and the agents' ids."
  def start_counters(name, count, opts) do
    {:ok, _pid} = Pyre.start_link(Keyword.merge([name: name, agents: @agents, workers: 1], opts))
    :ok = Pyre.await_ready(name, 30_000)
    ids = for n <- 1..count, do: "counter-#{n}"
    for id <- ids, do: {:ok, ^id} = Pyre.start_agent(name, "Counter", id: id)
    {name, List.to_tuple(ids)}
  end

  @doc "An instance of the agents that fail and block, with bounds that no benchmark meets."
  def start_troubled(opts) do
    name = :"#{__MODULE__}.Troubled#{System.unique_integer([:positive])}"
    opts = [name: name, agents: @troubled, max_mailbox: 100_000, max_restarts: 1_000_000] ++ opts
    {:ok, supervisor} = Pyre.start_link(opts)
    Process.unlink(supervisor)
    :ok = Pyre.await_ready(name, 60_000)
    name
  end

  @doc "Waits until the warm interpreter is ready, without which a loss takes as long as a start."
  def await_spare(name) do
    unless Enum.any?(Pyre.workers(name), &match?(%{role: :spare, status: :ready}, &1)) do
      Process.sleep(5)
      await_spare(name)
    end
  end

  @doc "The operating system's pid of an instance's only shared interpreter."
  def interpreter(name) do
    %{os_pid: os_pid, status: :ready} = Enum.find(Pyre.workers(name), &(&1.role == :shared))
    os_pid
  end
end

# These use the module above.
for file <- ~w(trouble crashes), do: Code.require_file("#{file}.exs", __DIR__)
