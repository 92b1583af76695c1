defmodule Pyre.Events do
  @moduledoc false

  # Publish and subscribe. The publisher's own process puts an event into the mailboxes of the agents and processes of its node that
  # want it, so that the events of one publisher arrive in its order, and nobody waits for anybody: who is too slow misses events, and
  # is told how many, or counted. Other nodes' instances of the same name hear it through this process, which is a member of a
  # group of OTP's :pg.

  use GenServer

  require Logger

  alias Pyre.{Classes, Error, Instance, Mailbox}
  alias Pyre.Events.{Subscriptions, Topic}
  alias Pyre.Wire.MsgPack

  # A process with more messages than this waiting misses events.
  @most_waiting 10_000
  @group :events

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "The scope of an instance in :pg."
  @spec scope(atom()) :: atom()
  def scope(name), do: Module.concat(name, Events)

  @doc "Tells all who want it of an event, a body."
  @spec publish(Instance.t(), String.t(), binary()) :: :ok | {:error, Error.t()}
  def publish(instance, topic, body) do
    with {:ok, words} <- Topic.parse(topic) do
      if wanted?(instance), do: tell_node(instance, topic, words, body)
      _told = Node.list() != [] && tell_others(instance, topic, body)
      :ok
    end
  end

  @doc "Does anybody of this node want any event?"
  @spec wanted?(Instance.t()) :: boolean()
  def wanted?(instance), do: Instance.subscriptions(instance) > 0

  defp tell_others(%{name: name}, topic, body) do
    for pid <- :pg.get_members(scope(name), @group), node(pid) != node(), do: send(pid, {:event, topic, body})
  end

  defp tell_node(instance, topic, words, body) do
    instance
    |> Subscriptions.matching(topic, words)
    |> Enum.reduce(%{}, &tell(instance, &1, {topic, body}, &2))
  end

  # What is the same for many is made once.
  defp tell(instance, {{:agent, handle, handler}, id, class}, {topic, body}, made) do
    made = Map.put_new_lazy(made, {class, handler}, fn -> args(instance, class, handler, topic, body) end)

    _noted =
      case Mailbox.put(instance, id, :event, handler, made[{class, handler}], 0, nil) do
        {:ok, _key} -> Subscriptions.caught_up(instance, handle)
        {:error, %Error{kind: :overloaded}} -> missed(instance, handle, id)
        {:error, _stopped_or_gone} -> :ok
      end

    made
  end

  defp tell(instance, {{:process, pid}, nil, nil}, {topic, body}, made) do
    made = Map.put_new_lazy(made, :event, fn -> decoded(body) end)

    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, waiting} when waiting < @most_waiting ->
        with count when count > 0 <- Subscriptions.caught_up(instance, pid),
             do: send(pid, {:pyre_events_dropped, instance.name, count})

        send(pid, {:pyre_event, instance.name, topic, made.event})

      {:message_queue_len, _too_many} ->
        Instance.count(instance, :events_dropped)
        Subscriptions.missed(instance, pid)

      nil ->
        :ok
    end

    made
  end

  defp missed(instance, handle, id) do
    Instance.count(instance, :events_dropped)

    if Subscriptions.missed(instance, handle) == 1,
      do:
        Logger.warning("agent #{inspect(id)} misses events: its mailbox is full",
          agent_id: id,
          pyre: instance.name
        )
  end

  # A handler gets what it names.
  defp args(instance, class, handler, topic, body) do
    takes? = Classes.takes(instance, class, handler)
    pairs = Enum.filter([{"topic", encode(topic)}, {"event", body}], fn {name, _body} -> takes?.(name) end)
    IO.iodata_to_binary([<<8::4, length(pairs)::4>> | for({name, value} <- pairs, do: [encode(name), value])])
  end

  defp encode(text) do
    {:ok, body} = MsgPack.encode(text)
    body
  end

  defp decoded(body) do
    {:ok, event} = MsgPack.decode(body)
    event
  end

  @doc "The calling process wants events."
  @spec subscribe(Instance.t(), term()) :: :ok | {:error, Error.t()}
  def subscribe(instance, pattern) do
    with {:ok, _words} <- Topic.parse_pattern(pattern) do
      Subscriptions.add_process(instance, self(), pattern)
      Instance.notify(instance, :events, {:watch, self()})
    end
  end

  @doc "It wants them no more."
  @spec unsubscribe(Instance.t(), term()) :: :ok | {:error, Error.t()}
  def unsubscribe(instance, pattern) do
    with {:ok, _words} <- Topic.parse_pattern(pattern),
         do: Subscriptions.cancel_process(instance, self(), pattern)
  end

  ## Callbacks: forgets the processes that end, hears the other nodes

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :events)
    :ok = :pg.join(scope(name), @group, self())
    {:ok, Enum.reduce(Subscriptions.processes(instance), %{instance: instance, watched: %{}}, &watch(&2, &1))}
  end

  @impl GenServer
  def handle_info({:watch, pid}, state), do: {:noreply, watch(state, pid)}

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    Subscriptions.delete(state.instance, pid)
    {:noreply, %{state | watched: Map.delete(state.watched, pid)}}
  end

  def handle_info({:event, topic, body}, %{instance: instance} = state) do
    with true <- wanted?(instance),
         {:ok, words} <- Topic.parse(topic),
         do: tell_node(instance, topic, words, body)

    {:noreply, state}
  end

  defp watch(%{watched: watched} = state, pid) when is_map_key(watched, pid), do: state
  defp watch(state, pid), do: put_in(state.watched[pid], Process.monitor(pid))
end
