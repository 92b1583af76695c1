defmodule Bench.Start do
  @moduledoc false

  # From the start of a virtual machine to the first reply of an agent, and what starting alone costs.

  alias Bench.{Machine, Programs}

  @script Path.expand("first_reply.exs", __DIR__)
  @script_of_release Path.expand("release_reply.script", __DIR__)
  @limit_ms 20_000
  @imports "import pyre._worker, msgpack, structlog, uvloop"

  @doc "`erl` starts Elixir's applications and ours, without Elixir's command line; the ms to the first reply."
  def first_reply do
    Machine.await_quiet()

    paths =
      for path <- [elixir_path(:elixir), elixir_path(:logger) | Programs.code_paths()], do: ["-pa", path]

    run = "'Elixir.Code':eval_file(<<\"#{@script}\">>)"
    start = "{ok, _} = application:ensure_all_started(pyre), #{run}, halt()."
    arguments = ["-noshell" | List.flatten(paths)] ++ ["-kernel", "logger_level", "warning", "-eval", start]
    Programs.time(erl(), arguments, :line, @limit_ms)
  end

  @doc "The same with a release, from its start script on."
  def first_reply_of_release(directory) do
    Machine.await_quiet()
    {:ok, python} = Pyre.Python.find(nil)

    env = [
      {"PYRE_AGENTS", Path.expand("../agents", __DIR__)},
      {"PYRE_PYTHON", python},
      {"PYRE_CONTROL", ""},
      {"PYRE_LOG_LEVEL", "error"},
      # Not the node's.
      {"PYRE_BENCH_RESULTS", ""},
      {"RELEASE_DISTRIBUTION", "none"},
      {"ELIXIR_ERL_OPTIONS", "-eval file:script(\"#{@script_of_release}\")."}
    ]

    Programs.time(Path.join(directory, "bin/pyre"), ["start"], :line, @limit_ms, env)
  end

  @doc "Makes the release that is measured; its directory, or why there is none."
  def release do
    directory = Path.join(Mix.Project.build_path(), "../bench/release") |> Path.expand()

    case System.cmd("mix", ["release", "--overwrite", "--quiet", "--path", directory],
           env: [{"MIX_ENV", "prod"}],
           stderr_to_stdout: true
         ) do
      {_text, 0} -> {:ok, directory}
      {text, _status} -> {:error, text |> String.trim() |> String.split("\n") |> List.last()}
    end
  end

  @doc "The start of `erl` alone, and then of one Python that imports what a worker imports."
  def floor do
    Machine.await_quiet()
    {:ok, python} = Pyre.Python.find(nil)
    erl_ms = Programs.time(erl(), ["-noshell", "-eval", "halt()."], :exit, @limit_ms)
    env = [{"PYTHONPATH", Pyre.Python.package_directory()}, {"PYTHONSAFEPATH", "1"}]
    python_ms = Programs.time(python, ["-s", "-u", "-c", @imports], :exit, @limit_ms, env)
    %{ms: erl_ms + python_ms, erl_ms: erl_ms, python_ms: python_ms}
  end

  defp erl, do: System.find_executable("erl")
  defp elixir_path(application), do: application |> :code.lib_dir(:ebin) |> to_string()
end
