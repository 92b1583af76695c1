defmodule Bench.Timeline do
  @moduledoc false

  # How many calls are answered in each moment, while something happens to the interpreter.

  @callers 16
  @bucket_ms 20
  @timeout_ms 60_000

  @doc """
  Calls the agents for `window_ms`, lets `event` happen after `at_ms`, and gives the answers in each 20 ms: `%{bucket_ms: 20, at_ms: at_ms,
  answers: [integer]}`.
  """
  def run(name, ids, window_ms, at_ms, event) do
    Bench.Machine.await_quiet()
    answers = :counters.new(div(window_ms, @bucket_ms), [])
    began = System.monotonic_time(:millisecond)
    callers = for n <- 1..@callers, do: Task.async(fn -> loop(name, ids, n, answers, began, window_ms) end)
    Process.sleep(at_ms)
    event.()
    Task.await_many(callers, :infinity)
    buckets = for n <- 1..div(window_ms, @bucket_ms), do: :counters.get(answers, n)
    %{bucket_ms: @bucket_ms, at_ms: at_ms, callers: @callers, answers: buckets}
  end

  defp loop(name, ids, n, answers, began, window_ms) do
    told = Pyre.call(name, elem(ids, rem(n, tuple_size(ids))), :add, %{n: 1}, timeout: @timeout_ms)
    at_ms = System.monotonic_time(:millisecond) - began

    if at_ms < window_ms do
      # One that had begun is not run again by itself; its caller asks again.
      with {:ok, _total} <- told, do: :counters.add(answers, div(at_ms, @bucket_ms) + 1, 1)
      loop(name, ids, n + @callers, answers, began, window_ms)
    end
  end
end
