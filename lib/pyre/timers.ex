defmodule Pyre.Timers do
  @moduledoc false

  # Fires timers: takes the due rows of the timers' table and puts them, as messages, into the mailboxes of their agents. The rows are
  # State's; this process holds one armed timer, for the head. Whatever happens to agents and interpreters, and to
  # this process itself, a timer fires.

  use GenServer

  alias Pyre.{Address, DeadLetters, Instance, Mailbox, Pause}

  # A timer of the VM's can't be armed for more than 49 days; a day is enough to look again.
  @longest_ms 86_400_000
  @retry_ms 100

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Sets a timer; one with the same key replaces it. Called by the agent's process, at commit."
  @spec set(Instance.t(), {String.t(), pos_integer()}, binary(), pos_integer(), binary(), binary()) :: :ok
  def set(instance, {id, handle}, key, delay_ms, handler, args) do
    due = {Instance.now_ms() + delay_ms, Instance.unique(instance)}
    name = if key == <<>>, do: due, else: :binary.copy(key)
    cancel(instance, handle, name)
    insert(instance, {due, {handle, name}, id, :binary.copy(handler), :binary.copy(args)})
    if :ets.first(instance.timers) == due, do: Instance.notify(instance, :timers, :arm)
    :ok
  end

  # The index finds an agent's timers: {handle, key} -> when.
  defp insert(instance, {due, owner, _id, _handler, _args} = row) do
    :ets.insert(instance.timers, row)
    :ets.insert(instance.timer_index, {owner, due})
  end

  defp cancel(instance, handle, name) do
    for {_owner, due} <- :ets.take(instance.timer_index, {handle, name}),
        do: :ets.delete(instance.timers, due)

    :ok
  end

  @doc "How many timers an agent has."
  @spec count(Instance.t(), pos_integer()) :: non_neg_integer()
  def count(instance, handle), do: :ets.select_count(instance.timer_index, [{{{handle, :_}, :_}, [], [true]}])

  @doc "Takes all timers of an agent back."
  @spec delete(Instance.t(), pos_integer()) :: :ok
  def delete(instance, handle) do
    names = :ets.match(instance.timer_index, {{handle, :"$1"}, :_})
    Enum.each(names, fn [name] -> cancel(instance, handle, name) end)
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :timers)
    {:ok, arm(%{instance: instance, timer: nil})}
  end

  @impl GenServer
  def handle_info(:arm, state), do: {:noreply, arm(state)}
  def handle_info(:due, state), do: {:noreply, fire(state)}

  ## Helpers

  defp fire(%{instance: instance} = state) do
    with {due_ms, _unique} = due <- :ets.first(instance.timers),
         true <- due_ms <= Instance.now_ms(),
         [row] <- :ets.lookup(instance.timers, due) do
      put(instance, row)
      fire(state)
    else
      _none_due -> arm(state)
    end
  end

  # The message is in the mailbox before the row is gone: a crash in between fires twice rather than never.
  defp put(instance, {due, owner, id, handler, args}) do
    Instance.count(instance, :timer_fires)
    :ets.delete_object(instance.timer_index, {owner, due})

    Pause.supersede(instance, id, owner)

    case Mailbox.put(instance, id, :timer, handler, args, 0, nil) do
      {:ok, key} ->
        Pause.fired(instance, id, owner, key)

      {:error, %Pyre.Error{kind: :overloaded}} ->
        insert(
          instance,
          {{Instance.now_ms() + @retry_ms, Instance.unique(instance)}, owner, id, handler, args}
        )

      {:error, %Pyre.Error{kind: :terminated} = error} ->
        give_up(instance, {due, owner, id, handler, args}, error)

      _gone ->
        :ok
    end

    :ets.delete(instance.timers, due)
  end

  defp give_up(instance, {{_due_ms, unique}, {handle, _name}, id, handler, args}, error) do
    message = %{key: {handle, :timer, unique}, kind: :timer, handler: handler, args: args, attempt: 1}

    with {:ok, agent} <- Address.fetch(instance, id),
         do: DeadLetters.put(instance, agent, message, :terminated, error)
  end

  defp arm(%{instance: instance, timer: timer} = state) do
    _left = timer && Process.cancel_timer(timer)

    case :ets.first(instance.timers) do
      :"$end_of_table" ->
        %{state | timer: nil}

      {due_ms, _unique} ->
        delay = (due_ms - Instance.now_ms()) |> max(0) |> min(@longest_ms)
        %{state | timer: Process.send_after(self(), :due, delay)}
    end
  end
end
