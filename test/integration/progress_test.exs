defmodule Pyre.Integration.ProgressTest do
  use Pyre.Case, async: true

  setup do
    pyre = start_pyre!()
    {:ok, "s"} = Pyre.start_agent(pyre, "Scanner", id: "s")
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp progress(pyre) do
    {:ok, %{progress: progress}} = Pyre.info(pyre, "s")
    progress
  end

  test "the last report stands in the agent's info, while it runs and afterwards", context do
    %{pyre: pyre, folder: folder} = context
    assert %{message_id: nil, handler: "on_start", fraction: nil, text: "starting"} = progress(pyre)
    :ok = Pyre.cast(pyre, "s", :scan, %{steps: 4, folder: folder})
    await_gate(folder, "scan")

    assert %{fraction: 0.25, text: "step 1", at: %DateTime{}} =
             eventually(fn -> progress(pyre).fraction && progress(pyre) end)

    assert %{handler: "scan", message_id: 2, attempt: 1} = progress(pyre)
    open_gate(folder, "scan")
    eventually(fn -> match?(%{fraction: 1.0, text: "step 4"}, progress(pyre)) end)
  end

  test "however many reports there are, the last one is there before the answer", %{pyre: pyre} do
    for handler <- [:scan, :scan_in_thread] do
      assert {:ok, 3_000} = Pyre.call(pyre, "s", handler, %{steps: 3_000})
      assert %{fraction: 1.0, text: "step 3000"} = progress(pyre)
    end
  end

  test "a message has one entry of progress in the history, its last", %{pyre: pyre} do
    {:ok, 500} = Pyre.call(pyre, "s", :scan, %{steps: 500})
    {:ok, 2} = Pyre.call(pyre, "s", :scan, %{steps: 2})
    {:ok, entries} = Pyre.history(pyre, "s", events: [:progress])
    assert [{nil, nil}, {2, 1.0}, {3, 1.0}] = Enum.map(entries, &{&1.message_id, &1.fraction})
  end

  test "a handler that fails has told how far it came", %{pyre: pyre} do
    {:error, %Pyre.PythonError{}} = Pyre.call(pyre, "s", :scan_then_fail)
    # The answer comes before the crash is written down.
    entries =
      eventually(fn ->
        {:ok, [_on_start | entries]} = Pyre.history(pyre, "s", events: [:progress, :crashed])
        length(entries) >= 2 && entries
      end)

    assert [%{text: "the last step", fraction: 0.2}, %{event: :crashed} | _again] = entries
  end

  test "one that runs beside another reports for itself", %{pyre: pyre, folder: folder} do
    :ok = Pyre.cast(pyre, "s", :scan, %{steps: 2, folder: folder})
    await_gate(folder, "scan")
    {:ok, nil} = Pyre.call(pyre, "s", :glance)
    assert %{text: "glancing", message_id: 3} = progress(pyre)
    open_gate(folder, "scan")
    eventually(fn -> match?(%{message_id: 2, fraction: 1.0}, progress(pyre)) end)
    {:ok, entries} = Pyre.history(pyre, "s", events: [:progress])
    assert [nil, 3, 2] = Enum.map(entries, & &1.message_id)
  end

  test "an agent that was started again has reported nothing", %{pyre: pyre} do
    :ok = Pyre.stop_agent(pyre, "s")
    {:ok, "s"} = Pyre.start_agent(pyre, "Journal", id: "s")
    assert progress(pyre) == nil
  end
end
