defmodule Pyre.Integration.PauseTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  setup do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp paused?(pyre, id) do
    {:ok, %{paused: paused?}} = Pyre.info(pyre, id)
    paused?
  end

  # Casts entries in this order, and gives them once they are all written.
  defp cast(pyre, id, entries),
    do: for(entry <- entries, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry}))

  defp delivered(pyre), do: Pyre.info(pyre).counters.delivered

  # A message that isn't run can't be waited for. Another agent's that was sent later, to the same worker, has run.
  defp assert_held(pyre, id, count) do
    {:ok, other} = Pyre.start_agent(pyre, "Echo")
    {:ok, 1} = Pyre.call(pyre, other, :echo, %{value: 1})
    assert {:ok, %{mailbox: ^count}} = Pyre.info(pyre, id)
    :ok = Pyre.stop_agent(pyre, other)
  end

  for what <- [quote(do: {:agent, "j"}), quote(do: {:class, Journal})] do
    test "#{Macro.to_string(what)} holds the messages, and they run in order afterwards", %{pyre: pyre} do
      before = delivered(pyre)
      assert :ok = Pyre.pause(pyre, unquote(what))
      assert paused?(pyre, "j")
      cast(pyre, "j", 1..5)
      assert_held(pyre, "j", 5)
      assert delivered(pyre) == before + 1
      assert :ok = Pyre.resume(pyre, unquote(what))
      refute paused?(pyre, "j")
      assert {:ok, [1, 2, 3, 4, 5]} = Pyre.call(pyre, "j", :entries)
    end
  end

  test "all are held, whatever their class", %{pyre: pyre} do
    {:ok, "e"} = Pyre.start_agent(pyre, "Echo", id: "e")
    :ok = Pyre.pause(pyre, :all)
    assert %{paused: [:all]} = Pyre.info(pyre)

    tasks =
      for id <- ["j", "e"],
          do: Task.async(fn -> Pyre.call(pyre, id, if(id == "j", do: :entries, else: :nothing)) end)

    for id <- ["j", "e"],
        do: eventually(fn -> match?({:ok, %{mailbox: 1, paused: true}}, Pyre.info(pyre, id)) end)

    :ok = Pyre.resume(pyre, :all)
    assert [{:ok, []}, {:ok, nil}] = Task.await_many(tasks)
    assert %{paused: []} = Pyre.info(pyre)
  end

  test "an agent runs once no pause holds it", %{pyre: pyre} do
    :ok = Pyre.pause(pyre, {:agent, "j"})
    :ok = Pyre.pause(pyre, {:agent, "j"})
    :ok = Pyre.pause(pyre, {:class, "Journal"})
    cast(pyre, "j", [1])
    :ok = Pyre.resume(pyre, {:agent, "j"})
    assert paused?(pyre, "j")
    assert_held(pyre, "j", 1)
    :ok = Pyre.resume(pyre, {:class, "Journal"})
    :ok = Pyre.resume(pyre, {:class, "Journal"})
    assert {:ok, [1]} = Pyre.call(pyre, "j", :entries)
    assert Instance.pauses(Instance.get(pyre)) == 0
  end

  test "an agent that sleeps keeps the order, too", %{pyre: pyre} do
    :ok = Pyre.pause(pyre, {:agent, "j"})
    cast(pyre, "j", 1..3)
    pid = Pyre.whereis(pyre, "j")

    eventually(fn -> Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}} end)

    # As one that comes between the end of the pause and the news of it.
    instance = Instance.get(pyre)
    :ets.delete(instance.paused, {:paused, {:agent, "j"}})
    Instance.add_pauses(instance, -1)
    cast(pyre, "j", [4])
    assert {:ok, [1, 2, 3, 4]} = Pyre.call(pyre, "j", :entries)
  end

  test "what runs may end; what runs beside others is held, too", %{pyre: pyre, folder: folder} do
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    running = Task.async(fn -> Pyre.call(pyre, "g", :go, %{folder: folder, name: "a"}) end)
    await_gate(folder, "a")
    :ok = Pyre.pause(pyre, {:agent, "g"})
    beside = Task.async(fn -> Pyre.call(pyre, "g", :count) end)
    eventually(fn -> match?({:ok, %{mailbox: 2}}, Pyre.info(pyre, "g")) end)
    open_gate(folder, "a")
    assert {:ok, 1} = Task.await(running)
    assert_held(pyre, "g", 1)
    :ok = Pyre.resume(pyre, {:agent, "g"})
    assert {:ok, 1} = Task.await(beside)
  end

  test "deadlines run on, and the mailbox keeps its bound", %{pyre: pyre} do
    {:ok, "s"} = Pyre.start_agent(pyre, "Journal", id: "s", max_mailbox: 2)
    :ok = Pyre.pause(pyre, {:agent, "s"})
    assert {:error, %Error{kind: :deadline}} = Pyre.call(pyre, "s", :entries, %{}, timeout: 50)
    cast(pyre, "s", [1, 2])
    assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "s", :append, %{entry: 3})
    :ok = Pyre.resume(pyre, {:agent, "s"})
    assert {:ok, [1, 2]} = eventually(fn -> with({:error, _} <- Pyre.call(pyre, "s", :entries), do: nil) end)
  end

  test "a paused agent is stopped as ever; the next under its id is not paused", %{pyre: pyre, folder: folder} do
    {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
    :ok = Pyre.pause(pyre, {:agent, "m"})
    waiting = Task.async(fn -> Pyre.call(pyre, "m", :anything) end)
    eventually(fn -> match?({:ok, %{mailbox: 1}}, Pyre.info(pyre, "m")) end)
    assert :ok = Pyre.stop_agent(pyre, "m")
    assert {:error, %Error{kind: :stopped}} = Task.await(waiting)
    assert File.read!(Path.join(folder, "m.life")) == "start\nstop\n"
    {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
    refute paused?(pyre, "m")
    assert %{paused: []} = Pyre.info(pyre)
  end

  test "an on_start waits, too", %{pyre: pyre, folder: folder} do
    :ok = Pyre.pause(pyre, {:class, "Mortal"})

    assert {:error, %Error{kind: :deadline}} =
             Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder}, timeout: 50)

    refute File.exists?(Path.join(folder, "m.life"))
    :ok = Pyre.resume(pyre, {:class, "Mortal"})
    assert eventually(fn -> File.exists?(Path.join(folder, "m.life")) end)
    eventually(fn -> match?({:ok, %{status: :running}}, Pyre.info(pyre, "m")) end)
  end

  test "a timer fires into the mailbox; the next with its key takes its place", %{pyre: pyre} do
    {:ok, "a"} = Pyre.start_agent(pyre, "Alarm", id: "a")
    :ok = Pyre.pause(pyre, {:agent, "a"})
    instance = Instance.get(pyre)
    {:ok, %{handle: handle}} = Pyre.Address.fetch(instance, "a")

    for {what, n} <- [{"tea", 1}, {"coffee", 2}] do
      {:ok, args} = Pyre.Wire.MsgPack.encode(%{"what" => what})
      Pyre.Timers.set(instance, {"a", handle}, "key", 10, "ring", args)
      Pyre.Timers.set(instance, {"a", handle}, what, 10, "ring", args)
      eventually(fn -> Pyre.info(pyre).counters.timer_fires == 2 * n end)
    end

    eventually(fn -> match?({:ok, %{mailbox: 3}}, Pyre.info(pyre, "a")) end)
    :ok = Pyre.resume(pyre, {:agent, "a"})
    assert {:ok, rung} = Pyre.call(pyre, "a", :rung)
    assert Enum.sort(rung) == ["coffee", "coffee", "tea"]
    assert :ets.tab2list(instance.paused) == []
  end

  test "names what can be paused", %{pyre: pyre} do
    assert {:error, %Error{kind: :not_found}} = Pyre.pause(pyre, {:agent, "nobody"})
    assert {:error, %Error{kind: :unknown_class}} = Pyre.pause(pyre, {:class, "Nobody"})
    assert_raise ArgumentError, ~r/\{:agent, id\}/, fn -> Pyre.pause(pyre, "j") end
    assert :ok = Pyre.resume(pyre, {:agent, "nobody"})
    assert Instance.pauses(Instance.get(pyre)) == 0
  end

  test "a group holds its agents and those of the groups in it, and no others", %{pyre: pyre} do
    {:ok, "top"} = Pyre.start_group(pyre, "top", agents: [{"Journal", id: "a"}])
    {:ok, "inner"} = Pyre.start_group(pyre, "inner", group: "top", agents: [{"Journal", id: "b"}])
    assert :ok = Pyre.pause(pyre, {:group, "top"})
    for id <- ["a", "b"], do: cast(pyre, id, 1..3)
    for id <- ["a", "b"], do: assert_held(pyre, id, 3)
    assert paused?(pyre, "b")
    refute paused?(pyre, "j")
    assert {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
    assert :ok = Pyre.resume(pyre, {:group, "top"})
    for id <- ["a", "b"], do: assert({:ok, [1, 2, 3]} = Pyre.call(pyre, id, :entries))
  end
end
