defmodule Pyre.Agent.Retries do
  @moduledoc false

  # Messages that failed and wait for their next attempt (`@handler(retry=...)`). Which error is worth another attempt, and after
  # how long, is decided in Python; the wait is here.
  #
  # The message stays where it is, in the mailbox. Its `claim`, which is 0 for one that waits to run and more for one
  # that runs, is below 0 for it, and tells when it is due and whether the messages behind it are held. So the wait
  # survives the interpreter, and each new incarnation of the agent's process takes it up from the row. Whoever
  # raises the claim has the message: the agent when it is due, the caller who gives up, whoever ends the agent.

  require Logger
  require Pyre.Wire, as: Wire

  alias Pyre.Agent.Escalations
  alias Pyre.{Error, History, Instance, Mailbox}
  alias Pyre.Wire.Body

  @claim 2
  @kind 4
  @deadline 7
  @attempt 8
  @reply_to 9
  @columns 9

  # Somebody who tries to claim such a message raises its claim by one, in vain. So the lowest bits say nothing.
  @vain 16
  @longest_ms 86_400_000
  # When a message is due that waits for a person.
  @never 1_000_000_000_000_000

  @doc "Makes a failed attempt wait for the next. False where that makes no sense: then the attempt was the last."
  @spec defer(Pyre.Agent.t(), map(), binary(), term()) :: boolean()
  def defer(%{instance: instance} = state, %{kind: kind} = message, body, [{delay_ms, hold}])
      when kind in [:call, :cast, :timer, :decision] and is_integer(delay_ms) and delay_ms >= 0 and
             hold in [0, 1] do
    due = Instance.now_ms() + min(delay_ms, @longest_ms)

    if in_time?(message, due) and not (message.kind == :call and Instance.closed?(instance)) do
      columns = [{@claim, encode(due, hold)}, {@attempt, message.attempt + 1}]
      error = Body.to_error(body)
      log(state, message, error, delay_ms)
      History.ended(instance, state.handle, message, :retried, error)
      Instance.count(instance, :retries)
      :ets.update_element(instance.mailbox, message.key, columns) and await(message.key, due)
    else
      false
    end
  end

  # No attempt is left, and a person is to say what becomes of it.
  def defer(state, message, body, [{Wire.effect_failure()}]), do: Escalations.failed(state, message, body)
  def defer(_state, _message, _body, _plan), do: false

  # Nobody is to wait until a deadline for an attempt that could not begin.
  defp in_time?(%{deadline: 0}, _due), do: true
  defp in_time?(%{deadline: deadline}, due), do: due < deadline

  defp await(key, due) do
    Process.send_after(self(), {:retry, key}, max(due - Instance.now_ms(), 0))
    true
  end

  @doc "A new incarnation takes up the waits of its predecessor."
  @spec await_all(Instance.t(), pos_integer()) :: :ok
  def await_all(instance, handle) do
    pattern = row({handle, :_, :_}, :"$1")

    for row <- :ets.select(instance.mailbox, [{pattern, [{:<, :"$1", 0}], [:"$_"]}]),
        {due, _hold} = row |> elem(@claim - 1) |> decode(),
        due < @never do
      await(elem(row, 0), due)
    end

    :ok
  end

  @doc "A message without further attempts waits for a person. Whoever called it has been answered."
  @spec park(Instance.t(), Mailbox.key()) :: boolean()
  def park(instance, key) do
    [{_key, _claim, _id, kind, _handler, _args, _deadline, _attempt, _reply_to}] =
      :ets.lookup(instance.mailbox, key)

    kind = if kind == :call, do: :cast, else: kind
    columns = [{@claim, encode(@never, 0)}, {@kind, kind}, {@deadline, 0}, {@reply_to, nil}]
    :ets.update_element(instance.mailbox, key, columns)
  end

  @doc "A person wants it tried again, with all its attempts. False where it does not wait for that."
  @spec renew(Instance.t(), Mailbox.key()) :: boolean()
  def renew(instance, key) do
    :ets.update_element(instance.mailbox, key, {@attempt, 1}) and release(instance, key)
  end

  @doc "The wait is over: the message is one that waits to run, like others. False where it is gone, or taken."
  @spec release(Instance.t(), Mailbox.key()) :: boolean()
  def release(instance, key), do: replace(instance, key, 0)

  @doc "Claims a message that waits for its next attempt."
  @spec take(Instance.t(), Mailbox.key()) :: boolean()
  def take(instance, key), do: replace(instance, key, 1)

  # Both at once can't succeed: the claim is looked at and changed in one step.
  defp replace(instance, key, claim) do
    columns = for n <- 3..@columns, do: :"$#{n}"
    head = List.to_tuple([key, :"$2" | columns])
    body = List.to_tuple([{:const, key}, claim | columns])
    :ets.select_replace(instance.mailbox, [{head, [{:<, :"$2", 0}], [{body}]}]) == 1
  end

  @doc "A claim whose instant, where it has one, is moved."
  @spec shift(integer(), integer()) :: integer()
  def shift(claim, ms) when claim < 0 do
    {due, hold} = decode(claim)
    if due < @never, do: encode(max(due + ms, 0), hold), else: claim
  end

  def shift(claim, _ms), do: claim

  @doc "Does a message with this claim keep those behind it waiting?"
  @spec holds?(integer()) :: boolean()
  def holds?(claim) when claim < 0, do: match?({_due, 1}, decode(claim))
  def holds?(_claim), do: false

  @doc "What is told to a caller whose deadline passes before a message's next attempt has begun."
  @spec error(Pyre.Address.id(), pos_integer()) :: Error.t()
  def error(id, attempt) do
    Error.new(
      :timeout,
      "attempt #{attempt - 1} of the message to #{inspect(id)} failed, and the next could not begin in time; " <>
        "the changes were rolled back",
      %{committed: false, attempt: attempt - 1}
    )
  end

  defp encode(due, hold), do: -((2 * due + hold) * @vain + @vain - 1)

  defp decode(claim) do
    number = div(-claim, @vain)
    {div(number, 2), rem(number, 2)}
  end

  defp row(key, claim), do: List.to_tuple([key, claim | List.duplicate(:_, @columns - 2)])

  defp log(state, message, error, delay_ms) do
    Logger.warning(
      "attempt #{message.attempt} of #{state.class}.#{message.handler} of agent #{inspect(state.id)} failed, " <>
        "the next comes in #{delay_ms} ms: #{Exception.message(error)}",
      agent_id: state.id,
      class: state.class,
      handler: message.handler,
      pyre: state.instance.name
    )
  end
end
