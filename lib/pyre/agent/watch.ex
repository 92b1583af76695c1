defmodule Pyre.Agent.Watch do
  @moduledoc false

  # Watches the running message, and cancels it: its caller gave up or died, or it runs past its deadline or the limit.
  # Runs in the agent's process. Only messages that run long are watched, so that the short ones don't pay for it.

  alias Pyre.Agent.{Ending, Escalations, Requests, Retries}
  alias Pyre.{Classes, Error, History, Instance, Mailbox, Request, Worker}
  alias Pyre.Worker.Isolation

  # A message that runs this long is looked at, again and again.
  @look_ms 1_000
  # What was cancelled and is there after this long doesn't end, and its worker is replaced. The interpreter has cancelled it a
  # second time by then.
  @stuck_ms 1_500
  # How long after its deadline a call is cancelled from here, where its caller has not done so.
  @grace_ms 250

  @doc "A message that begins to run."
  @spec begin(map()) :: map()
  # What it shields may go on for as long as it said.
  def begin(%{cancelled: true, shielded: until} = message),
    do: Map.put(message, :watch_at, max(until, Instance.now_ms()) + @stuck_ms)

  def begin(%{cancelled: true} = message), do: Map.put(message, :watch_at, Instance.now_ms() + @stuck_ms)
  def begin(message), do: Map.put(message, :watch_at, Instance.now_ms() + @look_ms)

  @doc "How long until the next look."
  @spec patience(Pyre.Agent.t()) :: non_neg_integer()
  def patience(%{fence: {_worker, since}}) when is_integer(since),
    do: max(since + @stuck_ms - Instance.now_ms(), 0)

  def patience(%{running: %{watch_at: at}}) when is_integer(at), do: max(at - Instance.now_ms(), 0)
  def patience(_state), do: @look_ms

  @doc "Looks at the running message, or at what is waited for."
  @spec look(Pyre.Agent.t()) :: Pyre.Agent.t()
  def look(%{fence: {worker, _since}} = state) do
    Worker.stuck(worker, self(), nil, {state.handle, state.epoch})
    %{state | fence: {worker, Instance.now_ms()}}
  end

  # Who keeps the queue of those on probation may have been lost with it.
  def look(%{running: nil, probation?: true, worker: nil} = state) do
    Isolation.enter(state.instance, self(), Classes.pool(state.instance, state.class))
    state
  end

  def look(%{running: nil} = state), do: state

  def look(%{running: %{cancelled: true} = message, worker: {_no, worker}} = state) do
    Worker.stuck(worker, self(), message.key, {state.handle, state.epoch})
    %{state | running: begin(message)}
  end

  # What stands in `running` may have ended. It is over soon, unless one of them holds the loop: then its worker is ended.
  def look(%{running: message, burst: [_one | _more]} = state), do: %{state | running: begin(message)}

  def look(%{running: message} = state) do
    message = message |> Map.put_new(:since, Instance.now_ms() - @look_ms) |> excuse(state) |> begin()
    state = watch_caller(message, %{state | running: message})
    if overdue?(message, state.instance.config), do: cancel(state, :timeout), else: state
  end

  # What a person takes is not the handler's time: the limit counts from the answer on.
  defp excuse(message, state),
    do: if(Escalations.waits?(state, message.key), do: %{message | since: Instance.now_ms()}, else: message)

  defp watch_caller(%{reply_to: {:caller, _ref, _alias, pid}}, %{watch: nil} = state),
    do: %{state | watch: Process.monitor(pid)}

  defp watch_caller(_message, state), do: state

  defp overdue?(%{deadline: deadline}, _config) when deadline > 0,
    do: Instance.now_ms() > deadline + @grace_ms

  defp overdue?(%{kind: :on_start}, _config), do: false

  defp overdue?(%{reply_to: nil, since: since}, %{max_runtime: limit}) when is_integer(limit),
    do: Instance.now_ms() - since > limit

  defp overdue?(_message, _config), do: false

  @doc "Nothing is watched any more."
  @spec forget(Pyre.Agent.t()) :: Pyre.Agent.t()
  def forget(%{watch: nil} = state), do: state

  def forget(%{watch: monitor} = state) do
    Process.demonitor(monitor, [:flush])
    %{state | watch: nil}
  end

  @doc "The caller of the running message died."
  @spec caller_down(Pyre.Agent.t()) :: Pyre.Agent.t()
  def caller_down(%{running: %{}} = state), do: cancel(%{state | watch: nil}, :timeout)
  def caller_down(state), do: %{state | watch: nil}

  @doc "The caller of a message gave up. Whichever of its cancel and the commit is handled first has won."
  @spec caller_gave_up(Pyre.Agent.t(), Mailbox.key()) :: Pyre.Agent.t()
  def caller_gave_up(%{running: %{key: key} = message} = state, key) when not is_map_key(message, :cancelled),
    do: cancel(state, :timeout)

  def caller_gave_up(%{instance: instance, id: id} = state, key) do
    with %{} = message <- Mailbox.get(instance, key),
         true <- Mailbox.withdraw(instance, id, key),
         do: expire(state, message)

    state
  end

  @doc "Cancels the running message, and tells its caller why."
  @spec cancel(Pyre.Agent.t(), :timeout | :stopped | :requested) :: Pyre.Agent.t()
  def cancel(%{running: message, worker: {_no, worker}} = state, why) do
    error = cancelled(why, message, state)
    History.ended(state.instance, state.handle, message, :cancelled, error)

    cond do
      message.reply_to != nil -> Mailbox.reply(message.reply_to, 1, error)
      # Somebody wants it not to happen: it is no dead letter.
      why == :requested -> :ok
      true -> Ending.dropped(state, message, error)
    end

    # What a handler shields is not its caller's any more.
    unless is_map_key(message, :shielded), do: Requests.cancel(state, message.key)
    Worker.cancel(worker, message.key, self())
    forget(%{state | running: message |> Map.put(:cancelled, true) |> Map.put(:reply_to, nil) |> begin()})
  end

  defp cancelled(:requested, _message, state),
    do: Request.error(state.id, "while it ran; its changes were rolled back")

  defp cancelled(:timeout, message, state) do
    Error.new(
      :timeout,
      "handler #{state.class}.#{message.handler} of agent #{inspect(state.id)} did not end in time; it was cancelled, its changes were rolled back",
      %{committed: false}
    )
  end

  defp cancelled(:stopped, _message, state),
    do: Error.new(:stopped, "the agent #{inspect(state.id)} was stopped while the message ran")

  @doc "Tells the caller of a message that its deadline passed before it ran."
  @spec expire(Pyre.Agent.t(), Mailbox.t()) :: term()
  def expire(state, message) do
    Instance.count(state.instance, :expired)
    error = expired(message, state)
    History.ended(state.instance, state.handle, message, :expired, error)
    Mailbox.reply(message.reply_to, 1, error)
  end

  defp expired(%{attempt: 1}, state) do
    Error.new(
      :deadline,
      "the deadline passed while the message was waiting in the mailbox of #{inspect(state.id)}; it did not run"
    )
  end

  defp expired(message, state), do: Retries.error(state.id, message.attempt)
end
