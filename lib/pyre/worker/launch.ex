defmodule Pyre.Worker.Launch do
  @moduledoc false

  # Starts an interpreter: the files that it writes to, its port, and what it is told first.

  alias Pyre.{Error, Generations, Instance, Pools, Python, Reaper, Wire}
  alias Pyre.Wire.MsgPack
  alias Pyre.Worker.{Pool, Recorder}

  require Wire

  @type paths :: %{recorder: Path.t(), log: Path.t(), stderr: Path.t(), stacks: Path.t()}

  @doc "The files and the socket of a worker: flight recorder, log, first lines of standard error, stacks."
  @spec paths(Instance.t(), pos_integer()) :: paths()
  def paths(%Instance{directory: directory}, no) do
    Map.new([:recorder, :log, :stderr, :stacks], &{&1, Path.join(directory, "#{&1}-#{no}")})
  end

  @doc "Starts an interpreter whose port the calling process owns."
  @spec start(Instance.t(), pos_integer(), paths()) ::
          {:ok, port(), os_pid :: pos_integer() | nil, Generations.pinned()} | {:error, Error.t()}
  def start(instance, no, paths) do
    pool = Pools.fetch!(instance.config, Pool.pool(instance, no))

    case Python.find(pool.python) do
      {:ok, python} -> open(instance, no, paths, {python, pool})
      {:error, error} -> {:error, %{error | message: Pools.prefix(pool.name) <> error.message}}
    end
  end

  defp open(instance, no, paths, {python, pool}) do
    {generation, pinned} = Generations.for_worker(instance, no)
    Recorder.create!(paths.recorder)
    File.write!(paths.stderr, "")
    File.write!(paths.stacks, "")
    options = Python.port_options(python, Map.put(paths, :env, pool.env))
    port = Port.open({:spawn_executable, "/bin/sh"}, options)
    os_pid = with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid
    if os_pid, do: Reaper.watch(instance, os_pid)
    Pool.starting(instance, no, os_pid, generation)
    {:ok, port, os_pid, pinned}
  rescue
    error in [ErlangError, ArgumentError, File.Error] ->
      {:error, Error.new(:worker_start, "worker #{no} could not be started: #{Exception.message(error)}")}
  end

  @doc "The first envelope."
  @spec hello(Instance.t(), pos_integer(), Generations.pinned()) :: tuple()
  def hello(%Instance{config: config, name: name} = instance, no, pinned) do
    pool = Pools.fetch!(config, Pool.pool(instance, no))
    agents = config.shared ++ pool.own

    {:ok, body} =
      MsgPack.encode(%{
        instance: inspect(name),
        agents: agents,
        pool: Atom.to_string(pool.name),
        pools: Enum.map(Pools.names(config), &Atom.to_string/1),
        own: pool.own,
        pinned: for({directory, copy} <- pinned, directory in agents, do: [directory, copy]),
        max_threads: config.max_threads,
        max_activations: config.max_activations,
        stall_warning_ms: config.stall_warning,
        max_worker_rss_bytes: config.max_worker_rss && 2 * config.max_worker_rss,
        max_body_bytes: Wire.max_body_bytes(),
        max_state_bytes: Wire.max_body_bytes(),
        max_frame_bytes: Wire.max_frame_bytes()
      })

    {Wire.op_hello(), Wire.version(), no, Instance.now_ms(), body}
  end
end
