defmodule Bench.Load do
  @moduledoc false

  # Callers that do the same again and again: many of them for a while, or one that is timed. Both begin when the machine is quiet.

  alias Bench.Machine

  @await_ms 120_000

  @doc """
  Lets `callers` processes run `body` with their number, over and over, for `window_ms`. What ended within that time is counted. `clocks`
  gives a map of clocks in µs that are read at both ends.
  """
  def run(callers, window_ms, body, clocks \\ fn -> %{} end) do
    Machine.await_quiet()
    stop = :atomics.new(1, [])
    counted = :counters.new(1, [:write_concurrency])

    tasks = for n <- 0..(callers - 1), do: Task.async(fn -> loop(n, body, stop, counted) end)
    before = Map.put(clocks.(), :wall, System.monotonic_time(:microsecond))
    already = :counters.get(counted, 1)
    Process.sleep(window_ms)
    count = :counters.get(counted, 1) - already
    later = Map.put(clocks.(), :wall, System.monotonic_time(:microsecond))
    :atomics.put(stop, 1, 1)
    Task.await_many(tasks, @await_ms)

    spent = Map.new(later, fn {clock, value} -> {clock, value - before[clock]} end)
    %{count: count, spent: spent, rate: count / spent.wall * 1.0e6}
  end

  defp loop(n, body, stop, counted) do
    if :atomics.get(stop, 1) == 0 do
      body.(n)
      :counters.add(counted, 1, 1)
      loop(n, body, stop, counted)
    end
  end

  @doc "The latencies of `count` times `body`, in µs, after a tenth of as many that warm up; at most for `limit_ms`."
  def latencies(count, body, limit_ms \\ 10_000) do
    Machine.await_quiet()
    for _warm <- 1..max(div(count, 10), 1), do: body.()
    until = System.monotonic_time(:millisecond) + limit_ms
    timed(count, body, until, [])
  end

  defp timed(0, _body, _until, latencies), do: latencies

  defp timed(count, body, until, latencies) do
    started = System.monotonic_time(:nanosecond)
    body.()
    latencies = [(System.monotonic_time(:nanosecond) - started) / 1_000 | latencies]

    if System.monotonic_time(:millisecond) < until,
      do: timed(count - 1, body, until, latencies),
      else: latencies
  end

  @doc "Runs `action` with each of `1..count`, by so many processes at once. The µs that it took."
  def each(count, at_once, action) do
    {us, _done} =
      :timer.tc(fn ->
        for first <- 1..min(at_once, count) do
          Task.async(fn -> Enum.each(first..count//at_once, action) end)
        end
        |> Task.await_many(:infinity)
      end)

    us
  end
end
