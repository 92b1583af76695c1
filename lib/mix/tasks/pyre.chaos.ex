defmodule Mix.Tasks.Pyre.Chaos do
  @shortdoc "Kills, stops and floods interpreters under load, and checks that nothing is lost"

  @moduledoc """
  Kills, stops, freezes and floods interpreters and processes at random under load, and holds a ledger against what the agents have
  written down: no acknowledged commit lost, no accepted cast lost, reordered or run again after its commit, no timer lost, every call
  answered once and in time, no process of the operating system left.

      mix pyre.chaos [--seconds N] [--workers N] [--agents N] [--senders N] [--pause MS] [--seed N] [--python PATH]

  Prints a report; the exit status is 1 where something was violated.

    * `--seconds` - how long the trouble lasts; 60 by default
    * `--workers` - how many interpreters; 2 by default
    * `--agents` - how many agents; 40 by default
    * `--senders` - how many processes send to them; 16 by default
    * `--pause` - ms between two troubles, on average; 150 by default
    * `--seed` - repeats the schedule of an earlier run
    * `--python` - the interpreter to start
  """

  use Mix.Task

  alias Pyre.Chaos

  @switches [
    seconds: :integer,
    workers: :integer,
    agents: :integer,
    senders: :integer,
    pause: :integer,
    seed: :integer,
    python: :string,
    help: :boolean
  ]

  @impl Mix.Task
  def run(argv) do
    {opts, rest, invalid} = OptionParser.parse(argv, strict: @switches, aliases: [h: :help])

    cond do
      opts[:help] ->
        Mix.shell().info(@moduledoc)

      invalid != [] ->
        Mix.raise("unknown or wrong option #{invalid |> hd() |> elem(0)}; see mix help pyre.chaos")

      rest != [] ->
        Mix.raise("unexpected argument #{inspect(hd(rest))}; see mix help pyre.chaos")

      true ->
        soak(opts)
    end
  end

  defp soak(opts) do
    Mix.Task.run("app.start")
    # What is logged under such a load tells nobody anything.
    Logger.configure(level: :none)
    options = Map.merge(Chaos.defaults(), renamed(opts))
    for {key, value} <- options, is_integer(value) and value < 1, do: Mix.raise("--#{key} must be at least 1")

    Mix.shell().info(
      "#{options.seconds} s, #{options.workers} workers, #{options.agents} agents, seed #{options.seed}"
    )

    report = Chaos.run(options)
    Mix.shell().info(text(report))
    if report.violations != [], do: exit({:shutdown, 1})
  end

  defp renamed(opts) do
    for {key, value} <- opts, into: %{}, do: {if(key == :pause, do: :pause_ms, else: key), value}
  end

  @doc false
  @spec text(Chaos.report()) :: String.t()
  def text(%{acts: acts, load: load, counters: counters} = report) do
    """
    #{section("trouble", acts)}
    #{section("what senders were told", load.outcomes)}
    calls: #{load.calls}, answered within #{ms(load.p50_us)} (p50), #{ms(load.p99_us)} (p99), #{ms(load.max_us)} (longest)
    restarts of agents: #{counters.restarts}, fell asleep: #{counters.sleeps}, interpreters lost: #{counters.worker_deaths}, replaced by drain: #{counters.worker_recycles}, messages sent again: #{counters.resent}
    most memory of the BEAM: #{div(report.memory_bytes, 1_048_576)} MB

    #{verdict(report.violations, report.options.seed)}\
    """
  end

  defp section(title, counts) do
    lines =
      for {what, count} <- Enum.sort_by(counts, &elem(&1, 1), :desc),
          do: "  #{String.pad_leading("#{count}", 7)}  #{label(what)}"

    Enum.join(["#{title}:" | lines], "\n") <> "\n"
  end

  defp label({what, kind}), do: "#{what} #{kind}"
  defp label(what), do: "#{what}"

  defp ms(us), do: "#{Float.round(us / 1_000, 1)} ms"

  defp verdict([], _seed), do: "nothing was lost"

  defp verdict(violations, seed),
    do: "#{length(violations)} VIOLATIONS (seed #{seed}):\n" <> Enum.map_join(violations, "\n", &"  #{&1}")
end
