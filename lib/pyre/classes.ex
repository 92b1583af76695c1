defmodule Pyre.Classes do
  @moduledoc false

  # What the interpreters said about the agent classes that they found: schemas of handlers and start arguments, and the
  # files that could not be imported. Written when a worker is ready, read by whoever starts or runs an agent. Each pool tells of its own classes.

  alias Pyre.{Error, Instance, Pools}
  alias Pyre.Timers.Schedule

  @scalars %{
    "str" => &is_binary/1,
    "bytes" => &is_binary/1,
    "int" => &is_integer/1,
    "float" => &is_number/1,
    "bool" => &is_boolean/1
  }

  @type info :: %{String.t() => term()}

  @doc "Takes the answer of a worker that became ready, for its pool. The first one of a new generation takes the place of what was said before."
  @spec put(Instance.t(), Pools.name(), pos_integer(), info()) :: :ok
  def put(instance, pool, generation, info) do
    same? = match?([{_key, ^generation, _classes, _problems}], :ets.lookup(instance.classes, {:told, pool}))
    tell(instance, pool, generation, info)
    write(instance, not same?)
  end

  @doc "Takes what a new generation of code brings, in place of everything from before. What is said of a pool that took no part stays."
  @spec replace(Instance.t(), pos_integer(), %{Pools.name() => info()}) :: :ok
  def replace(instance, generation, infos) do
    for {pool, info} <- infos, do: tell(instance, pool, generation, info)
    write(instance, true)
  end

  defp tell(instance, pool, generation, %{"classes" => classes, "problems" => problems}),
    do: :ets.insert(instance.classes, {{:told, pool}, generation, classes, problems})

  # Workers of two pools may do this at the same time: whoever wrote looks again whether that was all.
  defp write(instance, replace?) do
    told = told(instance)
    %{classes: classes, problems: problems} = merge(instance.config, told)
    gone = if replace?, do: names(instance) -- Enum.map(classes, & &1["name"]), else: []

    # First what is added: whoever looks meanwhile finds either.
    for class <- classes, do: put_class(instance, class)
    :ets.insert(instance.classes, {:problems, problems})
    Enum.each(gone, &delete(instance, &1))
    if told(instance) == told, do: :ok, else: write(instance, replace?)
  end

  defp delete(instance, name) do
    :ets.delete(instance.classes, name)

    for columns <- 2..5 do
      :ets.match_delete(instance.classes, List.to_tuple([{name, :_} | List.duplicate(:_, columns - 1)]))
    end
  end

  defp told(instance) do
    for pool <- Pools.names(instance.config),
        [{_key, _generation, classes, problems}] <- [:ets.lookup(instance.classes, {:told, pool})],
        into: %{},
        do: {pool, %{"classes" => classes, "problems" => problems}}
  end

  @doc "What there will be with what these pools say now."
  @spec foresee(Instance.t(), %{Pools.name() => info()}) :: %{classes: [map()], problems: [map()]}
  def foresee(instance, infos), do: merge(instance.config, Map.merge(told(instance), infos))

  # A class that two pools bring is the first one's, and a problem.
  defp merge(config, infos) do
    said = for pool <- Pools.names(config), info = infos[pool], do: {pool, info}

    Enum.reduce(said, %{classes: [], problems: []}, fn {pool, info}, known ->
      {classes, twice} = Enum.split_with(info["classes"], &(find(known, &1["name"]) == nil))
      problems = info["problems"] ++ Enum.map(twice, &twice(&1, find(known, &1["name"])))

      %{
        classes: known.classes ++ Enum.map(classes, &Map.put(&1, "pool", pool)),
        problems: known.problems ++ Enum.map(problems, &Map.put(&1, "pool", Atom.to_string(pool)))
      }
    end)
  end

  defp find(known, name), do: Enum.find(known.classes, &(&1["name"] == name))

  defp twice(%{"name" => name, "file" => file}, first) do
    %{
      "file" => file,
      "error" => "agent class #{name} is also defined in #{first["file"]}, in the pool #{first["pool"]}",
      "traceback" => "",
      "classes" => []
    }
  end

  defp put_class(instance, %{"name" => name, "handlers" => handlers} = class) do
    rows =
      for {handler, schema} <- handlers, do: {{name, handler}, schema["interleave"], schema["idempotent"]}

    interleaves? = Enum.any?(rows, fn {_key, interleave, _idempotent} -> interleave == true end)
    if class["rate_limit"] || class["concurrency"], do: Instance.limit(instance)
    Instance.use_idle_timeout(instance, idle_timeout(class))
    hooks = {{name, :hooks}, class["on_start"] == true, class["on_stop"] == true, interleaves?, class["pool"]}

    :ets.insert(instance.classes, [
      {name, class},
      hooks,
      {{name, :timers}, declared(class)},
      {{name, :subscriptions}, wanted(class)} | rows
    ])
  end

  defp declared(class) do
    for [key, handler, wire] <- Map.get(class, "timers", []),
        {:ok, schedule} <- [Schedule.parse(wire)],
        do: {key, handler, schedule}
  end

  defp wanted(class),
    do: for([pattern, handler] <- Map.get(class, "subscriptions", []), do: {pattern, handler})

  @doc "Has each pool told its classes?"
  @spec known?(Instance.t()) :: boolean()
  def known?(instance), do: untold(instance) == []

  @doc "Has any pool told its classes?"
  @spec told?(Instance.t()) :: boolean()
  def told?(instance), do: Enum.any?(Pools.names(instance.config), &told?(instance, &1))

  @doc "Has this pool told its classes?"
  @spec told?(Instance.t(), Pools.name()) :: boolean()
  def told?(instance, pool), do: :ets.member(instance.classes, {:told, pool})

  @doc "The pools that have not told their classes yet."
  @spec untold(Instance.t()) :: [Pools.name()]
  def untold(instance), do: Enum.reject(Pools.names(instance.config), &told?(instance, &1))

  @doc "Is there a class of that name?"
  @spec there?(Instance.t(), String.t()) :: boolean()
  def there?(instance, name), do: :ets.member(instance.classes, name)

  @doc "May a pool that has not told its classes yet still have it?"
  @spec awaited?(Instance.t(), String.t()) :: boolean()
  def awaited?(instance, name), do: not there?(instance, name) and not known?(instance)

  @doc "The pool of a class; the default one where the class is unknown."
  @spec pool(Instance.t(), String.t()) :: Pools.name()
  def pool(instance, class) do
    :ets.lookup_element(instance.classes, {class, :hooks}, 5)
  rescue
    ArgumentError -> Pools.default()
  end

  @doc "Takes note in which pools the code that is being tried has its classes."
  @spec put_tried(Instance.t(), %{Pools.name() => info()}) :: true
  def put_tried(instance, infos) do
    %{classes: classes} = foresee(instance, infos)
    :ets.insert(instance.classes, {:tried, Map.new(classes, &{&1["name"], &1["pool"]})})
  end

  @doc "The pool of a class in the code that is being tried."
  @spec tried_pool(Instance.t(), String.t()) :: Pools.name()
  def tried_pool(instance, class) do
    [{:tried, pools}] = :ets.lookup(instance.classes, :tried)
    Map.get(pools, class, Pools.default())
  end

  @doc "The schema of a class, or the error that says why there is none."
  @spec fetch(Instance.t(), String.t()) :: {:ok, map()} | {:error, Error.t()}
  def fetch(instance, name) do
    case :ets.lookup(instance.classes, name) do
      [{_name, class}] -> {:ok, class}
      [] -> {:error, unknown(instance, name)}
    end
  end

  defp unknown(instance, name) do
    case Enum.find(problems(instance), &(name in &1["classes"])) do
      nil ->
        Error.new(:unknown_class, "there is no agent class #{inspect(name)}#{hint(instance, name)}")

      problem ->
        Error.new(:unknown_class, "the class #{inspect(name)} could not be imported: #{problem["error"]}", %{
          file: problem["file"],
          pool: problem["pool"],
          traceback: problem["traceback"]
        })
    end
  end

  defp hint(instance, name) do
    names = names(instance)
    closest = Enum.max_by(names, &String.jaro_distance(&1, name), fn -> nil end)

    cond do
      names == [] -> "; no agent classes were found in #{inspect(instance.config.agents)}"
      String.jaro_distance(closest, name) > 0.8 -> ", did you mean #{inspect(closest)}?"
      true -> "; the classes are #{Enum.join(names, ", ")}"
    end
  end

  @doc "The names of all classes, sorted."
  @spec names(Instance.t()) :: [String.t()]
  def names(instance), do: instance |> all() |> Enum.map(& &1["name"]) |> Enum.sort()

  @doc "The schemas of all classes."
  @spec all(Instance.t()) :: [map()]
  def all(instance), do: for({name, class} when is_binary(name) <- :ets.tab2list(instance.classes), do: class)

  @doc "The files that could not be imported."
  @spec problems(Instance.t()) :: [map()]
  def problems(instance) do
    case :ets.lookup(instance.classes, :problems) do
      [{:problems, problems}] -> problems
      [] -> []
    end
  end

  @doc "A limit that the class declares: `rate_limit`, as count and ms, or `concurrency`; nil where it has none."
  @spec limit(Instance.t(), String.t(), String.t()) :: {pos_integer(), pos_integer()} | pos_integer() | nil
  def limit(instance, class, name) do
    case :ets.lookup(instance.classes, class) do
      [{_name, %{^name => [count, period_ms]}}] -> {count, period_ms}
      [{_name, %{^name => limit}}] -> limit
      _unknown -> nil
    end
  end

  @doc "After how many ms its agents fall asleep; nil where the class does not say."
  @spec idle_timeout(Instance.t(), String.t()) :: pos_integer() | :infinity | nil
  def idle_timeout(instance, class) do
    case :ets.lookup(instance.classes, class) do
      [{_name, outline}] -> idle_timeout(outline)
      [] -> nil
    end
  end

  defp idle_timeout(%{"idle_timeout" => 0}), do: :infinity
  defp idle_timeout(%{"idle_timeout" => ms}) when is_integer(ms) and ms > 0, do: ms
  defp idle_timeout(_silent), do: nil

  @doc "The version of the class, as its current code says."
  @spec version(Instance.t(), String.t()) :: pos_integer()
  def version(instance, class) do
    case :ets.lookup(instance.classes, class) do
      [{_name, %{"version" => version}}] -> version
      _unknown -> 1
    end
  end

  @doc "Does the class have an `on_start`, an `on_stop`?"
  @spec hooks(Instance.t(), String.t()) :: {on_start? :: boolean(), on_stop? :: boolean()}
  def hooks(instance, class) do
    case :ets.lookup(instance.classes, {class, :hooks}) do
      [{_key, on_start?, on_stop?, _interleaves?, _pool}] -> {on_start?, on_stop?}
      [] -> {false, false}
    end
  end

  @doc "Has the class any handler that may run beside another?"
  @spec interleaves?(Instance.t(), String.t()) :: boolean()
  def interleaves?(instance, class) do
    case :ets.lookup(instance.classes, {class, :hooks}) do
      [{_key, _on_start?, _on_stop?, interleaves?, _pool}] -> interleaves?
      [] -> false
    end
  end

  @doc "May this handler run beside another?"
  @spec interleave?(Instance.t(), String.t(), binary()) :: boolean()
  def interleave?(instance, class, handler), do: flag(instance, class, handler, 1)

  @doc "May this handler be run again?"
  @spec idempotent?(Instance.t(), String.t(), binary()) :: boolean()
  def idempotent?(instance, class, handler), do: flag(instance, class, handler, 2)

  defp flag(instance, class, handler, position) do
    case :ets.lookup(instance.classes, {class, handler}) do
      [row] -> elem(row, position) == true
      [] -> false
    end
  end

  @doc "Does a handler take an argument of that name? Gives a function that tells; of an unknown handler it says yes."
  @spec takes(Instance.t(), String.t(), String.t()) :: (String.t() -> boolean())
  def takes(instance, class, handler) do
    with {:ok, %{"handlers" => %{^handler => %{"params" => params, "open" => false}}}} <-
           fetch(instance, class),
         do: &is_map_key(params, &1),
         else: (_any_or_unknown -> fn _name -> true end)
  end

  @doc "The events that the class wants: pattern, handler."
  @spec subscriptions(Instance.t(), String.t()) :: [{String.t(), String.t()}]
  def subscriptions(instance, class) do
    case :ets.lookup(instance.classes, {class, :subscriptions}) do
      [{_key, subscriptions}] -> subscriptions
      [] -> []
    end
  end

  @doc "The timers that the class declares: key, handler, schedule."
  @spec timers(Instance.t(), String.t()) :: [{String.t(), String.t(), Schedule.t()}]
  def timers(instance, class) do
    case :ets.lookup(instance.classes, {class, :timers}) do
      [{_key, timers}] -> timers
      [] -> []
    end
  end

  @doc "The handlers of a class that are offered as tools, by name."
  @spec tools(Instance.t(), String.t()) :: {:ok, [map()]} | {:error, Error.t()}
  def tools(instance, class) do
    with {:ok, %{"handlers" => handlers}} <- fetch(instance, class) do
      {:ok,
       for {name, %{"tool" => tool}} <- Enum.sort(handlers) do
         %{name: name, description: tool["description"], schema: tool["schema"]}
       end}
    end
  end

  @doc "Checks start arguments against the class's schema, as far as that can be done without Python."
  @spec check_args(map(), map()) :: :ok | {:error, Error.t()}
  def check_args(%{"name" => name, "state" => params}, args) do
    args = Map.new(args, fn {key, value} -> {to_string(key), value} end)

    with :ok <- check_known(name, params, args), :ok <- check_missing(name, params, args) do
      Enum.find_value(args, :ok, fn {key, value} -> check_scalar(name, key, params[key], value) end)
    end
  end

  defp check_known(name, params, args) do
    case Enum.find(Map.keys(args), &(not is_map_key(params, &1))) do
      nil -> :ok
      key -> invalid(key, "#{name} takes no start argument #{inspect(key)}#{known(params)}")
    end
  end

  defp known(params) when params == %{}, do: "; it takes none"
  defp known(params), do: "; it takes #{params |> Map.keys() |> Enum.sort() |> Enum.join(", ")}"

  defp check_missing(name, params, args) do
    case Enum.find(params, fn {key, param} -> param["required"] and not is_map_key(args, key) end) do
      nil -> :ok
      {key, param} -> invalid(key, "#{name} needs the start argument #{inspect(key)} (#{param["type"]})")
    end
  end

  defp check_scalar(name, key, param, value) do
    check = Map.get(@scalars, param["scalar"], fn _value -> true end)

    unless value_of(value) |> check.() or (is_atom(value) and param["scalar"] == "str") do
      invalid(
        key,
        "the start argument #{inspect(key)} of #{name} must be #{param["type"]}, got: #{inspect(value, limit: 5, printable_limit: 100)}"
      )
    end
  end

  defp value_of(%Pyre.Bin{data: data}), do: data
  defp value_of(value), do: value

  defp invalid(argument, message), do: {:error, Error.new(:invalid_args, message, %{argument: argument})}
end
