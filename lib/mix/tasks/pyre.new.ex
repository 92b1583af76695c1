defmodule Mix.Tasks.Pyre.New do
  @shortdoc "Makes a project with agents"

  @moduledoc """
  Makes a project with agents: an Elixir application that runs them, or the agents alone.

      mix pyre.new PATH [--module MODULE]
      mix pyre.new PATH --agents-only

  The first is a Mix project that depends on this Pyre by its path: an instance in the application's supervision tree, its options in
  `config/config.exs`, an agent in `priv/python`, tests in both languages. The last part of the path is the application's name. The second is a
  directory of agents with their tests, for `make run`, `mix pyre.run` or a release.

    * `--module` - the name of its main module; that of the application in camel case by default
    * `--agents-only` - without Elixir
  """

  use Mix.Task

  @usage "mix pyre.new PATH"

  @host [
    {"host/mix.exs", "mix.exs"},
    {"host/formatter.exs", ".formatter.exs"},
    {"host/gitignore", ".gitignore"},
    {"host/README.md", "README.md"},
    {"host/pyproject.toml", "pyproject.toml"},
    {"host/config.exs", "config/config.exs"},
    {"host/application.ex", "lib/$app/application.ex"},
    {"host/main.ex", "lib/$app.ex"},
    {"host/requirements.txt", "priv/python/requirements.txt"},
    {"agent/agent.py", "priv/python/counter.py"},
    {"host/test_helper.exs", "test/test_helper.exs"},
    {"host/main_test.exs", "test/$app_test.exs"},
    {"agent/test_agent.py", "test/python/test_counter.py"}
  ]

  @agents [
    {"agents/gitignore", ".gitignore"},
    {"agents/README.md", "README.md"},
    {"agents/pyproject.toml", "pyproject.toml"},
    {"agent/agent.py", "agents/counter.py"},
    {"agent/test_agent.py", "tests/test_counter.py"}
  ]

  @counter [file: "counter", class: "Counter", id: "counter"]

  @impl Mix.Task
  def run(argv) do
    case Mix.Pyre.command_line!(argv, __MODULE__, module: :string, agents_only: :boolean) do
      :help -> :ok
      {opts, rest} -> make(Mix.Pyre.one!(rest, @usage), opts)
    end
  end

  defp make(path, opts) do
    app = Mix.Pyre.app!(path)
    module = Mix.Pyre.module!(opts[:module], app)
    :ok = Mix.Pyre.empty!(path)
    alone? = opts[:agents_only] == true

    files = if alone?, do: @agents, else: @host
    files = for {template, file} <- files, do: {template, Path.join(path, String.replace(file, "$app", app))}

    # A host starts an agent with the first call for it.
    assigns = [app: app, module: module, pyre: Mix.Pyre.source_seen_from(path), autostart: alone?]
    :ok = Mix.Pyre.make(files, assigns ++ @counter)
    Mix.shell().info(next(alone?, path))
  end

  defp next(false, path) do
    """

    It is made. Next:

        cd #{path}
        mix pyre.install --dev
        mix test
        .venv/bin/python -m pytest
        iex -S mix
    """
  end

  defp next(true, path), do: "\nIt is made; #{Path.join(path, "README.md")} says how to test and run it.\n"
end
