defmodule Pyre.Escalations.Table do
  @moduledoc false

  # What agents ask people: the rows of one ordered table, which nobody else writes. They survive interpreters and agents'
  # processes.
  #
  #   {{:one, id}, status, decision, told, escalation}   what is asked, and what became of it
  #   {{:agent, handle, id}}                             an agent's open ones
  #   {{:message, key, place}, id}                       where a message that is run again finds its own; until it ends
  #   {{:due, due_ms, id}}                               one that expires
  #   {{:over, n}, id}                                   the ring of those that nobody needs any more, the oldest first
  #   {:overs, count}                                    its length
  #
  # `status` goes from :open to :decided in one step, which whoever is first makes. `told` goes from :not_yet to :over; in between it is
  # {:put, key} for a continuation that has its place in the agent's mailbox, so that nothing that dies puts it there twice.

  alias Pyre.{Address, History, Instance, Mailbox, Telemetry}

  # How many are kept of those that are over.
  @most_over 1_000

  @type id :: pos_integer()
  @type kind :: :question | :failure
  @type outcome :: :answered | :dismissed | :expired | :closed
  @type decision :: %{
          outcome: outcome(),
          answer: String.t() | nil,
          by: String.t() | nil,
          at: integer()
        }
  @type told :: :not_yet | {:put, Mailbox.key()} | :over
  # `then` is nil where the message itself waits. Instants are Unix milliseconds.
  @type escalation :: %{
          kind: kind(),
          agent: Address.id(),
          handle: pos_integer(),
          class: String.t(),
          message: tuple(),
          place: binary() | :failure,
          question: String.t(),
          options: [String.t()] | nil,
          data: binary(),
          assignee: String.t() | nil,
          default: String.t() | nil,
          then: String.t() | nil,
          since: integer(),
          expires: integer() | nil
        }
  @type row :: {id(), :open | :decided, decision() | nil, told(), escalation()}

  @doc "Opens an escalation, unless its message has done so before. Called by the agent's process."
  @spec open(Instance.t(), escalation(), pos_integer() | nil) ::
          {:open, id()} | {:decided, id(), decision()}
  def open(instance, escalation, due_ms) do
    case find(instance, escalation) do
      nil -> {:open, insert(instance, escalation, due_ms)}
      {id, :open, _decision, _told, _escalation} -> {:open, id}
      {id, :decided, decision, _told, _escalation} -> {:decided, id, decision}
    end
  end

  # In one insert: a process that is killed leaves all of it behind, or nothing.
  defp insert(%{escalations: table} = instance, escalation, due_ms) do
    %{handle: handle, message: message, place: place} = escalation
    id = Instance.unique(instance)
    due = if due_ms, do: [{{:due, due_ms, id}}], else: []
    found_again = if hook?(message), do: [], else: [{{:message, message, place}, id}]

    :ets.insert(
      table,
      [{{:one, id}, :open, nil, :not_yet, escalation}, {{:agent, handle, id}} | due] ++ found_again
    )

    Instance.add_escalating(instance, length(found_again))
    if due_ms, do: Instance.notify(instance, :escalations, :arm)
    announce(instance, :opened, id, escalation, %{})
    id
  end

  # A hook has no row in the mailbox whose end would be noticed, and is run anew by each incarnation: it finds what is open.
  defp find(instance, %{message: message, place: place, handle: handle}) do
    if hook?(message) do
      Enum.find_value(open_ids(instance, handle), fn id ->
        row = get(instance, id)
        match?({_id, :open, _decision, _told, %{message: ^message, place: ^place}}, row) && row
      end)
    else
      with [{_key, id}] <- :ets.lookup(instance.escalations, {:message, message, place}),
           do: get(instance, id),
           else: ([] -> nil)
    end
  end

  defp hook?({_handle, hook, _seq}), do: is_atom(hook)

  @doc "One escalation."
  @spec get(Instance.t(), id()) :: row() | nil
  def get(instance, id) do
    case :ets.lookup(instance.escalations, {:one, id}) do
      [{_key, status, decision, told, escalation}] -> {id, status, decision, told, escalation}
      [] -> nil
    end
  end

  @doc "All of them, the oldest first."
  @spec all(Instance.t()) :: [row()]
  def all(instance) do
    rows = :ets.select(instance.escalations, [{{{:one, :_}, :_, :_, :_, :_}, [], [:"$_"]}])
    for {{:one, id}, status, decision, told, escalation} <- rows, do: {id, status, decision, told, escalation}
  end

  @doc "How many are open."
  @spec count(Instance.t()) :: non_neg_integer()
  def count(instance), do: :ets.select_count(instance.escalations, [{{{:agent, :_, :_}}, [], [true]}])

  @doc "How many of one agent's are open."
  @spec count(Instance.t(), pos_integer()) :: non_neg_integer()
  def count(instance, handle),
    do: :ets.select_count(instance.escalations, [{{{:agent, handle, :_}}, [], [true]}])

  @doc "The open ones of an agent."
  @spec open_ids(Instance.t(), pos_integer()) :: [id()]
  def open_ids(instance, handle),
    do: :ets.select(instance.escalations, [{{{:agent, handle, :"$1"}}, [], [:"$1"]}])

  @doc "Decides one. False where somebody else was first."
  @spec decide(Instance.t(), id(), outcome(), String.t() | nil, String.t() | nil) :: boolean()
  def decide(%{escalations: table} = instance, id, outcome, answer, by) do
    decision = %{outcome: outcome, answer: answer, by: by, at: System.os_time(:millisecond)}
    head = {{:one, id}, :open, nil, :"$1", :"$2"}
    body = {{{:const, {:one, id}}, :decided, {:const, decision}, :"$1", :"$2"}}

    if :ets.select_replace(table, [{head, [], [body]}]) == 1 do
      {_id, :decided, decision, _told, escalation} = get(instance, id)
      tidy(instance, id, escalation)
      announce(instance, :decided, id, escalation, decision)
      true
    else
      false
    end
  end

  # Every decision, and every question, passes here.
  defp announce(instance, event, id, escalation, decision) do
    metadata = Map.take(escalation, [:kind, :class, :question, :assignee])
    decision = Map.take(decision, [:outcome, :answer, :by])
    noted = escalation |> Map.take([:kind, :question, :assignee]) |> Map.merge(decision)
    History.note(instance, escalation.agent, history_event(event), Map.put(noted, :escalation, id))

    Telemetry.event(
      [:escalation, event],
      %{count: 1},
      metadata
      |> Map.merge(decision)
      |> Map.merge(%{name: instance.name, id: escalation.agent, escalation: id})
    )
  end

  defp history_event(:opened), do: :escalation_opened
  defp history_event(:decided), do: :escalation_decided

  defp tidy(%{escalations: table}, id, %{handle: handle}) do
    :ets.match_delete(table, {{:due, :_, id}})
    :ets.delete(table, {:agent, handle, id})
  end

  @doc "Ends what somebody who was killed had only begun to decide; gives the decided ones that may have to be told."
  @spec repair(Instance.t()) :: [id()]
  def repair(instance) do
    for {id, :open, _decision, _told, escalation} <- all(instance), lost?(instance, escalation) do
      decide(instance, id, :closed, nil, nil)
      over(instance, id)
      forget_message(instance, escalation)
    end

    for {id, :decided, _decision, told, escalation} <- all(instance), told != :over do
      tidy(instance, id, escalation)
      id
    end
  end

  # A message that waits and has a caller is not carried over a restart of the node.
  defp lost?(_instance, %{then: then}) when is_binary(then), do: false
  defp lost?(instance, %{message: message}), do: not hook?(message) and not Mailbox.known?(instance, message)

  defp forget_message(instance, %{message: message, place: place}),
    do: take(instance, {:message, message, place})

  @doc false
  @spec carry(tuple()) :: tuple()
  def carry(row), do: row

  @doc "Moves a row's instants. Those that people see are on the wall's clock, and stay."
  @spec shift(tuple(), integer()) :: tuple()
  def shift({{:due, due_ms, id}}, ms), do: {{:due, due_ms + ms, id}}
  def shift(row, _ms), do: row

  @doc "The one that expires next."
  @spec first_due(Instance.t()) :: {due_ms :: integer(), id()} | nil
  def first_due(instance) do
    case :ets.next(instance.escalations, {:due, 0, 0}) do
      {:due, due_ms, id} -> {due_ms, id}
      _none -> nil
    end
  end

  @doc "One that is decided already expires no more."
  @spec forget_due(Instance.t(), integer(), id()) :: true
  def forget_due(instance, due_ms, id), do: :ets.delete(instance.escalations, {:due, due_ms, id})

  @doc "Takes note of the place in the mailbox that a continuation gets."
  @spec put(Instance.t(), id(), Mailbox.key()) :: :ok
  # Nobody else writes the row of a decided one that is still to be told.
  def put(%{escalations: table} = instance, id, key) do
    {_id, :decided, decision, _told, escalation} = get(instance, id)
    row = {{:one, id}, :decided, decision, {:put, key}, escalation}
    :ets.insert(table, [row, {{:message, key, :decision}, id}])
    Instance.add_escalating(instance, 1)
  end

  @doc "A failed message that is run again by a person's decision may fail anew, and then be another escalation."
  @spec forget_failure(Instance.t(), Mailbox.key()) :: :ok
  def forget_failure(instance, key), do: take(instance, {:message, key, :failure})

  defp take(instance, key) do
    if :ets.take(instance.escalations, key) != [], do: Instance.add_escalating(instance, -1)
    :ok
  end

  @doc "Nobody needs it any more but for the record."
  @spec over(Instance.t(), id()) :: :ok
  def over(%{escalations: table} = instance, id) do
    head = {{:one, id}, :decided, :"$1", :"$2", :"$3"}
    body = {{{:const, {:one, id}}, :decided, :"$1", :over, :"$3"}}

    if :ets.select_replace(table, [{head, [{:"/=", :"$2", :over}], [body]}]) == 1 do
      :ets.insert(table, {{:over, Instance.unique(instance)}, id})
      trim(table, :ets.update_counter(table, :overs, 1, {:overs, 0}))
    end

    :ok
  end

  defp trim(table, count) when count > @most_over do
    with {:over, _n} = oldest <- :ets.next(table, {:over, 0}),
         [{_key, id}] <- :ets.take(table, oldest) do
      :ets.delete(table, {:one, id})
      trim(table, :ets.update_counter(table, :overs, -1))
    else
      _somebody_else_does -> :ok
    end
  end

  defp trim(_table, _count), do: :ok

  @doc "Does the message wait for a person, or has it waited? Then it is run again, where others are not."
  @spec asked?(Instance.t(), tuple()) :: boolean()
  def asked?(instance, key), do: Enum.any?(waited_for(instance, key))

  @doc "Does the message wait for a person now?"
  @spec awaiting?(Instance.t(), tuple()) :: boolean()
  def awaiting?(instance, key),
    do:
      Enum.any?(waited_for(instance, key), fn {_id, status, _decision, _told, _escalation} ->
        status == :open
      end)

  defp waited_for(instance, key) do
    for {_key, id} <- of_message(instance, key),
        {_id, _status, _decision, _told, %{kind: :question, then: nil}} = row <- [get(instance, id)],
        do: row
  end

  # Few messages have any, and this is asked for each: one look at a counter.
  defp of_message(instance, key) do
    if Instance.escalating(instance) > 0,
      do: :ets.select(instance.escalations, [{{{:message, key, :_}, :_}, [], [:"$_"]}]),
      else: []
  end

  @doc "The message ends: what it waited for is closed, and a continuation is through. Called before it leaves the mailbox."
  @spec message_ended(Instance.t(), Mailbox.key()) :: :ok
  def message_ended(instance, key) do
    for {found, id} <- of_message(instance, key) do
      ended(instance, elem(found, 2), get(instance, id))
      take(instance, found)
    end

    :ok
  end

  defp ended(_instance, _place, nil), do: :ok
  defp ended(instance, :decision, {id, _status, _decision, _told, _escalation}), do: over(instance, id)

  defp ended(instance, _place, {id, status, _decision, _told, %{then: nil}}) do
    if status == :open, do: decide(instance, id, :closed, nil, nil)
    over(instance, id)
  end

  # It outlives the message that asked.
  defp ended(_instance, _place, _continued), do: :ok

  @doc "The agent ends: nobody could take an answer any more."
  @spec close_all(Instance.t(), pos_integer()) :: :ok
  def close_all(instance, handle) do
    for id <- open_ids(instance, handle) do
      decide(instance, id, :closed, nil, nil)
      over(instance, id)
    end

    :ok
  end
end
