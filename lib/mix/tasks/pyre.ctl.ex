defmodule Mix.Tasks.Pyre.Ctl do
  @shortdoc "Looks at a running node, and tells it what to do"

  @moduledoc """
  Looks at a running node (`make run`, `mix pyre.run`, a release), and tells it what to do.

      mix pyre.ctl status
      mix pyre.ctl call visits add '{"n": 2}'
      mix pyre.ctl --help

  The same commands as `bin/pyre ctl` of a release; the work is done by `python -m pyre.ctl`.
  """

  use Mix.Task

  @impl Mix.Task
  @spec run([String.t()]) :: no_return()
  def run(argv) do
    Mix.Task.run("loadpaths")

    case Pyre.Python.find(nil) do
      {:ok, python} -> exit({:shutdown, Pyre.Release.ctl(python, argv, "mix pyre.ctl")})
      {:error, error} -> Mix.raise(Exception.message(error))
    end
  end
end
