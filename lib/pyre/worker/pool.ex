defmodule Pyre.Worker.Pool do
  @moduledoc false

  # The workers' table: which are ready, and which holds the fewest agents. Written by the workers, read by agents.
  # An agent that finds no worker leaves its pid here and is woken when that changes.

  alias Pyre.{Error, Instance}

  @pid 2
  @status 3
  @os_pid 4
  @incarnation 5
  @ready_at 6
  @deaths 7
  @error 8
  @lag 9
  @activations 10

  @type status :: :starting | :ready | :failed | :stopping
  @type worker :: {no :: pos_integer(), pid()}

  @doc "A worker says that it is there; keeps what is known of its predecessor."
  @spec enroll(Instance.t(), pos_integer(), pid()) :: true
  def enroll(instance, no, pid) do
    unless :ets.insert_new(instance.workers, {no, pid, :starting, nil, 0, nil, 0, nil, 0, 0}),
      do: :ets.update_element(instance.workers, no, {@pid, pid})

    true
  end

  @doc "A new interpreter is being started."
  @spec starting(Instance.t(), pos_integer(), non_neg_integer() | nil) :: boolean()
  def starting(instance, no, os_pid) do
    :ets.update_counter(instance.workers, no, {@incarnation, 1})
    :ets.update_element(instance.workers, no, [{@status, :starting}, {@os_pid, os_pid}])
  end

  @doc "The interpreter is ready: agents that wait are woken."
  @spec ready(Instance.t(), pos_integer()) :: :ok
  def ready(instance, no) do
    :counters.put(instance.load, no, 0)

    :ets.update_element(instance.workers, no, [
      {@status, :ready},
      {@ready_at, System.os_time(:millisecond)},
      {@error, nil}
    ])

    wake(instance)
  end

  @doc "From now on no agent chooses this worker."
  @spec unready(Instance.t(), pos_integer()) :: boolean()
  def unready(instance, no), do: :ets.update_element(instance.workers, no, {@status, :starting})

  @doc "The interpreter is gone. `status` is `:starting` where the next is started at once, `:failed` where it waits."
  @spec down(Instance.t(), pos_integer(), status(), Error.t()) :: :ok
  def down(instance, no, status, error) do
    :ets.update_counter(instance.workers, no, {@deaths, 1})
    :ets.update_element(instance.workers, no, [{@status, status}, {@os_pid, nil}, {@error, error}])
    if status == :failed, do: wake(instance), else: :ok
  end

  @doc "What the flight recorder showed last."
  @spec observed(Instance.t(), pos_integer(), non_neg_integer(), non_neg_integer()) :: boolean()
  def observed(instance, no, lag_us, activations),
    do: :ets.update_element(instance.workers, no, [{@lag, lag_us}, {@activations, activations}])

  @doc "A worker for an agent: the ready one with the fewest agents."
  @spec pick(Instance.t()) :: {:ok, worker()} | :wait | {:failed, Error.t()}
  def pick(instance) do
    rows = :ets.tab2list(instance.workers)

    case for row <- rows,
             elem(row, @status - 1) == :ready and Process.alive?(elem(row, @pid - 1)),
             do: {:counters.get(instance.load, elem(row, 0)), row} do
      [] ->
        none(rows)

      ready ->
        {_load, row} = Enum.min(ready)
        :counters.add(instance.load, elem(row, 0), 1)
        {:ok, {elem(row, 0), elem(row, @pid - 1)}}
    end
  end

  defp none(rows) do
    if rows != [] and Enum.all?(rows, &(elem(&1, @status - 1) == :failed)),
      do: {:failed, elem(hd(rows), @error - 1)},
      else: :wait
  end

  @doc "An agent leaves its worker."
  @spec leave(Instance.t(), worker() | nil) :: :ok
  def leave(_instance, nil), do: :ok
  def leave(instance, {no, _pid}), do: :counters.sub(instance.load, no, 1)

  @doc "Asks to be woken by `:workers_changed`."
  @spec wait(Instance.t(), pid()) :: true
  def wait(instance, pid), do: :ets.insert(instance.waiting, {pid})

  defp wake(instance) do
    for {pid} <- :ets.tab2list(instance.waiting) do
      :ets.delete(instance.waiting, pid)
      send(pid, :workers_changed)
    end

    :ok
  end

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
        activations: elem(row, @activations - 1)
      }
    end
  end
end
