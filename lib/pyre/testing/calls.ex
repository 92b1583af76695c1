defmodule Pyre.Testing.Calls do
  @moduledoc false

  # Knows every message that reached a scripted worker, in order, and hands each to one who asserts it. Who asks for one that
  # has not come yet waits here.

  use GenServer

  alias Pyre.Testing.Message

  # messages: newest first; taken: the refs of those that were handed out.
  defstruct messages: [], taken: MapSet.new(), waiting: []

  @type wanted :: {id :: String.t() | nil, handler :: String.t(), (term() -> {:matched, term()} | :no)}

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, :none, name: name)

  @doc "A message has begun. Returns when it is known."
  @spec begun(atom(), Message.t()) :: :ok
  def begun(calls, message), do: GenServer.call(calls, {:begun, message}, :infinity)

  @doc "What became of it."
  @spec ended(atom(), Message.t()) :: :ok
  def ended(calls, message), do: GenServer.call(calls, {:ended, message}, :infinity)

  @doc "The oldest message that is wanted and was not handed out yet; waits for it. Else what came instead."
  @spec take(atom(), wanted(), timeout()) ::
          {:ok, term(), Message.t()} | {:none, [{Message.t(), taken? :: boolean()}]}
  def take(calls, wanted, timeout), do: GenServer.call(calls, {:take, wanted, timeout}, :infinity)

  @doc "All messages, the oldest first."
  @spec all(atom()) :: [Message.t()]
  def all(calls), do: GenServer.call(calls, :all)

  ## Callbacks

  @impl GenServer
  def init(:none), do: {:ok, %__MODULE__{}}

  @impl GenServer
  def handle_call({:begun, message}, _from, state) do
    {:reply, :ok, hand_out(%{state | messages: [message | state.messages]}, message)}
  end

  def handle_call({:ended, message}, _from, state) do
    messages = Enum.map(state.messages, &if(&1.ref == message.ref, do: message, else: &1))
    {:reply, :ok, %{state | messages: messages}}
  end

  def handle_call({:take, wanted, timeout}, from, state) do
    case find(state, wanted) do
      {matched, message} ->
        {:reply, {:ok, matched, message}, taken(state, message)}

      nil when timeout == 0 ->
        {:reply, {:none, seen(state)}, state}

      nil ->
        _timer = if timeout != :infinity, do: Process.send_after(self(), {:over, from}, timeout)
        {:noreply, %{state | waiting: state.waiting ++ [{from, wanted}]}}
    end
  end

  def handle_call(:all, _from, state), do: {:reply, Enum.reverse(state.messages), state}

  @impl GenServer
  def handle_info({:over, from}, state) do
    case Enum.split_with(state.waiting, &match?({^from, _wanted}, &1)) do
      {[], _waiting} ->
        {:noreply, state}

      {[_one], waiting} ->
        GenServer.reply(from, {:none, seen(state)})
        {:noreply, %{state | waiting: waiting}}
    end
  end

  ## Helpers

  defp find(state, wanted) do
    state.messages
    |> Enum.reverse()
    |> Enum.reject(&(&1.ref in state.taken))
    |> Enum.find_value(fn message ->
      with {:matched, matched} <- match(wanted, message), do: {matched, message}, else: (:no -> nil)
    end)
  end

  defp match({id, handler, matcher}, message) do
    if message.id == id and message.handler == handler, do: matcher.(message.args), else: :no
  end

  # To one of those who wait, the first to come.
  defp hand_out(state, message) do
    Enum.find_value(state.waiting, state, fn {from, wanted} = waiter ->
      with {:matched, matched} <- match(wanted, message) do
        GenServer.reply(from, {:ok, matched, message})
        %{taken(state, message) | waiting: List.delete(state.waiting, waiter)}
      else
        :no -> nil
      end
    end)
  end

  defp taken(state, message), do: %{state | taken: MapSet.put(state.taken, message.ref)}

  defp seen(state),
    do: for(message <- Enum.reverse(state.messages), do: {message, message.ref in state.taken})
end
