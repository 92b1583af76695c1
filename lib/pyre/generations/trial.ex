defmodule Pyre.Generations.Trial do
  @moduledoc false

  # A new generation of code serves a share of the agents first, in one interpreter, the canary. Which agents these are, where each agent
  # is to run meanwhile and after a rejection, and when the generation is worse than the one before. Pure, but for what it reads.

  alias Pyre.Agent.Commits
  alias Pyre.{Address, Classes, Instance, Pools}
  alias Pyre.Worker.Pool

  @enforce_keys [:members, :others]
  defstruct [:members, :others, crashes: 0, crashes_of_others: 0, crashed: MapSet.new()]

  @typedoc "How many agents take part, how many don't, how often each kind has crashed since, and who did."
  @type t :: %__MODULE__{
          members: pos_integer(),
          others: non_neg_integer(),
          crashes: non_neg_integer(),
          crashes_of_others: non_neg_integer(),
          crashed: MapSet.t(String.t())
        }

  @range 4_294_967_296
  # One crash may be chance.
  @least_crashes 2
  @times_worse 2

  @doc """
  Chooses the share: of agents that have run before, where there are any, since others tell nothing. At least one; nil where there is no
  agent. An agent takes part where the hash of its id is at most the number.
  """
  @spec choose(Instance.t(), float()) :: {t(), non_neg_integer()} | nil
  def choose(instance, share) do
    rows =
      for %{status: status} = row <- Address.all(instance), status in [:starting, :running, :asleep], do: row

    ran = Enum.filter(rows, &(&1.epoch > 0))

    case Enum.sort(for %{id: id} <- if(ran == [], do: rows, else: ran), do: hash(id)) do
      [] ->
        nil

      hashes ->
        highest = Enum.at(hashes, max(ceil(share * length(hashes)), 1) - 1)
        members = Enum.count(hashes, &(&1 <= highest))
        {%__MODULE__{members: members, others: length(hashes) - members}, highest}
    end
  end

  defp hash(id), do: :erlang.phash2(id, @range)

  @doc "The agents that are to leave their workers, now that some run elsewhere: pids."
  @spec pids(Instance.t()) :: [pid()]
  def pids(instance) do
    {_number, highest} = Instance.trial(instance)
    for %{pid: pid, id: id} when is_pid(pid) <- Address.all(instance), hash(id) <= highest, do: pid
  end

  @doc """
  Among which workers an agent that needs none of its own is to run, and of which pool: the shared ones; the canary, where it takes part in a
  trial; or the one that keeps rejected code, where it has committed a state that the current code is too old for.
  """
  @spec place(Instance.t(), Pyre.Agent.t()) :: {Pool.role(), Pools.name()}
  def place(instance, %{id: id, class: class} = agent) do
    with true <- Instance.kept_generation?(instance) and newer?(instance, agent),
         {:ok, %{worker: no}} <- Address.fetch(instance, id),
         %{role: {:kept, _number} = role, pool: pool} <- Enum.find(Pool.all(instance), &(&1.worker == no)) do
      {role, pool}
    else
      # The new code may have the class in another pool.
      _any_code_will_do ->
        if tries?(instance, id),
          do: {:canary, Classes.tried_pool(instance, class)},
          else: {:shared, Classes.pool(instance, class)}
    end
  end

  defp tries?(instance, id) do
    case Instance.trial(instance) do
      nil -> false
      {_number, highest} -> hash(id) <= highest
    end
  end

  @doc """
  Might the agent need the very interpreter that it is in? It has committed a state that the current code is too old for, and which worker keeps
  the code that wrote it stands in its row as long as it is awake.
  """
  @spec bound?(Instance.t(), Pyre.Agent.t()) :: boolean()
  def bound?(instance, agent) do
    (Instance.kept_generation?(instance) or Instance.trial(instance) != nil) and newer?(instance, agent)
  end

  defp newer?(instance, %{handle: handle, class: class}) do
    {_state, _revision, version} = Commits.load(instance, handle)
    version > Classes.version(instance, class)
  end

  @doc "How many agents still need the worker of rejected code with that number."
  @spec needed(Instance.t(), pos_integer()) :: non_neg_integer()
  def needed(instance, no),
    do: Enum.count(Address.all(instance), &(&1.worker == no and newer?(instance, &1)))

  @doc "Counts a crash. `weight` is 2 for what will happen to every agent of the class alike."
  @spec crashed(t(), String.t(), boolean(), 1..2) :: t()
  def crashed(trial, id, true, weight),
    do: %{trial | crashes: trial.crashes + weight, crashed: MapSet.put(trial.crashed, id)}

  def crashed(trial, _id, false, weight), do: %{trial | crashes_of_others: trial.crashes_of_others + weight}

  @doc """
  Do its agents crash more than those of the code before? What goes wrong outside, with a service that both need, makes others crash too:
  so many crashes are expected of the share, and twice as many, and one more, are too many.

      iex> alias Pyre.Generations.Trial
      iex> Trial.worse?(%Trial{members: 10, others: 90, crashes: 1})
      false
      iex> Trial.worse?(%Trial{members: 10, others: 90, crashes: 2})
      true
      iex> Trial.worse?(%Trial{members: 10, others: 90, crashes: 3, crashes_of_others: 18})
      false
  """
  @spec worse?(t()) :: boolean()
  def worse?(%__MODULE__{others: 0, crashes: crashes}), do: crashes >= @least_crashes

  def worse?(%__MODULE__{} = trial) do
    expected = trial.crashes_of_others * trial.members / trial.others
    trial.crashes >= @least_crashes + @times_worse * expected
  end
end
