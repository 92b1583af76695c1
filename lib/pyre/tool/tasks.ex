defmodule Pyre.Tool.Tasks do
  @moduledoc false

  # The tasks in which tools run, one for each use.

  use DynamicSupervisor

  alias Pyre.Instance
  alias Pyre.Tool.{Job, Runs, Spec}

  @spec start_link(atom()) :: Supervisor.on_start()
  def start_link(name), do: DynamicSupervisor.start_link(__MODULE__, name)

  # A task that doesn't end when it is asked to is killed this much later.
  @kill_ms 500

  @doc "Starts the task of one use, for the calling process to let it begin."
  @spec start_job(Instance.t(), Spec.t(), Runs.run()) :: pid()
  def start_job(instance, spec, run) do
    runner = self()
    job = {Task, fn -> Job.start(runner, instance, spec, run) end}
    job = Supervisor.child_spec(job, restart: :temporary, shutdown: @kill_ms)

    {:ok, pid} = DynamicSupervisor.start_child(Instance.whereis(instance, :tool_tasks), job)
    pid
  end

  @impl DynamicSupervisor
  def init(name) do
    name |> Instance.fetch!() |> Instance.register(:tool_tasks)
    DynamicSupervisor.init(strategy: :one_for_one)
  end
end
