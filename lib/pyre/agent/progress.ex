defmodule Pyre.Agent.Progress do
  @moduledoc false

  # How far the running messages are, as they tell it (`ctx.progress`). The interpreter sends a report about twenty times a second at
  # most, and the last one before the message's answer. Runs in the agent's process, so that what an abandoned thread
  # reports is told apart from what runs now.

  alias Pyre.{Events, History, Telemetry}
  alias Pyre.Wire.MsgPack

  # Parts of the whole on the wire, which has no floats.
  @whole 1_000_000

  @doc "A message reports."
  @spec report(Pyre.Agent.t(), term(), pid(), non_neg_integer() | [], binary()) :: Pyre.Agent.t()
  def report(%{worker: {_no, worker}} = state, key, worker, fraction, text) do
    case Enum.find([state.running | state.beside], &(&1 != nil and &1.key == key)) do
      # Its caller was told that it is cancelled.
      %{cancelled: true} -> state
      %{} = message -> put(state, message, fields(message, fraction, text))
      nil -> state
    end
  end

  # From a worker that the agent has left.
  def report(state, _key, _worker, _fraction, _text), do: state

  defp fields(%{key: {_handle, _lane, seq}} = message, fraction, text) do
    %{
      message_id: if(seq > 0, do: seq),
      handler: if(message.handler == "", do: Atom.to_string(message.kind), else: message.handler),
      attempt: message.attempt,
      fraction: if(fraction != [], do: fraction / @whole),
      # A part of a frame, which it would keep alive.
      text: :binary.copy(text)
    }
  end

  defp put(state, message, fields) do
    number = History.progress(state.instance, state.handle, message[:progress], fields)
    announce(state, fields)
    remember(state, Map.put(message, :progress, number))
  end

  defp remember(%{running: %{key: key}} = state, %{key: key} = message), do: %{state | running: message}

  defp remember(state, %{key: key} = message),
    do: %{state | beside: Enum.map(state.beside, &if(&1.key == key, do: message, else: &1))}

  @doc "Tells the world of a report. Those who follow the agent by `Pyre.trace/3` have it from its history."
  @spec announce(Pyre.Agent.t(), map()) :: :ok
  def announce(%{instance: instance, id: id, class: class}, fields) do
    _told = Events.wanted?(instance) && publish(instance, id, Map.put(fields, :agent, id))

    Telemetry.event(
      [:agent, :progress],
      %{count: 1},
      Map.merge(fields, %{name: instance.name, id: id, class: class})
    )
  end

  # An id may be no word of a topic; who wants to know of one agent finds it in the event.
  defp publish(instance, id, fields) do
    {:ok, body} = MsgPack.encode(fields)

    with {:error, _no_word} <- Events.publish(instance, "pyre.progress." <> id, body),
         do: Events.publish(instance, "pyre.progress", body)
  end
end
