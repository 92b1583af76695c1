defmodule Pyre.Supervisor do
  @moduledoc false

  # The tree of one instance. Later children are built on earlier ones: the loss of one restarts those after it, which
  # rebuild themselves from the tables of the first.

  use Supervisor

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config, name: config.name)

  @impl Supervisor
  def init(%{name: name} = config) do
    children = [
      {Pyre.State, config},
      {Pyre.Reaper, name},
      {Pyre.Timers, name},
      {Pyre.Worker.Supervisor, config},
      {Pyre.Agent.Supervisor, name},
      {Pyre.Agent.Starter, name},
      {Pyre.Drain, config}
    ]

    Supervisor.init(children, strategy: :rest_for_one)
  end
end
