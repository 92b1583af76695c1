defmodule Pyre.Supervisor do
  @moduledoc false

  # The tree of one instance. The drain stands beside what it drains: were it a later sibling in one supervisor with the others,
  # each of their restarts would stop it, and that closes the intake.

  use Supervisor

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config, name: config.name)

  @impl Supervisor
  def init(config) do
    Supervisor.init([{Pyre.InstanceSupervisor, config}, {Pyre.Drain, config}], strategy: :one_for_one)
  end
end
