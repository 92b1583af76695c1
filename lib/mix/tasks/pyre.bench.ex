defmodule Mix.Tasks.Pyre.Bench do
  @shortdoc "Runs one of the benchmarks"

  @moduledoc """
  Runs one of the benchmarks, in a copy of Pyre's own sources.

      mix pyre.bench
      mix pyre.bench NAME [ARGUMENT ...]

  Without a name it lists them. What follows the name goes to the benchmark; the head of its file, `bench/NAME_bench.exs`, says what it takes,
  most often how many rounds. Each writes its figures and its part of the report into `bench/results`; with `PYRE_BENCH_RESULTS` set, below that
  directory instead.

  Measure on a machine that does nothing else: each report says how many cores other programs kept busy.
  """

  use Mix.Task

  alias Pyre.Suggestion

  @suffix "_bench.exs"

  @impl Mix.Task
  def run(argv) do
    # What comes behind the name is the benchmark's.
    {own, rest} = Enum.split_while(argv, &String.starts_with?(&1, "-"))

    case {Mix.Pyre.command_line!(own, __MODULE__, []), rest} do
      {:help, _rest} -> :ok
      {{[], []}, []} -> list()
      {{[], []}, [name | arguments]} -> bench(name, arguments)
    end
  end

  defp list do
    width = names() |> Enum.map(&String.length/1) |> Enum.max()
    for name <- names(), do: Mix.shell().info("#{String.pad_trailing(name, width)}  #{question(name)}")
    :ok
  end

  defp bench(name, arguments) do
    if name not in names(),
      do:
        Mix.raise(
          "there is no benchmark #{inspect(name)}#{Suggestion.hint(name, names())}; mix pyre.bench lists them"
        )

    Mix.Task.run("run", [file(name) | arguments])
  end

  defp names do
    case Path.wildcard(Path.join(directory(), "*" <> @suffix)) do
      [] -> Mix.raise("there are no benchmarks in #{directory()}: they are in Pyre's sources only")
      files -> for path <- files, do: Path.basename(path, @suffix)
    end
  end

  # The first line of the file says it.
  defp question(name),
    do: name |> file() |> File.stream!() |> Enum.at(0) |> String.trim_leading("# ") |> String.trim()

  defp file(name), do: Path.join(directory(), name <> @suffix)
  defp directory, do: Path.join(Mix.Pyre.source(), "bench")
end
