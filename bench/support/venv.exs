defmodule Bench.Venv do
  @moduledoc false

  # A virtual environment of its own for each program that brings packages. Made once, and again when its requirements change.

  @requirements Path.expand("../requirements", __DIR__)
  @limit_seconds 300

  @doc """
  The Python of the environment with `bench/requirements/NAME.txt`, or why there is none. `at_least` is for packages that ask for a newer Python than Pyre: a
  version as a list, `[3, 12]`.
  """
  def python(name, at_least \\ []) do
    requirements = Path.join(@requirements, "#{name}.txt")
    directory = Path.join(Mix.Project.build_path(), "../bench/#{name}") |> Path.expand()
    stamp = Path.join(directory, "made_from.txt")

    if File.read(stamp) == File.read(requirements),
      do: {:ok, python_in(directory)},
      else: make(directory, requirements, stamp, at_least)
  end

  defp make(directory, requirements, stamp, at_least) do
    _earlier = File.rm_rf!(directory)

    with {:ok, base} <- base(at_least),
         :ok <- command(base, ["-m", "venv", directory]),
         :ok <-
           command(
             python_in(directory),
             ~w(-m pip install --quiet --disable-pip-version-check -r #{requirements})
           ) do
      File.cp!(requirements, stamp)
      {:ok, python_in(directory)}
    end
  end

  # Where Pyre's own is too old: what is in PATH, or in the folders of the usual manager of versions.
  defp base(at_least) do
    {:ok, ours} = Pyre.Python.find(nil)
    others = Path.wildcard(Path.expand("~/.pyenv/versions/3.*/bin/python"))
    named = for name <- ~w(python3.12 python3.13 python3.14), path = System.find_executable(name), do: path

    case Enum.find([ours | named ++ others], &(version(&1) >= at_least)) do
      nil -> {:error, "it needs Python #{Enum.join(at_least, ".")} or newer, and there is none here"}
      python -> {:ok, python}
    end
  end

  defp version(python) do
    case System.cmd(python, ["-c", "import sys; print(*sys.version_info[:2])"], stderr_to_stdout: true) do
      {text, 0} -> text |> String.split() |> Enum.map(&String.to_integer/1)
      {_text, _status} -> []
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
