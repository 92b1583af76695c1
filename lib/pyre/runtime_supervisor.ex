defmodule Pyre.RuntimeSupervisor do
  @moduledoc false

  # The processes that work on the tables. Each rebuilds itself from them, so that the loss of one concerns no other.

  use Supervisor

  alias Pyre.CodeLoading

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config)

  @supervisors [
    Pyre.Agent.Supervisor,
    Pyre.Events.Supervisor,
    Pyre.Group.Supervisor,
    Pyre.Tool.Supervisor,
    Pyre.Worker.Supervisor
  ]

  @impl Supervisor
  def init(%{name: name} = config) do
    CodeLoading.load(:boot)

    # Interpreters take longest to start: whatever they don't need comes after them, and is loaded while they start.
    children = [
      {Pyre.Reaper, name},
      {Pyre.Generations, name},
      {Pyre.Worker.Supervisor, config},
      {Pyre.Timers, name},
      {Pyre.Monitors, name},
      {Pyre.Escalations, name},
      {Pyre.Events.Supervisor, name},
      {Pyre.Limits.Slots, name},
      {Pyre.Tool.Supervisor, name},
      {Pyre.Agent.Supervisor, name},
      {Pyre.Agent.Waker, name},
      {Pyre.Agent.Sweeper, name},
      {Pyre.Group.Supervisor, name},
      {Pyre.Group.Keeper, name},
      {Pyre.Agent.Starter, name}
    ]

    children = if config.watch, do: children ++ [{Pyre.Generations.Watcher, name}], else: children
    children = if config.control, do: children ++ [{Pyre.Control, config}], else: children
    children = for {module, argument} <- children, do: child(module, argument)
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 100, max_seconds: 5)
  end

  # As their own `child_spec/1` would say it, which can't be asked without loading them.
  defp child(module, argument) when module in @supervisors,
    do: %{id: module, start: {module, :start_link, [argument]}, type: :supervisor, shutdown: :infinity}

  defp child(module, argument), do: %{id: module, start: {module, :start_link, [argument]}}
end
