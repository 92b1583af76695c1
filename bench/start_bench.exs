# From the start of the virtual machine to the first reply, against what starting alone costs.
#
#     mix run bench/start_bench.exs [ROUNDS]
#
# The floor: `erl -noshell -eval "halt()."`, and then Python that imports what a worker imports. Each in processes of
# its own, ours and the floor in turns.
Code.require_file("support/bench.exs", __DIR__)

defmodule StartBench do
  alias Bench.{Programs, Report, Stats}

  @script Path.expand("support/first_reply.exs", __DIR__)
  @limit_ms 20_000
  @imports "import pyre._worker, msgpack, structlog, uvloop"

  @wanted_ratio 1.6

  def run(rounds) do
    # Once before, so that all of it is in the system's cache.
    for side <- [:ours, :floor], do: measure(side)
    report(Bench.alternate(rounds, &measure/1))
  end

  defp measure(:ours) do
    # As a release starts: erl, then Elixir's applications and ours, without Elixir's command line.
    paths =
      for path <- [elixir_path(:elixir), elixir_path(:logger) | Programs.code_paths()], do: ["-pa", path]

    run = "'Elixir.Code':eval_file(<<\"#{@script}\">>)"
    start = "{ok, _} = application:ensure_all_started(pyre), #{run}, halt()."

    %{
      ms:
        Programs.time(
          erl(),
          ["-noshell" | List.flatten(paths)] ++ ["-kernel", "logger_level", "warning", "-eval", start],
          :line,
          @limit_ms
        )
    }
  end

  defp measure(:floor) do
    {:ok, python} = Pyre.Python.find(nil)
    erl_ms = Programs.time(erl(), ["-noshell", "-eval", "halt()."], :exit, @limit_ms)
    env = [{"PYTHONPATH", Pyre.Python.package_directory()}, {"PYTHONSAFEPATH", "1"}]
    python_ms = Programs.time(python, ["-s", "-u", "-c", @imports], :exit, @limit_ms, env)
    %{ms: erl_ms + python_ms, erl_ms: erl_ms, python_ms: python_ms}
  end

  defp erl, do: System.find_executable("erl")
  defp elixir_path(application), do: application |> :code.lib_dir(:ebin) |> to_string()

  defp report(pairs) do
    figures = %{
      ours_ms: Stats.summary(for {ours, _floor} <- pairs, do: ours.ms),
      floor_ms: Stats.summary(for {_ours, floor} <- pairs, do: floor.ms),
      erl_ms: Stats.summary(for {_ours, floor} <- pairs, do: floor.erl_ms),
      python_ms: Stats.summary(for {_ours, floor} <- pairs, do: floor.python_ms),
      ratio: Stats.summary(for {ours, floor} <- pairs, do: ours.ms / floor.ms)
    }

    Report.write("start", "Start", figures, text(figures))
  end

  defp text(figures) do
    """
    `erl` starts Elixir, an instance with its defaults (one worker per core) and an agent, and calls it; the time ends with
    the reply. The floor is the start of `erl` alone and then of one Python that imports what a worker imports. Medians of
    #{length(figures.ratio.values)} rounds.

    #{Report.table(["", "median", "least", "most"], [row("to the first reply, ms", figures.ours_ms), row("floor, ms", figures.floor_ms), row("of it erl", figures.erl_ms), row("of it Python", figures.python_ms), row("ratio", figures.ratio)])}
    * wanted: at most #{@wanted_ratio} × the floor: #{Float.round(figures.ratio.median, 2)}, #{Report.verdict(figures.ratio.median <= @wanted_ratio)}
    """
  end

  defp row(text, summary), do: [text, summary.median, summary.min, summary.max]
end

rounds = System.argv() |> List.first("9") |> String.to_integer()
StartBench.run(rounds)
