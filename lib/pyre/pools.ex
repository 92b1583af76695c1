defmodule Pyre.Pools do
  @moduledoc false

  # The pools of an instance, as its options say them: which workers run with which Python, which environment and which directories of
  # agents. The pool `:default` is always there and the first; what another one leaves out is as there. Pure, but for a look whether
  # directories have a virtual environment of their own.

  alias Pyre.Options

  @default :default
  @venv ".venv/bin/python"

  @type name :: atom()
  @type t :: %{
          name: name(),
          workers: pos_integer(),
          spare: boolean(),
          python: String.t() | nil,
          env: [{String.t(), String.t()}],
          own: [Path.t()]
        }

  @doc "The name of the pool that is always there."
  @spec default() :: :default
  def default, do: @default

  @doc """
  Makes `:pools` a list of whole pools, and `:agents` a list of all directories, those of pools included. `:shared` are those that belong to no
  pool. Raises an `ArgumentError` that names the pool and the option.
  """
  @spec put!(map()) :: map()
  def put!(%{agents: agents} = config) do
    given = given!(config.pools)
    listed = Enum.flat_map(given, fn {_name, opts} -> opts[:agents] end)
    shared = (agents |> List.wrap() |> Enum.map(&Path.expand/1) |> Enum.uniq()) -- listed
    {shared, given, found} = with_venvs(shared, given, config.python)
    default = default(config, given, found)
    others = for {name, opts} <- given, name != @default, do: pool!(name, opts, default)
    pools = [if(found == :taken and shared == [], do: idle(default, given), else: default) | others]
    directories = shared ++ Enum.flat_map(pools, & &1.own)
    Map.merge(config, %{pools: pools, shared: shared, agents: directories, workers: hd(pools).workers})
  end

  defp given!(pools) do
    names = Keyword.keys(pools)

    case names -- Enum.uniq(names) do
      [] -> :ok
      [twice | _more] -> raise ArgumentError, "expected each pool once in :pools, got #{inspect(twice)} twice"
    end

    given = for {name, opts} <- pools, do: {name, options!(name, opts)}
    _none_twice = once!(given)
    given
  end

  defp options!(name, opts) do
    opts = Options.validate!(:pool, opts)
    Keyword.update!(opts, :agents, &(&1 |> List.wrap() |> Enum.map(fn path -> Path.expand(path) end)))
  rescue
    error in ArgumentError ->
      reraise ArgumentError, "the pool #{inspect(name)}: #{error.message}", __STACKTRACE__
  end

  # Its classes would be in both.
  defp once!(given) do
    listed = for {name, opts} <- given, directory <- opts[:agents], do: {directory, name}

    for {directory, name} <- listed, {^directory, other} <- listed, other != name do
      raise ArgumentError,
            "the pools #{inspect(name)} and #{inspect(other)}: expected :agents to hold no directory of another pool, got: #{directory}"
    end
  end

  ## Directories with a virtual environment

  # A directory that has one is its own pool, named after the directory. Where it is the only one, its Python is simply the default
  # pool's.
  defp with_venvs([only], given, python),
    do: {[only], given, if(python == nil and venv?(only), do: Path.join(only, @venv))}

  defp with_venvs(shared, given, _python) do
    own = Enum.filter(shared, &venv?/1)

    given =
      Enum.reduce(own, given, fn directory, given ->
        name = directory |> short_name(own) |> String.to_atom()
        opts = given |> opts(name) |> Keyword.update!(:agents, &(&1 ++ [directory]))
        List.keystore(given, name, 0, {name, opts})
      end)

    {shared -- own, given, if(own != [], do: :taken)}
  end

  defp venv?(directory), do: File.exists?(Path.join(directory, @venv))

  # As many last parts of its path as tell it from the others.
  defp short_name(directory, directories) do
    parts = directory |> Path.split() |> length()

    Enum.find_value(1..parts, fn count ->
      name = last_parts(directory, count)
      if Enum.count(directories, &(last_parts(&1, count) == name)) == 1, do: name
    end)
  end

  defp last_parts(directory, count), do: directory |> Path.split() |> Enum.take(-count) |> Path.join()

  ## What a pool leaves out

  defp default(config, given, found) do
    opts = opts(given, @default)

    %{
      name: @default,
      workers: opts[:workers] || config.workers || System.schedulers_online(),
      spare: either(opts[:spare], config.spare),
      python:
        opts[:python] || config.python || own_python!(@default, opts[:agents]) ||
          if(is_binary(found), do: found),
      env: merged(config.env, opts[:env]),
      own: opts[:agents]
    }
  end

  # All agents have pools of their own: it is there for functions (`Pyre.run/5`) alone.
  defp idle(%{own: []} = default, given) do
    opts = opts(given, @default)
    %{default | workers: opts[:workers] || 1, spare: either(opts[:spare], false)}
  end

  defp idle(default, _given), do: default

  defp opts(given, name), do: Keyword.get(given, name, Options.defaults(:pool))

  defp pool!(name, opts, default) do
    %{
      name: name,
      workers: opts[:workers] || default.workers,
      # An interpreter that does nothing but wait is worth its memory where most agents are.
      spare: either(opts[:spare], false),
      python: opts[:python] || own_python!(name, opts[:agents]) || default.python,
      env: merged(default.env, opts[:env]),
      own: opts[:agents]
    }
  end

  defp either(nil, otherwise), do: otherwise
  defp either(given, _otherwise), do: given

  defp merged(env, more) do
    names = for {name, _value} <- more, do: name
    Enum.reject(env, fn {name, _value} -> name in names end) ++ more
  end

  defp own_python!(name, directories) do
    case Enum.filter(directories, &venv?/1) do
      [] ->
        nil

      [directory] ->
        Path.join(directory, @venv)

      [one, other | _more] ->
        raise ArgumentError,
              "the pool #{inspect(name)}: expected :python, since both #{one} and #{other} have a .venv"
    end
  end

  ## What others ask

  @doc "The pool of that name."
  @spec fetch!(map(), name()) :: t()
  def fetch!(%{pools: pools}, name), do: Enum.find(pools, &(&1.name == name))

  @doc "The names of all pools, the default first."
  @spec names(map()) :: [name()]
  def names(%{pools: pools}), do: Enum.map(pools, & &1.name)

  @doc "All directories that interpreters of a pool look at: the shared ones, and its own."
  @spec directories(map(), name()) :: [Path.t()]
  def directories(%{shared: shared} = config, name), do: shared ++ fetch!(config, name).own

  @doc "Words that tell in which pool something is, after it; none for the default one."
  @spec words(name()) :: String.t()
  def words(@default), do: ""
  def words(name), do: " of the pool #{name}"

  @doc "The same at the beginning of a sentence."
  @spec prefix(name()) :: String.t()
  def prefix(@default), do: ""
  def prefix(name), do: "the pool #{name}: "
end
