defmodule Pyre.Instance do
  @moduledoc false

  # What every process and every caller of one instance needs: its validated options, the tables that
  # Pyre.State owns, and a few counters. Made once by Pyre.State, read from a persistent term, so that a call
  # finds it without a message and without copying it.

  alias Pyre.{Options, Pools}

  @enforce_keys [:name, :config]
  defstruct [
    :name,
    :config,
    :agents,
    :mailbox,
    :commits,
    :classes,
    :workers,
    :processes,
    :restarts,
    :groups,
    :timers,
    :timer_index,
    :waits,
    :waiting,
    :quarantine,
    :dead_letters,
    :monitors,
    :paused,
    :steps,
    :history,
    :traces,
    :escalations,
    :generations,
    :subscriptions,
    :limits,
    :tools,
    :tool_runs,
    :counters,
    :load,
    :under_way,
    :flags,
    :directory
  ]

  @type t :: %__MODULE__{
          name: atom(),
          config: map(),
          agents: :ets.tid(),
          mailbox: :ets.tid(),
          commits: :ets.tid(),
          classes: :ets.tid(),
          workers: :ets.tid(),
          processes: :ets.tid(),
          restarts: :ets.tid(),
          groups: :ets.tid(),
          timers: :ets.tid(),
          timer_index: :ets.tid(),
          waits: :ets.tid(),
          waiting: :ets.tid(),
          quarantine: :ets.tid(),
          dead_letters: :ets.tid(),
          monitors: :ets.tid(),
          paused: :ets.tid(),
          steps: :ets.tid(),
          history: :ets.tid(),
          traces: :ets.tid(),
          escalations: :ets.tid(),
          generations: :ets.tid(),
          subscriptions: :ets.tid(),
          limits: :ets.tid(),
          tools: :ets.tid(),
          tool_runs: :ets.tid(),
          counters: :counters.counters_ref(),
          load: :counters.counters_ref(),
          under_way: :atomics.atomics_ref(),
          flags: :atomics.atomics_ref(),
          directory: Path.t()
        }

  @counters [
    :calls,
    :casts,
    :timer_fires,
    :delivered,
    :bursts,
    :commits,
    :failures,
    :refusals,
    :restarts,
    :terminations,
    :worker_deaths,
    :expired,
    :overloaded,
    :resent,
    :retries,
    :dropped_casts,
    :worker_recycles,
    :strikes,
    :parked,
    :sleeps,
    :wakes,
    :dead_letters_dropped,
    :tool_runs,
    :tool_failures,
    :events,
    :events_dropped,
    :log_lines_dropped
  ]
  @indices @counters |> Enum.with_index(1) |> Map.new()

  # The atomics: 1 the last handle given out, 2 set when the intake is closed, 3 the last number for timers and waits,
  # 4 the bytes of all dead letters,
  # 5 how many pauses there are, 6 how many results of steps there are,
  # 7 how many follow an agent, 8 how many rows tell of escalations what message they belong to, 9 how many subscriptions there are, 10 set when a message had a
  # priority, 11 the generation of code, 12 set when anything is
  # limited, 13 the shortest time after which an idle agent falls asleep, 0 where none does, 14 the generation that is tried, 15 the highest
  # hash of those who try it, 16 set while a rejected one is kept.
  @handle 1
  @draining 2
  @unique 3
  @letter_bytes 4
  @pauses 5
  @steps 6
  @traces 7
  @escalating 8
  @subscriptions 9
  @priorities 10
  @generation 11
  @limited 12
  @idle_timeout 13
  @trial 14
  @trial_highest 15
  @kept_generation 16
  @carried [
    @handle,
    @unique,
    @letter_bytes,
    @pauses,
    @steps,
    @escalating,
    @priorities,
    @limited,
    @idle_timeout
  ]

  @doc "The validated options of an instance, as a map."
  @spec config(keyword()) :: map()
  def config(opts) do
    config = :instance |> Options.validate!(opts) |> Map.new()

    config = Pools.put!(config)

    %{
      config
      | name: config.name || Pyre,
        tools: Pyre.Tool.Spec.all!(config.tools),
        limits: Map.new(config.limits, fn {whom, limits} -> {whom(whom), Map.new(limits)} end)
    }
  end

  defp whom(class) when is_atom(class), do: class |> inspect() |> String.trim_leading(":")
  defp whom(class_or_tenant), do: class_or_tenant

  @doc "Makes the instance known under its name."
  @spec publish(t()) :: :ok
  def publish(%__MODULE__{name: name} = instance), do: :persistent_term.put({__MODULE__, name}, instance)

  @doc "Takes the name back."
  @spec retract(atom()) :: boolean()
  def retract(name), do: :persistent_term.erase({__MODULE__, name})

  @doc "The instance of that name; raises where none runs."
  @spec fetch!(atom()) :: t()
  def fetch!(name) when is_atom(name) do
    case :persistent_term.get({__MODULE__, name}, nil) do
      nil -> raise ArgumentError, not_running(name)
      instance -> instance
    end
  end

  def fetch!(name),
    do: raise(ArgumentError, "expected the instance to be its name, an atom, got: #{inspect(name, limit: 5)}")

  defp not_running(name) do
    "no Pyre instance named #{inspect(name)} is running; " <>
      "put {Pyre, name: #{inspect(name)}, agents: ...} under a supervisor first"
  end

  @doc "The instance of that name, or nil."
  @spec get(atom()) :: t() | nil
  def get(name), do: :persistent_term.get({__MODULE__, name}, nil)

  @doc "Do its tables still exist?"
  @spec there?(t()) :: boolean()
  def there?(%__MODULE__{agents: agents}), do: :ets.info(agents, :id) != :undefined

  @doc "A number that no other agent of the instance has or had."
  @spec next_handle(t()) :: pos_integer()
  def next_handle(%__MODULE__{flags: flags}), do: :atomics.add_get(flags, @handle, 1)

  @doc "A number that is unique in the instance, and grows."
  @spec unique(t()) :: pos_integer()
  def unique(%__MODULE__{flags: flags}), do: :atomics.add_get(flags, @unique, 1)

  @doc "Counts the bytes of dead letters."
  @spec add_letter_bytes(t(), integer()) :: :ok
  def add_letter_bytes(%__MODULE__{flags: flags}, bytes), do: :atomics.add(flags, @letter_bytes, bytes)

  @doc "How many bytes the dead letters take."
  @spec letter_bytes(t()) :: integer()
  def letter_bytes(%__MODULE__{flags: flags}), do: :atomics.get(flags, @letter_bytes)

  @doc "Counts the pauses."
  @spec add_pauses(t(), integer()) :: :ok
  def add_pauses(%__MODULE__{flags: flags}, by), do: :atomics.add(flags, @pauses, by)

  @doc "How many pauses there are."
  @spec pauses(t()) :: integer()
  def pauses(%__MODULE__{flags: flags}), do: :atomics.get(flags, @pauses)

  @doc "Counts the recorded results of steps."
  @spec add_steps(t(), integer()) :: :ok
  def add_steps(%__MODULE__{flags: flags}, by), do: :atomics.add(flags, @steps, by)

  @doc "How many recorded results of steps there are."
  @spec steps(t()) :: integer()
  def steps(%__MODULE__{flags: flags}), do: :atomics.get(flags, @steps)

  @doc "How far the numbers that are given out have come, and what is counted, for a successor."
  @spec marks(t()) :: [integer()]
  def marks(%__MODULE__{flags: flags}), do: for(index <- @carried, do: :atomics.get(flags, index))

  @doc "Goes on from there."
  @spec put_marks(t(), [integer()]) :: :ok
  def put_marks(%__MODULE__{flags: flags}, marks) do
    for {index, mark} <- Enum.zip(@carried, marks), do: :atomics.put(flags, index, mark)
    :ok
  end

  @doc "Counts those who follow an agent."
  @spec add_traces(t(), integer()) :: :ok
  def add_traces(%__MODULE__{flags: flags}, by), do: :atomics.add(flags, @traces, by)

  @doc "How many follow an agent."
  @spec traces(t()) :: integer()
  def traces(%__MODULE__{flags: flags}), do: :atomics.get(flags, @traces)

  @doc "Counts the rows that lead from a message to its escalations."
  @spec add_escalating(t(), integer()) :: :ok
  def add_escalating(%__MODULE__{flags: flags}, by), do: :atomics.add(flags, @escalating, by)

  @doc "How many of these there are."
  @spec escalating(t()) :: integer()
  def escalating(%__MODULE__{flags: flags}), do: :atomics.get(flags, @escalating)

  @doc "Takes note that messages have priorities."
  @spec use_priorities(t()) :: :ok
  def use_priorities(%__MODULE__{flags: flags}), do: :atomics.put(flags, @priorities, 1)

  @doc "Has any message had a priority?"
  @spec priorities?(t()) :: boolean()
  def priorities?(%__MODULE__{flags: flags}), do: :atomics.get(flags, @priorities) == 1

  @doc "Takes note that something is limited: rates, what runs at once, or what may be spent."
  @spec limit(t()) :: :ok
  def limit(%__MODULE__{flags: flags}), do: :atomics.put(flags, @limited, 1)

  @doc "Is anything limited?"
  @spec limited?(t()) :: boolean()
  def limited?(%__MODULE__{flags: flags}), do: :atomics.get(flags, @limited) == 1

  @doc "Takes note that some agents fall asleep after so many ms, and that somebody has to look after them."
  @spec use_idle_timeout(t(), pos_integer() | :infinity | nil) :: :ok
  def use_idle_timeout(%__MODULE__{flags: flags} = instance, ms) when is_integer(ms) do
    shortest = :atomics.get(flags, @idle_timeout)

    cond do
      shortest > 0 and shortest <= ms ->
        :ok

      :atomics.compare_exchange(flags, @idle_timeout, shortest, ms) == :ok ->
        notify(instance, :sweeper, :look)

      true ->
        use_idle_timeout(instance, ms)
    end
  end

  def use_idle_timeout(_instance, _never), do: :ok

  @doc "The shortest time after which any agent falls asleep, or nil."
  @spec idle_timeout(t()) :: pos_integer() | nil
  def idle_timeout(%__MODULE__{flags: flags}) do
    case :atomics.get(flags, @idle_timeout) do
      0 -> nil
      ms -> ms
    end
  end

  @doc "Counts the subscriptions."
  @spec add_subscriptions(t(), integer()) :: :ok
  def add_subscriptions(%__MODULE__{flags: flags}, by), do: :atomics.add(flags, @subscriptions, by)

  @doc "How many subscriptions there are."
  @spec subscriptions(t()) :: integer()
  def subscriptions(%__MODULE__{flags: flags}), do: :atomics.get(flags, @subscriptions)

  @doc "The generation of code that interpreters are to run."
  @spec generation(t()) :: non_neg_integer()
  def generation(%__MODULE__{flags: flags}), do: :atomics.get(flags, @generation)

  @doc "Makes another one current."
  @spec put_generation(t(), pos_integer()) :: :ok
  def put_generation(%__MODULE__{flags: flags}, number), do: :atomics.put(flags, @generation, number)

  @doc "The generation that a share of the agents tries, and the highest hash of their ids; nil where none is tried."
  @spec trial(t()) :: {pos_integer(), non_neg_integer()} | nil
  def trial(%__MODULE__{flags: flags}) do
    case :atomics.get(flags, @trial) do
      0 -> nil
      number -> {number, :atomics.get(flags, @trial_highest)}
    end
  end

  @doc "Begins a trial, or ends it."
  @spec put_trial(t(), {pos_integer(), non_neg_integer()} | nil) :: :ok
  def put_trial(%__MODULE__{flags: flags}, nil), do: :atomics.put(flags, @trial, 0)

  def put_trial(%__MODULE__{flags: flags}, {number, highest}) do
    :atomics.put(flags, @trial_highest, highest)
    :atomics.put(flags, @trial, number)
  end

  @doc "Is a rejected generation kept, for agents whose states the current one is too old for?"
  @spec kept_generation?(t()) :: boolean()
  def kept_generation?(%__MODULE__{flags: flags}), do: :atomics.get(flags, @kept_generation) == 1

  @doc "Takes note that one is, or that none is any more."
  @spec keep_generation(t(), boolean()) :: :ok
  def keep_generation(%__MODULE__{flags: flags}, kept?),
    do: :atomics.put(flags, @kept_generation, if(kept?, do: 1, else: 0))

  @doc "Closes the intake: from now on calls, casts and starts are answered `stopping`."
  @spec close(t()) :: :ok
  def close(%__MODULE__{flags: flags}), do: :atomics.put(flags, @draining, 1)

  @doc "Is the intake closed?"
  @spec closed?(t()) :: boolean()
  def closed?(%__MODULE__{flags: flags}), do: :atomics.get(flags, @draining) == 1

  @doc "Counts one event."
  @spec count(t(), atom(), integer()) :: :ok
  def count(%__MODULE__{counters: counters}, event, by \\ 1),
    do: :counters.add(counters, Map.fetch!(@indices, event), by)

  @doc "All counters."
  @spec counters(t()) :: %{atom() => integer()}
  def counters(%__MODULE__{counters: counters}),
    do: Map.new(@indices, fn {event, index} -> {event, :counters.get(counters, index)} end)

  @doc "New counters for an instance."
  @spec new_counters() :: :counters.counters_ref()
  def new_counters, do: :counters.new(length(@counters), [:write_concurrency])

  @doc "New flags for an instance."
  @spec new_flags() :: :atomics.atomics_ref()
  def new_flags, do: :atomics.new(@kept_generation, signed: true)

  @doc "Makes a process of the tree findable by its role."
  @spec register(t(), term()) :: true
  def register(%__MODULE__{processes: processes}, role), do: :ets.insert(processes, {role, self()})

  @doc "The process with that role, or nil where it isn't up."
  @spec whereis(t(), term()) :: pid() | nil
  def whereis(%__MODULE__{processes: processes}, role) do
    case :ets.lookup(processes, role) do
      [{_role, pid}] -> pid
      [] -> nil
    end
  end

  @doc "Is it one of the processes that have a role?"
  @spec own?(t(), pid()) :: boolean()
  def own?(%__MODULE__{processes: processes}, pid),
    do: :ets.match(processes, {:_, pid}, 1) != :"$end_of_table"

  @doc "Sends to the process with that role; nothing happens where it isn't up."
  @spec notify(t(), term(), term()) :: :ok
  def notify(instance, role, message) do
    with pid when is_pid(pid) <- whereis(instance, role), do: send(pid, message)
    :ok
  end

  @doc "Milliseconds on the clock that deadlines are told in."
  @spec now_ms() :: integer()
  def now_ms do
    case :persistent_term.get({__MODULE__, :origin}) do
      origin when is_integer(origin) -> :erlang.monotonic_time(:millisecond) - origin
    end
  end

  @doc "Sets the origin of that clock, once per node, so that instants are small positive integers."
  @spec set_origin() :: :ok
  def set_origin do
    unless :persistent_term.get({__MODULE__, :origin}, nil) do
      :persistent_term.put({__MODULE__, :origin}, System.monotonic_time(:millisecond) - 1_000)
    end

    :ok
  end
end
