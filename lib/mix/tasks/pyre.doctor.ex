defmodule Mix.Tasks.Pyre.Doctor do
  @shortdoc "Examines what Pyre needs, and says how to mend what is wrong"

  @moduledoc """
  Examines what Pyre needs, and says how to mend what is wrong.

      mix pyre.doctor [--agents DIRECTORY] [--python PATH] [--workers N] [--control PATH]

  Elixir, OTP and Python, the Python packages and the event loop, limits of files, pipes and memory, the directories that are written to,
  `PYRE_...` variables, and the agents' files, which are imported. The exit status is 1 where something is wrong; warnings don't count.

    * `--agents` - a directory of agents; may be given more than once. `priv/python` by default in a host application
    * `--python` - the interpreter; that which an instance would take by default
    * `--workers` - how many interpreters there shall be; one per core by default
    * `--control` - where an operator's commands shall come in; `PYRE_CONTROL` by default

  For a running node: `mix pyre.ctl doctor`.
  """

  use Mix.Task

  alias Pyre.Doctor

  @switches [agents: :keep, python: :string, workers: :integer, control: :string]

  @impl Mix.Task
  def run(argv) do
    case Mix.Pyre.command_line!(argv, __MODULE__, @switches) do
      :help -> :ok
      {opts, []} -> examine(opts)
      {_opts, [extra | _rest]} -> Mix.raise("unexpected argument #{inspect(extra)}; see mix help pyre.doctor")
    end
  end

  defp examine(opts) do
    Mix.Task.run("loadpaths")
    if is_integer(opts[:workers]) and opts[:workers] < 1, do: Mix.raise("--workers must be at least 1")

    findings =
      Doctor.machine(
        agents: directories(Keyword.get_values(opts, :agents)),
        python: opts[:python],
        workers: opts[:workers],
        control: opts[:control] || System.get_env("PYRE_CONTROL")
      )

    Mix.shell().info(Doctor.text(findings))
    if Doctor.wrong?(findings), do: exit({:shutdown, 1})
  end

  defp directories([]) do
    if Mix.Project.config()[:app] != :pyre and File.dir?("priv/python"), do: ["priv/python"], else: []
  end

  defp directories(given), do: given
end
