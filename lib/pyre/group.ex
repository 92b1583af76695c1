defmodule Pyre.Group do
  @moduledoc false

  # The supervisor of one group: OTP's own, over agents and further groups. Which children it has is read from the table at each start, so
  # those that were added while it ran come back with it. Its intensity is the group's, and the only one that counts for the
  # agents in it.

  use Supervisor

  alias Pyre.Group.Table
  alias Pyre.{Address, Instance, Patience}

  # How long one who adds a child waits for a supervisor that is just being restarted.
  @patience_ms 5_000
  @pause_ms 10

  @spec child_spec({atom(), Table.name()}) :: Supervisor.child_spec()
  # :permanent in its parent, where the end of a group that used its intensity up is a failure like any other.
  def child_spec({_name, group} = argument),
    do: %{
      id: {:group, group},
      start: {__MODULE__, :start_link, [argument]},
      type: :supervisor,
      shutdown: :infinity
    }

  @spec start_link({atom(), Table.name()}) :: Supervisor.on_start()
  def start_link(argument), do: Supervisor.start_link(__MODULE__, argument)

  @impl Supervisor
  def init({name, group}) do
    instance = Instance.fetch!(name)

    case Table.enter(instance, group, self()) do
      {:ok, row} ->
        if row.parent == nil, do: Instance.notify(instance, :groups, {:look, group})
        children = for child <- Table.children(instance, group), do: spec(instance, child)

        Supervisor.init(children,
          strategy: row.strategy,
          max_restarts: row.max_restarts,
          max_seconds: row.max_seconds
        )

      :error ->
        :ignore
    end
  end

  defp spec(instance, {:agent, id} = child),
    do: %{
      Pyre.Agent.child_spec(id)
      | id: child,
        start: {Pyre.Agent, :start_link, [instance.name, id]}
    }

  defp spec(instance, {:group, group}), do: child_spec({instance.name, group})

  @doc "Starts the process of a child that the table has already."
  @spec start_child(Instance.t(), Table.name(), Table.child()) :: :ok | {:error, term()}
  def start_child(instance, group, child),
    do: start_child(instance, group, child, Instance.now_ms() + @patience_ms)

  defp start_child(instance, group, child, until) do
    case ask(instance, group, &Supervisor.start_child(&1, spec(instance, child))) do
      {:ok, _pid_or_undefined} -> :ok
      # Its supervisor was restarted since the row is there, and read it.
      {:error, {:already_started, _pid}} -> :ok
      # A namesake was stopped a moment ago; this one's place is at the end.
      {:error, :already_present} -> start_anew(instance, group, child, until)
      {:error, reason} -> {:error, reason}
      :gone -> wait(instance, group, child, until)
    end
  end

  defp start_anew(instance, group, child, until) do
    :ok = tidy(instance, group, child)
    start_child(instance, group, child, until)
  end

  @doc "Starts the process of an agent that has ended, at the place that it has in its group."
  @spec restart_child(Instance.t(), Table.name(), {:agent, Address.id()}) :: :ok | {:error, term()}
  def restart_child(instance, group, {:agent, id} = child) do
    case ask(instance, group, &Supervisor.restart_child(&1, child)) do
      {:ok, _pid_or_undefined} -> :ok
      {:error, reason} when reason in [:running, :restarting] -> restart_dead(instance, group, id)
      # Its supervisor is just being restarted, or made to forget it.
      _none -> start_child(instance, group, child)
    end
  end

  defp wait(instance, group, child, until) do
    if Table.status(instance, group) in [:starting, :running] and Instance.now_ms() < until do
      Patience.pause(@pause_ms)
      start_child(instance, group, child, until)
    else
      {:error, :group_down}
    end
  end

  # It is started by a strategy, or its supervisor has not heard yet that it ended.
  defp restart_dead(instance, group, id) do
    with {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, id),
         false <- Process.alive?(pid) do
      Patience.pause(@pause_ms)
      restart_child(instance, group, {:agent, id})
    else
      _runs_or_gone -> :ok
    end
  end

  @doc "Ends the process of a child, where there is one, and makes its supervisor forget it."
  @spec forget_child(Instance.t(), Table.name(), Table.child()) :: :ok
  def forget_child(instance, group, child) do
    _ended = ask(instance, group, &Supervisor.terminate_child(&1, child))
    tidy(instance, group, child)
  end

  @doc "Makes the supervisor of a group forget a child that has ended by itself."
  @spec tidy(Instance.t(), Table.name(), Table.child()) :: :ok
  def tidy(instance, group, child) do
    _deleted = ask(instance, group, &Supervisor.delete_child(&1, child))
    :ok
  end

  defp ask(instance, group, request) do
    case Table.fetch(instance, group) do
      {:ok, %{pid: pid}} when is_pid(pid) -> request.(pid)
      _not_up -> :gone
    end
  catch
    :exit, _reason -> :gone
  end
end
