defmodule Pyre.Worker.Pool do
  @moduledoc false

  # The workers' table: in which pool each is and what for, which are ready, and which holds the fewest agents. Written by the workers, read
  # by agents. An agent that finds no worker leaves its pid here and is woken when that changes.
  #
  # Roles: `:shared` workers take any agent. The `:spare` is warm and takes none: when a shared one is lost, the two change
  # roles, and what comes up again is the next spare. `:probation` and isolated workers are Pyre.Worker.Isolation's; the `:canary`,
  # which tries new code, and workers that keep rejected code are Pyre.Generations'.

  alias Pyre.{Error, Instance, Pools}
  alias Pyre.Worker.Numbers

  @pid 2
  @status 3
  @os_pid 4
  @incarnation 5
  @ready_at 6
  @deaths 7
  @error 8
  @lag 9
  @activations 10
  @rss 11
  @role 12
  @generation 13
  @pool 14
  @columns 14

  @type status :: :starting | :ready | :failed | :draining
  @type role ::
          :shared
          | :spare
          | :canary
          | {:kept, generation :: pos_integer()}
          | :leaving
          | :probation
          | {:dedicated, pos_integer()}
          | {:tenant, String.t()}
  @type worker :: {no :: pos_integer(), pid()}

  @doc "Room for the load of all workers that there may be."
  @spec new_load(map()) :: :counters.counters_ref()
  def new_load(config), do: config |> Numbers.last() |> :counters.new([])

  @doc "Room for how many messages are under way in each."
  @spec new_under_way(map()) :: :atomics.atomics_ref()
  def new_under_way(config), do: config |> Numbers.last() |> :atomics.new([])

  @doc "Takes a number for a worker of a pool. False where it is taken."
  @spec reserve(Instance.t(), pos_integer(), role(), Pools.name()) :: boolean()
  def reserve(instance, no, role, pool),
    do: :ets.insert_new(instance.workers, {no, nil, :starting, nil, 0, nil, 0, nil, 0, 0, 0, role, 0, pool})

  @doc "A worker says that it is there; keeps what is known of its predecessor."
  @spec enroll(Instance.t(), pos_integer(), pid()) :: role()
  def enroll(instance, no, pid) do
    {^no, role, pool} =
      instance.config |> Numbers.initial() |> List.keyfind(no, 0, {no, :shared, Pools.default()})

    reserve(instance, no, role, pool)
    :ets.update_element(instance.workers, no, {@pid, pid})
    role(instance, no)
  end

  @doc "The pool that a worker is in."
  @spec pool(Instance.t(), pos_integer()) :: Pools.name()
  def pool(instance, no), do: :ets.lookup_element(instance.workers, no, @pool)

  @doc "What a worker is for now."
  @spec role(Instance.t(), pos_integer()) :: role()
  def role(instance, no), do: :ets.lookup_element(instance.workers, no, @role)

  @doc "The generation of code that its interpreter runs; 0 before the first one is started."
  @spec generation(Instance.t(), pos_integer()) :: non_neg_integer()
  def generation(instance, no), do: :ets.lookup_element(instance.workers, no, @generation)

  @doc "Forgets a worker that is needed no more."
  @spec forget(Instance.t(), pos_integer()) :: true
  def forget(instance, no), do: :ets.delete(instance.workers, no)

  @doc "A new interpreter is being started."
  @spec starting(Instance.t(), pos_integer(), non_neg_integer() | nil, pos_integer()) :: boolean()
  def starting(instance, no, os_pid, generation) do
    :ets.update_counter(instance.workers, no, {@incarnation, 1})
    columns = [{@status, :starting}, {@os_pid, os_pid}, {@generation, generation}]
    :ets.update_element(instance.workers, no, columns)
  end

  @doc "The interpreter is ready: agents that wait are woken. A spare takes the place of a shared worker that is not."
  @spec ready(Instance.t(), pos_integer()) :: :ok
  def ready(instance, no) do
    :counters.put(instance.load, no, 0)

    :ets.update_element(instance.workers, no, [
      {@status, :ready},
      {@ready_at, System.os_time(:millisecond)},
      {@error, nil}
    ])

    if role(instance, no) == :spare,
      do:
        Enum.find(
          shared(instance, pool(instance, no)),
          &(&1.status != :ready and replace(instance, &1.worker))
        )

    wake(instance)
  end

  @doc "The shared workers of all pools, or of one."
  @spec shared(Instance.t(), Pools.name() | :all) :: [map()]
  def shared(instance, pool \\ :all),
    do: Enum.filter(all(instance), &(&1.role == :shared and pool in [:all, &1.pool]))

  @doc "Do all shared workers run, or those of a pool? Then its spare may take the processor for its start."
  @spec all_shared_ready?(Instance.t(), Pools.name() | :all) :: boolean()
  def all_shared_ready?(instance, pool \\ :all),
    do: Enum.all?(shared(instance, pool), &(&1.status == :ready))

  @doc "From now on no agent chooses this worker, and those that have leave it; the warm spare of its pool takes its place."
  @spec close(Instance.t(), pos_integer(), :starting | :draining) :: :ok
  def close(instance, no, status) do
    :ets.update_element(instance.workers, no, {@status, status})
    if role(instance, no) == :shared and replace(instance, no), do: wake(instance), else: :ok
  end

  # Whoever turns the spare's row has it; two workers may be lost in one instant.
  defp replace(instance, no) do
    spare = spare(instance, pool(instance, no))

    if spare != nil and turn(instance, spare.worker, :spare, :shared) do
      turn(instance, no, :shared, :spare)
      true
    else
      false
    end
  end

  # Of older code it is of no use: who leaves a worker for it would go back to what was replaced.
  defp spare(instance, pool) do
    current = Instance.generation(instance)

    Enum.find(
      all(instance),
      &(&1.role == :spare and &1.pool == pool and &1.status == :ready and &1.generation == current)
    )
  end

  @doc "Has the pool a warm spare of the current generation?"
  @spec spare?(Instance.t(), Pools.name()) :: boolean()
  def spare?(instance, pool), do: spare(instance, pool) != nil

  @doc "Changes a worker's role; false where it has another by now."
  @spec turn(Instance.t(), pos_integer(), role(), role()) :: boolean()
  def turn(instance, no, from, to) do
    columns = for column <- 1..@columns, do: :"$#{column}"
    pattern = columns |> List.replace_at(@role - 1, from) |> List.to_tuple()
    body = columns |> List.replace_at(@role - 1, {:const, to}) |> List.to_tuple()
    :ets.select_replace(instance.workers, [{pattern, [{:==, :"$1", no}], [{body}]}]) == 1
  end

  @doc "The interpreter is gone. `status` is `:starting` where the next is started at once, `:failed` where it waits."
  @spec down(Instance.t(), pos_integer(), status(), Error.t()) :: :ok
  def down(instance, no, status, error) do
    :ets.update_counter(instance.workers, no, {@deaths, 1})
    :ets.update_element(instance.workers, no, [{@status, status}, {@os_pid, nil}, {@error, error}])
    if status == :failed, do: wake(instance), else: :ok
  end

  @doc "The interpreter ended as it was asked to."
  @spec recycled(Instance.t(), pos_integer()) :: boolean()
  def recycled(instance, no),
    do: :ets.update_element(instance.workers, no, [{@status, :starting}, {@os_pid, nil}])

  @doc "What was seen of the interpreter last."
  @spec observed(Instance.t(), pos_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()) ::
          boolean()
  def observed(instance, no, lag_us, activations, rss_bytes),
    do:
      :ets.update_element(instance.workers, no, [
        {@lag, lag_us},
        {@activations, activations},
        {@rss, rss_bytes}
      ])

  @doc "A worker for an agent: the ready one of that role in its pool with the fewest agents."
  @spec pick(Instance.t(), role(), Pools.name()) :: {:ok, worker()} | :wait | {:failed, Error.t()} | :missing
  def pick(instance, role, pool) do
    rows =
      for row <- :ets.tab2list(instance.workers),
          elem(row, @role - 1) == role and elem(row, @pool - 1) == pool,
          do: row

    current = Instance.generation(instance)

    case for row <- rows,
             elem(row, @status - 1) == :ready and
               (elem(row, @generation - 1) == current or own_code?(role)) and
               Process.alive?(elem(row, @pid - 1)),
             do: {:counters.get(instance.load, elem(row, 0)), row} do
      [] ->
        none(rows)

      ready ->
        {_load, row} = Enum.min(ready)
        :counters.add(instance.load, elem(row, 0), 1)
        {:ok, {elem(row, 0), elem(row, @pid - 1)}}
    end
  end

  # Only who is to run other code than the current one asks for these.
  defp own_code?(:canary), do: true
  defp own_code?({:kept, _generation}), do: true
  defp own_code?(_role), do: false

  defp none([]), do: :missing

  defp none(rows) do
    if Enum.all?(rows, &(elem(&1, @status - 1) == :failed)),
      do: {:failed, elem(hd(rows), @error - 1)},
      else: :wait
  end

  @doc "May the worker be handed a message? Not where it is being replaced, or its process is another by now."
  @spec open?(Instance.t(), worker()) :: boolean()
  def open?(instance, {no, pid}) do
    case :ets.lookup(instance.workers, no) do
      [row] -> elem(row, @status - 1) == :ready and elem(row, @pid - 1) == pid and Process.alive?(pid)
      [] -> false
    end
  end

  @doc "An agent leaves its worker."
  @spec leave(Instance.t(), worker() | nil) :: :ok
  def leave(_instance, nil), do: :ok
  def leave(instance, {no, _pid}), do: :counters.sub(instance.load, no, 1)

  @doc "How many agents a worker has."
  @spec load(Instance.t(), pos_integer()) :: integer()
  def load(instance, no), do: :counters.get(instance.load, no)

  @doc "Asks to be woken by `:workers_changed` when a worker may have come."
  @spec wait(Instance.t(), pid()) :: true
  def wait(instance, pid), do: :ets.insert(instance.waiting, {{0, pid}})

  @doc "Asks to be woken when there is room in a worker that is crowded, too."
  @spec wait(Instance.t(), pid(), worker()) :: true
  def wait(instance, pid, {no, _pid}), do: :ets.insert(instance.waiting, {{no, pid}})

  @doc "Counts a message in that goes to a worker, where there is room."
  @spec begin(Instance.t(), worker()) :: boolean()
  def begin(%{config: %{max_in_flight: most}, under_way: under_way}, {no, _pid}) do
    :atomics.add_get(under_way, no, 1) <= most or :atomics.sub(under_way, no, 1) != :ok
  end

  @doc "Counts one in that must go."
  @spec force(Instance.t(), worker()) :: :ok
  def force(%{under_way: under_way}, {no, _pid}), do: :atomics.add(under_way, no, 1)

  @doc "Counts a message out that is under way no more. Where it was crowded, who waits for that is woken."
  @spec finish(Instance.t(), pos_integer()) :: :ok
  def finish(%{config: %{max_in_flight: most}, under_way: under_way} = instance, no) do
    count = :atomics.sub_get(under_way, no, 1)

    cond do
      2 * count < most - 1 or count >= most -> :ok
      # One for each that ends; and all at the last, since who was woken may have had nothing to run any more.
      2 * count > most + 1 -> wake_one(instance, no)
      true -> wake(instance)
    end
  end

  @doc "How many messages are under way in it."
  @spec under_way(Instance.t(), pos_integer()) :: integer()
  def under_way(%{under_way: under_way}, no), do: :atomics.get(under_way, no)

  @doc "Nothing is under way in a worker."
  @spec none_under_way(Instance.t(), pos_integer()) :: :ok
  def none_under_way(%{under_way: under_way}, no), do: :atomics.put(under_way, no, 0)

  # Of those who wait for this very worker: others would not get in, and stay the first.
  defp wake_one(instance, no) do
    with {^no, pid} = row <- :ets.next(instance.waiting, {no, 0}) do
      :ets.delete(instance.waiting, row)
      send(pid, :workers_changed)
    end

    :ok
  end

  @doc "Wakes all who wait."
  @spec wake(Instance.t()) :: :ok
  def wake(instance) do
    for {{_no, pid} = row} <- :ets.tab2list(instance.waiting) do
      :ets.delete(instance.waiting, row)
      send(pid, :workers_changed)
    end

    :ok
  end

  @doc "The resident bytes of a worker's interpreter that were seen last."
  @spec rss_bytes(Instance.t(), pos_integer()) :: non_neg_integer()
  def rss_bytes(instance, no), do: :ets.lookup_element(instance.workers, no, @rss)

  @doc "The pid of a worker's process, or nil."
  @spec pid(Instance.t(), pos_integer()) :: pid() | nil
  def pid(instance, no) do
    case :ets.lookup(instance.workers, no) do
      [row] -> elem(row, @pid - 1)
      [] -> nil
    end
  end

  @doc "All workers, as maps."
  @spec all(Instance.t()) :: [map()]
  def all(instance) do
    for row <- :ets.tab2list(instance.workers) do
      %{
        worker: elem(row, 0),
        pid: elem(row, @pid - 1),
        status: elem(row, @status - 1),
        os_pid: elem(row, @os_pid - 1),
        incarnation: elem(row, @incarnation - 1),
        ready_at: elem(row, @ready_at - 1),
        deaths: elem(row, @deaths - 1),
        last_error: elem(row, @error - 1),
        lag_us: elem(row, @lag - 1),
        activations: elem(row, @activations - 1),
        rss_bytes: elem(row, @rss - 1),
        role: elem(row, @role - 1),
        generation: elem(row, @generation - 1),
        pool: elem(row, @pool - 1)
      }
    end
  end
end
