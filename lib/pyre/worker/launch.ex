defmodule Pyre.Worker.Launch do
  @moduledoc false

  # Starts an interpreter: the files that it writes to, its port, and what it is told first.
  #
  # `interpreter: {module, argument}` in an instance's config, which no option sets, has the module's `open/2` stand in for Python
  # (Pyre.Testing). It gives a process that speaks as a port does, of the same bytes, linked to the worker.

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
          {:ok, port() | pid(), os_pid :: pos_integer() | nil, Generations.Table.pinned()}
          | {:error, Error.t()}
  def start(%Instance{config: %{interpreter: {module, argument}}} = instance, no, paths) do
    {generation, pinned} = Generations.for_worker(instance, no)
    create_files!(paths)
    {:ok, stand_in} = module.open(argument, paths)
    Pool.starting(instance, no, nil, generation)
    {:ok, stand_in, nil, pinned}
  end

  def start(instance, no, paths) do
    pool = Pools.fetch!(instance.config, Pool.pool(instance, no))

    case Python.find(pool.python) do
      {:ok, python} -> open(instance, no, paths, {python, pool})
      {:error, error} -> {:error, %{error | message: Pools.prefix(pool.name) <> error.message}}
    end
  end

  defp open(instance, no, paths, {python, pool}) do
    {generation, pinned} = Generations.for_worker(instance, no)
    create_files!(paths)
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

  defp create_files!(paths) do
    Recorder.create!(paths.recorder)
    File.write!(paths.stderr, "")
    File.write!(paths.stacks, "")
  end

  @doc "Closes what `start/3` opened."
  @spec close(port() | pid()) :: true
  def close(port) when is_port(port) do
    Port.close(port)
  rescue
    # It closed by itself in between.
    ArgumentError -> true
  end

  # Nothing of it may come later: a worker takes what it doesn't know for its supervisor's.
  def close(stand_in) do
    Process.unlink(stand_in)
    monitor = Process.monitor(stand_in)
    Process.exit(stand_in, :kill)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> forget(stand_in)
    end
  end

  defp forget(stand_in) do
    receive do
      {^stand_in, _late} -> forget(stand_in)
      {:EXIT, ^stand_in, _reason} -> forget(stand_in)
    after
      0 -> true
    end
  end

  @doc "The first envelope."
  @spec hello(Instance.t(), pos_integer(), Generations.Table.pinned()) :: tuple()
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
