defmodule Pyre.Tool.Supervisor do
  @moduledoc false

  # What agents' tools run in. Without its tasks the runner begins anew, and tells those who waited for them.

  use Supervisor

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: Supervisor.start_link(__MODULE__, name)

  @impl Supervisor
  def init(name) do
    Supervisor.init([{Pyre.Tool.Tasks, name}, {Pyre.Tool.Runner, name}],
      strategy: :rest_for_one,
      max_restarts: 100,
      max_seconds: 5
    )
  end
end
