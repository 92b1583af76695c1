defmodule Pyre.Faults.HistoryTest do
  # Promise: what happened to an agent, and how far it was, outlives its interpreter and its process.
  use Pyre.Case, async: true

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace(), id: start_agent!(pyre, "Scanner", id: "s")}
  end

  defp progress(pyre, id) do
    {:ok, %{progress: progress}} = Pyre.info(pyre, id)
    progress
  end

  defp outcomes(pyre, id) do
    {:ok, entries} = Pyre.history(pyre, id, events: [:message])
    for %{handler: "scan"} = entry <- entries, do: {entry.message_id, entry.attempt, entry.outcome}
  end

  defp begin_scan(%{pyre: pyre, id: id, folder: folder}) do
    :ok = Pyre.cast(pyre, id, :scan, %{steps: 2, folder: folder})
    await_gate(folder, "scan")
    eventually(fn -> match?(%{fraction: 0.5, attempt: 1}, progress(pyre, id)) end)
  end

  test "an interpreter killed in the middle: the report stays, the next attempt has its own", context do
    %{pyre: pyre, id: id, folder: folder} = context
    begin_scan(context)
    pyre |> os_pid() |> signal("KILL")
    await_gate(folder, "scan", 2)
    eventually(fn -> match?(%{fraction: 0.5, attempt: 2}, progress(pyre, id)) end)
    open_gate(folder, "scan")
    eventually(fn -> length(outcomes(pyre, id)) == 2 end)
    assert [{2, 1, :interrupted}, {2, 2, :ok}] = outcomes(pyre, id)
    {:ok, entries} = Pyre.history(pyre, id)
    assert %{error: :worker_down, message: message} = Enum.find(entries, &(&1[:outcome] == :interrupted))
    assert message =~ "worker 1"
    reports = for %{event: :progress, message_id: 2} = entry <- entries, do: {entry.attempt, entry.fraction}
    assert reports == [{1, 0.5}, {2, 1.0}]
  end

  test "an agent's process killed in the middle: its successor goes on with the same history", context do
    %{pyre: pyre, id: id, folder: folder} = context
    {:ok, 1} = Pyre.call(pyre, id, :scan, %{steps: 1})
    :ok = Pyre.cast(pyre, id, :scan, %{steps: 2, folder: folder})
    await_gate(folder, "scan")
    pyre |> Pyre.whereis(id) |> Process.exit(:kill)
    open_gate(folder, "scan")
    eventually(fn -> match?([_first, _killed, {_id, 2, :ok}], outcomes(pyre, id)) end)
    {:ok, entries} = Pyre.history(pyre, id)
    assert [{2, 1, :ok}, {3, 1, :interrupted}, {3, 2, :ok}] = outcomes(pyre, id)
    assert %{error: :agent_down, verdict: :restart} = Enum.find(entries, &(&1.event == :crashed))
    # Whoever was killed could not tell when it had begun.
    assert %{duration_us: nil} = Enum.find(entries, &(&1[:outcome] == :interrupted))
    assert entries == Enum.sort_by(entries, & &1.at, DateTime)
  end

  test "who follows it sees both lives", context do
    %{pyre: pyre, id: id, folder: folder} = context
    traces = Pyre.Instance.get(pyre).traces

    task =
      Task.async(fn ->
        pyre |> Pyre.trace(id) |> Enum.take_while(&(&1[:outcome] != :ok or &1.handler != "scan"))
      end)

    eventually(fn -> :ets.info(traces, :size) == 1 end)
    begin_scan(context)
    pyre |> Pyre.whereis(id) |> Process.exit(:kill)
    open_gate(folder, "scan")
    events = task |> Task.await() |> Enum.map(& &1.event) |> Enum.dedup()
    assert [:progress, :crashed, :message, :progress | _on_start_and_the_second_attempt] = events
  end

  test "a thread that was given up reports no more", context do
    %{pyre: pyre, folder: folder} = context
    args = %{steps: 2, folder: folder}
    {:error, %{kind: :timeout}} = Pyre.call(pyre, "s", :scan_in_thread, args, timeout: 200)
    open_gate(folder, "scan")
    {:ok, 1} = Pyre.call(pyre, "s", :scan, %{steps: 1})
    {:ok, entries} = Pyre.history(pyre, "s")
    reports = for %{event: :progress, message_id: id} = entry <- entries, id != nil, do: {id, entry.fraction}
    assert reports == [{2, 0.5}, {3, 1.0}]

    assert %{outcome: :cancelled, error: :timeout} =
             Enum.find(entries, &(&1[:handler] == "scan_in_thread" and &1.event == :message))
  end
end
