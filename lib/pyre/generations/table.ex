defmodule Pyre.Generations.Table do
  @moduledoc false

  # The rows of the generations' table, which is State's:
  #
  #   {number, status, at, pinned, reason}     `at`: Unix time in ms; `pinned`: pairs of a directory and the copy of its sources
  #
  # status:
  #   :importing   one interpreter, the canary, imports it; nobody uses it yet
  #   :trial       the canary serves a share of the agents with it
  #   :rejected    it was worse than the current one; `reason` says how
  #   :rolling     it is the current one; interpreters of the one before end as soon as what runs in them has
  #   :current     all interpreters run it
  #   :retired     no interpreter runs it any more

  alias Pyre.{Instance, Telemetry}

  @kept 20

  @type status :: :importing | :trial | :rejected | :rolling | :current | :retired
  @type pinned :: [{Path.t(), Path.t()}]

  @doc "Writes the first row of a generation, and forgets the oldest ones."
  @spec put(Instance.t(), pos_integer(), status(), pinned()) :: :ok
  def put(instance, number, status, pinned) do
    for old <- numbers(instance), old < number - @kept, not File.dir?(folder(instance, old)) do
      :ets.delete(instance.generations, old)
    end

    :ets.insert(instance.generations, {number, status, System.os_time(:millisecond), pinned, nil})
    told(instance, number, status, nil)
  end

  @doc "Changes the status."
  @spec update(Instance.t(), pos_integer(), status(), String.t() | nil) :: :ok
  def update(instance, number, status, reason \\ nil) do
    :ets.update_element(instance.generations, number, [{2, status}, {5, reason}])
    told(instance, number, status, reason)
  end

  defp told(instance, number, status, reason) do
    Telemetry.event([:generation], %{count: 1}, %{
      name: instance.name,
      generation: number,
      status: status,
      reason: reason
    })
  end

  @doc "The rows, the newest first."
  @spec all(Instance.t()) :: [{pos_integer(), status(), pos_integer(), pinned(), String.t() | nil}]
  def all(instance), do: instance.generations |> :ets.tab2list() |> Enum.sort(:desc)

  @doc "The numbers of the generations with one of these statuses."
  @spec numbers(Instance.t(), [status()]) :: [pos_integer()]
  def numbers(instance, statuses),
    do: for({number, status, _at, _pinned, _reason} <- all(instance), status in statuses, do: number)

  defp numbers(instance), do: Enum.map(all(instance), &elem(&1, 0))

  @doc "The number that the next one gets."
  @spec next(Instance.t()) :: pos_integer()
  def next(instance) do
    case all(instance) do
      [{newest, _status, _at, _pinned, _reason} | _older] when is_integer(newest) -> newest + 1
      [] -> 1
    end
  end

  @doc "The copies of its sources; none where there is no such generation."
  @spec pinned(Instance.t(), pos_integer()) :: pinned()
  def pinned(instance, number) do
    case :ets.lookup(instance.generations, number) do
      [{^number, _status, _at, pinned, _reason}] -> pinned
      [] -> []
    end
  end

  @doc "Where the copies are."
  @spec folder(Instance.t(), pos_integer()) :: Path.t()
  def folder(instance, number), do: Path.join(instance.directory, "code-#{number}")

  @doc "Removes the copies."
  @spec remove(Instance.t(), pos_integer()) :: :ok
  def remove(instance, number) do
    _removed = File.rm_rf(folder(instance, number))
    :ok
  end
end
