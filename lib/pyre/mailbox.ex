defmodule Pyre.Mailbox do
  @moduledoc false

  # An agent's queue: rows of a table that Pyre.State owns, put there by the sender itself. So a message that was
  # accepted is where no death of a process can reach it, `overloaded` is exact, and a restart loses nothing:
  # the next incarnation reads the same rows.
  #
  # The key {handle, lane, seq} keeps a sender's order: seq is counted up in the agent's row. A row is *claimed* before it
  # is run or withdrawn: the one who raises `claim` from 0 to 1 has it, be it the agent that runs it or the
  # caller who no longer wants it. A `claim` below 0 is a message that waits for its next attempt: `Pyre.Agent.Retries`.

  alias Pyre.{Address, Error, Instance, Limits}
  alias Pyre.Agent.{Retries, Steps}
  alias Pyre.Escalations

  # Lanes: control messages overtake all others, and each lane those behind it.
  @control 0
  @high 1
  @normal 2
  @low 3
  # So many messages are taken by their lanes, then the oldest of all is.
  @fair_turn 8

  @claim 2
  @attempt 8

  # What somebody wants of the agent itself, now.
  @orders [:stop, :restart, :park, :put_state, :ping]

  @type key :: {handle :: pos_integer(), lane :: 0..3, seq :: pos_integer()}
  @type kind ::
          :restart
          | :park
          | :call
          | :stream
          | :cast
          | :timer
          | :on_down
          | :decision
          | :event
          | :stop
          | :put_state
          | :ping
  @type priority :: :high | :normal | :low
  @type reply_to :: {:caller, reference(), reference(), pid()} | {:agent, pid(), term()} | nil
  @type t :: %{
          key: key(),
          kind: kind(),
          handler: binary(),
          args: term(),
          deadline: non_neg_integer(),
          reply_to: reply_to(),
          attempt: pos_integer()
        }

  @doc "Puts a message into the mailbox of an agent and wakes its process."
  @spec put(Instance.t(), Address.id(), kind(), binary(), term(), non_neg_integer(), reply_to(), priority()) ::
          {:ok, key()} | {:error, Error.t()}
  def put(instance, id, kind, handler, args, deadline, reply_to, priority \\ :normal) do
    with :ok <- Limits.admit(instance, id, kind),
         {:ok, handle, seq} <- enter(instance, id, kind, size(args)),
         do:
           insert(
             instance,
             id,
             {{handle, lane(instance, kind, priority), seq}, 0, id, kind, handler, args, deadline, 1,
              reply_to}
           )
  end

  @doc "Puts casts into the mailbox of an agent, in order, and wakes its process once."
  @spec put_casts(Instance.t(), Address.id(), [{binary(), binary()}, ...], priority()) ::
          [{:ok, key()} | {:error, Error.t()}]
  def put_casts(instance, id, casts, priority) do
    with [_one, _more | _rest] <- casts,
         false <- Instance.limited?(instance),
         bytes = for({_handler, args} <- casts, reduce: 0, do: (sum -> sum + byte_size(args))),
         false <- Instance.closed?(instance),
         {:ok, handle, last} <- Address.enter(instance, id, bytes, :bounded, length(casts)) do
      insert_all(instance, id, {handle, lane(instance, :cast, priority), last - length(casts) + 1}, casts)
    else
      # Some may fit, or each has its own answer.
      _not_all_at_once ->
        for {handler, args} <- casts, do: put(instance, id, :cast, handler, args, 0, nil, priority)
    end
  end

  defp insert_all(instance, id, {handle, lane, first}, casts) do
    keys =
      for {{handler, args}, seq} <- Enum.with_index(casts, first) do
        key = {handle, lane, seq}
        :ets.insert(instance.mailbox, {key, 0, id, :cast, handler, args, 0, 1, nil})
        key
      end

    case Address.recipient(instance, id) do
      {:ok, nil} -> for key <- keys, do: rouse(instance, id, key)
      {:ok, pid} -> wake_once(pid, keys)
      :closed -> for key <- keys, do: withdraw_late(instance, id, key)
    end
  end

  defp wake_once(pid, keys) do
    send(pid, {:mails, keys})
    for key <- keys, do: {:ok, key}
  end

  # Who has never heard of priorities doesn't pay for them.
  defp lane(_instance, kind, :normal), do: lane(kind)

  defp lane(instance, _kind, priority) do
    Instance.use_priorities(instance)
    if priority == :high, do: @high, else: @low
  end

  @doc "Takes a place in the mailbox of an agent for a message that nobody waits for."
  @spec reserve(Instance.t(), Address.id(), kind(), binary()) :: {:ok, key()} | {:error, Error.t()}
  def reserve(instance, id, kind, args) do
    with {:ok, handle, seq} <- enter(instance, id, kind, size(args)), do: {:ok, {handle, lane(kind), seq}}
  end

  @doc "Puts a message into the place that was taken for it."
  @spec put_at(Instance.t(), Address.id(), key(), {kind(), binary(), binary()}) ::
          {:ok, key()} | {:error, Error.t()}
  def put_at(instance, id, key, {kind, handler, args}),
    do: insert(instance, id, {key, 0, id, kind, handler, args, 0, 1, nil})

  defp insert(instance, id, row) do
    key = elem(row, 0)
    :ets.insert(instance.mailbox, row)

    case Address.recipient(instance, id) do
      {:ok, nil} -> rouse(instance, id, key)
      {:ok, pid} -> wake(pid, key)
      :closed -> withdraw_late(instance, id, key)
    end
  end

  defp wake(pid, key) do
    send(pid, {:mail, key})
    {:ok, key}
  end

  # It is just being started, and looks into its mailbox then; or it is asleep.
  defp rouse(instance, id, key) do
    if Address.asleep?(instance, id), do: Instance.notify(instance, :waker, {:wake, id})
    {:ok, key}
  end

  # The agent was closed between the count and the insert. Whoever claims the row answers for it.
  defp withdraw_late(instance, id, key),
    do: if(withdraw(instance, id, key), do: {:error, closed(instance, id)}, else: {:ok, key})

  defp enter(instance, id, kind, size) do
    if Instance.closed?(instance) and kind != :stop do
      {:error, Error.new(:stopping, "the instance #{inspect(instance.name)} is shutting down")}
    else
      with {:error, reason} <- Address.enter(instance, id, size, room(kind)),
           do: {:error, refusal(instance, id, reason)}
    end
  end

  # Else an agent that is overrun could not even be stopped.
  defp room(kind) when kind in [:stop, :restart, :park], do: :control
  defp room(kind) when kind in [:call, :stream], do: :waiting_caller
  # Told once: as many as the agent has asked for.
  defp room(:on_down), do: :control
  defp room(_kind), do: :bounded

  defp refusal(_instance, id, :not_found), do: not_found(id)

  defp refusal(instance, _id, {:overloaded, count, bytes}) do
    Instance.count(instance, :overloaded)

    Error.new(
      :overloaded,
      "the mailbox is full (#{count} messages, #{bytes} bytes waiting); send slower, or raise :max_mailbox",
      %{retry_after_ms: 100, count: count, bytes: bytes}
    )
  end

  defp refusal(instance, id, {:closed, _status}), do: closed(instance, id)

  @doc "The error for an id that nobody has."
  @spec not_found(Address.id()) :: Error.t()
  def not_found(id),
    do: Error.new(:not_found, "there is no agent with the id #{inspect(id, printable_limit: 100)}")

  @doc "Why an agent takes no messages."
  @spec closed(Instance.t(), Address.id()) :: Error.t()
  def closed(instance, id) do
    case Address.fetch(instance, id) do
      {:ok, %{status: :terminated, handle: handle}} -> terminated(instance, id, handle)
      {:ok, %{status: :parked, handle: handle}} -> parked(instance, id, handle)
      {:ok, _row} -> Error.new(:stopped, "the agent #{inspect(id)} is being stopped")
      :error -> Error.new(:stopped, "the agent #{inspect(id)} was stopped")
    end
  end

  @doc "The error of an agent that used its restarts up, with what it failed with last."
  @spec terminated(Instance.t(), Address.id(), pos_integer()) :: Error.t()
  def terminated(instance, id, handle) do
    last = Pyre.Agent.Restarts.last_error(instance, handle)

    Error.new(
      :terminated,
      "the agent #{inspect(id)} is terminated#{because(last)}; restart or delete it once the cause is gone",
      %{last_error: last && Exception.message(last)}
    )
  end

  @doc "The error of an agent that is parked, with the reason of the last strike."
  @spec parked(Instance.t(), Address.id(), pos_integer()) :: Error.t()
  def parked(instance, id, handle) do
    %{evidence: evidence} = Pyre.Agent.Quarantine.fetch(instance, handle)

    Error.new(
      :parked,
      "the agent #{inspect(id)} is parked#{reason(evidence)}; " <>
        "Pyre.info/2 tells more, Pyre.unpark/2 lets it run again",
      %{strikes: length(evidence)}
    )
  end

  defp reason([]), do: ""
  defp reason([%{worker: 0, reason: reason} | _earlier]), do: " (#{reason})"

  defp reason([%{reason: reason} | _earlier]),
    do: ", since it hurt its workers again and again (#{reason |> String.split("\n") |> hd()})"

  defp because(nil), do: ""
  defp because(error), do: ", last error: #{Exception.message(error)}"

  @doc "Takes the right to run or withdraw a message. False where somebody else has it, or it is gone."
  @spec claim(Instance.t(), key()) :: boolean()
  def claim(instance, key) do
    :ets.update_counter(instance.mailbox, key, {@claim, 1}) == 1
  rescue
    ArgumentError -> false
  end

  @doc "Gives a message that was claimed but not begun back to the queue."
  @spec unclaim(Instance.t(), key(), pos_integer()) :: boolean()
  def unclaim(instance, key, attempt),
    do: :ets.update_element(instance.mailbox, key, [{@claim, 0}, {@attempt, attempt}])

  @doc "Withdraws a message that is not running. False where it runs, or has ended."
  @spec withdraw(Instance.t(), Address.id(), key()) :: boolean()
  def withdraw(instance, id, key) do
    with true <- take(instance, key),
         [row] <- :ets.lookup(instance.mailbox, key) do
      delete(instance, id, to_map(row))
      true
    else
      _running_or_gone -> false
    end
  end

  @doc """
  The message that is to run next, which nobody has claimed: by lane, and in a lane the oldest; `:held` where one that waits for
  its next attempt keeps its place. `turn` counts the messages that an agent takes: each so many it is the oldest of all, or what has a
  low priority would never run where enough of the others comes.
  """
  @spec next(Instance.t(), pos_integer(), non_neg_integer()) :: t() | :held | nil
  def next(instance, handle, turn \\ 0) do
    with true <- rem(turn, @fair_turn) == @fair_turn - 1 and Instance.priorities?(instance),
         %{} = message <- oldest(instance, handle) do
      message
    else
      _by_lane -> next_after(instance, handle, {handle, -1, 0})
    end
  end

  @doc "How many more are taken by their lanes, before it is the oldest's turn."
  @spec until_fair_turn(non_neg_integer()) :: non_neg_integer()
  def until_fair_turn(turn), do: @fair_turn - 1 - rem(turn, @fair_turn)

  # Not where somebody wants something of the agent itself.
  defp oldest(instance, handle) do
    case next_after(instance, handle, {handle, -1, 0}) do
      %{key: {_handle, @control, _seq}} ->
        nil

      _any ->
        heads = for lane <- [@high, @normal, @low], do: next_in(instance, handle, lane)
        heads |> Enum.filter(&is_map/1) |> Enum.min_by(&elem(&1.key, 2), fn -> nil end)
    end
  end

  defp next_in(instance, handle, lane) do
    case next_after(instance, handle, {handle, lane, 0}) do
      %{key: {_handle, ^lane, _seq}} = message -> message
      _another_lane_or_none -> nil
    end
  end

  defp next_after(instance, handle, key) do
    with {^handle, _lane, _seq} = found <- :ets.next(instance.mailbox, key),
         [row] <- :ets.lookup(instance.mailbox, found) do
      case elem(row, 1) do
        0 -> to_map(row)
        claim -> if Retries.holds?(claim), do: :held, else: next_after(instance, handle, found)
      end
    else
      [] -> next_after(instance, handle, key)
      _none_or_another_agent -> nil
    end
  end

  @doc "What comes right behind a message in its lane, up to the first that somebody has claimed or that waits for its next attempt."
  @spec following(Instance.t(), key(), pos_integer()) :: [t()]
  def following(instance, {handle, lane, seq}, most) do
    pattern = {{handle, lane, :"$1"}, :_, :_, :_, :_, :_, :_, :_, :_}

    case :ets.select(instance.mailbox, [{pattern, [{:>, :"$1", seq}], [:"$_"]}], most) do
      {rows, _continuation} -> for row <- Enum.take_while(rows, &(elem(&1, @claim - 1) == 0)), do: to_map(row)
      :"$end_of_table" -> []
    end
  end

  @doc "One message, if it is still there and unclaimed."
  @spec get(Instance.t(), key()) :: t() | nil
  def get(instance, key) do
    case :ets.lookup(instance.mailbox, key) do
      [row] when elem(row, 1) == 0 -> to_map(row)
      _gone_or_claimed -> nil
    end
  end

  @doc "One message, claimed or not."
  @spec find(Instance.t(), key()) :: t() | nil
  def find(instance, key) do
    case :ets.lookup(instance.mailbox, key) do
      [row] -> to_map(row)
      [] -> nil
    end
  end

  @doc "Where a message stands; nil where it has ended."
  @spec progress(Instance.t(), key()) :: :queued | :running | :retrying | nil
  def progress(instance, key) do
    case :ets.lookup(instance.mailbox, key) do
      [row] when elem(row, @claim - 1) == 0 -> :queued
      [row] when elem(row, @claim - 1) > 0 -> :running
      [_row] -> :retrying
      [] -> nil
    end
  end

  @doc "The key of an agent's message with that number."
  @spec locate(Instance.t(), Address.id(), pos_integer()) :: {:ok, key()} | :already_done | :not_found
  def locate(instance, id, number) do
    with {:ok, %{handle: handle}} <- Address.fetch(instance, id) do
      pattern = {{handle, :"$1", number}, :_, :_, :_, :_, :_, :_, :_, :_}

      case :ets.select(instance.mailbox, [{pattern, [], [:"$1"]}]) do
        [lane] -> {:ok, {handle, lane, number}}
        [] -> if number <= Address.last_seq(instance, id), do: :already_done, else: :not_found
      end
    else
      :error -> :not_found
    end
  end

  @doc "Is its caller a process of this node that has died?"
  @spec orphan?(t()) :: boolean()
  def orphan?(%{reply_to: {:caller, _ref, _alias, pid}}) when node(pid) == node(), do: not Process.alive?(pid)
  def orphan?(_message), do: false

  @doc "Is the message in the mailbox?"
  @spec known?(Instance.t(), key()) :: boolean()
  def known?(instance, key), do: :ets.member(instance.mailbox, key)

  @doc "The messages that are claimed: running, or about to."
  @spec claimed(Instance.t(), pos_integer()) :: [t()]
  def claimed(instance, handle) do
    instance.mailbox
    |> :ets.select([{row_pattern(handle), [{:>, :"$1", 0}], [:"$_"]}])
    |> Enum.map(&to_map/1)
  end

  @doc "The messages that nobody has claimed, in order; also those that wait for their next attempt."
  @spec waiting(Instance.t(), pos_integer()) :: [t()]
  def waiting(instance, handle) do
    instance.mailbox
    |> :ets.select([{row_pattern(handle), [{:"=<", :"$1", 0}], [:"$_"]}])
    |> Enum.map(&to_map/1)
  end

  @doc "The ids of all agents that have a claimed message."
  @spec busy_agents(Instance.t()) :: [Address.id()]
  def busy_agents(instance) do
    instance.mailbox
    |> :ets.select([{{:_, :"$1", :"$2", :_, :_, :_, :_, :_, :_}, [{:>, :"$1", 0}], [:"$2"]}])
    |> Enum.uniq()
  end

  @doc "How many messages are claimed, in all mailboxes."
  @spec running_count(Instance.t()) :: non_neg_integer()
  def running_count(instance),
    do:
      :ets.select_count(instance.mailbox, [
        {{:_, :"$1", :_, :_, :_, :_, :_, :_, :_}, [{:>, :"$1", 0}], [true]}
      ])

  @doc "Which attempt of a message runs, or is the next; 1 where it is gone."
  @spec attempt(Instance.t(), key()) :: pos_integer()
  def attempt(instance, key) do
    :ets.lookup_element(instance.mailbox, key, @attempt)
  rescue
    ArgumentError -> 1
  end

  @doc "Takes a message that has ended out of the mailbox, and counts it out once, whoever else does so too."
  @spec delete(Instance.t(), Address.id(), t()) :: :ok
  def delete(instance, id, %{key: key, kind: kind, args: args}) do
    Escalations.Table.message_ended(instance, key)

    case :ets.take(instance.mailbox, key) do
      [_row] ->
        Steps.forget(instance, key)
        # The timer's next run may be held until this one has ended.
        if kind == :timer and :ets.member(instance.timers, {:held, key}),
          do: Instance.notify(instance, :timers, {:ended, key})

        Address.leave(instance, id, size(args))

      [] ->
        :ok
    end
  end

  @doc "The same for several of one agent, which are no timer's."
  @spec delete_all(Instance.t(), Address.id(), [t()]) :: :ok
  def delete_all(instance, id, messages) do
    if Instance.escalating(instance) == 0 and Instance.steps(instance) == 0 do
      {count, bytes} = Enum.reduce(messages, {0, 0}, &take_out(instance, &1, &2))
      Address.leave(instance, id, bytes, count)
    else
      Enum.each(messages, &delete(instance, id, &1))
    end
  end

  defp take_out(instance, %{key: key, args: args}, {count, bytes}) do
    case :ets.take(instance.mailbox, key) do
      [_row] -> {count + 1, bytes + size(args)}
      [] -> {count, bytes}
    end
  end

  @doc "Answers every call that isn't running, in all mailboxes."
  @spec refuse_all(Instance.t(), Error.t()) :: :ok
  def refuse_all(instance, error) do
    :ets.foldl(
      fn row, :ok ->
        %{reply_to: reply_to} = message = to_map(row)

        if elem(row, 1) <= 0 and reply_to != nil and withdraw(instance, elem(row, 2), message.key),
          do: reply(reply_to, 1, error)

        :ok
      end,
      :ok,
      instance.mailbox
    )
  end

  @doc "The messages that nobody waits for, in all mailboxes, with the ids of their agents."
  @spec without_caller(Instance.t()) :: [{Address.id(), t()}]
  def without_caller(instance) do
    instance.mailbox
    |> :ets.select([{{:_, :_, :_, :_, :_, :_, :_, :_, nil}, [], [:"$_"]}])
    |> Enum.map(&{elem(&1, 2), to_map(&1)})
  end

  @doc "What a snapshot carries over: what nobody waits for, and that is to be run. What was running is to be run again."
  @spec carry(tuple()) :: tuple() | nil
  def carry({_key, _claim, _id, kind, _handler, _args, _deadline, _attempt, nil} = row)
      when kind not in @orders do
    if elem(row, @claim - 1) > 0,
      do: row |> put_elem(@claim - 1, 0) |> put_elem(@attempt - 1, elem(row, @attempt - 1) + 1),
      else: row
  end

  def carry(_row), do: nil

  @doc "Moves a row's instants."
  @spec shift(tuple(), integer()) :: tuple()
  def shift(row, ms), do: put_elem(row, @claim - 1, Retries.shift(elem(row, @claim - 1), ms))

  @doc "Counts messages in that were put into the table at once. Those of agents that are not there are none."
  @spec count_in(Instance.t(), [tuple()]) :: :ok
  def count_in(instance, rows) do
    Enum.each(rows, fn {key, _claim, id, _kind, _handler, args, _deadline, _attempt, _reply_to} ->
      if :ets.member(instance.agents, id),
        do: Address.count_in(instance, id, size(args)),
        else: :ets.delete(instance.mailbox, key)
    end)
  end

  @doc "Answers every call that still runs, in all mailboxes, whatever becomes of it."
  @spec abandon_all(Instance.t(), Error.t()) :: :ok
  def abandon_all(instance, error) do
    :ets.foldl(
      fn row, :ok ->
        if elem(row, 1) > 0, do: row |> to_map() |> Map.fetch!(:reply_to) |> reply(1, error)
        :ok
      end,
      :ok,
      instance.mailbox
    )
  end

  @doc "Claims what nobody has claimed: those messages, in order. They stay in the mailbox until each is settled."
  @spec claim_all(Instance.t(), pos_integer()) :: [t()]
  def claim_all(instance, handle) do
    case waiting(instance, handle) do
      [] -> []
      messages -> Enum.filter(messages, &take(instance, &1.key)) ++ claim_all(instance, handle)
    end
  end

  defp take(instance, key), do: claim(instance, key) or Retries.take(instance, key)

  @doc "Is there any message, claimed or not?"
  @spec any?(Instance.t(), pos_integer()) :: boolean()
  def any?(instance, handle), do: match?({^handle, _lane, _seq}, :ets.next(instance.mailbox, {handle, -1, 0}))

  @doc "The request to stop that an agent is about to carry out, or nil."
  @spec stop_request(Instance.t(), pos_integer()) :: t() | nil
  def stop_request(instance, handle) do
    instance.mailbox
    |> :ets.select([{row_pattern(handle), [], [:"$_"]}])
    |> Enum.map(&to_map/1)
    |> Enum.find(&(&1.kind == :stop))
  end

  defp row_pattern(handle), do: {{handle, :_, :_}, :"$1", :_, :_, :_, :_, :_, :_, :_}

  defp to_map({key, _claim, _id, kind, handler, args, deadline, attempt, reply_to}) do
    %{
      key: key,
      kind: kind,
      handler: handler,
      args: args,
      deadline: deadline,
      attempt: attempt,
      reply_to: reply_to
    }
  end

  defp lane(kind) when kind in [:stop, :restart, :park], do: @control
  defp lane(_kind), do: @normal

  defp size(args) when is_binary(args), do: byte_size(args)
  defp size({state, _revision}) when is_binary(state), do: byte_size(state)
  defp size(_args), do: 0

  @doc "Answers whoever waits for a message. A cast has nobody who waits."
  @spec reply(reply_to(), 0 | 1, binary() | Pyre.error()) :: term()
  def reply(nil, _status, _body), do: :ok
  def reply({:caller, ref, alias, _pid}, status, body), do: send(alias, {ref, status, body})
  def reply({:agent, pid, request}, status, body), do: send(pid, {:answer, request, status, body})

  @doc "Hands a chunk to whoever reads a stream. `producer` is where the reader tells what it has read."
  @spec chunk(reply_to(), {pid(), pos_integer()}, binary()) :: term()
  def chunk({:caller, ref, alias, _pid}, producer, body), do: send(alias, {ref, :chunk, producer, body})
  def chunk({:agent, pid, request}, producer, body), do: send(pid, {:item, request, producer, body})
  def chunk(nil, _producer, _body), do: :ok
end
