defmodule Pyre.Events.Supervisor do
  @moduledoc false

  # OTP's process groups for this instance, and the process that is a member.

  use Supervisor

  alias Pyre.Events

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: Supervisor.start_link(__MODULE__, name)

  @impl Supervisor
  def init(name) do
    groups = %{id: :pg, start: {:pg, :start_link, [Events.scope(name)]}}
    Supervisor.init([groups, {Events, name}], strategy: :rest_for_one, max_restarts: 100, max_seconds: 5)
  end
end
