defmodule Pyre.Worker.Isolated do
  @moduledoc false

  # The supervisor of the workers that Pyre.Worker.Isolation starts and ends.

  use DynamicSupervisor

  alias Pyre.Instance

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: DynamicSupervisor.start_link(__MODULE__, name)

  @impl DynamicSupervisor
  def init(name) do
    Instance.register(Instance.fetch!(name), :isolated_workers)
    DynamicSupervisor.init(strategy: :one_for_one, max_restarts: 100, max_seconds: 5)
  end
end
