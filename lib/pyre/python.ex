defmodule Pyre.Python do
  @moduledoc false

  # Finds the interpreter and builds the command line and environment that start it. Whether it is new enough and
  # has its packages, it says itself: priv/python/pyre/__main__.py checks that first, and ends with a sentence.

  alias Pyre.Error

  @candidates ~w(python3.13 python3.12 python3.11 python3)

  @doc "The interpreter to start: the option's, else the project's virtual environment, else what PATH has."
  @spec find(String.t() | nil) :: {:ok, Path.t()} | {:error, Error.t()}
  def find(nil) do
    venv = Path.expand(".venv/bin/python")

    case if(executable?(venv), do: venv, else: on_path()) do
      nil ->
        {:error,
         Error.new(
           :worker_start,
           "no Python was found; install Python 3.11 or newer, or name one with :python"
         )}

      path ->
        {:ok, path}
    end
  end

  def find(python) do
    path = if String.contains?(python, "/"), do: Path.expand(python), else: System.find_executable(python)

    if path && executable?(path),
      do: {:ok, path},
      else:
        {:error,
         Error.new(
           :worker_start,
           "the option :python names #{inspect(python)}, which is not there or can't be executed"
         )}
  end

  defp on_path do
    directories = "PATH" |> System.get_env("") |> String.split(":", trim: true)

    Enum.find_value(@candidates, fn name ->
      directories |> Enum.map(&Path.join(&1, name)) |> Enum.find(&(executable?(&1) and runs?(&1)))
    end)
  end

  # A manager of versions puts scripts of these names into PATH, also for versions that it can't run where we are. The
  # interpreter itself is no script, and not tried: that would take as long as it does to start.
  defp runs?(path) do
    case File.open(path, [:read], &IO.binread(&1, 2)) do
      {:ok, "#!"} -> match?({_output, 0}, System.cmd(path, ["-c", ""], stderr_to_stdout: true))
      _program -> true
    end
  end

  defp executable?(path) do
    case File.stat(path) do
      {:ok, %File.Stat{type: :regular, mode: mode}} -> Bitwise.band(mode, 0o111) != 0
      _missing -> false
    end
  end

  @doc """
  Port options for an interpreter.

  It is started through sh, whose only work is to send the first lines of standard error to a file, and through setpriv, which has
  the kernel kill it when its parent dies, also while it is stuck in C. Both replace themselves: the pid stays.
  """
  @spec port_options(Path.t(), map()) :: list()
  def port_options(python, %{recorder: recorder, log: log, stderr: stderr, stacks: stacks, env: env}) do
    script = Path.join(package_directory(), "pyre/__main__.py")
    command = [death_signal(), python, ["-s", "-u", script]] |> List.flatten()

    [
      :binary,
      :stream,
      :use_stdio,
      :exit_status,
      :hide,
      {:busy_limits_port, {4_194_304, 16_777_216}},
      # The first redirection is for the complaint about the second, where the instance ends meanwhile.
      args: ["-c", ~S(exec "$@" 2>/dev/null 2>>"$PYRE_STDERR"), "pyre" | command],
      env:
        environment(env, [
          {"PYRE_RECORDER", recorder},
          {"PYRE_LOG", log},
          {"PYRE_STDERR", stderr},
          {"PYRE_STACKS", stacks}
        ])
    ]
  end

  # setpriv is a part of Debian's base system. Where it is missing, the reaper alone does this work.
  defp death_signal do
    case System.find_executable("setpriv") do
      nil -> []
      setpriv -> [setpriv, "--pdeathsig", "KILL", "--"]
    end
  end

  @doc "The directory that holds the Python package `pyre`."
  @spec package_directory() :: Path.t()
  def package_directory, do: Path.join(:code.priv_dir(:pyre), "python")

  defp environment(user, ours) do
    path = Enum.join([package_directory() | List.wrap(System.get_env("PYTHONPATH"))], ":")

    fixed = [
      {"PYTHONPATH", path},
      {"PYTHONSAFEPATH", "1"},
      {"PYTHONIOENCODING", "utf-8"},
      {"PYTHONUTF8", "1"}
    ]

    # The BEAM's own settings mean nothing to Python and would reach the tools that it starts.
    cleared = for {"ERL_" <> _ = name, _value} <- System.get_env(), do: {to_charlist(name), false}
    for({name, value} <- fixed ++ user ++ ours, do: {to_charlist(name), to_charlist(value)}) ++ cleared
  end
end
