# What one bad agent costs the others: on its own worker, and on another.
#
#     mix run bench/fairness_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule FairnessBench do
  alias Bench.{Report, Stats}

  @neighbours 99
  @callers 4
  @pause_ms 2
  @window_ms 5_000
  # The trouble begins so long after the load.
  @begin_ms 1_000
  @stall_ms 1_000
  @wanted_extra_ms 300
  @wanted_share 0.2
  # So long a bad caller waits for its answer.
  @patience_ms 1_500
  @timeout_ms 60_000
  @asyncio Path.expand("support/asyncio_actors.py", __DIR__)
  @scenarios [:none, :outside, :spin_on_loop, :sleep_on_loop, :spin_in_thread, :sleep_in_thread]

  def run(rounds) do
    Logger.configure(level: :none)

    told =
      for _round <- 1..rounds, scenario <- @scenarios do
        {scenario, scenario(scenario)}
      end
      |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

    report(told, for(_round <- 1..rounds, do: asyncio()))
  end

  defp scenario(scenario) do
    name = :"#{__MODULE__}#{System.unique_integer([:positive])}"
    opts = [name: name, agents: Bench.troubled(), workers: 2, stall_timeout: @stall_ms, max_mailbox: 100_000]
    {:ok, supervisor} = Pyre.start_link(opts)
    Process.unlink(supervisor)
    :ok = Pyre.await_ready(name, 60_000)
    {:ok, "bad"} = Pyre.start_agent(name, "Holder", id: "bad")
    {:ok, nil} = Pyre.call(name, "bad", :wait, %{seconds: 0})
    ids = for n <- 1..@neighbours, do: elem({:ok, _id} = Pyre.start_agent(name, "Crasher", id: "n#{n}"), 1)
    for id <- ids, do: {:ok, 1} = Pyre.call(name, id, :add)
    until(fn -> Enum.any?(Pyre.workers(name), &match?(%{role: :spare, status: :ready}, &1)) end)

    bad = worker(name, "bad")
    neighbours = List.to_tuple(for id <- ids, do: {id, if(worker(name, id) == bad, do: :same, else: :other)})
    trouble = Task.async(fn -> trouble(scenario, name) end)
    until_ms = now() + @window_ms
    latencies = load(name, neighbours, until_ms)
    _ended = Task.await(trouble, :infinity)
    Supervisor.stop(name)
    Map.new([:same, :other], fn side -> {side, for({^side, ms} <- latencies, do: ms)} end)
  end

  defp worker(name, id) do
    {:ok, %{worker: no}} = Pyre.info(name, id)
    no
  end

  defp trouble(:none, _name), do: :ok

  # The same processor time, taken by a program that has nothing to do with us, for as long as ours may take it.
  defp trouble(:outside, _name) do
    Process.sleep(@begin_ms)
    {:ok, python} = Pyre.Python.find(nil)
    seconds = Float.to_string((@stall_ms + 100) / 1_000)
    System.cmd("timeout", [seconds, python, "-c", "while True: pass"])
  end

  defp trouble(handler, name) do
    Process.sleep(@begin_ms)
    Pyre.call(name, "bad", handler, %{}, timeout: @patience_ms)
  end

  defp load(name, neighbours, until_ms) do
    for _caller <- 1..@callers do
      Task.async(fn -> call(name, neighbours, until_ms, []) end)
    end
    |> Task.await_many(:infinity)
    |> List.flatten()
  end

  defp call(name, neighbours, until_ms, latencies) do
    if now() >= until_ms do
      latencies
    else
      {id, side} = elem(neighbours, :rand.uniform(tuple_size(neighbours)) - 1)
      {us, :ok} = :timer.tc(fn -> add(name, id) end)
      Process.sleep(@pause_ms)
      call(name, neighbours, until_ms, [{side, us / 1_000} | latencies])
    end
  end

  defp add(name, id) do
    case Pyre.call(name, id, :add, %{}, timeout: @timeout_ms) do
      {:ok, _total} -> :ok
      # It had begun on the worker that was replaced: it asks again, and the time runs on.
      {:error, %Pyre.Error{kind: :worker_down}} -> add(name, id)
    end
  end

  defp asyncio do
    {:ok, python} = Pyre.Python.find(nil)
    # For as long as the window lasts; it has nobody who would end it.
    blocked = (@window_ms - @begin_ms) / 1_000
    {text, 0} = System.cmd(python, [@asyncio, "#{@window_ms / 1_000}", "#{blocked}"])

    [p50, p99, max] =
      for key <- ["p50_ms", "p99_ms", "max_ms"] do
        [_all, figure] = Regex.run(~r/"#{key}": ([0-9.e-]+)/, text)
        figure |> Float.parse() |> elem(0)
      end

    %{p50: p50, p99: p99, max: max}
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp until(done?) do
    unless done?.() do
      Process.sleep(5)
      until(done?)
    end
  end

  ## The report

  defp report(told, asyncio) do
    rows =
      for scenario <- @scenarios, side <- [:same, :other] do
        {scenario, side, told[scenario] |> Enum.map(&of(&1[side])) |> medians()}
      end

    figures = %{
      rows: for({scenario, side, row} <- rows, do: Map.merge(row, %{scenario: scenario, side: side})),
      asyncio: medians(asyncio)
    }

    Report.write("fairness", "Fairness", figures, text(rows, medians(asyncio)))
  end

  defp of(latencies),
    do: %{
      p50: Stats.median(latencies),
      p99: Stats.percentile(latencies, 99),
      max: Enum.max(latencies),
      # Calls that were held up by a stall, of each caller at most one.
      held: Enum.count(latencies, &(&1 >= @stall_ms / 2))
    }

  defp medians(list) do
    for key <- Map.keys(hd(list)),
        into: %{},
        do: {key, list |> Enum.map(&Map.fetch!(&1, key)) |> Stats.median()}
  end

  defp text(rows, asyncio) do
    outside = find(rows, :outside, :other)
    spun = find(rows, :spin_on_loop, :other)
    ratio = spun.p50 / outside.p50
    worst = for {scenario, :same, row} <- rows, scenario in [:spin_on_loop, :sleep_on_loop], do: row.max
    limit = @stall_ms + @wanted_extra_ms

    """
    One bad agent among #{@neighbours}, two workers. #{@callers} callers call neighbours at random, with a pause of #{@pause_ms} ms; after #{@begin_ms} ms of
    #{@window_ms} the trouble begins. *outside* is a Python that spins beside Pyre for as long as Pyre lets one spin. Latencies in ms, medians of the rounds.
    *held up* counts calls of more than #{div(@stall_ms, 2)} ms.

    #{Report.table(["trouble", "neighbours on", "p50", "p99", "max", "held up"], for {scenario, side, row} <- rows do
      [scenario, if(side == :same, do: "its worker", else: "the other"), row.p50, row.p99, row.max, row.held]
    end)}
    Plain asyncio, the same load, one task that sleeps on the loop: p50 #{round2(asyncio.p50)}, p99 #{round2(asyncio.p99)}, max #{round2(asyncio.max)} ms: as long as it sleeps.

    * wanted: neighbours on the other worker as with the spinner outside, ± #{round(@wanted_share * 100)} % at p50: × #{round2(ratio)}, #{Report.verdict(abs(ratio - 1) <= @wanted_share)}
    * wanted: neighbours on its worker held up once, for at most #{limit} ms: #{round2(Enum.max(worst))}, #{Report.verdict(Enum.max(worst) <= limit)}
    """
  end

  defp find(rows, scenario, side),
    do: Enum.find_value(rows, fn {s, d, row} -> s == scenario and d == side && row end)

  defp round2(value), do: Float.round(value * 1.0, 2)
end

rounds = System.argv() |> List.first("3") |> String.to_integer()
FairnessBench.run(rounds)
