defmodule Pyre.Faults.PauseTest do
  # Promise: a pause holds whatever dies, and no message that waits in it is lost.
  use Pyre.Case, async: true

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 100)
    {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 0})
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp pause(pyre, id, what) do
    :ok = Pyre.pause(pyre, what)
    for entry <- 1..3, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry})
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
    pid
  end

  defp assert_held(pyre) do
    {:ok, other} = Pyre.start_agent(pyre, "Echo")
    {:ok, 1} = Pyre.call(pyre, other, :echo, %{value: 1}, timeout: 20_000)
    assert {:ok, %{paused: true, mailbox: 3}} = Pyre.info(pyre, "j")
  end

  defp resume_and_assert(pyre, what) do
    :ok = Pyre.resume(pyre, what)
    assert {:ok, [0, 1, 2, 3]} = Pyre.call(pyre, "j", :entries, %{}, timeout: 20_000)
    assert Pyre.dead_letters(pyre) == []
  end

  test "a kill of the agent's process", %{pyre: pyre} do
    pause(pyre, "j", {:agent, "j"})

    for _time <- 1..3 do
      killed = kill(Pyre.whereis(pyre, "j"))
      eventually(fn -> Pyre.whereis(pyre, "j") not in [nil, killed] end)
      eventually(fn -> match?({:ok, %{status: :running}}, Pyre.info(pyre, "j")) end)
    end

    assert_held(pyre)
    resume_and_assert(pyre, {:agent, "j"})
  end

  test "a kill of the supervisors of agents, and of all that works on the tables", %{pyre: pyre} do
    pause(pyre, "j", {:class, "Journal"})
    old = Pyre.whereis(pyre, "j")
    for n <- 0..(System.schedulers_online() - 1), do: kill(process(pyre, {:partition, n}))
    for role <- [:timers, :starter, :monitors], do: kill(eventually(fn -> process(pyre, role) end))
    eventually(fn -> Pyre.whereis(pyre, "j") not in [nil, old] end)
    assert_held(pyre)
    resume_and_assert(pyre, {:class, "Journal"})
  end

  # Symptom: nobody told the agent of the pause's end, since nothing waited in its mailbox; its on_start waited for ever.
  test "a kill of an idle agent's process: its on_start waits, and runs afterwards", %{
    pyre: pyre,
    folder: folder
  } do
    {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
    life = Path.join(folder, "m.life")
    assert File.read!(life) == "start\n"
    :ok = Pyre.pause(pyre, {:class, "Mortal"})
    killed = kill(Pyre.whereis(pyre, "m"))
    pid = eventually(fn -> Enum.find([Pyre.whereis(pyre, "m")], &(&1 not in [nil, killed])) end)
    eventually(fn -> :sys.get_state(pid).phase == {:paused, :on_start} end)
    assert File.read!(life) == "start\n"
    :ok = Pyre.resume(pyre, {:class, "Mortal"})
    eventually(fn -> File.read!(life) == "start\nstart\n" end)
  end

  test "kill -9 of the interpreter", %{pyre: pyre} do
    pause(pyre, "j", :all)
    kill_interpreter(pyre)
    assert {:ok, %{paused: true, mailbox: 3}} = Pyre.info(pyre, "j")
    resume_and_assert(pyre, :all)
  end

  test "kill -9 of the interpreter under a running cast: it runs again after the pause", %{
    pyre: pyre,
    folder: folder
  } do
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    :ok = Pyre.pause(pyre, {:agent, "g"})
    kill_interpreter(pyre)
    {:ok, _entries} = Pyre.call(pyre, "j", :entries, %{}, timeout: 20_000)
    assert gate(folder, "a") == ["1"]
    assert {:ok, %{mailbox: 1}} = Pyre.info(pyre, "g")
    open_gate(folder, "a")
    :ok = Pyre.resume(pyre, {:agent, "g"})
    assert {:ok, [["a", 2]]} = Pyre.call(pyre, "g", :passed, %{}, timeout: 20_000)
  end
end
