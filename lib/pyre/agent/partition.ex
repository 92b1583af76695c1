defmodule Pyre.Agent.Partition do
  @moduledoc false

  # One supervisor of agents. Its own intensity is out of reach: how often an agent may be restarted is counted per agent. When it
  # is lost it comes back empty; it then asks the starter for the agents that the tables say belong here.

  use DynamicSupervisor

  alias Pyre.Instance

  # Without a start or a crash for this long, its heap is cut to what its children take: it grew by a third more.
  @idle_ms 1_000

  @spec child_spec({atom(), non_neg_integer()}) :: Supervisor.child_spec()
  def child_spec({_name, number} = argument),
    do: %{id: {__MODULE__, number}, start: {__MODULE__, :start_link, [argument]}, type: :supervisor}

  @spec start_link({atom(), non_neg_integer()}) :: Supervisor.on_start()
  def start_link(argument),
    do: DynamicSupervisor.start_link(__MODULE__, argument, hibernate_after: @idle_ms)

  @impl DynamicSupervisor
  def init({name, number}) do
    instance = Instance.fetch!(name)
    Instance.register(instance, {:partition, number})
    :ets.insert(instance.processes, {{:empty, number}, self()})
    Instance.notify(instance, :starter, :repopulate)

    DynamicSupervisor.init(
      strategy: :one_for_one,
      extra_arguments: [name],
      max_restarts: 1_000_000,
      max_seconds: 1
    )
  end
end
