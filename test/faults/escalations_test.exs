defmodule Pyre.Faults.EscalationsTest do
  # Promise: a question to a person, and the answer, outlive whatever dies, and nothing that they lead to is done twice.
  use Pyre.Case, async: true

  alias Pyre.Escalations.Table
  alias Pyre.{Instance, Mailbox}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace(), id: start_agent!(pyre, "Clerk", id: "c", max_restarts: 10)}
  end

  defp open(pyre, count \\ 1) do
    eventually(fn ->
      inbox = Pyre.inbox(pyre)
      length(inbox) == count && inbox
    end)
  end

  defp decided(pyre, id, count) do
    eventually(fn ->
      {:ok, state, _revision} = Pyre.state(pyre, id)
      decided = Map.get(state, "decided", [])
      length(decided) == count && decided
    end)
  end

  defp kill_agent(pyre, id) do
    pid = Pyre.whereis(pyre, id)
    Process.exit(pid, :kill)
    eventually(fn -> Pyre.whereis(pyre, id) not in [nil, pid] end)
  end

  defp kill_decider(pyre) do
    pid = process(pyre, :escalations)
    Process.exit(pid, :kill)
    eventually(fn -> process(pyre, :escalations) not in [nil, pid] end)
  end

  # The agent has gone on: whatever would have come twice has come by now.
  defp quiet(pyre, id), do: assert({:ok, "pong"} == Pyre.call(pyre, id, :ping))

  test "a continuation: interpreter, agent and decider are killed, then it is answered: it runs once",
       context do
    %{pyre: pyre, id: id} = context
    assert {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 900})
    [%{id: escalation}] = open(pyre)
    kill_interpreter(pyre)
    kill_agent(pyre, id)
    kill_decider(pyre)
    assert [%{id: ^escalation, question: "Refund 900 EUR?", assignee: "ada"}] = Pyre.inbox(pyre)
    assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    kill_decider(pyre)

    assert [[_message, ^escalation, "Refund 900 EUR?", "approve", "ada", "answered", 900, "bytes"]] =
             decided(pyre, id, 1)

    kill_interpreter(pyre)
    kill_decider(pyre)
    quiet(pyre, id)
    assert [_once] = decided(pyre, id, 1)
    assert Instance.escalating(Instance.get(pyre)) == 0
  end

  test "a continuation whose interpreter is killed while it runs is run again, as the same message",
       context do
    %{pyre: pyre, id: id, folder: folder} = context
    {:ok, _nil} = Pyre.call(pyre, id, :file_slowly, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    :ok = Pyre.answer(pyre, escalation, "yes", by: "ada")
    await_gate(folder, "told")
    pyre |> os_pid() |> signal("KILL")
    assert await_gate(folder, "told", 2) == ["1", "2"]
    # It has its place in the mailbox: whoever tells anew finds it there.
    kill_decider(pyre)
    open_gate(folder, "told")
    assert decided(pyre, id, 1) == [["yes"]]
    quiet(pyre, id)
    assert decided(pyre, id, 1) == [["yes"]]
  end

  test "what was decided and not told is told by the successor of who decided", %{pyre: pyre, id: id} do
    instance = Instance.get(pyre)
    {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 1})
    {:ok, 2} = Pyre.call(pyre, id, :file, %{amount: 2})
    [%{id: first}, %{id: second}] = open(pyre, 2)
    true = Table.decide(instance, first, :answered, "approve", "ada")
    # This one had its place in the mailbox, and was not put there.
    true = Table.decide(instance, second, :answered, "reject", "ada")
    {:ok, place} = Mailbox.reserve(instance, id, :decision, <<0x80>>)
    :ok = Table.put(instance, second, place)
    quiet(pyre, id)
    assert decided(pyre, id, 0) == []
    kill_decider(pyre)

    answers =
      for [_message, escalation, _question, answer | _rest] <- decided(pyre, id, 2), do: {escalation, answer}

    assert Enum.sort(answers) == [{first, "approve"}, {second, "reject"}]
    kill_decider(pyre)
    quiet(pyre, id)
    decided(pyre, id, 2)
    assert Instance.escalating(instance) == 0
  end

  test "an expiry comes to pass whoever was killed before it", %{pyre: pyre, id: id} do
    {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 1, within: 0.5, default: "reject"})
    kill_decider(pyre)
    kill_agent(pyre, id)
    assert [[_message, _escalation, _question, "reject", nil, "expired" | _rest]] = decided(pyre, id, 1)
  end

  test "a handler that waits moves with its agent, when its interpreter is replaced" do
    pyre = start_pyre!(workers: 2)
    id = start_agent!(pyre, "Clerk")
    folder = workspace()
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    {:ok, %{worker: worker}} = Pyre.info(pyre, id)
    kill_interpreter(pyre, worker)
    await_gate(folder, "pay", 2)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
    assert gate(folder, "lookup") == ["1"]
  end

  test "a handler that waits: the interpreter is killed, the message is run again and finds its question",
       context do
    %{pyre: pyre, id: id, folder: folder} = context
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    pyre |> os_pid() |> signal("KILL")
    # The person's time is no attempt.
    assert await_gate(folder, "pay", 2) == ["1", "1"]
    assert [%{id: ^escalation}] = open(pyre)
    assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
    assert gate(folder, "lookup") == ["1"]
    assert gate(folder, "charge") == ["1"]
    quiet(pyre, id)
    assert gate(folder, "done") == ["1"]
    assert Instance.escalating(Instance.get(pyre)) == 0
  end

  test "more interpreters may die under one that waits than a message has attempts", context do
    %{pyre: pyre, id: id, folder: folder} = context
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)

    for times <- 2..5 do
      pyre |> os_pid() |> signal("KILL")
      await_gate(folder, "pay", times)
    end

    :ok = Pyre.answer(pyre, escalation, "reject", by: "ada")
    assert [[_message, "reject", "ada", "answered", "nothing"]] = decided(pyre, id, 1)
    assert Pyre.dead_letters(pyre) == []
  end

  test "answered while its interpreter is down: the message is run again, and given the answer", context do
    %{pyre: pyre, id: id, folder: folder} = context
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    :ok = Pyre.pause(pyre, {:agent, id})
    pyre |> os_pid() |> signal("KILL")
    eventually(fn -> match?({:ok, %{worker: _any, paused: true}}, Pyre.info(pyre, id)) end)
    assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    :ok = Pyre.resume(pyre, {:agent, id})
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
    assert gate(folder, "lookup") == ["1"]
    assert [_once] = gate(folder, "charge")
    assert Pyre.inbox(pyre) == []
  end

  test "who waits for a person is no suspect when a neighbour crashes the interpreter", %{folder: folder} do
    pyre = start_pyre!(agents: [fixture("agents"), fixture("agents/misbehaving")])
    id = start_agent!(pyre, "Clerk")
    bad = start_agent!(pyre, "Segfault", max_restarts: 10)
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    assert {:error, %{kind: :worker_down}} = Pyre.call(pyre, bad, :in_thread)
    assert await_gate(folder, "pay", 2) == ["1", "1"]
    assert {:ok, %{quarantine: %{suspect: false, strikes: 0}}} = Pyre.info(pyre, id)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
  end

  test "a call that waits outlives its interpreter, and its caller gets the reply", context do
    %{pyre: pyre, id: id, folder: folder} = context
    call = Task.async(fn -> Pyre.call(pyre, id, :pay, %{folder: folder}, timeout: 20_000) end)
    [%{id: escalation}] = open(pyre)
    pyre |> os_pid() |> signal("KILL")
    await_gate(folder, "pay", 2)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert Task.await(call, 20_000) == {:ok, ["approve", "ada", "answered", "paid 9"]}
    assert gate(folder, "charge") == ["1"]
  end

  test "an agent's process killed while its handler waits: the message is run again", context do
    %{pyre: pyre, id: id, folder: folder} = context
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation}] = open(pyre)
    kill_agent(pyre, id)
    await_gate(folder, "pay", 2)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
    assert gate(folder, "lookup") == ["1"]
  end

  test "a message that used its attempts up waits for a person over the death of agent and interpreter",
       context do
    %{pyre: pyre, id: id, folder: folder} = context
    :ok = Pyre.cast(pyre, id, :fetch, %{folder: folder})
    [%{id: escalation, kind: :failure, options: ["retry", "discard"]}] = open(pyre)
    kill_agent(pyre, id)
    kill_interpreter(pyre)
    quiet(pyre, id)
    open_gate(folder, "fetch")
    assert gate(folder, "fetch") == ["1", "2"]
    assert :ok = Pyre.answer(pyre, escalation, "retry", by: "ada")
    assert [[_message, 1]] = decided(pyre, id, 1)
    assert gate(folder, "fetch") == ["1", "2", "1"]
    assert Pyre.dead_letters(pyre) == []
    assert eventually(fn -> Instance.escalating(Instance.get(pyre)) == 0 end)
  end
end
