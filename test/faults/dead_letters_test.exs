defmodule Pyre.Faults.DeadLettersTest do
  # Promise: a message that has no caller is run, or it is a dead letter; whatever dies, it is never gone in silence, and one whose
  # handler raised is never run again by itself.
  use Pyre.Case, async: true

  alias Pyre.{DeadLetters, Error, Instance, Mailbox, OSProcess}

  @moduletag :fault

  setup do
    {:ok, folder: workspace()}
  end

  test "a cast under which interpreters keep dying is a letter, with its attempts", %{folder: folder} do
    pyre = start_pyre!(max_attempts: 2)
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})

    for attempt <- 1..2 do
      await_gate(folder, "a", attempt)
      OSProcess.signal(os_pid(pyre), "KILL")
    end

    assert [%{reason: :attempts, attempts: 2, error: %Error{kind: :worker_down}}] =
             eventually(fn -> with([] <- Pyre.dead_letters(pyre), do: nil) end)

    assert gate(folder, "a") == ["1", "2"]
  end

  test "letters outlive the agent's process, its supervisor and every other process", %{folder: _folder} do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 100)
    :ok = Pyre.cast(pyre, "j", :refuse, %{entry: 1})
    {:ok, []} = Pyre.call(pyre, "j", :entries)
    [letter] = Pyre.dead_letters(pyre)
    Process.exit(Pyre.whereis(pyre, "j"), :kill)
    for n <- 0..(System.schedulers_online() - 1), do: Process.exit(process(pyre, {:partition, n}), :kill)
    kill_interpreter(pyre)
    assert {:ok, []} = Pyre.call(pyre, "j", :entries, %{}, timeout: 20_000)
    assert [^letter] = Pyre.dead_letters(pyre)
  end

  # The instant between the letter and the end of its message can't be hit from outside; it is made by hand.
  test "an agent's process that was killed between the two does not run the message again", %{folder: folder} do
    pyre = start_pyre!()
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    instance = Instance.get(pyre)
    [{"g", message}] = Mailbox.without_caller(instance)
    owner = %{id: "g", class: "Gatekeeper"}
    DeadLetters.put(instance, owner, message, :failed, Error.new(:internal, "by hand"))
    Process.exit(Pyre.whereis(pyre, "g"), :kill)
    open_gate(folder, "a")
    assert {:ok, []} = Pyre.call(pyre, "g", :passed, %{}, timeout: 20_000)
    assert gate(folder, "a") == ["1"]
    assert {:ok, %{mailbox: 0}} = Pyre.info(pyre, "g")
    assert [%{reason: :failed}] = Pyre.dead_letters(pyre)
  end

  test "who was killed over a retry has not taken the letter along", %{folder: _folder} do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    :ok = Pyre.cast(pyre, "j", :refuse, %{entry: 1})
    {:ok, []} = Pyre.call(pyre, "j", :entries)
    [%{id: id}] = Pyre.dead_letters(pyre)
    table = Instance.get(pyre).dead_letters
    {dead, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, :process, ^dead, _reason}
    :ets.update_element(table, id, {2, self()})

    assert {:error, %Error{kind: :not_found}} =
             Task.await(Task.async(fn -> Pyre.retry_dead_letter(pyre, id) end))

    :ets.update_element(table, id, {2, dead})
    assert :ok = Pyre.retry_dead_letter(pyre, id)
  end

  test "what had not ended at shutdown is told by agent and handler, what ran and what waited", %{
    folder: folder
  } do
    pyre = start_pyre!(log: true, drain_timeout: 100)
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go_in_thread, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    for _n <- 1..3, do: :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "b"})
    :ok = Supervisor.stop(pyre)

    assert_receive {:logged, :warning, "4 casts and timers had not ended at shutdown" <> which, _meta}, 5_000
    assert which =~ ~s(3 Gatekeeper.go to "g")
    assert which =~ ~s(1 Gatekeeper.go_in_thread to "g")
  end
end
