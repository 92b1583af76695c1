# Streams: what a chunk costs, against a call of the same run, and how soon the first one is there.
#
#     mix run bench/stream_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule StreamBench do
  alias Bench.{Machine, Report, Stats}

  @instance StreamBench.Instance
  @agents 100
  @callers 256
  @streams [1, 100]
  @window_ms 1_500
  @warm_up_ms 1_000
  @firsts 2_000
  @timeout_ms 60_000
  # More than any reader takes within a window.
  @endless 1_000_000_000

  @wanted_ratio 1.0
  @wanted_first 1.3

  def run(rounds) do
    Logger.configure(level: :error)
    {name, ids} = Bench.start_counters(@instance, @agents, [])
    load(fn n -> callers(name, ids, n) end, @callers, @warm_up_ms)
    load(fn n -> readers(name, ids, n) end, @agents, @warm_up_ms)

    # Each round has both, so that whatever else the machine does meets both alike.
    load =
      for _round <- 1..rounds do
        calls = load(fn n -> callers(name, ids, n) end, @callers, @window_ms)
        chunks = for count <- @streams, do: load(fn n -> readers(name, ids, n) end, count, @window_ms)
        {calls, chunks}
      end

    pinned? = Enum.all?([Machine.pin(System.pid(), "0"), Machine.pin(Bench.interpreter(name), "1")])
    first = for _round <- 1..rounds, do: first(name, elem(ids, 0))
    Supervisor.stop(name)
    report(load, first, pinned?)
  end

  ## Throughput

  # What `worker.(n)` gives is called with what counts, until that says stop.
  defp load(worker, count, window_ms) do
    stop = :atomics.new(1, [])
    counted = :counters.new(1, [:write_concurrency])

    count_one = fn ->
      :counters.add(counted, 1, 1)
      :atomics.get(stop, 1) == 0
    end

    tasks = for n <- 0..(count - 1), do: Task.async(fn -> worker.(n).(count_one) end)
    began = System.monotonic_time(:microsecond)
    before = :counters.get(counted, 1)
    Process.sleep(window_ms)
    done = :counters.get(counted, 1) - before
    took = System.monotonic_time(:microsecond) - began
    :atomics.put(stop, 1, 1)
    Task.await_many(tasks, @timeout_ms)
    done / took * 1.0e6
  end

  defp callers(name, ids, n) do
    id = elem(ids, rem(n, @agents))
    fn go_on? -> call_on(name, id, go_on?) end
  end

  defp call_on(name, id, go_on?) do
    {:ok, _total} = Pyre.call(name, id, :add, %{n: 1}, timeout: @timeout_ms)
    if go_on?.(), do: call_on(name, id, go_on?)
  end

  defp readers(name, ids, n) do
    id = elem(ids, rem(n, @agents))

    fn go_on? ->
      name
      |> Pyre.stream(id, :count, %{up_to: @endless}, timeout: @timeout_ms)
      |> Enum.reduce_while(0, fn chunk, chunk ->
        if go_on?.(), do: {:cont, chunk + 1}, else: {:halt, chunk}
      end)
    end
  end

  ## The first chunk

  defp first(name, id) do
    for _warm <- 1..300, do: {timed_call(name, id), timed_first(name, id)}
    pairs = for _n <- 1..@firsts, do: {timed_call(name, id), timed_first(name, id)}
    {calls, firsts} = Enum.unzip(pairs)

    %{
      call: Stats.percentile(calls, 50),
      first: Stats.percentile(firsts, 50),
      first_p99: Stats.percentile(firsts, 99)
    }
  end

  defp timed_call(name, id), do: timed(fn -> {:ok, _total} = Pyre.call(name, id, :add, %{n: 1}) end)

  # From the call of `Pyre.stream` until the chunk is in the reader's hands. The stream has that one chunk, and is read to its end
  # before the next is opened.
  defp timed_first(name, id) do
    began = System.monotonic_time(:nanosecond)

    [at] =
      name
      |> Pyre.stream(id, :count, %{up_to: 1})
      |> Enum.map(fn 0 -> System.monotonic_time(:nanosecond) end)

    (at - began) / 1_000
  end

  defp timed(action) do
    began = System.monotonic_time(:nanosecond)
    action.()
    (System.monotonic_time(:nanosecond) - began) / 1_000
  end

  ## Report

  defp report(load, first, pinned?) do
    calls = Stats.summary(for {calls, _chunks} <- load, do: calls)

    rows =
      for {count, at} <- Enum.with_index(@streams) do
        pairs = for {calls, chunks} <- load, do: {calls, Enum.at(chunks, at)}

        %{
          streams: count,
          chunks_per_s: Stats.summary(for {_calls, chunks} <- pairs, do: chunks),
          ratio: Stats.summary(for {calls, chunks} <- pairs, do: chunks / calls)
        }
      end

    first = %{
      call_p50_us: Stats.summary(for sample <- first, do: sample.call),
      first_p50_us: Stats.summary(for sample <- first, do: sample.first),
      first_p99_us: Stats.summary(for sample <- first, do: sample.first_p99),
      ratio: Stats.summary(for sample <- first, do: sample.first / sample.call)
    }

    figures = %{calls_per_s: calls, load: rows, first: first}
    Report.write("stream", "Streams", figures, text(calls, rows, first, pinned?))
  end

  defp text(calls, rows, first, pinned?) do
    most = Enum.max_by(rows, & &1.streams)

    """
    One worker, medians of #{length(calls.values)} rounds, calls and chunks in turns. Calls: #{@callers} callers, #{@agents} agents, each changes the
    agent's state and commits it. Chunks: one integer each, from async generators, each stream of an agent of its own, with a reader
    that takes a chunk as soon as it is there.

    #{Report.table(["streams at once", "chunks/s", "calls/s of the same run", "ratio"], Enum.map(rows, &[&1.streams, round(&1.chunks_per_s.median), round(calls.median), &1.ratio.median]))}
    One reader, a call and a stream of one chunk in turns#{if pinned?, do: ", the BEAM on core 0, the interpreter on core 1", else: ", no core pinned"}:

    #{Report.table(["call p50, µs", "first chunk p50, µs", "p99", "ratio"], [[first.call_p50_us.median, first.first_p50_us.median, first.first_p99_us.median, first.ratio.median]])}
    * wanted: as many chunks as calls, of #{most.streams} streams: #{Float.round(most.ratio.median, 2)} ×, #{Report.verdict(most.ratio.median >= @wanted_ratio)}
    * wanted: the first chunk within #{@wanted_first} × the p50 of a call: #{Float.round(first.ratio.median, 2)} ×, #{Report.verdict(first.ratio.median <= @wanted_first)}
    """
  end
end

rounds = System.argv() |> List.first("5") |> String.to_integer()
StreamBench.run(rounds)
