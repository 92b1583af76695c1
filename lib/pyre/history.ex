defmodule Pyre.History do
  @moduledoc false

  # What happened to each agent lately: the last messages that ended well, and as many other entries (what went wrong, restarts,
  # pauses, progress, decisions). Two bounds, so that a busy agent's errors are not washed away by its successes. The rows are
  # State's:
  #
  #   {handle, ...}                             the messages that ended well: `Pyre.History.Ring`
  #   {{handle, 0}, number}                     how many other entries there were
  #   {{handle, slot}, number, at, event, fields}   those; anybody may write one
  #   {{handle, -1 - slot}, at, args, reply}    what a message in that slot of the ring carried, where that is wanted
  #   {{handle, :progress}, at, fields}         the last report of progress
  #   {name, number}, {{:name, number}, name}   handlers' names, which the ring has as numbers
  #
  # Arguments, replies and states are left out unless the instance asks for them, and what an exception carries always is.

  alias Pyre.{Address, Error, Instance, PythonError, Trace}
  alias Pyre.History.Ring
  alias Pyre.Wire.MsgPack

  @max_message 500
  @max_payload 16 * 1024

  @type event :: atom()
  @type entry :: %{required(:at) => DateTime.t(), required(:event) => event(), optional(atom()) => term()}

  ## What happened

  @doc "A message ended well. Called by the agent's process, before the answer: whoever has that finds it here."
  @spec done(Instance.t(), pos_integer(), map(), binary()) :: :ok
  def done(instance, handle, message, reply) do
    {at, took} = times(message)

    entry = %{
      at: at,
      kind: message.kind,
      handler: message.handler,
      attempt: message.attempt,
      id: id(message),
      took: took || 0
    }

    case Ring.put(instance, handle, entry) do
      {:ok, slot} ->
        payload = payload(instance, message.args, reply)

        _kept =
          payload && :ets.insert(instance.history, {{handle, -1 - slot}, at, payload.args, payload.reply})

        followed(instance, handle, entry, payload)

      :error ->
        fields = fields(message, :ok, took, payload(instance, message.args, reply))
        noted(record(instance, handle, :message, fields))
    end
  end

  defp noted(_number), do: :ok

  defp followed(instance, handle, entry, payload),
    do: if(Trace.any?(instance), do: Trace.tell(instance, handle, succeeded(entry, payload)), else: :ok)

  @doc """
  Several casts ended well together, the first of which says when they began: each is told to have taken its share.
  """
  @spec done_together(Instance.t(), pos_integer(), [map(), ...], binary()) :: :ok
  def done_together(instance, handle, [%{begun_at: begun_at} | _others] = messages, reply) do
    at = now()
    share = div(max(at - begun_at, 0), length(messages))

    entries =
      for message <- messages do
        %{
          at: at,
          kind: message.kind,
          handler: message.handler,
          attempt: message.attempt,
          id: id(message),
          took: share
        }
      end

    if Trace.any?(instance) or Ring.put_all(instance, handle, entries) == :error,
      do: Enum.each(messages, &done(instance, handle, Map.put(&1, :took, share), reply)),
      else: :ok
  end

  @doc "A state was put. Called by the agent's process."
  @spec state_put(Instance.t(), pos_integer(), map(), pos_integer()) :: :ok
  # Beside the messages, since many agents are given a state and have no other entry.
  def state_put(instance, handle, message, revision) do
    entry = %{at: now(), kind: :put_state, handler: <<>>, attempt: 1, id: id(message), took: revision}

    case Ring.put(instance, handle, entry) do
      {:ok, _slot} -> followed(instance, handle, entry, nil)
      :error -> noted(record(instance, handle, :state_put, put(revision, entry.id)))
    end
  end

  @doc "A message ended otherwise, or is to run again. Called by the agent's process."
  @spec ended(Instance.t(), pos_integer(), map(), atom(), Pyre.error() | nil) :: pos_integer()
  def ended(instance, handle, message, outcome, error) do
    {_at, took} = times(message)
    fields = fields(message, outcome, took, payload(instance, message.args, nil))
    record(instance, handle, :message, Map.merge(fields, about(error)))
  end

  @doc "Anything else that happened to an agent; gives the number of the entry. For whoever knows that the agent is there."
  @spec record(Instance.t(), pos_integer(), event(), map()) :: pos_integer()
  def record(instance, handle, event, fields) do
    number = :ets.update_counter(instance.history, {handle, 0}, {2, 1}, {{handle, 0}, 0})
    write(instance, handle, number, event, fields)
    number
  end

  @doc "The same, for whoever has only an id: the agent may end meanwhile."
  @spec note(Instance.t(), Address.id(), event(), map()) :: :ok
  def note(instance, id, event, fields) do
    with {:ok, %{handle: handle}} <- Address.fetch(instance, id) do
      record(instance, handle, event, fields)
      unless match?({:ok, %{handle: ^handle}}, Address.fetch(instance, id)), do: forget(instance, handle)
    end

    :ok
  end

  @doc "A report of progress takes the place of the message's last one; gives the number of the entry."
  @spec progress(Instance.t(), pos_integer(), pos_integer() | nil, map()) :: pos_integer()
  def progress(instance, handle, number, fields) do
    :ets.insert(instance.history, {{handle, :progress}, now(), fields})

    case number && :ets.lookup(instance.history, {handle, slot(instance, number)}) do
      [{_key, ^number, _at, _event, _fields}] -> write(instance, handle, number, :progress, fields)
      _none_or_overwritten -> record(instance, handle, :progress, fields)
    end
  end

  defp write(instance, handle, number, event, fields) do
    at = now()
    :ets.insert(instance.history, {{handle, slot(instance, number)}, number, at, event, fields})
    if Trace.any?(instance), do: Trace.tell(instance, handle, public(at, event, fields))
    number
  end

  defp slot(instance, number), do: rem(number - 1, instance.config.history) + 1

  # The operating system's clock, also for durations: the VM's own takes twice as long to read, which each message would pay twice.
  defp now, do: :os.system_time(:microsecond)

  @doc "When a message begins to run, as `done/4` and `ended/5` want to know it."
  @spec begin(map()) :: map()
  def begin(message), do: Map.put(message, :begun_at, now())

  defp times(%{took: took}), do: {now(), took}

  defp times(%{begun_at: begun_at}) do
    at = now()
    {at, max(at - begun_at, 0)}
  end

  # Another process of the agent has begun it, or nobody.
  defp times(_message), do: {now(), nil}

  defp id(%{key: {_handle, _lane, seq}}), do: seq

  defp fields(message, outcome, took, payload) do
    base = %{
      message_id: message_id(id(message)),
      kind: message.kind,
      handler: handler(message.kind, message.handler),
      outcome: outcome,
      attempt: message.attempt,
      duration_us: took
    }

    Map.merge(base, payload || %{})
  end

  # A hook is nobody's message.
  defp message_id(0), do: nil
  defp message_id(id), do: id

  defp handler(kind, "") when kind in [:on_start, :on_stop], do: Atom.to_string(kind)
  defp handler(_kind, name), do: name

  defp payload(%{config: %{payloads: false}}, _args, _reply), do: nil

  defp payload(_instance, args, reply),
    do: if(reply, do: %{args: bounded(args), reply: bounded(reply)}, else: %{args: bounded(args)})

  # What comes from the port is a part of a frame, which it would keep alive.
  defp bounded(bytes) when is_binary(bytes) and byte_size(bytes) <= @max_payload, do: :binary.copy(bytes)
  defp bounded(bytes) when is_binary(bytes), do: {:too_large, byte_size(bytes)}
  defp bounded(_none), do: nil

  @doc "What an entry tells of an error: its kind or type, and what it says; not what it carries."
  @spec about(Pyre.error() | nil) :: map()
  def about(nil), do: %{}
  def about(%PythonError{type: type} = error), do: told(:binary.copy(type), error)
  def about(%Error{kind: kind} = error), do: told(kind, error)

  defp told(name, error) do
    message = Exception.message(error)
    %{error: name, message: message |> String.slice(0, @max_message) |> :binary.copy()}
  end

  ## What is told of it

  @doc "The entries, the newest last."
  @spec list(Instance.t(), pos_integer(), keyword()) :: [entry()]
  def list(instance, handle, opts) do
    (messages(instance, handle) ++ others(instance, handle))
    |> Enum.filter(fn {_at, entry} -> opts[:events] == nil or entry.event in opts[:events] end)
    |> Enum.sort_by(&elem(&1, 0))
    |> Enum.map(&elem(&1, 1))
    |> Enum.take(-(opts[:limit] || 2 * instance.config.history))
  end

  defp messages(instance, handle) do
    for {slot, entry} <- Ring.read(instance, handle),
        do: {entry.at, succeeded(entry, carried(instance, handle, slot, entry.at))}
  end

  defp carried(instance, handle, slot, at) do
    case :ets.lookup(instance.history, {handle, -1 - slot}) do
      [{_key, ^at, args, reply}] -> %{args: args, reply: reply}
      _none -> nil
    end
  end

  defp succeeded(%{kind: :put_state} = entry, _payload),
    do: public(entry.at, :state_put, put(entry.took, entry.id))

  defp succeeded(%{at: at, took: took, id: id, handler: name} = entry, payload) do
    message = Map.merge(entry, %{key: {nil, nil, id}, handler: name})
    public(at, :message, fields(message, :ok, took, payload))
  end

  defp put(revision, id), do: %{revision: revision, message_id: id}

  defp others(instance, handle) do
    for slot <- slots(instance, handle),
        {_key, _number, at, event, fields} <- :ets.lookup(instance.history, {handle, slot}),
        do: {at, public(at, event, fields)}
  end

  defp slots(instance, handle) do
    case :ets.lookup(instance.history, {handle, 0}) do
      [{_key, number}] -> 1..min(number, instance.config.history)
      [] -> []
    end
  end

  defp public(at, event, fields) do
    fields = Map.merge(fields, %{at: instant(at), event: event})
    for {key, value} <- fields, into: %{}, do: {key, readable(key, value)}
  end

  defp instant(at), do: DateTime.from_unix!(at, :microsecond)

  defp readable(key, bytes) when key in [:args, :reply] and is_binary(bytes) do
    case MsgPack.decode(bytes) do
      {:ok, value} -> value
      {:error, _from_a_hostile_interpreter} -> bytes
    end
  end

  defp readable(_key, value), do: value

  @doc "The last report of progress, or nil."
  @spec last_progress(Instance.t(), pos_integer()) :: map() | nil
  def last_progress(instance, handle) do
    case :ets.lookup(instance.history, {handle, :progress}) do
      [{_key, at, fields}] -> Map.put(fields, :at, instant(at))
      [] -> nil
    end
  end

  defp payload_slots(%{config: %{payloads: false}}), do: []
  defp payload_slots(%{config: %{history: most}}), do: 1..most

  @doc "The agent is gone: so is what happened to it, and whoever follows it is told."
  @spec forget(Instance.t(), pos_integer()) :: :ok
  def forget(instance, handle) do
    for slot <- slots(instance, handle), do: :ets.delete(instance.history, {handle, slot})

    for slot <- payload_slots(instance), do: :ets.delete(instance.history, {handle, -slot})
    :ets.delete(instance.history, {handle, 0})
    :ets.delete(instance.history, {handle, :progress})
    Ring.delete(instance, handle)
    Trace.over(instance, handle)
  end
end
