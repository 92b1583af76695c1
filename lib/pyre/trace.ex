defmodule Pyre.Trace do
  @moduledoc false

  # Follows agents live: whoever writes an entry of a history sends it to those who follow that agent. A row of State's per
  # follower:
  #
  #   {handle, ref, most, room}
  #
  # `ref` is an alias of the follower, closed when it has enough, so that nothing arrives later. `room` counts, in atomics that both sides have, the entries that are on their way to the follower, and those that were left
  # out since: a follower that reads slowly has at most `most` of them in its mailbox, and is told how many it missed, where
  # they are missing. Nobody waits for a follower.
  #
  # A counter tells whoever writes an entry whether anybody follows any agent: that look is all that an agent pays that nobody
  # follows. The row belongs to a keeper, a process of its own per follower, which takes it back when the follower ends.

  alias Pyre.{Address, Instance, Mailbox, Patience}

  @sent 1
  @dropped 2

  @doc "Does anybody follow any agent?"
  @spec any?(Instance.t()) :: boolean()
  def any?(instance), do: Instance.traces(instance) > 0

  @doc "Tells those who follow an agent what happened to it."
  @spec tell(Instance.t(), pos_integer(), map()) :: :ok
  def tell(instance, handle, entry) do
    for {_handle, ref, most, room} <- :ets.lookup(instance.traces, handle),
        do: offer(ref, most, room, entry)

    :ok
  end

  defp offer(ref, most, room, entry) do
    if :atomics.add_get(room, @sent, 1) <= most do
      case :atomics.exchange(room, @dropped, 0) do
        0 -> send(ref, {ref, :entry, entry})
        missed -> send(ref, {ref, :entry, missed, entry})
      end
    else
      :atomics.sub(room, @sent, 1)
      :atomics.add(room, @dropped, 1)
    end
  end

  @doc "The agent is gone, and nothing more happens to it."
  @spec over(Instance.t(), pos_integer()) :: :ok
  def over(instance, handle) do
    rows = if any?(instance), do: :ets.lookup(instance.traces, handle), else: []
    for {_handle, ref, _most, _room} <- rows, do: send(ref, {ref, :over})
    :ok
  end

  @doc "The entries of an agent from now on, as a lazy enumerable for the process that enumerates it."
  @spec stream(Instance.t(), Address.id(), keyword()) :: Enumerable.t()
  def stream(instance, id, opts) do
    Stream.resource(fn -> begin(instance, id, opts) end, &next/1, &close/1)
  end

  defp begin(instance, id, opts) do
    case Address.fetch(instance, id) do
      {:ok, %{handle: handle}} -> follow(instance, id, handle, opts)
      :error -> raise Mailbox.not_found(id)
    end
  end

  defp follow(instance, id, handle, opts) do
    ref = :erlang.alias()
    room = :atomics.new(2, signed: true)
    row = {handle, ref, opts[:buffer], room}
    follower = self()
    {keeper, monitor} = spawn_monitor(fn -> keep(instance, follower, row) end)

    receive do
      {^ref, :begun} -> :ok
      {:DOWN, ^monitor, :process, ^keeper, _no_tables} -> raise Mailbox.not_found(id)
    end

    # It may have ended before the row was there to be found.
    unless match?({:ok, %{handle: ^handle}}, Address.fetch(instance, id)), do: send(self(), {ref, :over})

    %{
      ref: ref,
      room: room,
      keeper: keeper,
      monitor: monitor,
      left: opts[:limit],
      until: until(opts[:timeout])
    }
  end

  defp until(:infinity), do: :infinity
  defp until(timeout), do: System.monotonic_time(:millisecond) + timeout

  defp next(%{left: 0} = trace), do: {:halt, trace}
  defp next(trace), do: take(trace, 0) || dropped(trace) || take(trace, left_ms(trace)) || {:halt, trace}

  defp take(%{ref: ref, monitor: monitor} = trace, wait) do
    receive do
      {^ref, :entry, entry} -> got(trace, [entry])
      {^ref, :entry, missed, entry} -> got(trace, [missed(missed), entry])
      {^ref, :over} -> {:halt, trace}
      # With the tables.
      {:DOWN, ^monitor, :process, _keeper, _reason} -> {:halt, trace}
    after
      wait -> nil
    end
  end

  defp got(trace, entries) do
    :atomics.sub(trace.room, @sent, 1)
    count(trace, entries)
  end

  # Nothing has come since that could have told it.
  defp dropped(trace) do
    case :atomics.exchange(trace.room, @dropped, 0) do
      0 -> nil
      missed -> count(trace, [missed(missed)])
    end
  end

  defp missed(count), do: %{at: DateTime.utc_now(), event: :dropped, count: count}

  defp count(%{left: :infinity} = trace, entries), do: {entries, trace}

  defp count(%{left: left} = trace, entries) do
    entries = Enum.take(entries, left)
    {entries, %{trace | left: left - length(entries)}}
  end

  defp left_ms(%{until: :infinity}), do: :infinity
  defp left_ms(%{until: until}), do: max(until - System.monotonic_time(:millisecond), 0)

  defp close(%{ref: ref, keeper: keeper, monitor: monitor}) do
    send(keeper, {ref, :close})
    Patience.await_end(keeper)
    Process.demonitor(monitor, [:flush])
    :erlang.unalias(ref)
    flush(ref)
  end

  defp flush(ref) do
    receive do
      {^ref, :entry, _entry} -> flush(ref)
      {^ref, :entry, _missed, _entry} -> flush(ref)
      {^ref, :over} -> flush(ref)
    after
      0 -> :ok
    end
  end

  ## The keeper

  defp keep(instance, follower, {_handle, ref, _most, _room} = row) do
    with owner when is_pid(owner) <- :ets.info(instance.traces, :owner) do
      follower_monitor = Process.monitor(follower)
      Process.monitor(owner)
      # Counted first: a counter that is too high costs a look, one that is too low an entry.
      Instance.add_traces(instance, 1)
      :ets.insert(instance.traces, row)
      send(follower, {ref, :begun})

      receive do
        {^ref, :close} -> take_back(instance, row)
        {:DOWN, ^follower_monitor, :process, _pid, _reason} -> take_back(instance, row)
        {:DOWN, _owner_monitor, :process, _pid, _reason} -> :ok
      end
    end
  end

  defp take_back(instance, row) do
    :ets.delete_object(instance.traces, row)
    Instance.add_traces(instance, -1)
  rescue
    # The tables went at the same moment.
    ArgumentError -> :ok
  end
end
