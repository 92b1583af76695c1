# Payloads: what a call costs whose argument and reply grow, against the floor over the same pipes.
#
#     mix run bench/payloads_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule PayloadsBench do
  alias Bench.{Load, Machine, Report, Stats}

  @sizes [64, 512, 4_096, 65_536, 262_144, 1_000_000, 4_194_304, 16_776_192]
  # Arguments and reply may have so many bytes each, heads included.
  @limit 16 * 1_024 * 1_024
  @most_calls 1_000
  @bytes_a_round 60_000_000
  @timeout_ms 60_000
  @at_1_mb 1_000_000
  @wanted_ratio 0.6

  def run(rounds) do
    Logger.configure(level: :error)
    ours = Bench.start_counters(PayloadsBench.Ours, 1, [])
    {floor, told} = Bench.start_floor(PayloadsBench.Floor, 1)
    subjects = %{ours: ours, floor: floor}

    try do
      pids = [System.pid() | for({name, _ids} <- Map.values(subjects), do: Bench.interpreter(name))]

      {rows, others} =
        Machine.with_others(pids, fn -> for size <- @sizes, do: row(size, rounds, subjects) end)

      {name, _ids} = ours
      {:error, %Pyre.Error{kind: :too_large}} = call(name, String.duplicate("x", @limit))
      report(rows, others, if(floor, do: nil, else: told))
    after
      for {name, _ids} <- Map.values(subjects), do: Supervisor.stop(name)
      if floor, do: File.rm(told)
    end
  end

  defp row(size, rounds, subjects) do
    data = String.duplicate("x", size)
    count = @bytes_a_round |> div(size) |> min(@most_calls) |> max(5)

    pairs =
      Bench.alternate(rounds, fn side ->
        with {name, _ids} <- subjects[side] do
          all = Load.latencies(count, fn -> {:ok, ^data} = call(name, data) end)
          %{p50: Stats.median(all), p99: Stats.percentile(all, 99)}
        end
      end)

    ours = Stats.summary(for {ours, _floor} <- pairs, do: ours.p50)

    %{
      bytes: size,
      p50_us: ours,
      p99_us: Stats.summary(for {ours, _floor} <- pairs, do: ours.p99),
      mb_per_s: 2 * size / ours.median,
      floor_p50_us: summary(for {_ours, floor} when floor != nil <- pairs, do: floor.p50),
      ratio: summary(for {ours, floor} when floor != nil <- pairs, do: floor.p50 / ours.p50)
    }
  end

  defp call(name, data), do: Pyre.call(name, "counter-1", :echo, %{data: data}, timeout: @timeout_ms)

  defp summary([]), do: nil
  defp summary(values), do: Stats.summary(values)

  defp report(rows, others, note) do
    text = """
    #{note || "The floor is `bench/floor/echo.c` behind the same Elixir path, over pipes of the same size."} One worker, one caller, a handler that gives
    back the text that it got; medians of #{length(hd(rows).p50_us.values)} rounds, ours and the floor in turns. MB/s are of argument and reply together. Arguments and
    reply may have 16 MiB each; one byte more was answered `too_large`. Other programs kept #{Float.round(others, 2)} cores busy.

    #{Report.table(["bytes", "p50, µs", "p99", "MB/s", "floor p50, µs", "of the floor's speed"], Enum.map(rows, &cells/1))}
    #{wanted(Enum.find(rows, &(&1.bytes == @at_1_mb)))}
    """

    Report.write("payloads", "Payloads", %{rows: rows, cores_used_by_others: others}, text)
  end

  defp cells(row) do
    [
      row.bytes,
      row.p50_us.median,
      row.p99_us.median,
      row.mb_per_s,
      row.floor_p50_us && row.floor_p50_us.median,
      row.ratio && row.ratio.median
    ]
  end

  defp wanted(%{ratio: nil}), do: ""

  defp wanted(%{ratio: %{median: ratio}}) do
    "* wanted: an echo of 1 MB at #{@wanted_ratio} × the floor's speed at least: " <>
      "#{Float.round(ratio, 2)}, #{Report.verdict(ratio >= @wanted_ratio)}"
  end
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
PayloadsBench.run(rounds)
