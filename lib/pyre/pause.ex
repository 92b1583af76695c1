defmodule Pyre.Pause do
  @moduledoc false

  # What is paused: agents whose mailboxes fill while none of their messages begins. The rows are State's, so that no death of a
  # process lifts a pause:
  #
  #   {{:paused, what}}             an agent, a class, a group, or all
  #   {{:fire, timer}, message}     a timer's fire that waits meanwhile; the timer's next one takes its place
  #
  # A counter tells the agents, before each message, whether there is any row at all to look for.

  alias Pyre.{Address, Classes, Error, Group, History, Instance, Mailbox}

  @type what :: {:agent, Address.id()} | {:class, String.t()} | {:group, term()} | :all
  @typep agent :: %{required(:id) => Address.id(), required(:class) => String.t(), optional(any()) => any()}
  @typep timer :: {handle :: pos_integer(), name :: term()}

  @doc "From now on no message of these agents begins."
  @spec pause(Instance.t(), what()) :: :ok | {:error, Error.t()}
  def pause(instance, what) do
    with :ok <- known(instance, what) do
      # Counted first: a counter that is too high costs a look, one that is too low the pause.
      Instance.add_pauses(instance, 1)

      if :ets.insert_new(instance.paused, {{:paused, what}}),
        do: note(instance, what, :paused),
        else: Instance.add_pauses(instance, -1)

      still_known(instance, what)
    end
  end

  # That of a class or of all would be an entry in each agent's history.
  defp note(instance, {:agent, id}, event), do: History.note(instance, id, event, %{})
  defp note(_instance, _many, _event), do: :ok

  # The agent may have ended meanwhile, and the next under its id is another.
  defp still_known(instance, what) do
    with {:error, error} <- known(instance, what) do
      lift(instance, what)
      {:error, error}
    end
  end

  defp known(instance, {:agent, id}),
    do: if(:ets.member(instance.agents, id), do: :ok, else: {:error, Mailbox.not_found(id)})

  defp known(instance, {:class, class}) do
    with true <- Classes.known?(instance), {:error, error} <- Classes.fetch(instance, class) do
      {:error, error}
    else
      _known_or_nobody_knows_yet -> :ok
    end
  end

  defp known(_instance, _group_or_all), do: :ok

  @doc "Lifts a pause, and wakes the agents that it held. Where another one still holds them they stay as they are."
  @spec resume(Instance.t(), what()) :: :ok
  def resume(instance, what) do
    if :ets.member(instance.paused, {:paused, what}), do: note(instance, what, :resumed)
    lift(instance, what)

    # Also where nothing was paused: whoever lifted it may have been killed before it woke them.
    for %{pid: pid} = agent when is_pid(pid) <- held(instance, what) do
      forget_fires(instance, agent.handle)
      send(pid, :resumed)
    end

    :ok
  end

  defp lift(instance, what) do
    for _row <- :ets.take(instance.paused, {:paused, what}), do: Instance.add_pauses(instance, -1)
    true
  end

  defp held(instance, {:agent, id}),
    do: with({:ok, agent} <- Address.fetch(instance, id), do: [agent], else: (_ -> []))

  defp held(instance, {:class, class}), do: for(%{class: ^class} = agent <- waiting(instance), do: agent)
  # Whoever is woken without need looks, and sleeps again.
  defp held(instance, _group_or_all), do: waiting(instance)

  defp waiting(instance), do: for(agent <- Address.awake(instance), waits?(instance, agent), do: agent)

  # For an on_start nothing waits in the mailbox.
  defp waits?(_instance, %{mailbox: n}) when n > 0, do: true
  defp waits?(instance, %{class: class}), do: match?({true, _on_stop?}, Classes.hooks(instance, class))

  @doc "Is this agent paused?"
  @spec paused?(Instance.t(), agent()) :: boolean()
  def paused?(instance, agent),
    do: Instance.pauses(instance) > 0 and Enum.any?(whats(instance, agent), &row?(instance, &1))

  defp row?(instance, what), do: :ets.member(instance.paused, {:paused, what})

  # What an agent is paused with.
  defp whats(instance, %{id: id, class: class}),
    do: [
      :all,
      {:agent, id},
      {:class, class} | for(name <- groups(instance, {:agent, id}), do: {:group, name})
    ]

  # The groups around it, from the inside out.
  defp groups(instance, child) do
    case Group.Table.parent(instance, child) do
      nil -> []
      name -> [name | groups(instance, {:group, name})]
    end
  end

  @doc "All that is paused."
  @spec list(Instance.t()) :: [what()]
  def list(instance), do: :ets.select(instance.paused, [{{{:paused, :"$1"}}, [], [:"$1"]}])

  @doc "An agent has ended: the next under its id is not paused."
  @spec forget(Instance.t(), Address.id(), pos_integer()) :: true
  def forget(instance, id, handle) do
    forget_fires(instance, handle)
    lift(instance, {:agent, id})
  end

  defp forget_fires(instance, handle), do: :ets.match_delete(instance.paused, {{:fire, {handle, :_}}, :_})

  @doc "A timer is about to fire: where its last fire still waits, held by a pause, that one goes."
  @spec supersede(Instance.t(), Address.id(), timer()) :: :ok
  def supersede(instance, id, timer) do
    if Instance.pauses(instance) > 0,
      do: Enum.each(:ets.take(instance.paused, {:fire, timer}), &Mailbox.withdraw(instance, id, elem(&1, 1)))

    :ok
  end

  @doc "A timer has fired; where its agent is paused, the message is remembered for its next fire."
  @spec fired(Instance.t(), Address.id(), timer(), Mailbox.key()) :: :ok
  def fired(instance, id, timer, message) do
    if Instance.pauses(instance) > 0 do
      with {:ok, agent} <- Address.fetch(instance, id),
           true <- paused?(instance, agent),
           do: :ets.insert(instance.paused, {{:fire, timer}, message})
    end

    :ok
  end
end
