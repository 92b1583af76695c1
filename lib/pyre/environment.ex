defmodule Pyre.Environment do
  @moduledoc """
  The options of a standalone node, read from environment variables.

  A release of Pyre calls `options/1` when it starts; a host application gives its options itself and needs none of this.
  Each variable stands for one option of the instance (see `Pyre`). A duration is a number of milliseconds or has a unit (`500ms`,
  `30s`, `5m`, `2h`), or is `infinity`; a size is a number of bytes or has a unit (`512MB`, `2GB`, of 1,024).

  | variable | meaning |
  |---|---|
  #{Enum.map_join(Pyre.Options.variables(), "\n", fn {name, _key, _type, doc} -> "| `#{name}` | #{doc} |" end)}
  | `PYRE_LOG_LEVEL` | `debug`, `info` (default), `warning` or `error` |
  """

  alias Pyre.Options

  # Of the release's and the container's own scripts: nobody's mistake.
  @others ~w(PYRE_LOG_LEVEL PYRE_TTY PYRE_COLUMNS PYRE_LINES)
  @milliseconds %{"" => 1, "ms" => 1, "s" => 1_000, "m" => 60_000, "h" => 3_600_000}
  @bytes %{"" => 1, "kb" => 1_024, "mb" => 1_048_576, "gb" => 1_073_741_824}

  @doc """
  The options that the variables give, or one sentence that says which is wrong and what was expected.

      iex> Pyre.Environment.options(%{"PYRE_WORKERS" => "4", "PYRE_DRAIN_TIMEOUT" => "30s"})
      {:ok, [drain_timeout: 30_000, workers: 4]}
      iex> Pyre.Environment.options(%{"PYRE_WORKERS" => "many"})
      {:error, "PYRE_WORKERS is \\"many\\"; expected a positive integer"}
      iex> Pyre.Environment.options(%{"PYRE_WORKER" => "4"})
      {:error, "PYRE_WORKER is no variable of Pyre; did you mean PYRE_WORKERS?"}
  """
  @doc since: "0.1.0"
  @spec options(%{String.t() => String.t()}) :: {:ok, keyword()} | {:error, String.t()}
  def options(environment) do
    for {"PYRE_" <> _rest = name, value} <- environment,
        name not in @others,
        value != "",
        reduce: {:ok, []} do
      {:ok, opts} -> add(name, value, opts)
      error -> error
    end
    |> sorted()
  end

  defp sorted({:ok, opts}), do: {:ok, Enum.sort(opts)}
  defp sorted(error), do: error

  defp add(name, value, opts) do
    case List.keyfind(Options.variables(), name, 0) do
      {_name, key, type, _doc} -> add(name, value, key, type, opts)
      nil -> {:error, "#{name} is no variable of Pyre#{hint(name)}"}
    end
  end

  defp add(name, value, key, type, opts) do
    with {:ok, parsed} <- parse(type, String.trim(value)), true <- Options.valid?(type, parsed) do
      {:ok, [{key, parsed} | opts]}
    else
      _wrong -> {:error, "#{name} is #{inspect(value)}; expected #{describe(type)}"}
    end
  end

  defp hint(name) do
    best = Options.variables() |> Enum.map(&elem(&1, 0)) |> Enum.max_by(&String.jaro_distance(&1, name))
    if String.jaro_distance(best, name) > 0.85, do: "; did you mean #{best}?", else: ""
  end

  ## Values

  defp parse(type, value) when type in [:pos_integer, :non_neg_integer], do: integer(value)
  defp parse(type, "infinity") when type in [:timeout, :pos_timeout, :pos_count], do: {:ok, :infinity}

  defp parse(type, value) when type in [:timeout, :pos_timeout, :ms, :pos_ms],
    do: with_unit(value, @milliseconds)

  defp parse(:pos_count, value), do: integer(value)
  defp parse(:share, value), do: with({number, ""} <- Float.parse(value), do: {:ok, number})
  defp parse(:bytes, value), do: with_unit(value, @bytes)
  defp parse(:boolean, value) when value in ["true", "1", "yes"], do: {:ok, true}
  defp parse(:boolean, value) when value in ["false", "0", "no"], do: {:ok, false}
  defp parse(:directories, value), do: value |> String.split(":", trim: true) |> directories()
  defp parse(:string_or_nil, value), do: {:ok, value}
  defp parse(_type, _value), do: :error

  defp directories(paths),
    do: if(paths != [] and Enum.all?(paths, &File.dir?/1), do: {:ok, paths}, else: :error)

  defp integer(value) do
    case Integer.parse(value) do
      {number, ""} -> {:ok, number}
      _other -> :error
    end
  end

  defp with_unit(value, units) do
    with {number, unit} <- Integer.parse(value),
         {:ok, factor} <- Map.fetch(units, unit |> String.trim() |> String.downcase()) do
      {:ok, number * factor}
    end
  end

  defp describe(:timeout), do: "a duration, such as 500ms, 30s, 5m or infinity"
  defp describe(:pos_timeout), do: "a duration above 0, such as 500ms, 30s, 5m or infinity"
  defp describe(:ms), do: "a duration, such as 500ms, 30s or 5m"
  defp describe(:pos_ms), do: "a duration above 0, such as 500ms, 30s or 5m"
  defp describe(:bytes), do: "a size of at least 64MB, such as 512MB or 2GB"
  defp describe(:boolean), do: "true or false"
  defp describe(:directories), do: "a directory that exists, or several with : between them"
  defp describe(type), do: Options.describe(type)
end
