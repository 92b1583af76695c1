# Pyre under the workload of bench/peers/harness.py, in a BEAM of its own: pyre.exs bench | memory | block | kill | agents PID.
# The callers are processes of the BEAM; the agents' code is Python, as with all peers.
Code.require_file("../support/bench.exs", __DIR__)

defmodule Bench.Peers.Pyre do
  alias Bench.{Load, Machine, Programs, Stats}

  @instance Bench.Peers.Pyre.Instance
  # As in the harness.
  @agents 100
  @memory_agents 20_000
  @warm_up_ms 1_000
  @window_ms 1_000
  @rounds 3
  @latencies 3_000
  @echoes 200
  @casts 20_000
  @limit_ms 3_000
  @sizes [echo_1k_us: 1_000, echo_100k_us: 100_000, echo_1m_us: 1_000_000]
  @at_once 64
  @patience_ms 10_000
  @call_ms 60_000

  def run(mode) do
    Logger.configure(level: :none)
    agents = if mode == "block", do: Bench.troubled(), else: Bench.agents()
    {:ok, _pid} = Pyre.start_link(name: @instance, agents: agents, max_mailbox: 1_000_000)
    :ok = Pyre.await_ready(@instance, 30_000)
    Bench.await_spare(@instance)
    class = if mode == "block", do: "Crasher", else: "Counter"
    start(class, 1, @agents)
    each(1, @agents, fn id -> {:ok, 1} = add(id) end)
    told = measure(mode)
    Supervisor.stop(@instance)
    Programs.tell(told)
  end

  defp measure("bench") do
    _warm = calls(@at_once, @warm_up_ms)
    alone = Load.latencies(@latencies, fn -> add(id(1)) end, @limit_ms)
    echoes = for {key, size} <- @sizes, do: {key, echo(String.duplicate("x", size))}
    calls = for callers <- [64, 256], do: {:"calls_#{callers}", rate(callers)}

    Map.new([p50_us: Stats.median(alone), p99_us: Stats.percentile(alone, 99)] ++ echoes ++ calls ++ casts())
  end

  defp measure("memory") do
    base = settled()

    {us, :ok} =
      :timer.tc(fn ->
        start("Counter", @agents + 1, @memory_agents)
        each(@agents + 1, @memory_agents, fn id -> {:ok, 1} = add(id) end)
      end)

    %{
      memory_agents: @memory_agents,
      spawns: @memory_agents / us * 1.0e6,
      agent_kb: (settled() - base) / @memory_agents / 1_000,
      base_mb: base / 1.0e6
    }
  end

  defp measure("block") do
    {:ok, "bad"} = Pyre.start_agent(@instance, "Holder", id: "bad")
    {:ok, nil} = Pyre.call(@instance, "bad", :wait, %{seconds: 0})
    began = now_us()
    :ok = Pyre.cast(@instance, "bad", :sleep_on_loop)
    answered = for n <- 2..@agents, {:ok, _total} <- [again(id(n), began)], do: (now_us() - began) / 1_000
    %{neighbours: @agents - 1, neighbours_answered: length(answered), last_neighbour_ms: Enum.max(answered)}
  end

  defp measure("kill") do
    {:ok, %{worker: worker}} = Pyre.info(@instance, id(1))
    there = for n <- 1..@agents, match?({:ok, %{worker: ^worker}}, Pyre.info(@instance, id(n))), do: n
    %{os_pid: os_pid} = Enum.find(Pyre.workers(@instance), &(&1.worker == worker))
    {_text, 0} = System.cmd("kill", ["-KILL", "#{os_pid}"])
    began = now_us()
    {:ok, first} = again(id(1), began)
    first_ms = (now_us() - began) / 1_000
    rest = for n <- 2..@agents, {:ok, total} <- [again(id(n), began)], do: total
    kept = Enum.count([first | rest], &(&1 == 2))

    %{
      killed_agents: length(there),
      caller_dies: 0,
      agents: @agents,
      agents_answering: 1 + length(rest),
      states_kept: kept,
      first_answer_ms: first_ms
    }
  end

  defp id(n), do: "a#{n}"

  defp start(class, first, count) do
    for n <- first..(first + count - 1), do: {:ok, _id} = Pyre.start_agent(@instance, class, id: id(n))
    :ok
  end

  defp each(first, count, action) do
    Load.each(count, @at_once, fn n -> action.(id(first + n - 1)) end)
    :ok
  end

  defp add(id), do: Pyre.call(@instance, id, :add, %{n: 1}, timeout: @call_ms)

  # A call that had begun when its interpreter died is not run again by itself: its caller decides.
  defp again(id, began) do
    case Pyre.call(@instance, id, :add, %{n: 1}, timeout: @patience_ms) do
      {:error, %Pyre.Error{kind: :worker_down}} ->
        if now_us() - began < @patience_ms * 1_000, do: again(id, began), else: :error

      told ->
        told
    end
  end

  defp rate(callers), do: for(_round <- 1..@rounds, do: calls(callers, @window_ms)) |> Stats.median()

  defp calls(callers, window_ms),
    do: Load.run(callers, window_ms, fn n -> {:ok, _total} = add(id(rem(n, @agents) + 1)) end).rate

  defp echo(data) do
    Load.latencies(
      @echoes,
      fn -> {:ok, ^data} = Pyre.call(@instance, id(1), :echo, %{data: data}) end,
      @limit_ms
    )
    |> Stats.median()
  end

  # One sender, as with the others.
  defp casts do
    commits = Pyre.info(@instance).counters.commits
    began = now_us()
    for n <- 1..@casts, do: :ok = Pyre.cast(@instance, id(rem(n, @agents) + 1), :add, %{n: 1})
    accepted = @casts / (now_us() - began) * 1.0e6
    await_commits(commits + @casts)
    [casts_accepted: accepted, casts_processed: @casts / (now_us() - began) * 1.0e6]
  end

  defp await_commits(commits) do
    if Pyre.info(@instance).counters.commits < commits, do: Process.sleep(1) && await_commits(commits)
  end

  # Without what can be given back: the others' runtimes have nothing to give back, since they count references.
  defp settled do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    {pss, _parts} = Machine.pss(System.pid())
    pss
  end

  defp now_us, do: System.monotonic_time(:microsecond)
end

[mode] = System.argv()
Bench.Peers.Pyre.run(mode)
