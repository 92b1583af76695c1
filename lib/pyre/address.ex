defmodule Pyre.Address do
  @moduledoc false

  # The rows of the agents' table: one per agent, alive or not. Whoever reads or writes a column does it here.
  # All columns that a sender needs are integers, so that one atomic `update_counter` reads and counts at once.

  alias Pyre.Classes.Names
  alias Pyre.Instance

  # id first, it is the key.
  @handle 2
  @pid 3
  @status 4
  @class 5
  @seq 6
  @count 7
  @bytes 8
  @max_count 9
  @epoch 10
  @incarnation 11
  @worker 12
  @start 13
  @sleep_at 14

  # What it was started with is `{args, opts}`; agents without either, which are many, keep an atom instead.
  @empty_map <<0x80>>
  @plain {@empty_map, []}

  # Up to 2 an agent takes messages. One that is asleep has no process, and therefore no pid.
  @statuses %{
    asleep: -1,
    starting: 0,
    running: 1,
    restarting: 2,
    terminated: 3,
    stopping: 4,
    # Takes messages, though it runs none: only who waits for an answer is refused.
    parked: 5
  }
  @parked 5
  @names Map.new(@statuses, fn {name, code} -> {code, name} end)

  @type status :: :asleep | :starting | :running | :restarting | :terminated | :stopping | :parked
  @type id :: String.t()

  @doc "The integer that stands for a status in the table."
  @spec code(status()) :: integer()
  for {name, code} <- @statuses, do: def(code(unquote(name)), do: unquote(code))

  @doc "Takes an id. False where it is taken."
  @spec reserve(Instance.t(), id(), String.t(), binary(), keyword()) :: boolean()
  def reserve(instance, id, class, args, opts) do
    start = {args, Keyword.delete(opts, :max_mailbox)}

    row =
      {id, Instance.next_handle(instance), nil, code(:starting), Names.number(instance, class), 0, 0, 0,
       opts[:max_mailbox] || instance.config.max_mailbox, 0, 0, 0, if(start == @plain, do: nil, else: start),
       nil}

    :ets.insert_new(instance.agents, row)
  end

  @doc """
  Counts a message in, or several with so many bytes together, all or none: `{:ok, handle, seq}` with the last one's number, or why it
  can't be taken. A control message finds room in a full mailbox.
  """
  @spec enter(Instance.t(), id(), non_neg_integer(), :bounded | :waiting_caller | :control, pos_integer()) ::
          {:ok, pos_integer(), pos_integer()}
          | {:error, :not_found | {:overloaded, pos_integer(), pos_integer()} | {:closed, status()}}
  def enter(instance, id, size, room, messages \\ 1) do
    [seq, count, bytes, handle, status, max_count] =
      :ets.update_counter(instance.agents, id, [
        {@seq, messages},
        {@count, messages},
        {@bytes, size},
        {@handle, 0},
        {@status, 0},
        {@max_count, 0}
      ])

    cond do
      status > 2 and (status != @parked or room == :waiting_caller) ->
        refuse(instance, id, {size, messages}, {:closed, Map.fetch!(@names, status)})

      # What others have counted in and will count out again, since they are refused too, is not told.
      room != :control and (count > max_count or too_many_bytes?(instance, bytes, {size, messages})) ->
        refuse(
          instance,
          id,
          {size, messages},
          {:overloaded, min(count - messages, max_count), bytes - size}
        )

      true ->
        {:ok, handle, seq}
    end
  rescue
    ArgumentError -> {:error, :not_found}
  end

  @doc "The number of the message that was put last."
  @spec last_seq(Instance.t(), id()) :: non_neg_integer()
  def last_seq(instance, id) do
    :ets.lookup_element(instance.agents, id, @seq)
  rescue
    ArgumentError -> 0
  end

  # One message alone always fits: its size has its own limit.
  defp too_many_bytes?(instance, bytes, {size, messages}),
    do: bytes > instance.config.max_mailbox_bytes and (bytes > size or messages > 1)

  defp refuse(instance, id, {size, messages}, reason) do
    leave(instance, id, size, messages)
    {:error, reason}
  end

  @doc "Counts a message out, or several with so many bytes together. The row may be gone already."
  @spec leave(Instance.t(), id(), non_neg_integer(), non_neg_integer()) :: :ok
  def leave(instance, id, size, messages \\ 1) do
    _counts = :ets.update_counter(instance.agents, id, [{@count, -messages}, {@bytes, -size}])
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "Whom to wake, now that a message is in the mailbox: read after the insert, so that no restart is missed."
  @spec recipient(Instance.t(), id()) :: {:ok, pid() | nil} | :closed
  def recipient(instance, id) do
    if :ets.lookup_element(instance.agents, id, @status) in 3..4,
      do: :closed,
      else: {:ok, :ets.lookup_element(instance.agents, id, @pid)}
  rescue
    ArgumentError -> :closed
  end

  @doc "The id and the class of an agent, by its handle. Reads the whole table: for what happens seldom."
  @spec name(Instance.t(), pos_integer()) :: {id(), String.t()}
  def name(instance, handle) do
    [{id, class}] =
      :ets.select(instance.agents, [
        {pattern(%{1 => :"$1", @handle => handle, @class => :"$2"}), [], [{{:"$1", :"$2"}}]}
      ])

    {id, Names.name(instance, class)}
  end

  @doc "A new incarnation of an agent's process takes the address over."
  @spec take_over(Instance.t(), id(), pid()) ::
          {:ok,
           %{
             handle: pos_integer(),
             class: String.t(),
             incarnation: pos_integer(),
             predecessor: pid() | nil,
             status: status()
           }}
          | :error
  def take_over(instance, id, pid) do
    case fetch(instance, id) do
      {:ok, %{status: :asleep} = row} -> wake(instance, row, pid)
      {:ok, %{status: :terminated}} -> :error
      {:ok, row} -> if woken?(row), do: :error, else: succeed(instance, row, pid)
      :error -> :error
    end
  end

  # Two processes may have been started for an agent that was asleep. The first has it.
  defp woken?(%{status: status, pid: pid}), do: status == :running and is_pid(pid) and Process.alive?(pid)

  defp succeed(instance, row, pid) do
    :ets.update_element(instance.agents, row.id, [{@pid, pid}])
    incarnation = :ets.update_counter(instance.agents, row.id, {@incarnation, 1})
    {:ok, taken(row, incarnation)}
  end

  # It is the same incarnation that goes on, unless it fell asleep on another node.
  defp wake(instance, %{incarnation: 0} = row, pid) do
    if change(instance, row.id, %{@status => code(:asleep)}, %{@status => code(:restarting), @pid => pid}),
      do:
        {:ok,
         taken(%{row | status: :restarting}, :ets.update_counter(instance.agents, row.id, {@incarnation, 1}))},
      else: :error
  end

  defp wake(instance, row, pid) do
    if change(instance, row.id, %{@status => code(:asleep)}, %{@status => code(:running), @pid => pid}),
      do: {:ok, taken(row, row.incarnation)},
      else: :error
  end

  defp taken(row, incarnation) do
    %{
      handle: row.handle,
      class: row.class,
      incarnation: incarnation,
      predecessor: row.pid,
      status: row.status
    }
  end

  @doc """
  The agent's process gives the address back, to be woken by the next message; false where one is on its way. It is counted in before
  anything else, so whoever is not counted yet finds the agent asleep.
  """
  @spec fall_asleep(Instance.t(), id(), pid()) :: boolean()
  def fall_asleep(instance, id, pid) do
    awake = %{@status => code(:running), @pid => pid, @count => 0}
    change(instance, id, awake, %{@status => code(:asleep), @pid => nil, @worker => 0, @sleep_at => nil})
  end

  @doc "When an agent that nobody sends anything to is to fall asleep; nil for never."
  @spec sleep_at(Instance.t(), id()) :: integer() | nil
  def sleep_at(instance, id) do
    :ets.lookup_element(instance.agents, id, @sleep_at)
  rescue
    ArgumentError -> nil
  end

  @doc "Sets that instant."
  @spec put_sleep_at(Instance.t(), id(), integer()) :: boolean()
  def put_sleep_at(instance, id, at), do: :ets.update_element(instance.agents, id, {@sleep_at, at})

  @doc "Processes that are to fall asleep, so many at a time: the first ones, and what `further_due/1` needs for the next."
  @spec due(Instance.t(), integer(), pos_integer()) :: {[pid()], term()} | :"$end_of_table"
  def due(instance, now, at_once) do
    row = pattern(%{@status => code(:running), @pid => :"$1", @count => 0, @sleep_at => :"$2"})
    :ets.select(instance.agents, [{row, [{:is_integer, :"$2"}, {:"=<", :"$2", now}], [:"$1"]}], at_once)
  end

  @doc "The next ones. The table must be fixed as long as that goes on."
  @spec further_due(term()) :: {[pid()], term()} | :"$end_of_table"
  def further_due(continuation), do: :ets.select(continuation)

  @doc "Is the agent asleep?"
  @spec asleep?(Instance.t(), id()) :: boolean()
  def asleep?(instance, id) do
    :ets.lookup_element(instance.agents, id, @status) == code(:asleep)
  rescue
    ArgumentError -> false
  end

  @doc "The ids of the agents that are asleep although somebody has sent them something."
  @spec overslept(Instance.t()) :: [id()]
  def overslept(instance) do
    row = pattern(%{1 => :"$1", @status => code(:asleep), @count => :"$2"})
    :ets.select(instance.agents, [{row, [{:>, :"$2", 0}], [:"$1"]}])
  end

  @doc "Sets the status."
  @spec put_status(Instance.t(), id(), status()) :: boolean()
  def put_status(instance, id, status), do: :ets.update_element(instance.agents, id, {@status, code(status)})

  @doc "Sets the status of an agent that has another one; false where it has not. One of many who try succeeds."
  @spec change_status(Instance.t(), id(), status(), status()) :: boolean()
  def change_status(instance, id, from, to),
    do: change(instance, id, %{@status => code(from)}, %{@status => code(to)})

  # In one step, where the columns are as expected.
  defp change(instance, id, expected, changes) do
    columns = Map.new(2..@sleep_at, &{&1, :"$#{&1}"})
    row = columns |> Map.merge(expected) |> Map.put(1, id)
    :ets.select_replace(instance.agents, [{tuple(row), [], [{row |> Map.merge(changes) |> tuple()}]}]) == 1
  end

  defp tuple(columns), do: 1..@sleep_at |> Enum.map(&Map.fetch!(columns, &1)) |> List.to_tuple()

  @doc "A new activation: its epoch, and where it will be."
  @spec next_epoch(Instance.t(), id(), non_neg_integer()) :: pos_integer()
  def next_epoch(instance, id, worker) do
    :ets.update_element(instance.agents, id, {@worker, worker})
    :ets.update_counter(instance.agents, id, {@epoch, 1})
  end

  @doc "The row as a map."
  @spec fetch(Instance.t(), id()) :: {:ok, map()} | :error
  def fetch(instance, id) do
    case :ets.lookup(instance.agents, id) do
      [row] -> {:ok, to_map(instance, row)}
      [] -> :error
    end
  end

  @doc "The start arguments, as MessagePack."
  @spec start_args(Instance.t(), id()) :: binary()
  def start_args(instance, id) do
    {args, _opts} = start(:ets.lookup_element(instance.agents, id, @start))
    args
  end

  defp start(nil), do: @plain
  defp start(start), do: start

  @doc "All rows, as maps."
  @spec all(Instance.t()) :: [map()]
  def all(instance), do: instance.agents |> :ets.tab2list() |> Enum.map(&to_map(instance, &1))

  @doc "Those that are not asleep: of these there may be many times as many."
  @spec awake(Instance.t()) :: [map()]
  def awake(instance) do
    rows =
      :ets.select(instance.agents, [{pattern(%{@status => :"$1"}), [{:"/=", :"$1", code(:asleep)}], [:"$_"]}])

    Enum.map(rows, &to_map(instance, &1))
  end

  @doc "How many agents there are in each status."
  @spec counts(Instance.t()) :: %{status() => non_neg_integer()}
  def counts(instance) do
    for {name, code} <- @statuses, into: %{} do
      {name, :ets.select_count(instance.agents, [{pattern(%{@status => code}), [], [true]}])}
    end
  end

  @doc "The agents that should have a process, with the last that they had."
  @spec expected(Instance.t()) :: [{id(), pid()}]
  def expected(instance) do
    row = pattern(%{1 => :"$1", @pid => :"$2", @status => :"$3"})
    guards = [{:"/=", :"$3", code(:terminated)}, {:is_pid, :"$2"}]
    :ets.select(instance.agents, [{row, guards, [{{:"$1", :"$2"}}]}])
  end

  @doc "The agents of a class that are there, and that an interpreter has had an object of."
  @spec used(Instance.t(), String.t()) :: [id()]
  def used(instance, class) do
    row = pattern(%{1 => :"$1", @status => :"$2", @class => Names.number(instance, class), @epoch => :"$3"})
    there = for status <- [:running, :asleep], do: {:==, :"$2", code(status)}
    :ets.select(instance.agents, [{row, [{:>, :"$3", 0}, List.to_tuple([:orelse | there])], [:"$1"]}])
  end

  @doc "The ids of the agents that may be running `on_start` or `on_stop` in a worker."
  @spec in_transition(Instance.t(), pos_integer()) :: [id()]
  def in_transition(instance, worker) do
    :ets.select(instance.agents, [
      {pattern(%{1 => :"$1", @status => :"$2", @worker => worker}), [{:"/=", :"$2", code(:running)}], [:"$1"]}
    ])
  end

  @doc "What a snapshot carries over: nothing of processes; messages are counted in again when they are."
  @spec carry(tuple()) :: tuple() | nil
  def carry(row) do
    case Map.fetch!(@names, elem(row, @status - 1)) do
      :stopping -> nil
      status when status in [:parked, :terminated, :asleep] -> carry(row, status)
      _lives -> carry(row, :restarting)
    end
  end

  defp carry(row, status) do
    for {column, value} <- [
          {@pid, nil},
          {@status, code(status)},
          {@count, 0},
          {@bytes, 0},
          {@incarnation, 0},
          {@worker, 0},
          {@sleep_at, nil}
        ],
        reduce: row,
        do: (row -> put_elem(row, column - 1, value))
  end

  @doc "A row out of a snapshot, with a process that has ended: it is to have one again, unless it is asleep."
  @spec put_gone(tuple(), pid()) :: tuple()
  def put_gone(row, gone),
    do: if(elem(row, @status - 1) == code(:asleep), do: row, else: put_elem(row, @pid - 1, gone))

  @doc "Counts messages in that are in the mailbox already."
  @spec count_in(Instance.t(), id(), non_neg_integer()) :: term()
  def count_in(instance, id, bytes),
    do: :ets.update_counter(instance.agents, id, [{@count, 1}, {@bytes, bytes}])

  @doc "Forgets the address."
  @spec delete(Instance.t(), id()) :: true
  def delete(instance, id), do: :ets.delete(instance.agents, id)

  defp pattern(known), do: 1..@sleep_at |> Enum.map(&Map.get(known, &1, :_)) |> List.to_tuple()

  defp to_map(instance, row) do
    {_args, opts} = start(elem(row, @start - 1))

    %{
      id: elem(row, 0),
      handle: elem(row, @handle - 1),
      pid: elem(row, @pid - 1),
      status: Map.fetch!(@names, elem(row, @status - 1)),
      class: Names.name(instance, elem(row, @class - 1)),
      mailbox: elem(row, @count - 1),
      mailbox_bytes: elem(row, @bytes - 1),
      max_mailbox: elem(row, @max_count - 1),
      epoch: elem(row, @epoch - 1),
      incarnation: elem(row, @incarnation - 1),
      worker: elem(row, @worker - 1),
      opts: opts
    }
  end
end
