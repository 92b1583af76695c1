defmodule Bench.Venv do
  @moduledoc false

  # A virtual environment of its own for each program that brings packages. Made once, and again when its requirements change.

  @requirements Path.expand("../requirements", __DIR__)
  @limit_seconds 300

  @doc "The Python of the environment with `bench/requirements/NAME.txt`, or why there is none."
  def python(name) do
    requirements = Path.join(@requirements, "#{name}.txt")
    directory = Path.join(Mix.Project.build_path(), "../bench/#{name}") |> Path.expand()
    stamp = Path.join(directory, "made_from.txt")

    if File.read(stamp) == File.read(requirements),
      do: {:ok, python_in(directory)},
      else: make(directory, requirements, stamp)
  end

  defp make(directory, requirements, stamp) do
    _earlier = File.rm_rf!(directory)
    {:ok, base} = Pyre.Python.find(nil)

    with :ok <- command(base, ["-m", "venv", directory]),
         :ok <-
           command(
             python_in(directory),
             ~w(-m pip install --quiet --disable-pip-version-check -r #{requirements})
           ) do
      File.cp!(requirements, stamp)
      {:ok, python_in(directory)}
    end
  end

  defp python_in(directory), do: Path.join(directory, "bin/python")

  defp command(executable, arguments) do
    case System.cmd("timeout", ["-k", "5", "#{@limit_seconds}", executable | arguments],
           stderr_to_stdout: true
         ) do
      {_text, 0} ->
        :ok

      {_text, 124} ->
        {:error, "not installed within #{@limit_seconds} s"}

      {text, _status} ->
        {:error, "not installed: #{text |> String.trim() |> String.split("\n") |> List.last()}"}
    end
  end
end
