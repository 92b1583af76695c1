defmodule Pyre.Agent.Supervisor do
  @moduledoc false

  # The supervisors of all agents: one partition per scheduler, so that starting many is not one process's work.

  use Supervisor

  alias Pyre.Agent.Partition
  alias Pyre.Instance

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: Supervisor.start_link(__MODULE__, name)

  @doc "Starts the process of an agent whose address is reserved."
  @spec start_child(Instance.t(), String.t()) :: DynamicSupervisor.on_start_child()
  def start_child(instance, id) do
    case Instance.whereis(instance, {:partition, partition(id)}) do
      nil -> {:error, :restarting}
      pid -> DynamicSupervisor.start_child(pid, Pyre.Agent.child_spec(id))
    end
  catch
    :exit, reason -> {:error, reason}
  end

  @doc "The partition that an agent belongs to."
  @spec partition(String.t()) :: non_neg_integer()
  def partition(id), do: :erlang.phash2(id, partitions())

  defp partitions, do: System.schedulers_online()

  @impl Supervisor
  def init(name) do
    children = for number <- 0..(partitions() - 1), do: {Partition, {name, number}}
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 1_000, max_seconds: 1)
  end
end
