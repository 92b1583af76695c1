defmodule Pyre.Timers do
  @moduledoc false

  # Fires timers: takes the due rows of the timers' table and puts them, as messages, into the mailboxes of their agents. The rows are
  # State's; this process holds one armed timer, for the head. Whatever happens to agents and interpreters, and to
  # this process itself, a timer fires.
  #
  # The timers' table, in the order in which they are due; one with a schedule comes back with its next instant:
  #
  #   {{due, unique}, handle, name, id, handler, args}                              fires once
  #   {{due, unique}, handle, name, id, handler, args, schedule, planned, last}     `last` is the message of its last run
  #   {{:held, last}, handle, name, id, handler, args, schedule, planned, last}     due, and held until that run has ended
  #
  # `name` is its key, or an integer of its own where it has none. The index finds an agent's timers: {{handle, name}, due, unique},
  # or {{handle, name}, :held, last}, or {{handle, name}, :cancelled, 0} for one that the agent's class declares and that the agent does
  # not want: else its next start would set it anew. Rows are flat, since a tuple within a tuple costs two words, and a timer
  # may take no more than 300 bytes beside its key and arguments (bench/timers_bench.exs).

  use GenServer

  alias Pyre.{Address, Classes, DeadLetters, Instance, Mailbox, Pause}
  alias Pyre.Timers.Schedule

  # A timer of the VM's can't be armed for more than 49 days; a day is enough to look again.
  @longest_ms 86_400_000
  @retry_ms 100
  # How often the wall's clock is looked at, and how far it may be off before timers are planned anew.
  @look_ms 30_000
  @drift_ms 100

  @typep agent :: {Address.id(), handle :: pos_integer()}

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Sets a timer; one with the same key replaces it. Called by the agent's process, at commit."
  @spec set(Instance.t(), agent(), binary(), pos_integer(), binary(), binary()) :: :ok
  def set(instance, {id, handle}, key, delay_ms, handler, args) do
    {_due_ms, unique} = due = {Instance.now_ms() + delay_ms, Instance.unique(instance)}
    name = if key == <<>>, do: unique, else: :binary.copy(key)
    take(instance, {handle, name})
    insert(instance, {due, handle, name, id, :binary.copy(handler), :binary.copy(args)})
    notify_if_first(instance, due)
  end

  @doc "Sets a timer that follows a schedule. One with the same key stays where it says the same, and is else replaced."
  @spec schedule(Instance.t(), agent(), binary(), Schedule.t(), binary(), binary()) :: :ok
  def schedule(instance, {id, handle}, key, schedule, handler, args) do
    owner = {handle, :binary.copy(key)}

    case row(instance, owner) do
      {_due, _handle, _name, _id, ^handler, ^args, ^schedule, _planned, _last} ->
        :ok

      _another_or_none ->
        take(instance, owner)
        plan(instance, owner, id, {schedule, :binary.copy(handler), :binary.copy(args)})
    end
  end

  defp plan(instance, {handle, name}, id, {schedule, handler, args}) do
    clocks = {Instance.now_ms(), wall()}

    with planned when planned != nil <- Schedule.first(schedule, clocks) do
      due = {Schedule.due(schedule, planned, clocks), Instance.unique(instance)}
      insert(instance, {due, handle, name, id, handler, args, schedule, planned, nil})
      notify_if_first(instance, due)
    end

    if Schedule.wall?(schedule), do: Instance.notify(instance, :timers, :watch)
    :ok
  end

  @doc "Sets the timers that the agent's class declares, and that it doesn't have yet."
  @spec declare(Instance.t(), agent(), String.t()) :: :ok
  def declare(instance, {id, handle}, class) do
    for {key, handler, schedule} <- Classes.timers(instance, class),
        not :ets.member(instance.timer_index, {handle, key}),
        do: plan(instance, {handle, key}, id, {schedule, handler, <<0x80>>})

    :ok
  end

  @doc "Takes timers back that a class has declared, as far as the agent has not set others in their place."
  @spec withdraw(Instance.t(), agent(), [{String.t(), String.t(), Schedule.t()}]) :: :ok
  def withdraw(instance, {_id, handle}, declared) do
    for {key, handler, schedule} <- declared do
      case row(instance, {handle, key}) do
        {_due, _handle, _name, _id, ^handler, <<0x80>>, ^schedule, _planned, _last} ->
          take(instance, {handle, key})

        _another_or_none ->
          :ok
      end
    end

    :ok
  end

  @doc "Takes one timer back."
  @spec cancel(Instance.t(), agent(), String.t(), binary()) :: :ok
  def cancel(instance, {_id, handle}, class, key) do
    take(instance, {handle, key})

    if List.keymember?(Classes.timers(instance, class), key, 0),
      do: :ets.insert(instance.timer_index, {{handle, :binary.copy(key)}, :cancelled, 0})

    :ok
  end

  defp notify_if_first(instance, due) do
    if :ets.first(instance.timers) == due, do: Instance.notify(instance, :timers, :arm)
    :ok
  end

  defp insert(instance, row) do
    :ets.insert(instance.timers, row)
    :ets.insert(instance.timer_index, entry(row))
  end

  # What the index holds of a row.
  defp entry(row) do
    {due, unique} = elem(row, 0)
    {owner(row), due, unique}
  end

  defp owner(row), do: {elem(row, 1), elem(row, 2)}

  defp take(instance, owner) do
    for {_owner, due, unique} <- :ets.take(instance.timer_index, owner),
        do: :ets.delete(instance.timers, {due, unique})

    :ok
  end

  defp row(instance, owner) do
    with [{_owner, due, unique}] <- :ets.lookup(instance.timer_index, owner),
         [row] <- :ets.lookup(instance.timers, {due, unique}),
         do: row,
         else: (_none -> nil)
  end

  @doc false
  @spec carry(tuple()) :: tuple()
  def carry(row), do: row

  @doc "Moves a row's instants. Those on the wall's clock stay, and are due where that clock says."
  @spec shift(tuple(), integer()) :: tuple()
  def shift(row, ms) do
    {due, unique} = elem(row, 0)
    row = put_elem(row, 0, {shift_due(due, ms), unique})

    if tuple_size(row) > 6 and not Schedule.wall?(elem(row, 6)),
      do: put_elem(row, 7, elem(row, 7) + ms),
      else: row
  end

  @doc "The same for a row of the index."
  @spec shift_index(tuple(), integer()) :: tuple()
  def shift_index({owner, due, unique}, ms), do: {owner, shift_due(due, ms), unique}

  defp shift_due(due, ms) when is_integer(due), do: due + ms
  defp shift_due(held_or_cancelled, _ms), do: held_or_cancelled

  @doc "How many timers an agent has."
  @spec count(Instance.t(), pos_integer()) :: non_neg_integer()
  def count(instance, handle),
    do:
      :ets.select_count(instance.timer_index, [
        {{{handle, :_}, :"$1", :_}, [{:"/=", :"$1", :cancelled}], [true]}
      ])

  @doc "An agent's timers, the next one first."
  @spec list(Instance.t(), pos_integer()) :: [map()]
  def list(instance, handle) do
    rows =
      for [name] <- names(instance, handle),
          row = row(instance, {handle, name}),
          row != nil,
          do: describe(row)

    Enum.sort_by(rows, & &1.seconds)
  end

  # Held is due: it fires as soon as its previous run has ended.
  defp describe(row) do
    {due, _unique} = elem(row, 0)
    name = elem(row, 2)

    %{
      key: if(is_binary(name), do: name, else: ""),
      handler: elem(row, 4),
      kind: if(tuple_size(row) == 6, do: "after", else: Schedule.kind(elem(row, 6))),
      seconds: if(is_integer(due), do: max(due - Instance.now_ms(), 0) / 1000, else: 0.0)
    }
  end

  @doc "Takes all timers of an agent back."
  @spec delete(Instance.t(), pos_integer()) :: :ok
  def delete(instance, handle),
    do: Enum.each(names(instance, handle), fn [name] -> take(instance, {handle, name}) end)

  defp names(instance, handle), do: :ets.match(instance.timer_index, {{handle, :"$1"}, :_, :_})

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :timers)
    release_all(instance)
    _monitor = :erlang.monitor(:time_offset, :clock_service)
    state = %{instance: instance, timer: nil, wall: &wall/0, ahead: nil, watching?: false}
    {:ok, %{state | ahead: ahead(state)} |> watch_if_needed() |> arm()}
  end

  @impl GenServer
  def handle_info(:arm, state), do: {:noreply, arm(state)}
  def handle_info(:due, state), do: {:noreply, fire(state)}

  def handle_info({:ended, message}, state) do
    release(state.instance, message)
    {:noreply, fire(state)}
  end

  def handle_info(:watch, state), do: {:noreply, watch(state)}

  def handle_info(:look, state),
    do: {:noreply, %{state | watching?: false} |> watch() |> look_at_clock() |> fire()}

  def handle_info({:CHANGE, _monitor, :time_offset, :clock_service, _offset}, state),
    do: {:noreply, state |> look_at_clock() |> fire()}

  ## Firing

  defp fire(%{instance: instance} = state) do
    with {due_ms, _unique} = due when is_integer(due_ms) <- :ets.first(instance.timers),
         true <- due_ms <= Instance.now_ms(),
         [row] <- :ets.lookup(instance.timers, due) do
      _done = put(state, row)
      fire(state)
    else
      _none_due -> arm(state)
    end
  end

  # The message is in the mailbox before the row is gone: a crash in between fires twice rather than never.
  defp put(%{instance: instance}, {due, handle, name, id, handler, args} = row) do
    :ets.delete_object(instance.timer_index, entry(row))

    case send_message(instance, {handle, name}, id, handler, args) do
      {:ok, _key} ->
        :ok

      {:error, %Pyre.Error{kind: :overloaded}} ->
        insert(instance, put_elem(row, 0, {Instance.now_ms() + @retry_ms, Instance.unique(instance)}))

      {:error, %Pyre.Error{kind: :terminated} = error} ->
        give_up(instance, row, error)

      _gone ->
        :ok
    end

    :ets.delete(instance.timers, due)
  end

  defp put(%{instance: instance} = state, row) do
    {due, _handle, _name, _id, _handler, _args, schedule, planned, last} = row

    cond do
      # Taken back meanwhile, or left over by a predecessor that was killed.
      :ets.lookup(instance.timer_index, owner(row)) != [entry(row)] -> :ets.delete(instance.timers, due)
      early?(state, schedule, planned) -> follow(state, row, planned, last)
      last == nil or not :ets.member(instance.mailbox, last) -> run(state, row)
      true -> overlap(state, row, Schedule.on_overlap(schedule))
    end
  end

  # The wall's clock was set back, or ran slower.
  defp early?(state, schedule, planned), do: Schedule.wall?(schedule) and state.wall.() < planned

  defp overlap(state, row, :run), do: run(state, row)

  defp overlap(state, row, :skip) do
    {_run?, next} = Schedule.fire(elem(row, 6), elem(row, 7), clocks(state))
    follow(state, row, next, elem(row, 8))
  end

  defp overlap(%{instance: instance}, row, :hold) do
    last = elem(row, 8)
    move(instance, row, put_elem(row, 0, {:held, last}))
    # It may have ended before anybody could see that it is waited for.
    unless :ets.member(instance.mailbox, last), do: release(instance, last)
  end

  defp run(%{instance: instance} = state, row) do
    {_due, handle, name, id, handler, args, schedule, planned, last} = row
    {run?, next} = Schedule.fire(schedule, planned, clocks(state))

    case run? && send_message(instance, {handle, name}, id, handler, args) do
      {:ok, key} -> follow(state, row, next, key)
      {:error, %Pyre.Error{kind: :overloaded}} -> retry(instance, row)
      {:error, %Pyre.Error{kind: :not_found}} -> follow(state, row, nil, last)
      # Skipped, or nobody takes it now: an agent that is terminated may be restarted.
      _missed -> follow(state, row, next, last)
    end
  end

  defp send_message(instance, owner, id, handler, args) do
    Instance.count(instance, :timer_fires)
    Pause.supersede(instance, id, owner)

    with {:ok, key} <- Mailbox.put(instance, id, :timer, handler, args, 0, nil) do
      Pause.fired(instance, id, owner, key)
      {:ok, key}
    end
  end

  defp follow(%{instance: instance}, row, nil, _key) do
    :ets.delete_object(instance.timer_index, entry(row))
    :ets.delete(instance.timers, elem(row, 0))
  end

  defp follow(%{instance: instance} = state, row, next, key) do
    due = {Schedule.due(elem(row, 6), next, clocks(state)), Instance.unique(instance)}
    move(instance, row, row |> put_elem(0, due) |> put_elem(7, next) |> put_elem(8, key))
  end

  defp retry(instance, row),
    do: move(instance, row, put_elem(row, 0, {Instance.now_ms() + @retry_ms, Instance.unique(instance)}))

  # The agent may take it back at any instant: the index decides.
  defp move(instance, old, new) do
    :ets.insert(instance.timers, new)
    spec = [{entry(old), [], [{:const, entry(new)}]}]
    if :ets.select_replace(instance.timer_index, spec) == 0, do: :ets.delete(instance.timers, elem(new, 0))
    :ets.delete(instance.timers, elem(old, 0))
  end

  ## Held ones

  defp release(instance, message) do
    for row <- :ets.lookup(instance.timers, {:held, message}),
        do: move(instance, row, put_elem(row, 0, {Instance.now_ms(), Instance.unique(instance)}))

    :ok
  end

  # A predecessor was not told of those that ended while it was dead.
  defp release_all(instance, after_message \\ 0) do
    with {:held, message} <- :ets.next(instance.timers, {:held, after_message}) do
      unless :ets.member(instance.mailbox, message), do: release(instance, message)
      release_all(instance, message)
    end
  end

  ## The wall's clock
  #
  # The VM's own notion of it follows a clock that was set only slowly, by 1 %, and tells of no change in its default mode. So the
  # system's clock is asked, and looked at now and then from the first timer on that follows it.

  defp watch_if_needed(%{instance: instance} = state) do
    if :ets.select(instance.timers, wall_rows(), 1) == :"$end_of_table", do: state, else: watch(state)
  end

  defp watch(%{watching?: true} = state), do: state

  defp watch(state) do
    Process.send_after(self(), :look, @look_ms)
    %{state | watching?: true}
  end

  defp look_at_clock(%{ahead: before} = state) do
    ahead = ahead(state)

    if abs(ahead - before) > @drift_ms do
      for row <- :ets.select(state.instance.timers, wall_rows()), do: replan(state, row, before - ahead)

      %{state | ahead: ahead}
    else
      state
    end
  end

  defp replan(state, row, set_back_ms) do
    planned = Schedule.replan(elem(row, 6), elem(row, 7), clocks(state), set_back_ms)
    follow(state, row, planned, elem(row, 8))
  end

  # Rows that are held fire as soon as they may.
  defp wall_rows do
    for schedule <- [{:at, :_}, {:cron, :_, :_, :_, :_, :_}],
        do: {{{:"$1", :_}, :_, :_, :_, :_, :_, schedule, :_, :_}, [{:is_integer, :"$1"}], [:"$_"]}
  end

  defp ahead(state), do: state.wall.() - Instance.now_ms()
  defp wall, do: System.os_time(:millisecond)

  ## Helpers

  defp clocks(state), do: {Instance.now_ms(), state.wall.()}

  defp give_up(instance, {{_due_ms, unique}, handle, _name, id, handler, args}, error) do
    message = %{key: {handle, :timer, unique}, kind: :timer, handler: handler, args: args, attempt: 1}

    with {:ok, agent} <- Address.fetch(instance, id),
         do: DeadLetters.put(instance, agent, message, :terminated, error)
  end

  # Held ones come after all others.
  defp arm(%{instance: instance, timer: timer} = state) do
    _left = timer && Process.cancel_timer(timer)

    case :ets.first(instance.timers) do
      {due_ms, _unique} when is_integer(due_ms) ->
        delay = (due_ms - Instance.now_ms()) |> max(0) |> min(@longest_ms)
        %{state | timer: Process.send_after(self(), :due, delay)}

      _none ->
        %{state | timer: nil}
    end
  end
end
