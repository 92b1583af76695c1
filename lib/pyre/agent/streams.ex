defmodule Pyre.Agent.Streams do
  @moduledoc false

  # The producer's side of a stream, in the agent's process: chunks are handed on to whoever reads, who is watched from the first
  # instant, since a stream may wait for its reader for ever. Otherwise a stream is a message like any other.

  alias Pyre.{Mailbox, Worker}
  alias Pyre.Agent.Requests

  @doc "A stream begins: its reader is watched."
  @spec attend(map()) :: map()
  def attend(%{kind: :stream, reply_to: {:caller, _ref, _alias, pid}} = message),
    do: Map.put(message, :reader, Process.monitor(pid))

  def attend(%{kind: :stream, reply_to: {:agent, pid, _request}} = message),
    do: Map.put(message, :reader, Process.monitor(pid))

  def attend(message), do: message

  @doc "It has ended."
  @spec leave(map()) :: term()
  def leave(%{reader: monitor}), do: Process.demonitor(monitor, [:flush])
  def leave(_message), do: true

  @doc "A chunk: for its reader, unless the message has been cancelled, or is not ours any more."
  @spec chunk(Pyre.Agent.t(), Mailbox.key(), {pid(), pos_integer()}, binary()) :: term()
  def chunk(state, key, {worker, number}, body) do
    with %{reply_to: reply_to} <- Enum.find([state.running | state.beside], &match?(%{key: ^key}, &1)),
         {_no, ^worker} <- state.worker,
         do: Mailbox.chunk(reply_to, {self(), number}, body)
  end

  @doc "Cancels a message that runs beside others: it commits nothing, so that is all."
  @spec cancel_beside(Pyre.Agent.t(), Mailbox.key()) :: Pyre.Agent.t()
  def cancel_beside(state, key) do
    Requests.cancel(state, key)
    with {_no, worker} <- state.worker, do: Worker.cancel(worker, key, self())
    state
  end
end
