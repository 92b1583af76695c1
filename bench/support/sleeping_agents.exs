# One sample for bench/sleep_bench.exs, in a BEAM of its own: starts agents, gives each a state, has all fall asleep, and tells what they
# weigh; then what a first call costs that finds its agent asleep, and how many can be woken in a second.
Code.require_file("bench.exs", __DIR__)

defmodule Bench.SleepingAgents do
  alias Bench.{Machine, Programs, Stats}

  @instance Bench.SleepingAgents.Instance
  @first 100
  # With the field's name and MessagePack's heads, 40 bytes.
  @note String.duplicate("n", 32)
  @idle_timeout_ms 1_000
  # No more awake at a time: a BEAM has room for 262,144 processes, and keeps some of the memory that they had.
  @batch 25_000
  @at_once 64
  @limit_ms 300_000
  @calls 2_000
  @woken 5_000
  @looks 4
  @noise_bytes 1_000_000

  def run(count) do
    Logger.configure(level: :error)
    opts = [name: @instance, agents: Bench.agents(), max_activations: 200_000]
    {:ok, _pid} = Pyre.start_link([idle_timeout: @idle_timeout_ms] ++ opts)
    :ok = Pyre.await_ready(@instance, 30_000)

    # The first ones load the code and make the tables and heaps that are there whatever the number of agents.
    fill(1, @first)
    each(1..@first, &call/1)
    empty = settled(@first)

    {us, :ok} = :timer.tc(fn -> fill(@first + 1, @first + count) end)
    full = settled(@first + count)
    ids = for _n <- 1..@calls, do: id(@first + :rand.uniform(count))
    asleep_us = Enum.map(ids, &call_us/1)
    awake_us = ids |> Enum.uniq() |> Enum.map(&call_us/1)
    range = (@first + 1)..(@first + min(@woken, count))
    await_sleep(@first + count)
    woken_per_s = rate(range, Enum.count(range))
    awake_per_s = rate(range, 0)
    ^count = Enum.count((@first + 1)..(@first + count), &note?/1)
    %{counters: %{restarts: 0}} = Pyre.info(@instance)
    Supervisor.stop(@instance)

    Programs.tell(%{
      asleep_bytes: round((full.pss - empty.pss) / count),
      parts: parts(empty, full, count),
      filled_per_s: round(count / us * 1.0e6),
      asleep_us: percentiles(asleep_us),
      awake_us: percentiles(awake_us),
      woken_per_s: woken_per_s,
      awake_per_s: awake_per_s
    })
  end

  # No more awake at a time than there is room for.
  defp fill(from, to) when from > to, do: :ok

  defp fill(from, to) do
    batch = from..min(from + @batch - 1, to)
    each(batch, fn id -> {:ok, ^id} = Pyre.start_agent(@instance, "Keeper", id: id) end)
    each(batch, fn id -> {:ok, 1} = Pyre.put_state(@instance, id, %{note: @note}) end)
    await_sleep(batch.last)
    fill(from + @batch, to)
  end

  # Calls each once; as many agents as were asleep must have been woken for it.
  defp rate(range, asleep) do
    %{counters: %{wakes: before}} = Pyre.info(@instance)
    {us, :ok} = :timer.tc(fn -> each(range, &call/1) end)
    %{counters: %{wakes: now}} = Pyre.info(@instance)
    true = now - before >= asleep
    round(Enum.count(range) / us * 1.0e6)
  end

  # Made anew where it is needed: a list of all ids would be counted as the agents' memory.
  defp id(n), do: "agent-#{n |> Integer.to_string() |> String.pad_leading(7, "0")}"

  defp each(first..last, action) do
    for offset <- 0..(@at_once - 1) do
      Task.async(fn -> walk(first + offset, last, action) end)
    end
    |> Task.await_many(:infinity)

    :ok
  end

  defp walk(n, last, _action) when n > last, do: :ok

  defp walk(n, last, action) do
    action.(id(n))
    walk(n + @at_once, last, action)
  end

  defp call(id), do: {:ok, 32} = Pyre.call(@instance, id, :size, %{}, timeout: 60_000)

  defp call_us(id) do
    {us, {:ok, 32}} = :timer.tc(fn -> call(id) end)
    us
  end

  defp note?(n), do: match?({:ok, %{"note" => @note}, 1}, Pyre.state(@instance, id(n)))

  # By what is counted: looking at all addresses takes longer than it may here.
  defp await_sleep(count, limit \\ System.monotonic_time(:millisecond) + @limit_ms) do
    %{sleeps: sleeps, wakes: wakes} = @instance |> Pyre.Instance.fetch!() |> Pyre.Instance.counters()

    cond do
      sleeps - wakes == count ->
        :ok

      System.monotonic_time(:millisecond) > limit ->
        raise "#{count - sleeps + wakes} agents did not fall asleep"

      true ->
        Process.sleep(50) && await_sleep(count, limit)
    end
  end

  # The BEAM gives freed memory back one piece a second, so it is looked at until it no longer falls.
  defp settled(count) do
    await_sleep(count)
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    {bytes, _parts} = lowest_pss(Machine.pss(System.pid()), @looks)
    %{pss: bytes, memory: Map.new(:erlang.memory()), tables: tables()}
  end

  defp lowest_pss(lowest, 0), do: lowest

  defp lowest_pss({lowest_bytes, _parts} = lowest, looks) do
    Process.sleep(1_000)
    {bytes, _parts} = now = Machine.pss(System.pid())
    if bytes < lowest_bytes - @noise_bytes, do: lowest_pss(now, @looks), else: lowest_pss(lowest, looks - 1)
  end

  defp tables do
    for {key, tid} <- @instance |> Pyre.Instance.fetch!() |> Map.from_struct(),
        is_reference(tid),
        into: %{} do
      words =
        try do
          :ets.info(tid, :memory)
        rescue
          ArgumentError -> 0
        end

      {key, if(is_integer(words), do: words * :erlang.system_info(:wordsize), else: 0)}
    end
  end

  defp parts(empty, full, count) do
    own =
      for key <- [:processes, :ets, :binary, :total],
          do: {"BEAM's own count of #{key}", round((full.memory[key] - empty.memory[key]) / count)}

    tables = for {key, bytes} <- full.tables, do: {"table #{key}", round((bytes - empty.tables[key]) / count)}

    for {part, bytes} <- own ++ tables, bytes != 0, into: %{}, do: {part, bytes}
  end

  defp percentiles(values), do: %{p50: Stats.percentile(values, 50), p99: Stats.percentile(values, 99)}
end

[count] = System.argv()
Bench.SleepingAgents.run(String.to_integer(count))
