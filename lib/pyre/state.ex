defmodule Pyre.State do
  @moduledoc false

  # Owns the tables of an instance and does nothing else, so that it has no reason to die: addresses, mailboxes,
  # committed states, restart budgets, groups, timers, dead letters, monitors, pauses, quarantine, steps, histories,
  # escalations, tools, generations, subscriptions, limits. Every other process of
  # the tree can be lost and rebuilds itself from here. It is the first child and the last to stop.

  use GenServer

  require Logger

  alias Pyre.{Instance, Patience, Snapshot}
  alias Pyre.Tool.Table

  @directory_mode 0o700
  @remove_attempts 100
  @pause_ms 10

  # Long enough to write millions of rows.
  @spec child_spec(map()) :: Supervisor.child_spec()
  def child_spec(config), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [config]}, shutdown: 300_000}

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  ## Callbacks

  @impl GenServer
  def init(config) do
    Process.flag(:trap_exit, true)
    Instance.set_origin()
    instance = build(config)
    Enum.each(config.tools, &Table.put(instance, &1))

    # Before anybody can look.
    with :ok <- Snapshot.restore(instance, config.snapshot) do
      # After it: a snapshot brings the marks of the node that wrote it.
      if config.limits != %{}, do: Instance.limit(instance)
      Instance.use_idle_timeout(instance, config.idle_timeout)
      Instance.publish(instance)
      {:ok, instance}
    else
      {:error, error} -> {:stop, error}
    end
  end

  @impl GenServer
  def terminate(_reason, instance) do
    leave_snapshot(instance)
    Instance.retract(instance.name)
    remove(instance.directory, @remove_attempts)
  end

  ## Helpers

  # Only what was drained is whole; after a crash of this process there is nothing to carry over, and nothing is drained.
  defp leave_snapshot(%{config: %{snapshot: path}} = instance) when is_binary(path) do
    if Instance.closed?(instance) do
      case Snapshot.write(instance, path) do
        {:ok, count} -> Logger.info("#{count} rows were written to #{path}", pyre: instance.name)
        {:error, reason} -> Logger.critical("#{reason}; what the instance held is lost", pyre: instance.name)
      end
    end
  end

  defp leave_snapshot(_instance), do: :ok

  # An interpreter that the reaper is just killing may still make a file there.
  defp remove(directory, attempts) do
    _removed = File.rm_rf(directory)

    if attempts > 1 and File.exists?(directory) do
      Patience.pause(@pause_ms)
      remove(directory, attempts - 1)
    end
  end

  defp build(config) do
    %Instance{
      name: config.name,
      config: config,
      agents: table(:pyre_agents, :set, false),
      mailbox: table(:pyre_mailbox, :ordered_set, false),
      commits: table(:pyre_commits, :set, false),
      classes: table(:pyre_classes, :set),
      workers: table(:pyre_workers, :ordered_set),
      processes: table(:pyre_processes, :set),
      restarts: table(:pyre_restarts, :set),
      groups: table(:pyre_groups, :ordered_set),
      timers: table(:pyre_timers, :ordered_set),
      timer_index: table(:pyre_timer_index, :ordered_set),
      waits: table(:pyre_waits, :duplicate_bag),
      waiting: table(:pyre_waiting, :ordered_set),
      quarantine: table(:pyre_quarantine, :set),
      dead_letters: table(:pyre_dead_letters, :ordered_set),
      monitors: table(:pyre_monitors, :ordered_set),
      paused: table(:pyre_paused, :ordered_set),
      steps: table(:pyre_steps, :ordered_set),
      history: table(:pyre_history, :set, false),
      traces: table(:pyre_traces, :bag),
      escalations: table(:pyre_escalations, :ordered_set),
      generations: table(:pyre_generations, :set),
      subscriptions: table(:pyre_subscriptions, :ordered_set),
      limits: table(:pyre_limits, :ordered_set),
      tools: table(:pyre_tools, :set),
      tool_runs: table(:pyre_tool_runs, :set),
      counters: Instance.new_counters(),
      load: Pyre.Worker.Pool.new_load(config),
      under_way: Pyre.Worker.Pool.new_under_way(config),
      flags: Instance.new_flags(),
      directory: make_directory()
    }
  end

  # What is written with each message is better off without locks for readers: they make each change of a row look at
  # all readers' places, and each reader pay for a memory barrier.
  defp table(name, type, read? \\ true),
    do: :ets.new(name, [type, :public, read_concurrency: read?, write_concurrency: true])

  # Sockets, flight recorders and the first lines of standard error live here.
  defp make_directory do
    base = base()
    name = "pyre-#{System.pid()}-#{Integer.to_string(System.os_time(), 36)}"
    directory = Path.join(base, name)
    File.mkdir!(directory)
    File.chmod!(directory, @directory_mode)
    directory
  end

  @doc """
  The directory in which instances have theirs: on tmpfs where there is one, so that a mapped page is never written to a disk. Its path must
  leave room in the 108 bytes of a socket's address.
  """
  @spec base() :: Path.t() | nil
  def base, do: Enum.find(["/dev/shm", System.tmp_dir!()], &writable?/1)

  defp writable?(path),
    do:
      match?(
        {:ok, %File.Stat{type: :directory, access: access}} when access in [:write, :read_write],
        File.stat(path)
      )
end
