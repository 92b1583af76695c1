defmodule Pyre.Monitors do
  @moduledoc false

  # Tells who watches an agent of its end. A watch is of the agent, not of its process: a restart, a kill or the loss of a supervisor
  # is none. The rows are State's; this process alone fires them, so each once:
  #
  #   {{:watch, handle, ref}, id, watcher, restarts?}   by the agent that is watched
  #   {{:by, watcher, ref}, handle}                     by the watcher: its pid, or its handle where it is an agent
  #
  # It monitors the processes of the watched agents only to know when to look at the addresses, and the watching processes to forget
  # their rows. A watching agent's rows live as long as its address.

  use GenServer

  alias Pyre.Agent.Restarts
  alias Pyre.{Address, DeadLetters, Error, Instance, Mailbox}
  alias Pyre.Wire.MsgPack

  # An agent between two processes has no pid to monitor: its supervisor is about to start the next.
  @look_again_ms 20

  defstruct [:instance, agents: %{}, watchers: %{}, monitors: %{}]

  @typep watcher :: {:process, pid()} | {:agent, Address.id(), pos_integer()}

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Watches an agent for the calling process."
  @spec watch(Instance.t(), Address.id(), boolean()) :: reference()
  def watch(instance, id, restarts?) do
    # Told at an alias that closes with the first message: a watch that is fired twice, or fires while it is
    # taken back, arrives at most once.
    ref = :erlang.alias([:reply])
    add(instance, id, {:process, self()}, ref, restarts?)
    ref
  end

  @doc "Watches an agent for another agent, which gets an `on_down`."
  @spec watch_for(Instance.t(), {Address.id(), pos_integer()}, Address.id()) :: :ok
  def watch_for(instance, {watcher_id, handle}, id),
    # One watch per pair: a handler that runs again adds none.
    do: add(instance, id, {:agent, watcher_id, handle}, {handle, id}, false)

  defp add(instance, id, watcher, ref, restarts?) do
    case Address.fetch(instance, id) do
      {:ok, %{handle: handle}} ->
        :ets.insert(instance.monitors, [
          {{:by, key(watcher), ref}, handle},
          {{:watch, handle, ref}, id, watcher, restarts?}
        ])

        # Where nobody is up to be told, the successor reads the row.
        Instance.notify(instance, :monitors, {:watch, handle, id, watcher, ref})

      :error ->
        tell(instance, watcher, ref, id, Mailbox.not_found(id))
    end
  end

  defp key({:process, pid}), do: pid
  defp key({:agent, _id, handle}), do: handle

  @doc "What a snapshot carries over: the watches of agents. A process that watched is gone."
  @spec carry(tuple()) :: tuple() | nil
  def carry({{:watch, _handle, _ref}, _id, {:agent, _watcher, _by}, _restarts?} = row), do: row
  def carry({{:by, handle, _ref}, _watched} = row) when is_integer(handle), do: row
  def carry(_row), do: nil

  @doc "Takes a watch of the calling process back. Afterwards none of its messages is there, or comes."
  @spec unwatch(Instance.t(), reference()) :: :ok
  def unwatch(instance, ref) do
    remove(instance, self(), ref)
    :erlang.unalias(ref)
    flush(ref)
  end

  defp flush(ref) do
    receive do
      {tag, ^ref, :agent, _id, _reason} when tag in [:DOWN, :RESTARTED] -> flush(ref)
    after
      0 -> :ok
    end
  end

  @doc "Takes the watch of an agent back."
  @spec unwatch_for(Instance.t(), pos_integer(), Address.id()) :: :ok
  def unwatch_for(instance, handle, id), do: remove(instance, handle, {handle, id})

  @doc "A watching agent has ended."
  @spec forget(Instance.t(), pos_integer()) :: :ok
  def forget(instance, handle) do
    for ref <- refs(instance, handle), do: remove(instance, handle, ref)
    :ok
  end

  defp refs(instance, watcher),
    do: :ets.select(instance.monitors, [{{{:by, watcher, :"$1"}, :_}, [], [:"$1"]}])

  defp remove(instance, watcher, ref) do
    for {_key, handle} <- :ets.take(instance.monitors, {:by, watcher, ref}) do
      :ets.delete(instance.monitors, {:watch, handle, ref})
      Instance.notify(instance, :monitors, {:unwatched, handle, watcher, ref})
    end

    :ok
  end

  @doc "An agent is awake, and has a process that can be looked at. Called by that process, after its address says so."
  @spec woken(Instance.t(), pos_integer()) :: :ok
  def woken(instance, handle) do
    case :ets.next(instance.monitors, {:watch, handle, 0}) do
      {:watch, ^handle, _ref} -> Instance.notify(instance, :monitors, {:look, handle})
      _nobody_watches -> :ok
    end
  end

  @doc "An agent crashed, and is restarted: those are told who asked for that. Called by the agent's process."
  @spec restarted(Instance.t(), Address.id(), pos_integer(), Pyre.error()) :: :ok
  def restarted(instance, id, handle, error) do
    rows = [{{{:watch, handle, :"$1"}, :_, {:process, :"$2"}, true}, [], [{{:"$1", :"$2"}}]}]

    for {ref, pid} <- :ets.select(instance.monitors, rows),
        do: send(pid, {:RESTARTED, ref, :agent, id, error})

    :ok
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    Process.flag(:trap_exit, true)
    instance = Instance.fetch!(name)
    # First: whoever adds a row from now on tells this process.
    Instance.register(instance, :monitors)
    rows = :ets.match_object(instance.monitors, {{:watch, :_, :_}, :_, :_, :_})

    {:ok,
     Enum.reduce(rows, %__MODULE__{instance: instance}, fn {{:watch, handle, ref}, id, watcher, _restarts?},
                                                           state ->
       state |> enter(watcher, ref, id) |> begin(handle, id)
     end)}
  end

  @impl GenServer
  # In two steps: where the tables are gone the second fails, and the end tells those who were entered in the first.
  def handle_info({:watch, handle, id, watcher, ref}, state),
    do: {:noreply, enter(state, watcher, ref, id), {:continue, {:begin, handle, id}}}

  def handle_info({:unwatched, handle, watcher, ref}, state),
    do: {:noreply, state |> leave(watcher, ref) |> prune(handle)}

  def handle_info({:look, handle}, state), do: {:noreply, look(state, handle)}

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    case Map.pop(state.monitors, monitor) do
      {{:agent, handle}, monitors} -> {:noreply, look(%{state | monitors: monitors}, handle)}
      {{:watcher, pid}, monitors} -> {:noreply, watcher_down(%{state | monitors: monitors}, pid)}
      {nil, _monitors} -> {:noreply, state}
    end
  end

  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}

  @impl GenServer
  def handle_continue({:begin, handle, id}, state), do: {:noreply, begin(state, handle, id)}

  # Where the tables stay, a successor goes on from them. Else this is the end of all agents.
  @impl GenServer
  def terminate(_reason, %{instance: instance} = state) do
    cond do
      Instance.closed?(instance) ->
        tell_all(state, Error.new(:stopping, "the instance #{inspect(instance.name)} is shutting down"))

      not Instance.there?(instance) ->
        tell_all(state, Error.new(:agent_down, "the instance #{inspect(instance.name)} lost all its agents"))

      true ->
        :ok
    end
  end

  defp tell_all(state, error) do
    for {pid, {_monitor, refs}} <- hear_out(state).watchers,
        {ref, id} <- refs,
        do: tell(state.instance, {:process, pid}, ref, id, error)
  end

  # Who began to watch just before the end is told, too.
  defp hear_out(state) do
    receive do
      {:watch, _handle, id, watcher, ref} -> state |> enter(watcher, ref, id) |> hear_out()
    after
      0 -> state
    end
  end

  ## Helpers: the watchers

  defp begin(state, handle, id) do
    if is_map_key(state.agents, handle),
      do: state,
      else: look(%{state | agents: Map.put(state.agents, handle, {id, nil})}, handle)
  end

  defp enter(state, {:process, pid}, ref, id) do
    case state.watchers do
      %{^pid => {monitor, refs}} ->
        %{state | watchers: Map.put(state.watchers, pid, {monitor, Map.put(refs, ref, id)})}

      _unknown ->
        monitor = Process.monitor(pid)

        %{
          state
          | watchers: Map.put(state.watchers, pid, {monitor, %{ref => id}}),
            monitors: Map.put(state.monitors, monitor, {:watcher, pid})
        }
    end
  end

  defp enter(state, _agent, _ref, _id), do: state

  defp leave(state, watcher, ref) do
    case state.watchers do
      %{^watcher => {monitor, refs}} when is_map_key(refs, ref) and map_size(refs) == 1 ->
        Process.demonitor(monitor, [:flush])

        %{
          state
          | watchers: Map.delete(state.watchers, watcher),
            monitors: Map.delete(state.monitors, monitor)
        }

      %{^watcher => {monitor, refs}} ->
        %{state | watchers: Map.put(state.watchers, watcher, {monitor, Map.delete(refs, ref)})}

      _agent_or_gone ->
        state
    end
  end

  defp watcher_down(%{instance: instance} = state, pid) do
    state = %{state | watchers: Map.delete(state.watchers, pid)}
    # Each tells this process, which then stops looking at who was watched.
    for ref <- refs(instance, pid), do: remove(instance, pid, ref)
    state
  end

  ## Helpers: the watched

  defp look(%{agents: agents} = state, handle) do
    case agents do
      %{^handle => {id, _monitor}} -> look(prune(state, handle), handle, id)
      _unwatched -> state
    end
  end

  defp look(%{agents: agents} = state, handle, _id) when not is_map_key(agents, handle), do: state

  defp look(%{instance: instance} = state, handle, id) do
    case Address.fetch(instance, id) do
      {:ok, %{handle: ^handle, status: :terminated}} ->
        fire(
          state,
          handle,
          id,
          Restarts.last_error(instance, handle) || Mailbox.terminated(instance, id, handle)
        )

      # It says when it wakes.
      {:ok, %{handle: ^handle, status: :asleep}} ->
        %{state | agents: Map.put(state.agents, handle, {id, nil})}

      {:ok, %{handle: ^handle, pid: pid}} ->
        follow(state, handle, id, pid)

      _gone_or_another ->
        fire(state, handle, id, :stopped)
    end
  end

  defp follow(state, handle, id, pid) do
    if pid != nil and Process.alive?(pid) do
      monitor = Process.monitor(pid)

      %{
        state
        | agents: Map.put(state.agents, handle, {id, monitor}),
          monitors: Map.put(state.monitors, monitor, {:agent, handle})
      }
    else
      Process.send_after(self(), {:look, handle}, @look_again_ms)
      state
    end
  end

  # Told before the row goes: who is killed in between tells again, which an alias lets through once.
  defp fire(%{instance: instance} = state, handle, id, reason) do
    rows = :ets.match_object(instance.monitors, {{:watch, handle, :_}, :_, :_, :_})

    rows
    |> Enum.reduce(state, fn {{:watch, _handle, ref} = key, _id, watcher, _restarts?}, state ->
      tell(instance, watcher, ref, id, reason)
      :ets.delete(instance.monitors, key)
      # The watcher may watch a successor under the same id by now.
      :ets.delete_object(instance.monitors, {{:by, key(watcher), ref}, handle})
      leave(state, key(watcher), ref)
    end)
    |> prune(handle)
  end

  # Nobody watches it any more.
  defp prune(%{instance: instance, agents: agents} = state, handle) do
    with %{^handle => {_id, monitor}} <- agents,
         0 <- :ets.select_count(instance.monitors, [{{{:watch, handle, :_}, :_, :_, :_}, [], [true]}]) do
      if monitor, do: Process.demonitor(monitor, [:flush])
      %{state | agents: Map.delete(agents, handle), monitors: Map.delete(state.monitors, monitor)}
    else
      _watched_or_unknown -> state
    end
  end

  ## Helpers: telling

  @spec tell(Instance.t(), watcher(), term(), Address.id(), Pyre.error() | :stopped) :: term()
  defp tell(_instance, {:process, _pid}, ref, id, reason), do: send(ref, {:DOWN, ref, :agent, id, reason})

  defp tell(instance, {:agent, watcher, handle}, _ref, id, reason) do
    with {:ok, %{handle: ^handle} = agent} <- Address.fetch(instance, watcher) do
      args = args(id, error(id, reason))

      case Mailbox.put(instance, watcher, :on_down, "on_down", args, 0, nil) do
        {:error, %Error{kind: :terminated} = error} -> give_up(instance, agent, args, error)
        _told_or_ending -> :ok
      end
    end
  end

  defp give_up(instance, %{handle: handle} = agent, args, error) do
    key = {handle, :on_down, Instance.unique(instance)}
    message = %{key: key, kind: :on_down, handler: "on_down", args: args, attempt: 1}
    DeadLetters.put(instance, agent, message, :terminated, error)
  end

  defp error(id, :stopped), do: Error.new(:stopped, "the agent #{inspect(id)} was stopped")
  defp error(_id, error), do: error

  # What an agent failed with may hold more than a message may.
  defp args(id, error) do
    with {:error, _too_large} <- MsgPack.encode(%{"id" => id, "reason" => Error.to_body(error)}) do
      MsgPack.encode(%{
        "id" => id,
        "reason" => Error.to_body(Error.new(:terminated, "its error is too large"))
      })
    end
    |> elem(1)
  end
end
