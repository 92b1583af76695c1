defmodule Pyre.Group.Supervisor do
  @moduledoc false

  # The groups that are in no other. A group that was killed is started again; one that used its intensity up ends with
  # `:shutdown`, which for a :transient child is a normal end: it takes nothing with it, and the keeper closes it.

  use DynamicSupervisor

  alias Pyre.Instance

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: DynamicSupervisor.start_link(__MODULE__, name)

  @doc "Starts the supervisor of a group whose name is reserved."
  @spec start_child(Instance.t(), String.t()) :: DynamicSupervisor.on_start_child()
  def start_child(instance, group) do
    case Instance.whereis(instance, :group_supervisor) do
      nil ->
        {:error, :restarting}

      pid ->
        spec = Supervisor.child_spec({Pyre.Group, {instance.name, group}}, restart: :transient)
        DynamicSupervisor.start_child(pid, spec)
    end
  catch
    :exit, reason -> {:error, reason}
  end

  @doc "Ends the supervisor of a group."
  @spec terminate_child(Instance.t(), pid()) :: :ok | {:error, term()}
  def terminate_child(instance, group) do
    DynamicSupervisor.terminate_child(Instance.whereis(instance, :group_supervisor), group)
  catch
    :exit, reason -> {:error, reason}
  end

  @doc "The processes of the groups that run."
  @spec children(Instance.t()) :: {:ok, MapSet.t(pid())} | :gone
  def children(instance) do
    children = DynamicSupervisor.which_children(Instance.whereis(instance, :group_supervisor))
    {:ok, for({_id, pid, _type, _modules} <- children, into: MapSet.new(), do: pid)}
  catch
    :exit, _gone -> :gone
  end

  @impl DynamicSupervisor
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :group_supervisor)
    :ets.insert(instance.processes, {{:empty, :groups}, self()})
    Instance.notify(instance, :groups, :repopulate)
    DynamicSupervisor.init(strategy: :one_for_one, max_restarts: 1_000_000, max_seconds: 1)
  end
end
