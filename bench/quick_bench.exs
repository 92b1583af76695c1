# A quick look for regressions: our speed as a share of the floor's, against a baseline. Fails where it is less than half as good.
#
#     mix run bench/quick_bench.exs [--baseline FILE] [--rounds N] [--window MS] [--write]
#
# Writes no results. `--write` makes what was measured the baseline: on a quiet machine only.
Code.require_file("support/bench.exs", __DIR__)

defmodule QuickBench do
  alias Bench.{Guard, Load, Stats}

  @baseline Path.expand("baseline.exs", __DIR__)
  @agents 100
  @calls_alone 1_500
  @timeout_ms 60_000

  def run(argv) do
    {opts, []} =
      OptionParser.parse!(argv,
        strict: [baseline: :string, rounds: :integer, window: :integer, write: :boolean]
      )

    Logger.configure(level: :error)
    ours = Bench.start_counters(QuickBench.Ours, @agents, [])

    case Bench.start_floor(QuickBench.Floor, @agents) do
      {nil, why} ->
        IO.puts(:stderr, why)
        System.halt(1)

      {floor, path} ->
        measured = measure(%{ours: ours, floor: floor}, opts[:rounds] || 5, opts[:window] || 800)
        File.rm(path)
        finish(measured, opts)
    end
  end

  defp measure(subjects, rounds, window_ms) do
    for subject <- Map.values(subjects), do: load(subject, 256, window_ms)

    for {name, speed} <- speeds(window_ms), into: %{} do
      pairs = Bench.alternate(rounds, fn side -> speed.(subjects[side]) end)
      {name, Stats.median(for {ours, floor} <- pairs, do: ours / floor)}
    end
  end

  # Each gives something of which more is better.
  defp speeds(window_ms) do
    [
      calls_64: &load(&1, 64, window_ms),
      calls_256: &load(&1, 256, window_ms),
      alone: fn subject -> 1 / alone(subject, @calls_alone, :add, %{n: 1}) end,
      echo_4k: fn subject ->
        1 / alone(subject, @calls_alone, :echo, %{data: String.duplicate("x", 4_096)})
      end,
      echo_1m: fn subject -> 1 / alone(subject, 50, :echo, %{data: String.duplicate("x", 1_000_000)}) end
    ]
  end

  defp load({name, ids}, callers, window_ms),
    do: Load.run(callers, window_ms, fn n -> call(name, elem(ids, rem(n, @agents)), :add, %{n: 1}) end).rate

  defp alone({name, ids}, count, handler, args),
    do: Load.latencies(count, fn -> call(name, elem(ids, 0), handler, args) end, 3_000) |> Stats.median()

  defp call(name, id, handler, args),
    do: {:ok, _reply} = Pyre.call(name, id, handler, args, timeout: @timeout_ms)

  defp finish(measured, opts) do
    if opts[:write], do: write(measured)
    {baseline, _bindings} = Code.eval_file(opts[:baseline] || @baseline)
    rows = Guard.compare(measured, baseline)

    IO.puts(
      "Our speed as a share of the floor's in the same run (bench/floor/echo.c); more is better:\n" <>
        Guard.text(rows)
    )

    unless Enum.all?(rows, &elem(&1, 4)) do
      IO.puts(:stderr, "slower than the baseline by more than #{Guard.tolerance()} ×")
      System.halt(1)
    end
  end

  defp write(measured) do
    [head | _old] = @baseline |> File.read!() |> String.split("%{")
    rounded = for {name, ratio} <- Enum.sort(measured), do: "#{name}: #{Float.round(ratio, 2)}"
    File.write!(@baseline, "#{head}%{#{Enum.join(rounded, ", ")}}\n")
  end
end

QuickBench.run(System.argv())
