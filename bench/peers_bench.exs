# Peers: other ways to run agents in Python, under one workload, on this machine, in one run.
#
#     mix run bench/peers_bench.exs [NAME ...]
#
# Each has a virtual environment of its own from bench/requirements, made once, and an adapter in bench/peers/adapters. One that can't be
# installed or run is left out, with the reason.
Code.require_file("support/bench.exs", __DIR__)

defmodule PeersBench do
  alias Bench.{Programs, Report, Start, Stats, Venv}

  @directory Path.expand("peers", __DIR__)
  @ours Path.join(@directory, "pyre.exs")
  @modes ~w(bench memory block kill)
  @limit_seconds 90
  # How long each of a peer's runs may wait for a quiet machine.
  @patience_seconds 10
  @cold_rounds 3
  @cold_limit_ms 60_000
  @mark "PYRE_BENCH_PEER"

  # The name, its adapter, whose requirements it needs, and what it is.
  @peers [
    {"asyncio", "on_asyncio", nil, "a task with a queue for each agent, in the caller's own loop"},
    {"asyncio, uvloop", "on_uvloop", "uvloop", "the same on uvloop"},
    {"threads", "on_threads", nil, "a thread with a queue for each agent"},
    {"multiprocessing", "on_pipes", nil, "all agents in one process behind a pipe, pickled, written by hand"},
    {"Pykka", "on_pykka", "pykka", "a thread for each actor"},
    {"pyre-agents", "on_pyre_agents", {"pyre_agents", [3, 12]},
     "the Python package of an earlier system of this kind: coroutines in the caller's own loop, without its BEAM; on Python 3.12 or newer, which it needs"},
    {"autogen-core", "on_autogen", "autogen", "agents of a runtime in the caller's own loop"},
    {"xoscar", "on_xoscar", "xoscar", "actors in a sub-process of a pool"},
    {"Thespian", "on_thespian", "thespian", "a process for each actor"},
    {"Ray", "on_ray", "ray", "a process for each actor, on a cluster"}
  ]

  def run(names) do
    peers = if names == [], do: @peers, else: Enum.filter(@peers, &(elem(&1, 0) in names))
    others = for peer <- peers, do: measure(peer)
    report([ours() | others])
  end

  ## Ours

  defp ours do
    IO.puts("Pyre")

    told =
      for mode <- @modes,
          do:
            {mode,
             Programs.sample(@ours, [mode], @limit_seconds, [{"PYRE_BENCH_PATIENCE", "#{@patience_seconds}"}])}

    cold = for _round <- 1..@cold_rounds, do: Start.first_reply()
    {"Pyre", "interpreters under supervision; the callers are processes of the BEAM", merge(told, cold)}
  end

  defp merge(told, cold),
    do:
      told
      |> Enum.reduce(%{}, fn {_mode, figures}, all -> Map.merge(all, figures) end)
      |> Map.put(:cold_ms, Stats.median(cold))

  ## Theirs

  defp measure({name, adapter, requirements, what}) do
    IO.puts(name)

    case python(requirements) do
      {:ok, python} ->
        told = for mode <- @modes, do: {mode, mode(python, adapter, mode)}
        {name, what, merge_told(told, cold(python, adapter))}

      {:error, reason} ->
        {name, what, %{failed: [reason]}}
    end
  end

  defp python(nil), do: Pyre.Python.find(nil)
  defp python({requirements, at_least}), do: Venv.python(requirements, at_least)
  defp python(requirements), do: Venv.python(requirements)

  defp merge_told(told, cold) do
    failed = for {mode, {:error, reason}} <- told ++ [{"cold", cold}], do: "#{mode}: #{reason}"
    figures = for {_mode, {:ok, figures}} <- told, do: figures
    cold = with {:ok, ms} <- cold, do: %{cold_ms: ms}
    all = if is_map(cold), do: [cold | figures], else: figures
    all |> Enum.reduce(%{}, &Map.merge(&2, &1)) |> Map.put(:failed, failed)
  end

  # Whatever a program left behind carries the mark of its run; the harness ends it, and so does this.
  defp mode(python, adapter, mode) do
    mark = "#{System.pid()}-#{adapter}-#{mode}"

    {text, status} =
      System.cmd(
        "timeout",
        ["-k", "5", "#{@limit_seconds}", "env", "#{@mark}=#{mark}" | command(python, adapter, mode)],
        stderr_to_stdout: true
      )

    end_marked("#{@mark}=#{mark}")
    figures = Regex.scan(~r/^figure (\w+) ([\d.]+)$/m, text, capture: :all_but_first)
    figures = for [key, value] <- figures, into: %{}, do: {String.to_atom(key), String.to_float(value)}

    cond do
      # It killed the process that runs the agents, and that was its own.
      status == 137 and figures[:caller_dies] == 1.0 ->
        {:ok, Map.merge(figures, %{agents_answering: 0.0, states_kept: 0.0})}

      status == 0 ->
        {:ok, figures}

      status == 124 ->
        {:error, "not done within #{@limit_seconds} s"}

      true ->
        {:error, text |> String.trim() |> String.split("\n") |> List.last() |> String.slice(0, 200)}
    end
  end

  defp command(python, adapter, mode),
    do: [
      "PYTHONPATH=#{@directory}",
      "PYTHONDONTWRITEBYTECODE=1",
      "PYRE_BENCH_PATIENCE=#{@patience_seconds}",
      python,
      Path.join(@directory, "harness.py"),
      adapter,
      mode
    ]

  defp cold(python, adapter) do
    mark = "#{@mark}=#{System.pid()}-#{adapter}-cold"
    env = System.find_executable("env")

    times =
      for _round <- 0..@cold_rounds do
        ms = Programs.time(env, [mark | command(python, adapter, "cold")], :line, @cold_limit_ms)
        end_marked(mark)
        ms
      end

    # The first one fills the system's cache.
    {:ok, times |> tl() |> Stats.median()}
  rescue
    error in RuntimeError -> {:error, Exception.message(error)}
  end

  defp end_marked(mark) do
    for entry <- File.ls!("/proc"),
        entry =~ ~r/^\d+$/,
        {:ok, environment} <- [File.read("/proc/#{entry}/environ")],
        mark in String.split(environment, <<0>>),
        do: System.cmd("kill", ["-KILL", entry], stderr_to_stdout: true)
  end

  ## The report

  defp report(peers) do
    figures = for {name, what, told} <- peers, do: Map.merge(told, %{name: name, what: what})
    Report.write("peers", "Peers", figures, text(peers))
  end

  defp text(peers) do
    """
    One workload (`bench/peers/harness.py`, for ours `bench/peers/pyre.exs`), each peer in processes of its own. An agent is a counter with a small dict.
    #{Enum.map_join(peers, "; ", fn {name, what, _told} -> "*#{name}*: #{what}" end)}.
    With a process for each actor, 20 agents stand for the 100 of the others: more would not fit. Calls are answered after the handler ran; ours also after the
    commit of the changed state. Callers are tasks where the peer has coroutines, threads where its calls block, processes of the BEAM with ours.

    #{Report.table(["one caller, µs", "p50", "p99", "echo of 1 KB", "100 KB", "1 MB"], rows(peers, ~w(p50_us p99_us echo_1k_us echo_100k_us echo_1m_us)a))}
    Those in the caller's own process pass a reference: 1 MB costs them nothing, for nothing crosses a boundary.

    #{Report.table(["per second", "calls, 64 callers", "calls, 256 callers", "casts accepted, one sender", "casts processed"], rows(peers, ~w(calls_64 calls_256 casts_accepted casts_processed)a))}
    #{Report.table(["agents that have answered once", "started/s", "KB each (PSS)", "the rest, MB", "of so many", "cold start to the first reply, ms"], rows(peers, ~w(spawns agent_kb base_mb memory_agents cold_ms)a))}
    An agent blocks for ever (`time.sleep` in its handler); its neighbours are then asked, with 10 s of patience. And `kill -9` of the process that runs the first agent;
    then all agents are asked.

    #{Report.table(["", "neighbours that answered", "the last of them after, ms", "agents in the killed process", "caller", "answer within 10 s", "with their state", "first answer after, ms"], trouble(peers))}
    #{failed(peers)}Where a peer wins: asyncio in the caller's own process is faster by the call, by the cast and at its start, since a call there is a queue in the same loop: no copy, no boundary, no
    commit. What it lacks is in the last table: one handler that blocks stops all agents and the caller, and the process takes every state with it. Threads and Pykka keep neighbours
    alive as long as the blocking code gives the interpreter's lock back, but can't end it. Ray and Thespian isolate by a process for each actor, at its weight and its start; a restarted
    actor of Ray or xoscar begins with a blank state. Nobody but Pyre keeps the state of an agent whose process was killed.
    """
  end

  defp rows(peers, keys),
    do: for({name, _what, told} <- peers, do: [name | for(key <- keys, do: cell(told[key]))])

  defp trouble(peers) do
    for {name, _what, told} <- peers do
      [
        name,
        of(told[:neighbours_answered], told[:neighbours]),
        cell(told[:last_neighbour_ms]),
        cell(told[:killed_agents]),
        if(told[:killed_agents], do: if(told[:caller_dies] == 1.0, do: "dies too", else: "lives"), else: "–"),
        of(told[:agents_answering], told[:agents] || told[:killed_agents]),
        cell(told[:states_kept]),
        cell(told[:first_answer_ms])
      ]
    end
  end

  defp of(nil, _all), do: "–"
  defp of(count, all), do: "#{round(count)} of #{round(all)}"

  defp cell(nil), do: "–"
  defp cell(value) when value >= 100, do: round(value)
  defp cell(value) when value == trunc(value), do: trunc(value)
  defp cell(value), do: value / 1

  defp failed(peers) do
    for {name, _what, %{failed: reasons}} <- peers, reason <- reasons, into: "" do
      "Left out of #{name}: #{reason}.\n\n"
    end
  end
end

PeersBench.run(System.argv())
