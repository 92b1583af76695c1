# Timers: what a hundred thousand that wait weigh, and what they cost while nothing is due.
#
#     mix run bench/timers_bench.exs [ROUNDS]
Code.require_file("support/bench.exs", __DIR__)

defmodule TimersBench do
  alias Bench.{Machine, Report, Stats}
  alias Pyre.Instance

  @instance TimersBench.Instance
  @agents 100
  @each 1_000
  @timers @agents * @each
  # Both are binaries of at most 8 bytes. The key is counted once: that it stands in two tables is the rows' business.
  @args_bytes 24
  @key_bytes 24
  @idle_ms 5_000
  @settle_ms 2_000

  @wanted_bytes 300
  # Of one core, beyond what the same instance takes without timers.
  @wanted_cpu 0.005

  def run(rounds) do
    Logger.configure(level: :error)
    {name, ids} = Bench.start_counters(@instance, @agents, [])
    none = idle(rounds, name)
    bytes = plan(name, Tuple.to_list(ids))
    many = idle(rounds, name)
    %{timers: @timers} = Pyre.info(name)
    Supervisor.stop(name)
    report(bytes, none, many)
  end

  defp plan(name, ids) do
    before = memory(name)
    for id <- ids, do: {:ok, nil} = Pyre.call(name, id, :plan, %{count: @each}, timeout: 30_000)
    %{timers: @timers} = Pyre.info(name)
    (memory(name) - before) / @timers
  end

  defp memory(name) do
    instance = Instance.fetch!(name)
    words = :ets.info(instance.timers, :memory) + :ets.info(instance.timer_index, :memory)
    words * :erlang.system_info(:wordsize)
  end

  # Of a core; BEAM and interpreter together.
  defp idle(rounds, name) do
    Process.sleep(@settle_ms)
    pids = [System.pid(), Bench.interpreter(name)]

    for _round <- 1..rounds do
      before = Enum.sum(Enum.map(pids, &Machine.cpu_us/1))
      Process.sleep(@idle_ms)
      (Enum.sum(Enum.map(pids, &Machine.cpu_us/1)) - before) / (@idle_ms * 1_000)
    end
    |> Stats.summary()
  end

  defp report(bytes, none, many) do
    beyond = round(bytes - @args_bytes - @key_bytes)
    added = many.median - none.median

    text = """
    #{@agents} agents with #{@each} timers each, set by their handlers (`ctx.after`; ids of 11 bytes, keys of 8): the two tables grew by
    #{round(bytes)} bytes a timer, key and arguments included.

    CPU of BEAM and interpreter while nothing is due, medians of #{length(none.values)} times #{div(@idle_ms, 1_000)} s: #{percent(none.median)} of a core without timers,
    #{percent(many.median)} with #{@timers}.

    * wanted: at most #{@wanted_bytes} bytes each beyond key and arguments: #{beyond}, #{Report.verdict(beyond <= @wanted_bytes)}
    * wanted: no measurable CPU while idle (at most #{percent(@wanted_cpu)} of a core more): #{percent(added)}, #{Report.verdict(added <= @wanted_cpu)}
    """

    figures = %{bytes: bytes, beyond: beyond, idle_cpu: %{none: none, many: many}}
    Report.write("timers", "Timers", figures, text)
  end

  defp percent(share), do: "#{Float.round(share * 100, 2)} %"
end

rounds = System.argv() |> List.first("5") |> String.to_integer()
TimersBench.run(rounds)
