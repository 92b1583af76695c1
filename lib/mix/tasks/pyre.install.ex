defmodule Mix.Tasks.Pyre.Install do
  @shortdoc "Makes a virtual environment with the Python packages"

  @moduledoc """
  Makes a virtual environment with the Python packages that interpreters need, and changes nothing else.

      mix pyre.install [--dev] [--venv DIRECTORY] [--python PATH]

  The packages are those of Pyre's own `requirements.txt`, and of `priv/python/requirements.txt` where the project has one. An instance takes
  `.venv/bin/python` by itself. A virtual environment that is there already is used, and what it lacks is added.

    * `--dev` - also pytest, and `pyre` itself, in place, for tests, editors and type checkers
    * `--venv` - where to make it; `.venv` by default
    * `--python` - the Python to make it with; the newest ≥ 3.11 on PATH by default
  """

  use Mix.Task

  alias Pyre.Doctor.Facts

  @candidates ~w(python3.13 python3.12 python3.11 python3 /usr/bin/python3)
  # Run, not looked at: it may be a shim that leads nowhere, and Debian's has no ensurepip without python3-venv.
  @usable "import sys; sys.version_info >= (3, 11) or sys.exit(1); import ensurepip, venv"
  @has_pip "import sys; sys.version_info >= (3, 11) or sys.exit(1); import pip"
  @last_lines 5

  @impl Mix.Task
  def run(argv) do
    case Mix.Pyre.command_line!(argv, __MODULE__, dev: :boolean, venv: :string, python: :string) do
      :help ->
        :ok

      {opts, []} ->
        install(opts)

      {_opts, [extra | _rest]} ->
        Mix.raise("unexpected argument #{inspect(extra)}; see mix help pyre.install")
    end
  end

  defp install(opts) do
    Mix.Task.run("loadpaths")
    venv = opts[:venv] || ".venv"
    python = venv |> Path.join("bin/python") |> Path.expand()
    if File.exists?(venv), do: check_venv(venv, python), else: make_venv(venv, opts[:python])

    Mix.shell().info("installing packages into #{venv}")
    pip(python, packages(opts[:dev] == true))

    case Facts.python(python, []) do
      {:ok, %{"python" => version}} ->
        Mix.shell().info("#{venv} has Python #{version} and all that interpreters need")

      {:error, sentence} ->
        Mix.raise(sentence)
    end
  end

  defp check_venv(venv, python) do
    unless runs?(python, @has_pip),
      do:
        Mix.raise(
          "#{venv} is there, but is no virtual environment with Python 3.11 or newer and pip; remove it, or name another by --venv"
        )
  end

  defp make_venv(venv, given) do
    candidates = if given, do: [given], else: @candidates
    python = Enum.find(candidates, &runs?(&1, @usable)) || Mix.raise(no_python(given))
    Mix.shell().info("making #{venv} with #{python}")

    case System.cmd(python, ["-I", "-m", "venv", venv], stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, _status} -> Mix.raise("#{python} could not make #{venv}:\n#{last_lines(output)}")
    end
  end

  defp no_python(nil),
    do:
      "there is no Python 3.11 or newer with venv; install one (Debian: apt-get install python3-venv), or name one by --python"

  defp no_python(given),
    do: "#{given} is no Python 3.11 or newer with venv (Debian: apt-get install python3-venv)"

  defp runs?(python, code) do
    path =
      if String.contains?(python, "/"),
        do: File.exists?(python) && python,
        else: System.find_executable(python)

    path && match?({_output, 0}, System.cmd(path, ["-I", "-c", code], stderr_to_stdout: true))
  rescue
    # It can't be executed.
    ErlangError -> false
  end

  defp packages(dev?) do
    package = Path.join(Mix.Pyre.source(), "priv/python")
    own = Path.expand("priv/python/requirements.txt")
    pyre = Path.join(package, "requirements.txt")

    for(file <- Enum.uniq([pyre, own]), File.exists?(file), do: ["-r", file])
    |> Kernel.++(if dev?, do: [["-e", package, "pytest"]], else: [])
    |> List.flatten()
  end

  defp pip(python, packages) do
    argv = ~w(-I -m pip install --quiet --no-input --disable-pip-version-check) ++ packages

    case System.cmd(python, argv, stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, _status} -> Mix.raise(sentence(output))
    end
  end

  @no_network ~w(NewConnectionError ConnectTimeoutError) ++
                ["name resolution", "Network is unreachable", "timed out"]

  defp sentence(output) do
    if String.contains?(output, @no_network),
      do: "pip reached no package index: there seems to be no network; connect, then run this again",
      else: "pip could not install the packages:\n#{last_lines(output)}"
  end

  defp last_lines(output),
    do: output |> String.split("\n", trim: true) |> Enum.take(-@last_lines) |> Enum.join("\n")
end
