# One sample for bench/memory_bench.exs, in a BEAM of its own: starts agents, gives each a state, waits until all are
# idle, and tells what they weigh; then calls each once and tells what the activations weigh.
Code.require_file("bench.exs", __DIR__)

defmodule Bench.IdleAgents do
  alias Bench.{Programs, Settled}

  @instance Bench.IdleAgents.Instance
  @first 100
  # With the field's name and MessagePack's heads, 40 bytes.
  @note String.duplicate("n", 32)
  @at_once 64

  def run(count) do
    Logger.configure(level: :error)
    {:ok, _pid} = Pyre.start_link(name: @instance, agents: Bench.agents(), max_activations: 2 * count)
    :ok = Pyre.await_ready(@instance, 30_000)

    # The first ones load the code and make the tables and heaps that are there whatever the number of agents.
    first = 1..@first
    start(first)
    each(first, &put_note/1)
    each(first, &call/1)
    empty = settled(first)

    agents = (@first + 1)..(@first + count)
    spawn_us = start(agents)
    each(agents, &put_note/1)
    idle = settled(agents)
    each(agents, &call/1)
    active = settled(agents)
    ^count = Enum.count(agents, &note?/1)
    Supervisor.stop(@instance)

    Programs.tell(%{
      spawns_per_s: round(count / spawn_us * 1.0e6),
      idle_bytes: per_agent(empty.pss, idle.pss, count),
      activation_bytes: per_agent(idle.pss, active.pss, count),
      parts: parts(empty, idle, active, count)
    })
  end

  # Made anew where it is needed: a list of all ids would be counted as the agents' memory.
  defp id(n), do: "agent-#{n |> Integer.to_string() |> String.pad_leading(6, "0")}"

  defp start(range) do
    {us, :ok} = :timer.tc(fn -> Enum.each(range, &start_one(id(&1))) end)
    us
  end

  defp start_one(id), do: {:ok, ^id} = Pyre.start_agent(@instance, "Keeper", id: id)

  defp each(first..last, action) do
    for offset <- 0..(@at_once - 1) do
      Task.async(fn -> walk(first + offset, last, action) end)
    end
    |> Task.await_many(:infinity)
  end

  defp walk(n, last, _action) when n > last, do: :ok

  defp walk(n, last, action) do
    action.(id(n))
    walk(n + @at_once, last, action)
  end

  defp put_note(id), do: {:ok, 1} = Pyre.put_state(@instance, id, %{note: @note})
  defp call(id), do: {:ok, 32} = Pyre.call(@instance, id, :size, %{}, timeout: 60_000)
  defp note?(n), do: match?({:ok, %{"note" => @note}, 1}, Pyre.state(@instance, id(n)))

  defp settled(range) do
    {pss, parts} = Settled.pss(range, fn n -> Pyre.whereis(@instance, id(n)) end)
    %{pss: pss, processes: parts, memory: Map.new(:erlang.memory()), tables: tables()}
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

  defp parts(empty, idle, active, count) do
    Map.merge(
      grown("idle", empty, idle, count),
      grown("with an activation, more", idle, active, count)
    )
  end

  # Where it grew: the system's view of each program, the BEAM's own count, and its largest tables.
  defp grown(label, earlier, later, count) do
    own =
      for key <- [:processes, :ets, :binary, :total],
          do: {"BEAM's own count of #{key}", per_agent(earlier.memory[key], later.memory[key], count)}

    tables =
      for {key, bytes} <- later.tables, do: {"table #{key}", per_agent(earlier.tables[key], bytes, count)}

    programs = for {name, bytes} <- by_name(earlier, later, count), do: {"PSS of #{name}", bytes}
    for {part, bytes} <- programs ++ own ++ tables, bytes != 0, into: %{}, do: {"#{label}: #{part}", bytes}
  end

  defp by_name(earlier, later, count) do
    [before, now] =
      for %{processes: processes} <- [earlier, later] do
        Enum.reduce(processes, %{}, fn {name, bytes}, sums -> Map.update(sums, name, bytes, &(&1 + bytes)) end)
      end

    for {name, bytes} <- now, do: {name, per_agent(Map.get(before, name, 0), bytes, count)}
  end

  defp per_agent(earlier, later, count), do: round((later - earlier) / count)
end

[count] = System.argv()
Bench.IdleAgents.run(String.to_integer(count))
