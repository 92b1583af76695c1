defmodule Pyre.Agent.Streaming do
  @moduledoc false

  # The reader's side of a stream: a lazy enumerable that sends its message when it is first asked for a chunk, gives the chunks in order,
  # and takes the message back when it is left early. Chunks come from the agent's process to an alias, so that a late one never
  # reaches the reader's mailbox.
  #
  # What was read is told in lots, so that the producer, which may be a window ahead (priv/python/pyre/_stream.py),
  # goes on while a lot is being read.

  alias Pyre.Agent.Client
  alias Pyre.{Address, Error, Instance, Mailbox}
  alias Pyre.Wire.{Body, MsgPack}

  @lot 8
  @lot_bytes 262_144

  defstruct [
    :instance,
    :id,
    :key,
    :ref,
    :alias,
    :timeout,
    :deadline,
    producer: nil,
    unread: 0,
    unread_bytes: 0
  ]

  @doc "The chunks that a handler yields. Raises what ends it before its end."
  @spec chunks(Instance.t(), String.t(), binary(), binary(), keyword(), (() -> :ok | {:error, Pyre.error()})) ::
          Enumerable.t()
  def chunks(instance, id, handler, args, opts, ensure) do
    Stream.resource(fn -> open(instance, id, handler, args, opts, ensure) end, &next/1, &close/1)
  end

  defp open(instance, id, handler, args, opts, ensure) do
    ref = make_ref()
    alias = :erlang.alias([:explicit_unalias])
    deadline = if opts[:deadline], do: Client.deadline(opts[:deadline]), else: 0

    with :ok <- ensure.(),
         {:ok, key} <-
           Mailbox.put(instance, id, :stream, handler, args, deadline, {:caller, ref, alias, self()}) do
      Instance.count(instance, :calls)

      %__MODULE__{
        instance: instance,
        id: id,
        key: key,
        ref: ref,
        alias: alias,
        timeout: opts[:timeout] || instance.config.call_timeout,
        deadline: deadline
      }
    else
      {:error, error} ->
        :erlang.unalias(alias)
        raise error
    end
  end

  defp next(%{ref: ref} = stream) do
    receive do
      {^ref, :chunk, producer, body} ->
        {[decode(body, stream)], read(%{stream | producer: producer}, byte_size(body))}

      {^ref, 0, _body} ->
        {:halt, over(stream)}

      {^ref, _error, body} ->
        _over = over(stream)
        raise error(body)
    after
      min(Client.left(stream.deadline), stream.timeout) -> raise too_late(stream)
    end
  end

  defp decode(body, stream) do
    case MsgPack.decode(body) do
      {:ok, chunk} ->
        chunk

      {:error, error} ->
        close(stream)
        raise error
    end
  end

  defp error(body) do
    {:error, error} = Body.to_result(1, body)
    error
  end

  defp too_late(stream) do
    Error.new(
      :timeout,
      "no chunk came from #{inspect(stream.id)} within #{stream.timeout} ms, or before the stream's deadline; it was closed",
      %{committed: false}
    )
  end

  defp read(%{unread: unread, unread_bytes: bytes} = stream, size)
       when unread + 1 >= @lot or bytes + size >= @lot_bytes do
    {agent, number} = stream.producer
    send(agent, {:credit, stream.key, number, unread + 1})
    %{stream | unread: 0, unread_bytes: 0}
  end

  defp read(stream, size), do: %{stream | unread: stream.unread + 1, unread_bytes: stream.unread_bytes + size}

  defp over(stream) do
    :erlang.unalias(stream.alias)
    flush(stream.ref)
    %{stream | key: nil}
  end

  # Left early: the message is taken back, or its generator is closed.
  defp close(%{key: nil}), do: :ok

  defp close(%{instance: instance, id: id, key: key} = stream) do
    :erlang.unalias(stream.alias)

    if Instance.there?(instance) and not Mailbox.withdraw(instance, id, key) do
      with {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, id), do: send(pid, {:cancel, key})
    end

    flush(stream.ref)
  end

  defp flush(ref) do
    receive do
      {^ref, :chunk, _producer, _body} -> flush(ref)
      {^ref, _status, _body} -> flush(ref)
    after
      0 -> :ok
    end
  end
end
