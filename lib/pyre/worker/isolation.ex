defmodule Pyre.Worker.Isolation do
  @moduledoc false

  # The workers that are not for everybody: in each pool one for agents on probation, which it takes one at a time, and those that agents
  # asked for with `:isolation`. They are started when first needed, and ended when nobody has needed them for a while.
  #
  # What is lost with this process is only who waits: they ask again (Pyre.Agent.Watch).

  use GenServer

  alias Pyre.{Error, Instance, Pools, Worker}
  alias Pyre.Worker.{Numbers, Pool}

  @sweep_ms 1_000
  @idle_ms 30_000

  # holders: who is in the probation worker of a pool, by pool; queue: who waits, with the pool.
  defstruct [:instance, holders: %{}, queue: [], idle_since: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Asks for a worker of that role; an agent that waits in the pool is woken when it is ready."
  @spec want(Instance.t(), Pool.role(), Pools.name()) :: :ok
  def want(instance, role, pool), do: Instance.notify(instance, :isolation, {:want, role, pool})

  @doc "Asks to be let into the pool's probation worker; the answer is `{:admitted, worker}`."
  @spec enter(Instance.t(), pid(), Pools.name()) :: :ok
  def enter(instance, agent, pool), do: Instance.notify(instance, :isolation, {:enter, agent, pool})

  @doc "Leaves the probation worker to the next."
  @spec leave(Instance.t(), pid()) :: :ok
  def leave(instance, agent), do: Instance.notify(instance, :isolation, {:leave, agent})

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :isolation)
    Process.send_after(self(), :sweep, @sweep_ms)
    {:ok, %__MODULE__{instance: instance}, {:continue, :restore}}
  end

  # The supervisor of these workers forgets them when it is lost.
  @impl GenServer
  def handle_continue(:restore, state) do
    for %{worker: no, role: role} <- Pool.all(state.instance),
        isolated?(role) or Numbers.canary?(state.instance.config, no),
        do: start(state.instance, no)

    {:noreply, state}
  end

  @impl GenServer
  def handle_info({:want, role, pool}, state) do
    ensure(state.instance, role, pool)
    {:noreply, state}
  end

  def handle_info({:enter, agent, pool}, state) do
    if known?(state, agent) do
      {:noreply, state}
    else
      ensure(state.instance, :probation, pool)
      {:noreply, admit(%{state | queue: state.queue ++ [{agent, Process.monitor(agent), pool}]}, pool)}
    end
  end

  def handle_info({:leave, agent}, state) do
    case Enum.find(state.holders, &match?({_pool, {^agent, _monitor}}, &1)) do
      {pool, {^agent, monitor}} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, vacate(state, pool)}

      nil ->
        {:noreply, state}
    end
  end

  def handle_info(:workers_changed, state), do: {:noreply, admit_all(state)}

  def handle_info({:DOWN, monitor, :process, agent, _reason}, state) do
    case Enum.find(state.holders, &match?({_pool, {^agent, ^monitor}}, &1)) do
      {pool, _holder} -> {:noreply, vacate(state, pool)}
      nil -> {:noreply, %{state | queue: List.keydelete(state.queue, monitor, 1)}}
    end
  end

  def handle_info(:sweep, state) do
    Process.send_after(self(), :sweep, @sweep_ms)
    {:noreply, sweep(state)}
  end

  ## Helpers

  defp known?(state, agent),
    do: List.keymember?(Map.values(state.holders), agent, 0) or List.keymember?(state.queue, agent, 0)

  defp vacate(state, pool), do: admit(%{state | holders: Map.delete(state.holders, pool)}, pool)

  defp admit_all(state),
    do: state.queue |> Enum.map(&elem(&1, 2)) |> Enum.uniq() |> Enum.reduce(state, &admit(&2, &1))

  defp admit(%{holders: holders} = state, pool) when is_map_key(holders, pool), do: state

  defp admit(state, pool) do
    with {agent, monitor, ^pool} = next <- List.keyfind(state.queue, pool, 2) do
      case Pool.pick(state.instance, :probation, pool) do
        {:ok, worker} ->
          send(agent, {:admitted, worker})
          holders = Map.put(state.holders, pool, {agent, monitor})
          %{state | holders: holders, queue: List.delete(state.queue, next)}

        _not_ready ->
          ensure(state.instance, :probation, pool)
          Pool.wait(state.instance, self())
          state
      end
    else
      nil -> state
    end
  end

  defp ensure(instance, role, pool) do
    case Enum.find(Pool.all(instance), &(&1.role == role and &1.pool == pool)) do
      %{pid: pid} when is_pid(pid) -> :ok
      %{worker: no} -> start(instance, no)
      nil -> begin(instance, role, pool)
    end
  end

  defp begin(instance, role, pool) do
    case instance |> numbers(role, pool) |> Enum.find(&Pool.reserve(instance, &1, role, pool)) do
      nil -> :ok
      no -> start(instance, no)
    end
  end

  defp numbers(instance, :probation, pool), do: [Numbers.probation(instance.config, pool)]
  defp numbers(instance, _isolated, _pool), do: Numbers.isolated(instance.config)

  @doc "Starts the worker with that number, which is reserved."
  @spec start(Instance.t(), pos_integer()) :: :ok
  def start(instance, no) do
    with pid when is_pid(pid) <- Instance.whereis(instance, :isolated_workers),
         do: DynamicSupervisor.start_child(pid, Worker.child_spec({instance.name, no}))

    :ok
  catch
    # Its successor is empty; `restore` of ours, or the next wish, fills it.
    :exit, _gone -> :ok
  end

  # The canary, and what it becomes, is Pyre.Generations' to end.
  defp isolated?({:kept, _generation}), do: false
  defp isolated?(role), do: role not in [:shared, :spare, :canary, :leaving]

  @doc "Why there is no worker of that role."
  @spec full(Instance.t()) :: Error.t()
  def full(instance) do
    Error.new(
      :overloaded,
      "all #{instance.config.max_isolated} isolated workers are taken; raise :max_isolated, or stop agents with :isolation",
      %{retry_after_ms: @idle_ms, limit: instance.config.max_isolated}
    )
  end

  @doc "Is there a worker of that role in the pool, or room for one?"
  @spec room?(Instance.t(), Pool.role(), Pools.name()) :: boolean()
  def room?(instance, role, pool) do
    workers = Pool.all(instance)

    Enum.any?(workers, &(&1.role == role and &1.pool == pool)) or
      Enum.any?(numbers(instance, role, pool), fn no -> not Enum.any?(workers, &(&1.worker == no)) end)
  end

  # An agent that was killed leaves its load behind; such a worker stays until the instance ends.
  defp sweep(state) do
    now = Instance.now_ms()

    idle =
      for %{worker: no, role: role, pool: pool} <- Pool.all(state.instance),
          isolated?(role),
          Pool.load(state.instance, no) <= 0,
          not (role == :probation and wanted?(state, pool)),
          into: %{},
          do: {no, Map.get(state.idle_since, no, now)}

    {ended, idle} = Enum.split_with(idle, fn {_no, since} -> now - since > @idle_ms end)
    for {no, _since} <- ended, do: stop(state.instance, no)
    %{state | idle_since: Map.new(idle)}
  end

  defp wanted?(state, pool), do: is_map_key(state.holders, pool) or List.keymember?(state.queue, pool, 2)

  @doc "Ends a worker. Its number is free again a while later: in a process of its own, it takes as long as the interpreter's farewell."
  @spec stop(Instance.t(), pos_integer()) :: pid()
  def stop(instance, no) do
    supervisor = Instance.whereis(instance, :isolated_workers)
    pid = Pool.pid(instance, no)
    Pool.close(instance, no, :draining)

    spawn(fn ->
      _gone_or_ended = pid && DynamicSupervisor.terminate_child(supervisor, pid)
      Pool.forget(instance, no)
    end)
  end
end
