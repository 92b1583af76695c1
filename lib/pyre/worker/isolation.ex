defmodule Pyre.Worker.Isolation do
  @moduledoc false

  # The workers that are not for everybody: one for agents on probation, which it takes one at a time, and those that agents
  # asked for with `:isolation`. They are started when first needed, and ended when nobody has needed them for a while.
  #
  # What is lost with this process is only who waits: they ask again (Pyre.Agent.Watch).

  use GenServer

  alias Pyre.{Error, Instance, Worker}
  alias Pyre.Worker.Pool

  @sweep_ms 1_000
  @idle_ms 30_000

  defstruct [:instance, :holder, queue: [], idle_since: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Asks for a worker of that role; an agent that waits in the pool is woken when it is ready."
  @spec want(Instance.t(), Pool.role()) :: :ok
  def want(instance, role), do: Instance.notify(instance, :isolation, {:want, role})

  @doc "Asks to be let into the probation worker; the answer is `{:admitted, worker}`."
  @spec enter(Instance.t(), pid()) :: :ok
  def enter(instance, agent), do: Instance.notify(instance, :isolation, {:enter, agent})

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
        isolated?(role) or Pool.canary?(state.instance.config, no),
        do: start(state.instance, no)

    {:noreply, state}
  end

  @impl GenServer
  def handle_info({:want, role}, state) do
    ensure(state.instance, role)
    {:noreply, state}
  end

  def handle_info({:enter, agent}, state) do
    if known?(state, agent) do
      {:noreply, state}
    else
      ensure(state.instance, :probation)
      {:noreply, admit(%{state | queue: state.queue ++ [{agent, Process.monitor(agent)}]})}
    end
  end

  def handle_info({:leave, agent}, %{holder: {agent, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    {:noreply, admit(%{state | holder: nil})}
  end

  def handle_info({:leave, _agent}, state), do: {:noreply, state}
  def handle_info(:workers_changed, state), do: {:noreply, admit(state)}

  def handle_info({:DOWN, monitor, :process, _agent, _reason}, %{holder: {_pid, monitor}} = state),
    do: {:noreply, admit(%{state | holder: nil})}

  def handle_info({:DOWN, monitor, :process, agent, _reason}, state),
    do: {:noreply, %{state | queue: List.delete(state.queue, {agent, monitor})}}

  def handle_info(:sweep, state) do
    Process.send_after(self(), :sweep, @sweep_ms)
    {:noreply, sweep(state)}
  end

  ## Helpers

  defp known?(%{holder: {agent, _monitor}}, agent), do: true
  defp known?(state, agent), do: List.keymember?(state.queue, agent, 0)

  defp admit(%{holder: nil, queue: [{agent, _monitor} = next | rest]} = state) do
    case Pool.pick(state.instance, :probation) do
      {:ok, worker} ->
        send(agent, {:admitted, worker})
        %{state | holder: next, queue: rest}

      _not_ready ->
        ensure(state.instance, :probation)
        Pool.wait(state.instance, self())
        state
    end
  end

  defp admit(state), do: state

  defp ensure(instance, role) do
    case Enum.find(Pool.all(instance), &(&1.role == role)) do
      %{pid: pid} when is_pid(pid) -> :ok
      %{worker: no} -> start(instance, no)
      nil -> begin(instance, role)
    end
  end

  defp begin(instance, role) do
    case instance |> numbers(role) |> Enum.find(&Pool.reserve(instance, &1, role)) do
      nil -> :ok
      no -> start(instance, no)
    end
  end

  defp numbers(instance, :probation), do: instance.config |> Pool.further() |> Enum.take(1)
  defp numbers(instance, _isolated), do: instance.config |> Pool.further() |> Enum.drop(1)

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

  @doc "Is there a worker of that role, or room for one?"
  @spec room?(Instance.t(), Pool.role()) :: boolean()
  def room?(instance, role) do
    workers = Pool.all(instance)

    Enum.any?(workers, &(&1.role == role)) or
      Enum.any?(numbers(instance, role), fn no -> not Enum.any?(workers, &(&1.worker == no)) end)
  end

  # An agent that was killed leaves its load behind; such a worker stays until the instance ends.
  defp sweep(state) do
    now = Instance.now_ms()

    idle =
      for %{worker: no, role: role} <- Pool.all(state.instance),
          isolated?(role),
          Pool.load(state.instance, no) <= 0,
          not (role == :probation and (state.holder != nil or state.queue != [])),
          into: %{},
          do: {no, Map.get(state.idle_since, no, now)}

    {ended, idle} = Enum.split_with(idle, fn {_no, since} -> now - since > @idle_ms end)
    for {no, _since} <- ended, do: stop(state.instance, no)
    %{state | idle_since: Map.new(idle)}
  end

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
