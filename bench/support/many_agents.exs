# One sample for bench/scale_bench.exs, in a BEAM of its own: starts so many agents, and tells what they weigh and how they answer.
Code.require_file("bench.exs", __DIR__)

defmodule Bench.ManyAgents do
  alias Bench.{Load, Machine, Programs, Settled, Stats}

  @instance Bench.ManyAgents.Instance
  @class "Counter"
  # The first ones make the tables and heaps that are there whatever the number of agents.
  @first 100
  @bulk 10_000
  @look_ups 200_000
  @calls_alone 3_000
  @callers 256
  @window_ms 2_000
  @hot 100
  @asked_after_kill 1_000
  @timeout_ms 60_000

  def run(count) do
    Logger.configure(level: :none)
    {:ok, _pid} = Pyre.start_link(name: @instance, agents: Bench.agents(), workers: 1)
    :ok = Pyre.await_ready(@instance, 30_000)
    Bench.await_spare(@instance)
    _us = start(1, @first)
    for n <- 1..@first, do: {:ok, 1} = add(n)
    base = pss(1..@first)
    spawn_us = start(@first + 1, count)
    idle = pss((@first + 1)..(@first + count))
    all = @first + count
    {hot_p50, hot_p99} = alone(fn -> :rand.uniform(min(@hot, all)) end)
    {any_p50, any_p99} = alone(fn -> :rand.uniform(all) end)

    {told, others} =
      Machine.with_others([System.pid(), Bench.interpreter(@instance)], fn ->
        %{hot_per_s: load(fn n -> rem(n, @hot) + 1 end), any_per_s: load(fn _n -> :rand.uniform(all) end)}
      end)

    told =
      Map.merge(told, %{
        agents: count,
        spawns_per_s: count / spawn_us * 1.0e6,
        idle_bytes: (idle - base) / count,
        total_mb: idle / 1.0e6,
        look_up_ns: look_up(all),
        hot_p50_us: hot_p50,
        hot_p99_us: hot_p99,
        any_p50_us: any_p50,
        any_p99_us: any_p99,
        cores_used_by_others: others
      })

    {first_ms, all_ms} = recover(all)
    # Nothing that was committed is lost: what the counters say is what the states hold.
    Programs.tell(Map.merge(told, %{recovered_first_ms: first_ms, recovered_all_ms: all_ms, kept: kept(all)}))
    System.halt(0)
  end

  defp id(n), do: "agent-#{n}"

  # In pieces: a list of all would be counted as the agents' memory.
  defp start(first, count) do
    {us, :ok} =
      :timer.tc(fn ->
        for piece <- Stream.chunk_every(first..(first + count - 1), @bulk) do
          started = Pyre.start_agents(@instance, for(n <- piece, do: {@class, id: id(n)}))
          true = Enum.all?(started, &match?({:ok, _id}, &1))
        end

        :ok
      end)

    us
  end

  defp pss(range) do
    {bytes, _parts} = Settled.pss(range, fn n -> Pyre.whereis(@instance, id(n)) end)
    bytes
  end

  defp add(n), do: Pyre.call(@instance, id(n), :add, %{n: 1}, timeout: @timeout_ms)

  defp alone(pick) do
    all = Load.latencies(@calls_alone, fn -> {:ok, _total} = add(pick.()) end)
    {Stats.median(all), Stats.percentile(all, 99)}
  end

  defp load(pick), do: Load.run(@callers, @window_ms, fn n -> {:ok, _total} = add(pick.(n)) end).rate

  defp look_up(all) do
    ids = for _n <- 1..1_000, do: id(:rand.uniform(all))

    {us, _done} =
      :timer.tc(fn ->
        for _round <- 1..div(@look_ups, 1_000), id <- ids, do: true = is_pid(Pyre.whereis(@instance, id))
      end)

    us * 1_000 / @look_ups
  end

  # Until the first answer, and until so many agents, taken at random, have answered.
  defp recover(all) do
    asked = for _n <- 1..@asked_after_kill, do: :rand.uniform(all)
    {_text, 0} = System.cmd("kill", ["-KILL", "#{Bench.interpreter(@instance)}"])
    began = System.monotonic_time(:microsecond)
    :ok = again(hd(asked))
    first_ms = (System.monotonic_time(:microsecond) - began) / 1_000
    Load.each(@asked_after_kill, 64, fn n -> :ok = again(Enum.at(asked, n - 1)) end)
    {first_ms, (System.monotonic_time(:microsecond) - began) / 1_000}
  end

  defp again(n) do
    case add(n) do
      {:ok, _total} -> :ok
      {:error, %Pyre.Error{kind: :worker_down}} -> again(n)
    end
  end

  defp kept(all) do
    sample = for n <- Enum.take_every(1..all, max(div(all, 10_000), 1)), do: id(n)

    Enum.all?(sample, fn id ->
      case Pyre.state(@instance, id) do
        {:ok, %{"total" => total}, revision} -> total == revision
        {:ok, _empty, 0} -> true
      end
    end)
  end
end

[count] = System.argv()
Bench.ManyAgents.run(String.to_integer(count))
