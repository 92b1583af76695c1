defmodule Pyre.Tool.Runs do
  @moduledoc false

  # The uses of tools that are not answered yet: {token, agent's process, task or nil, request}. The agent's process inserts, and
  # only then wakes the runner; so a runner that was killed has a successor that knows of all of them. The rows are State's.

  alias Pyre.{Instance, Tool}

  @type token :: pos_integer()
  @type request :: %{tool: String.t(), body: binary(), deadline: pos_integer(), caller: Tool.Caller.t()}
  @type run :: {token(), agent :: pid(), task :: pid() | nil, request()}

  @doc "A tool is wanted."
  @spec enter(Instance.t(), token(), pid(), request()) :: :ok
  def enter(instance, token, agent, request) do
    :ets.insert(instance.tool_runs, {token, agent, nil, request})
    Instance.notify(instance, :tools, {:run, token})
  end

  @doc "Nobody waits for it any more."
  @spec give_up(Instance.t(), token()) :: :ok
  def give_up(instance, token), do: Instance.notify(instance, :tools, {:give_up, token})

  @doc "One of them."
  @spec fetch(Instance.t(), token()) :: {:ok, run()} | :error
  def fetch(instance, token) do
    case :ets.lookup(instance.tool_runs, token) do
      [run] -> {:ok, run}
      [] -> :error
    end
  end

  @doc "All of them, in the order in which they were asked for."
  @spec all(Instance.t()) :: [run()]
  def all(instance), do: Enum.sort(:ets.tab2list(instance.tool_runs))

  @doc "It runs in this task."
  @spec began(Instance.t(), token(), pid()) :: boolean()
  def began(instance, token, task), do: :ets.update_element(instance.tool_runs, token, {3, task})

  @doc "It has ended."
  @spec delete(Instance.t(), token()) :: true
  def delete(instance, token), do: :ets.delete(instance.tool_runs, token)

  @doc "How many of each tool run, and how many wait."
  @spec counts(Instance.t()) :: %{String.t() => {running :: non_neg_integer(), waiting :: non_neg_integer()}}
  def counts(instance) do
    runs = :ets.select(instance.tool_runs, [{{:_, :_, :"$1", %{tool: :"$2"}}, [], [{{:"$1", :"$2"}}]}])

    Enum.reduce(runs, %{}, fn {task, tool}, counts ->
      {running, waiting} = Map.get(counts, tool, {0, 0})
      Map.put(counts, tool, if(task, do: {running + 1, waiting}, else: {running, waiting + 1}))
    end)
  end
end
