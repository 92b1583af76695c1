defmodule Mix.Tasks.Pyre.Gen.Agent do
  @shortdoc "Adds an agent, and a test for it"

  @moduledoc """
  Adds an agent, and a test for it.

      mix pyre.gen.agent NAME [--agents DIRECTORY] [--tests DIRECTORY] [--autostart]

  `mix pyre.gen.agent order_desk` makes `priv/python/order_desk.py` with the class `OrderDesk`, and `test/python/test_order_desk.py`. A file that is there
  already is kept, unless you say otherwise.

    * `--agents` - where agents are; `priv/python` by default
    * `--tests` - where their tests are; `test/python` by default
    * `--autostart` - one starts with the instance, with the name of its file as its id
  """

  use Mix.Task

  @usage "mix pyre.gen.agent NAME"

  @impl Mix.Task
  def run(argv) do
    case Mix.Pyre.command_line!(argv, __MODULE__, agents: :string, tests: :string, autostart: :boolean) do
      :help -> :ok
      {opts, rest} -> make(Mix.Pyre.one!(rest, @usage), opts)
    end
  end

  defp make(name, opts) do
    {file, class} = Mix.Pyre.agent!(name)

    files = [
      {"agent/agent.py", Path.join(opts[:agents] || "priv/python", "#{file}.py")},
      {"agent/test_agent.py", Path.join(opts[:tests] || "test/python", "test_#{file}.py")}
    ]

    assigns = [file: file, class: class, id: file, autostart: opts[:autostart] == true]
    Mix.Pyre.make(files, assigns)
  end
end
