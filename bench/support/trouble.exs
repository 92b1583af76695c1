defmodule Bench.Trouble do
  @moduledoc false

  # One bad agent among many, on two workers, and how long calls of its neighbours take meanwhile.

  @neighbours 99
  @callers 4
  @pause_ms 2
  @window_ms 5_000
  # The trouble begins so long after the load.
  @begin_ms 1_000
  @stall_ms 1_000
  # So long a bad caller waits for its answer.
  @patience_ms 1_500
  @timeout_ms 60_000

  @doc "What the figures depend on."
  def settings do
    %{
      neighbours: @neighbours,
      callers: @callers,
      pause_ms: @pause_ms,
      window_ms: @window_ms,
      begin_ms: @begin_ms,
      stall_ms: @stall_ms
    }
  end

  @doc """
  The latencies in ms of the neighbours while something happens: `%{same: [...], other: [...]}`, those on the culprit's worker and on the other.
  """
  def scenario(scenario) do
    name = :"#{__MODULE__}#{System.unique_integer([:positive])}"
    opts = [name: name, agents: Bench.troubled(), workers: 2, stall_timeout: @stall_ms, max_mailbox: 100_000]
    {:ok, supervisor} = Pyre.start_link(opts)
    Process.unlink(supervisor)
    :ok = Pyre.await_ready(name, 60_000)
    {:ok, "bad"} = Pyre.start_agent(name, "Holder", id: "bad")
    {:ok, nil} = Pyre.call(name, "bad", :wait, %{seconds: 0})
    ids = for n <- 1..@neighbours, do: elem({:ok, _id} = Pyre.start_agent(name, "Crasher", id: "n#{n}"), 1)
    for id <- ids, do: {:ok, 1} = Pyre.call(name, id, :add)
    Bench.await_spare(name)

    bad = worker(name, "bad")
    neighbours = List.to_tuple(for id <- ids, do: {id, if(worker(name, id) == bad, do: :same, else: :other)})
    Bench.Machine.await_quiet()
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

  defp now, do: System.monotonic_time(:millisecond)
end
