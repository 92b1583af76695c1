defmodule Pyre.Agent.Starter do
  @moduledoc false

  # Starts agents: on request (in the caller's process), those with `autostart` once the first worker is ready, and, after the loss of a
  # supervisor, those that the tables say must run. Knows when the instance is ready, and tells those who wait for it.

  use GenServer

  require Logger

  alias Pyre.Agent.{Commits, Ending}
  alias Pyre.{Address, Classes, Error, Group, Instance, Options, Patience, Pools}
  alias Pyre.Group.Table
  alias Pyre.Wire.Body
  alias Pyre.Worker.Pool

  @max_id_bytes 255
  # How soon a starter that died is looked for again.
  @pause_ms 10

  # autostarting: the pools whose agents are being started, by the monitor of who does it.
  defstruct [:instance, waiting: [], autostarting: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc """
  Waits until all workers are ready and the autostart agents run, until it is known whether there is a class, or until any worker of the
  default pool is ready.
  """
  @spec await(Instance.t(), :ready | {:class, String.t()} | :worker, timeout()) :: :ok | {:error, Error.t()}
  def await(instance, what, timeout), do: await(instance, what, timeout, Instance.now_ms())

  # The starter may be the very process that has just died; then its successor is asked.
  defp await(instance, what, timeout, since) do
    left = if timeout == :infinity, do: :infinity, else: max(since + timeout - Instance.now_ms(), 0)

    case ask(Instance.whereis(instance, :starter), what, left) do
      :gone when left == 0 ->
        {:error, not_ready(instance, what)}

      :gone ->
        if running?(instance),
          do: await_again(instance, what, timeout, since),
          else: {:error, not_ready(instance, what)}

      :timeout ->
        {:error, not_ready(instance, what)}

      answer ->
        answer
    end
  end

  defp ask(nil, _what, _timeout), do: :gone

  defp ask(starter, what, timeout) do
    GenServer.call(starter, {:await, what}, timeout)
  catch
    :exit, {:timeout, _call} -> :timeout
    :exit, _gone -> :gone
  end

  defp running?(instance), do: Process.whereis(instance.name) != nil

  defp await_again(instance, what, timeout, since) do
    Patience.pause(@pause_ms)
    await(instance, what, timeout, since)
  end

  # Of what is waited for.
  defp not_ready(instance, what) do
    workers = for pool <- pools(instance, what), worker <- Pool.shared(instance, pool), do: worker
    ready = Enum.count(workers, &(&1.status == :ready))
    wanted = for name <- pools(instance, what), do: Pools.fetch!(instance.config, name).workers
    message = "#{ready} of #{Enum.sum(wanted)} workers are ready"

    case Enum.find(workers, & &1.last_error) do
      nil -> Error.new(:not_ready, message)
      %{last_error: error} -> Error.new(error.kind, "#{message}: #{Exception.message(error)}")
    end
  end

  defp pools(instance, :ready), do: Pools.names(instance.config)
  defp pools(_instance, :worker), do: [Pools.default()]
  defp pools(instance, {:class, _name}), do: Classes.untold(instance)

  @doc "Starts an agent. Runs in the caller's process."
  @spec start(Instance.t(), String.t() | atom(), keyword()) :: {:ok, String.t()} | {:error, Pyre.error()}
  def start(instance, class, opts) do
    class = to_name!(class)
    opts = options!(opts)
    id = opts[:id] || make_id(class)

    with :ok <- check_id(id),
         :ok <- check_open(instance),
         :ok <- known_class(instance, class, opts[:timeout]),
         {:ok, schema} <- Classes.fetch(instance, class),
         :ok <- Classes.check_args(schema, opts[:args]),
         {:ok, args} <- Body.args(opts[:args]) do
      reserve(instance, {class, id, args}, schema, opts)
    end
  end

  @doc "Validates the options of an agent."
  @spec options!(keyword()) :: keyword()
  # Two budgets for one crash would leave nobody sure which one counts.
  def options!(opts) do
    opts = Options.validate!(:agent, opts)

    for option <- [:max_restarts, :max_seconds], opts[:group] != nil, opts[option] != nil do
      raise ArgumentError,
            "expected no #{inspect(option)} for an agent in a group, got: #{inspect(opts[option])}; " <>
              "in a group only the group's own counts"
    end

    opts
  end

  @doc "The name of a class, which may be given as an atom or alias."
  @spec to_name!(term()) :: String.t()
  def to_name!(class) when is_binary(class), do: class

  def to_name!(class) when is_atom(class) and class not in [nil, true, false],
    do: class |> Atom.to_string() |> String.replace_prefix("Elixir.", "")

  def to_name!(class),
    do: raise(ArgumentError, "expected the class to be a string or an atom, got: #{inspect(class, limit: 5)}")

  @doc "Is this a possible id?"
  @spec check_id(term()) :: :ok | {:error, Error.t()}
  def check_id(id) when is_binary(id) and byte_size(id) in 1..@max_id_bytes do
    if String.valid?(id),
      do: :ok,
      else: {:error, Error.new(:invalid_id, "an id must be UTF-8, got: #{inspect(id, limit: 10)}")}
  end

  def check_id(id) when is_binary(id),
    do: {:error, Error.new(:invalid_id, "an id must have 1 to #{@max_id_bytes} bytes, got #{byte_size(id)}")}

  def check_id(id),
    do: {:error, Error.new(:invalid_id, "an id must be a string, got: #{inspect(id, limit: 5)}")}

  @doc "An id for an agent that was not given one."
  @spec make_id(String.t()) :: String.t()
  def make_id(class) do
    number = System.unique_integer([:positive])
    "#{class}-#{System.os_time(:second) |> Integer.to_string(36) |> String.downcase()}-#{number}"
  end

  @doc "Are agents still started?"
  @spec check_open(Instance.t()) :: :ok | {:error, Error.t()}
  def check_open(instance) do
    if Instance.closed?(instance),
      do: {:error, Error.new(:stopping, "the instance #{inspect(instance.name)} is shutting down")},
      else: :ok
  end

  # Pools tell their classes one after the other.
  defp known_class(instance, class, timeout) do
    if Classes.awaited?(instance, class),
      do: await(instance, {:class, class}, timeout),
      else: :ok
  end

  defp reserve(instance, {class, id, args}, schema, opts) do
    kept =
      opts
      |> Keyword.take([
        :restart,
        :max_restarts,
        :max_seconds,
        :max_mailbox,
        :rate_limit,
        :isolation,
        :on_restart,
        :idle_timeout,
        :meta
      ])
      |> Enum.reject(&default?/1)

    cond do
      Address.reserve(instance, id, class, args, kept) -> start_process(instance, id, schema, opts)
      opts[:if_exists] == :return and opts[:group] in [nil, Table.parent(instance, {:agent, id})] -> {:ok, id}
      true -> {:error, Error.new(:already_started, "there is an agent with the id #{inspect(id)} already")}
    end
  end

  defp default?({:restart, :permanent}), do: true
  defp default?({:on_restart, :committed}), do: true
  defp default?({:meta, meta}), do: meta == %{}
  defp default?({_option, value}), do: value == nil

  defp start_process(instance, id, schema, opts) do
    {:ok, %{handle: handle}} = Address.fetch(instance, id)
    if opts[:rate_limit], do: Instance.limit(instance)
    Instance.use_idle_timeout(instance, opts[:idle_timeout])
    Commits.adopt(instance, handle, id)

    case supervise(instance, id, opts[:group]) do
      :ok ->
        if schema["on_start"], do: await_started(instance, id, opts[:timeout]), else: {:ok, id}

      {:error, error} ->
        Ending.forget(instance, id, handle, :delete)
        {:error, error}
    end
  end

  defp supervise(instance, id, nil), do: start_child(instance, id, nil)

  defp supervise(instance, id, group) do
    if Table.add(instance, group, {:agent, id}),
      do: start_child(instance, id, group),
      else: {:error, Group.Control.closed(instance, group)}
  end

  @doc "Starts the process of an agent that has an address, where its supervisor is."
  @spec start_child(Instance.t(), String.t(), String.t() | nil) :: :ok | {:error, Error.t()}
  def start_child(instance, id, nil) do
    case Pyre.Agent.Supervisor.start_child(instance, id) do
      {:ok, _pid} -> :ok
      other -> not_started(id, other)
    end
  end

  def start_child(instance, id, group),
    do: in_group(Group.start_child(instance, group, {:agent, id}), instance, id, group)

  @doc "Starts the process of an agent that was terminated, where it was."
  @spec restart_child(Instance.t(), String.t(), String.t() | nil) :: :ok | {:error, Error.t()}
  def restart_child(instance, id, nil), do: start_child(instance, id, nil)

  def restart_child(instance, id, group),
    do: in_group(Group.restart_child(instance, group, {:agent, id}), instance, id, group)

  defp in_group(result, instance, id, group) do
    case result do
      :ok -> :ok
      {:error, :group_down} -> {:error, Group.Control.closed(instance, group)}
      {:error, reason} -> not_started(id, reason)
    end
  end

  defp not_started(id, reason) do
    {:error,
     Error.new(
       :agent_down,
       "the process of agent #{inspect(id)} could not be started: #{inspect(reason, limit: 10)}",
       %{begun: false}
     )}
  end

  @doc "Waits for on_start. A ping is answered by the agent's process itself, afterwards, or with `terminated` where that never succeeds."
  @spec await_started(Instance.t(), String.t(), timeout()) :: {:ok, String.t()} | {:error, Pyre.error()}
  def await_started(instance, id, timeout) do
    with {:ok, _nil} <- Pyre.Agent.Client.call(instance, id, :ping, <<>>, <<0x80>>, timeout), do: {:ok, id}
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :starter)
    {:ok, %__MODULE__{instance: instance}, {:continue, :catch_up}}
  end

  @impl GenServer
  def handle_continue(:catch_up, state) do
    repopulate(state.instance)
    {:noreply, state |> autostart() |> answer()}
  end

  @impl GenServer
  def handle_call({:await, what}, from, state),
    do: {:noreply, answer(%{state | waiting: [{from, what} | state.waiting]})}

  @impl GenServer
  def handle_info(:repopulate, state) do
    repopulate(state.instance)
    {:noreply, state}
  end

  def handle_info(:worker_ready, %{instance: instance} = state) do
    repopulate(instance)
    Instance.notify(instance, :groups, :repopulate)
    Instance.notify(instance, :waker, :catch_up)
    {:noreply, state |> autostart() |> answer()}
  end

  def handle_info(:worker_failed, state), do: {:noreply, answer(state)}

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    {pool, autostarting} = Map.pop!(state.autostarting, monitor)
    :ets.insert(state.instance.processes, {{:autostarted, pool}, true})
    {:noreply, answer(%{state | autostarting: autostarting})}
  end

  ## Helpers

  # For each pool once in the life of an instance: what was stopped since stays stopped.
  defp autostart(%{instance: instance} = state) do
    under_way = Map.values(state.autostarting)

    for pool <- Pools.names(instance.config),
        Classes.told?(instance, pool) and not autostarted?(instance, pool) and pool not in under_way,
        reduce: state do
      state ->
        {_pid, monitor} = spawn_monitor(fn -> start_all(instance, pool) end)
        %{state | autostarting: Map.put(state.autostarting, monitor, pool)}
    end
  end

  @doc "Have the agents of a pool been started that are to run from the start?"
  @spec autostarted?(Instance.t(), Pools.name()) :: boolean()
  def autostarted?(instance, pool), do: :ets.member(instance.processes, {:autostarted, pool})

  defp start_all(instance, pool) do
    for %{"pool" => name} = problem <- Classes.problems(instance),
        name == Atom.to_string(pool),
        do:
          Logger.error(
            Pools.prefix(pool) <>
              "#{problem["file"]} could not be imported: #{problem["error"]}\n#{problem["traceback"]}",
            pyre: instance.name
          )

    autostart(
      instance,
      for(
        %{"pool" => ^pool} = class <- Classes.all(instance),
        [id, args] <- class["autostart"],
        do: {class["name"], id, args}
      )
    )
  end

  @doc "Starts agents as their classes want it; those that are there stay as they are."
  @spec autostart(Instance.t(), [{String.t(), Address.id(), map() | nil}]) :: :ok
  def autostart(instance, agents) do
    for {class, id, args} <- agents do
      with {:error, error} <- start(instance, class, id: id, args: args || %{}, if_exists: :return),
           do:
             Logger.error("agent #{inspect(id)} could not be started: #{Exception.message(error)}",
               pyre: instance.name
             )
    end

    :ok
  end

  # The mark of an empty partition is taken away last, and only that of this very process: whoever dies in between, the
  # partition or this process, the work is found again.
  # Agents out of a snapshot wait until classes are known: whether one has an `on_start`, and which timers. Those of a pool that tells its classes
  # later wait by themselves.
  defp repopulate(instance), do: if(Classes.told?(instance), do: refill_all(instance), else: :ok)

  defp refill_all(instance) do
    # The groups' supervisor has a mark too, which is its keeper's.
    for {{:empty, number}, partition} = mark when is_integer(number) <- :ets.tab2list(instance.processes) do
      refill(instance, number, partition)
      :ets.delete_object(instance.processes, mark)
    end

    :ok
  end

  # In this order: an agent that was started, or restarted, in the new partition before its children are listed is either
  # among them or no longer known by the process that was expected.
  defp refill(instance, number, partition) do
    expected =
      for {id, pid} <- Address.expected(instance),
          Pyre.Agent.Supervisor.partition(id) == number,
          Table.parent(instance, {:agent, id}) == nil,
          do: {id, pid}

    with {:ok, children} <- children(partition),
         do: Enum.each(expected, fn {id, pid} -> if pid not in children, do: revive(instance, id, pid) end)
  end

  defp children(partition) do
    {:ok,
     for(
       {_id, pid, _type, _modules} <- DynamicSupervisor.which_children(partition),
       into: MapSet.new(),
       do: pid
     )}
  catch
    # Its successor leaves a mark of its own.
    :exit, _gone -> :gone
  end

  defp revive(instance, id, pid) do
    # The processes of a partition that was killed die with it, but not in the same instant.
    Patience.await_end(pid)

    with {:ok, %{pid: ^pid, status: status}} when status != :terminated <- Address.fetch(instance, id) do
      if status not in [:parked, :stopping], do: Address.put_status(instance, id, :restarting)
      Pyre.Agent.Supervisor.start_child(instance, id)
    end
  end

  defp answer(state) do
    {answered, waiting} = Enum.split_with(state.waiting, fn {_from, what} -> reply(state, what) != :wait end)
    for {from, what} <- answered, do: GenServer.reply(from, reply(state, what))
    %{state | waiting: waiting}
  end

  defp reply(%{instance: instance}, {:class, name} = what) do
    cond do
      not Classes.awaited?(instance, name) -> :ok
      Enum.all?(Classes.untold(instance), &failed?(instance, &1)) -> {:error, not_ready(instance, what)}
      true -> :wait
    end
  end

  defp reply(%{instance: instance}, :worker) do
    cond do
      Enum.any?(Pool.shared(instance, Pools.default()), &(&1.status == :ready)) -> :ok
      failed?(instance, Pools.default()) -> {:error, not_ready(instance, :worker)}
      true -> :wait
    end
  end

  defp reply(%{instance: instance}, :ready) do
    if Enum.all?(Pools.names(instance.config), &autostarted?(instance, &1)) and
         Pool.all_shared_ready?(instance),
       do: :ok,
       else: :wait
  end

  defp failed?(instance, pool), do: Enum.all?(Pool.shared(instance, pool), &(&1.status == :failed))

  @doc "The error for a message to an agent that is missing, or what came of starting it first."
  @spec ensure(Instance.t(), String.t(), nil | {String.t() | atom(), keyword()}) ::
          :ok | {:error, Pyre.error()}
  def ensure(_instance, _id, nil), do: :ok

  def ensure(instance, id, {class, opts}) do
    if :ets.member(instance.agents, id) do
      :ok
    else
      with {:ok, _id} <- start(instance, class, Keyword.merge(opts, id: id, if_exists: :return)), do: :ok
    end
  end
end
