defmodule Pyre.InstanceSupervisor do
  @moduledoc false

  # The tables, and everything that is built on them: with the tables all else begins anew.

  use Supervisor

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config)

  @impl Supervisor
  def init(config) do
    Supervisor.init([{Pyre.State, config}, {Pyre.RuntimeSupervisor, config}], strategy: :rest_for_one)
  end
end
