# From the start of the virtual machine to the first reply, against what starting alone costs.
#
#     mix run bench/start_bench.exs [ROUNDS]
#
# The floor: `erl -noshell -eval "halt()."`, and then Python that imports what a worker imports. Each in processes of
# its own, ours and the floor in turns.
Code.require_file("support/bench.exs", __DIR__)

defmodule StartBench do
  alias Bench.{Report, Start, Stats}

  @wanted_ratio 1.6
  @wanted_release_ratio 1.4

  def run(rounds) do
    release = Start.release()
    # Once before, so that all of it is in the system's cache.
    measure(release)
    report(for(_round <- 1..rounds, do: measure(release)), release)
  end

  defp measure(release) do
    ours_ms = Start.first_reply()
    released_ms = with {:ok, directory} <- release, do: Start.first_reply_of_release(directory)
    Map.merge(Start.floor(), %{ours_ms: ours_ms, released_ms: if(is_float(released_ms), do: released_ms)})
  end

  defp report(rounds, release) do
    figures = %{
      ours_ms: Stats.summary(Enum.map(rounds, & &1.ours_ms)),
      floor_ms: Stats.summary(Enum.map(rounds, & &1.ms)),
      erl_ms: Stats.summary(Enum.map(rounds, & &1.erl_ms)),
      python_ms: Stats.summary(Enum.map(rounds, & &1.python_ms)),
      ratio: Stats.summary(for round <- rounds, do: round.ours_ms / round.ms),
      released_ms: summary(for %{released_ms: ms} when ms != nil <- rounds, do: ms),
      released_ratio: summary(for %{released_ms: ms} = round when ms != nil <- rounds, do: ms / round.ms)
    }

    Report.write("start", "Start", figures, text(figures, release))
  end

  defp summary([]), do: nil
  defp summary(values), do: Stats.summary(values)

  defp text(figures, release) do
    """
    An instance with its defaults (one worker per core) and an agent are started, and the agent is called; the time ends with the first reply, when other interpreters may still be starting. *Interactive*: `erl` starts
    Elixir's applications and ours from their files. *Release*: `bin/pyre start` of `mix release`, its shell script included, with its defaults. The floor is the start of `erl` alone and
    then of one Python that imports what a worker imports. Medians of #{length(figures.ratio.values)} rounds, all in turns.

    #{Report.table(["", "median", "least", "most"], rows(figures))}
    #{Report.wanted("interactive at most #{@wanted_ratio} × the floor", figures.ratio.median, figures.ratio.median <= @wanted_ratio)}
    #{released(figures, release)}
    """
  end

  defp rows(figures) do
    for {text, summary} <- [
          {"interactive, to the first reply, ms", figures.ours_ms},
          {"release, to the first reply, ms", figures.released_ms},
          {"floor, ms", figures.floor_ms},
          {"of it erl", figures.erl_ms},
          {"of it Python", figures.python_ms},
          {"ratio, interactive", figures.ratio},
          {"ratio, release", figures.released_ratio}
        ],
        summary,
        do: row(text, summary)
  end

  defp released(%{released_ratio: %{median: ratio}}, _release),
    do:
      Report.wanted(
        "a release at most #{@wanted_release_ratio} × the floor",
        ratio,
        ratio <= @wanted_release_ratio
      )

  defp released(_figures, {:error, reason}), do: "There is no release to measure: #{reason}."

  defp row(text, summary), do: [text, summary.median, summary.min, summary.max]
end

rounds = System.argv() |> List.first("7") |> String.to_integer()
StartBench.run(rounds)
