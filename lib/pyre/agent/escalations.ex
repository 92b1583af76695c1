defmodule Pyre.Agent.Escalations do
  @moduledoc false

  # The agent's side of escalations: what its handlers ask people. Runs in the agent's process.
  #
  # A question with a continuation (`then`) rides with the commit, as an effect. One that the handler waits for is opened at once, and
  # its message is one that may be run again: it finds the same escalation, open or decided, by its place.

  require Pyre.Wire, as: Wire

  alias Pyre.Agent.Retries
  alias Pyre.{Error, Escalations, Instance, Mailbox}
  alias Pyre.Escalations.{Inbox, Table}
  alias Pyre.Wire.{Body, MsgPack}

  @fields ["question", "options", "data", "assignee", "default"]
  @no_data <<0xC0>>
  @most_open 1_000

  @doc "Asks for a handler that waits: the answer, or the escalation that will have it."
  @spec ask(Pyre.Agent.t(), Mailbox.key() | tuple(), binary(), binary(), non_neg_integer()) ::
          {:open, Table.id()} | {:done, binary()} | {:error, Error.t()}
  def ask(_state, {_handle, hook, _seq}, _place, _body, _timeout_ms) when is_atom(hook) do
    {:error,
     Error.new(
       :invalid_args,
       "#{hook} is run anew each time, and can't wait for a person: name a handler that the answer goes to (then=...)"
     )}
  end

  def ask(%{instance: instance} = state, key, place, body, timeout_ms) do
    with {:ok, escalation, due_ms} <- read(state, key, place, nil, body, timeout_ms),
         :ok <- room(state, 1) do
      case Table.open(instance, escalation, due_ms) do
        {:open, id} -> {:open, id}
        {:decided, id, decision} -> {:done, decided(id, decision)}
      end
    end
  end

  # A message that is run again may find its own, but where there are so many it doesn't matter.
  defp room(%{instance: instance, handle: handle, id: id}, count) do
    open = Table.count(instance, handle)

    if open + count <= @most_open,
      do: :ok,
      else:
        {:error,
         Error.new(
           :overloaded,
           "the agent #{inspect(id)} has #{open} open escalations, and may have #{@most_open}: answer or dismiss some",
           %{count: open, limit: @most_open}
         )}
  end

  @doc "The decision that a handler waits for, as a body."
  @spec fetch(Instance.t(), Table.id()) :: {:ok, binary()} | :error
  def fetch(instance, id) do
    case Table.get(instance, id) do
      {_id, :decided, decision, _told, _escalation} -> {:ok, decided(id, decision)}
      _open_or_gone -> :error
    end
  end

  defp decided(id, decision) do
    {:ok, body} =
      MsgPack.encode(%{
        escalation: id,
        outcome: decision.outcome,
        answer: decision.answer,
        by: decision.by,
        at: Inbox.datetime(decision.at)
      })

    body
  end

  @doc "Does a handler's message wait for a person?"
  @spec waits?(Pyre.Agent.t(), Mailbox.key()) :: boolean()
  def waits?(%{requests: requests}, key),
    do:
      Enum.any?(requests, fn {_token, request} ->
        request.message == key and is_map_key(request, :escalation)
      end)

  @doc """
  Opens what rides with a commit, and gives the other effects.

  Called before the commit: who is killed in between has the message run again, which finds what is open by its place.
  """
  @spec open(Pyre.Agent.t(), map(), [term()]) :: {:ok, [term()]} | {:error, Error.t()}
  def open(_state, _message, []), do: {:ok, []}

  def open(state, message, effects) do
    case Enum.split_with(effects, &escalation?/1) do
      {[], others} ->
        {:ok, others}

      {mine, others} ->
        with :ok <- room(state, length(mine)), do: {:ok, open_all(state, message, mine) ++ others}
    end
  end

  defp escalation?({Wire.effect_escalate(), place, then, body, timeout_ms})
       when is_binary(place) and is_binary(then) and is_binary(body) and is_integer(timeout_ms),
       do: true

  defp escalation?(_effect), do: false

  # What nobody understands stays an effect, and is complained of as such.
  defp open_all(state, %{key: key}, effects) do
    Enum.reject(effects, fn {_escalate, place, then, body, timeout_ms} ->
      with {:ok, escalation, due_ms} <- read(state, key, place, :binary.copy(then), body, timeout_ms) do
        _open = Table.open(state.instance, escalation, due_ms)
        true
      else
        {:error, _not_understood} -> false
      end
    end)
  end

  defp read(state, key, place, then, body, timeout_ms) do
    with true <- is_integer(timeout_ms) and timeout_ms >= 0,
         {:ok, %{} = told} <- MsgPack.decode(body),
         %{"question" => question, "options" => options, "data" => data} <- Map.take(told, @fields),
         true <- is_binary(question) and is_binary(data) and (options == nil or texts?(options)),
         true <- Enum.all?([told["assignee"], told["default"]], &(is_nil(&1) or is_binary(&1))) do
      base = base(state, key, :binary.copy(place), :question)
      expires = if timeout_ms > 0, do: base.since + timeout_ms

      {:ok,
       %{
         base
         | question: question,
           options: options,
           data: if(data == <<>>, do: @no_data, else: data),
           assignee: told["assignee"],
           default: told["default"],
           then: then,
           expires: expires
       }, if(expires, do: Instance.now_ms() + timeout_ms)}
    else
      _misfit -> {:error, Error.new(:protocol, "an escalation that nobody understands")}
    end
  end

  defp texts?(options), do: is_list(options) and options != [] and Enum.all?(options, &is_binary/1)

  defp base(state, key, place, kind) do
    %{
      kind: kind,
      agent: state.id,
      handle: state.handle,
      class: state.class,
      message: key,
      place: place,
      question: "",
      options: nil,
      data: @no_data,
      assignee: nil,
      default: nil,
      then: nil,
      since: System.os_time(:millisecond),
      expires: nil
    }
  end

  @doc "A message used its attempts up, and a person is to decide: its caller is told at once, and it waits in its row."
  @spec failed(Pyre.Agent.t(), map(), binary()) :: boolean()
  def failed(%{instance: instance, stop: nil} = state, %{kind: kind, key: key} = message, body)
      when kind in [:call, :cast, :timer, :decision, :event] do
    if Instance.closed?(instance) do
      false
    else
      error = Body.to_error(body)

      escalation = %{
        base(state, key, :failure, :failure)
        | question: failure(state, message) <> Exception.message(error),
          options: Escalations.failure_options(),
          data: failure_data(message, error)
      }

      _open = Table.open(instance, escalation, nil)
      Mailbox.reply(message.reply_to, 1, body)
      Retries.park(instance, key)
    end
  end

  def failed(_state, _message, _body), do: false

  defp failure(state, message),
    do: "#{state.class}.#{message.handler} of #{inspect(state.id)} failed #{times(message.attempt)}: "

  # What a handler raised may hold as much as a body may.
  defp failure_data(message, error) do
    known = %{"handler" => message.handler, "attempts" => message.attempt}

    with {:error, _too_large} <- MsgPack.encode(Map.put(known, "error", Error.to_body(error))) do
      error = Error.new(:too_large, "its error is too large")
      MsgPack.encode(Map.put(known, "error", Error.to_body(error)))
    end
    |> elem(1)
  end

  defp times(1), do: "once"
  defp times(count), do: "#{count} times"
end
