defmodule Pyre.Worker.Supervisor do
  @moduledoc false

  # The workers, and the pulse that watches them. A Python that won't start is not a crash here: the worker's process
  # lives on and tries again. The intensity is for this code's own bugs.

  use Supervisor

  alias Pyre.Worker
  alias Pyre.Worker.{Isolated, Isolation, Numbers, Pulse}

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config)

  @impl Supervisor
  def init(%{name: name} = config) do
    workers = for {no, _role, _pool} <- Numbers.initial(config), do: {Worker, {name, no}}
    children = workers ++ [{Isolated, name}, {Isolation, name}, {Pulse, name}]
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 100, max_seconds: 5)
  end
end
