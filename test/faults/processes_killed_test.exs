defmodule Pyre.Faults.ProcessesKilledTest do
  # Promise: the loss of any process but State costs no state and no accepted message.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}
  alias Pyre.Worker.Pool

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    ids = for n <- 1..20, do: start_agent!(pyre, "Journal", id: "j#{n}")
    for id <- ids, do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 0})
    {:ok, pyre: pyre, ids: ids, folder: workspace()}
  end

  # Kills it, and waits until another process has taken its role.
  defp kill(find) do
    pid = find.()
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}

    eventually(fn ->
      new = find.()
      new != pid and is_pid(new) and Process.alive?(new)
    end)
  end

  defp child(supervisor, module) do
    supervisor
    |> Supervisor.which_children()
    |> Enum.find_value(fn
      {_id, pid, _type, [^module]} -> pid
      {_id, pid, :supervisor, _modules} when is_pid(pid) -> child(pid, module)
      _other -> nil
    end)
  catch
    # The supervisor itself is what was killed.
    :exit, _gone -> nil
  end

  defp assert_all_answer(pyre, ids) do
    for id <- ids, do: assert(Pyre.call(pyre, id, :append, %{entry: 1}, timeout: 15_000) == {:ok, 2})
    assert length(Pyre.agents(pyre, status: :running)) == length(ids)
  end

  describe "the supervisors of agents:" do
    test "a partition comes back with its agents and their queues", %{pyre: pyre, ids: ids, folder: folder} do
      gates = for n <- 1..8, do: start_agent!(pyre, "Gatekeeper", id: "g#{n}")
      for id <- gates, do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: id})
      for id <- gates, do: await_gate(folder, id)
      for id <- gates, do: :ok = Pyre.cast(pyre, id, :go, %{folder: folder, name: "second"})
      open_gate(folder, "second")

      for number <- 0..(System.schedulers_online() - 1),
          do: kill(fn -> process(pyre, {:partition, number}) end)

      for id <- gates, do: open_gate(folder, id)

      for id <- gates,
          do: assert({:ok, [[^id, 2], ["second", 1]]} = Pyre.call(pyre, id, :passed, %{}, timeout: 15_000))

      for id <- ids, do: assert(Pyre.call(pyre, id, :entries) == {:ok, [0]})
    end

    test "the supervisor of all partitions comes back with all agents", %{pyre: pyre, ids: ids} do
      before = for id <- ids, do: Pyre.whereis(pyre, id)
      kill(fn -> child(pyre, Pyre.Agent.Supervisor) end)

      # The agents learn of it a little later; a call that one of them has begun until then is rightly `agent_down`.
      eventually(fn -> not Enum.any?(before, &(&1 && Process.alive?(&1))) end)
      assert_all_answer(pyre, ids)
    end
  end

  describe "the workers:" do
    test "a worker's process comes back, and its interpreter is replaced", %{pyre: pyre, ids: ids} do
      os_pid = os_pid(pyre)
      kill(fn -> Pool.pid(Instance.get(pyre), 1) end)
      assert_os_pid_exited(os_pid)
      assert_all_answer(pyre, ids)
    end

    test "a worker's process with messages in flight", %{pyre: pyre, folder: folder} do
      for id <- ["call", "cast", "again"], do: {:ok, ^id} = Pyre.start_agent(pyre, "Gatekeeper", id: id)
      call = Task.async(fn -> Pyre.call(pyre, "call", :go, %{folder: folder, name: "call"}) end)

      again =
        Task.async(fn ->
          Pyre.call(pyre, "again", :go_again, %{folder: folder, name: "again"}, timeout: 15_000)
        end)

      :ok = Pyre.cast(pyre, "cast", :go, %{folder: folder, name: "cast"})
      for name <- ["call", "cast", "again"], do: await_gate(folder, name)
      waiting = Task.async(fn -> Pyre.call(pyre, "call", :passed, %{}, timeout: 15_000) end)
      kill(fn -> Pool.pid(Instance.get(pyre), 1) end)
      assert {:error, %Error{kind: :worker_down}} = Task.await(call, 15_000)
      for name <- ["cast", "again"], do: assert(await_gate(folder, name, 2) == ["1", "2"])
      for name <- ["cast", "again"], do: open_gate(folder, name)
      assert Task.await(again, 15_000) == {:ok, 2}
      assert Task.await(waiting, 15_000) == {:ok, []}
      assert Pyre.call(pyre, "cast", :passed, %{}, timeout: 15_000) == {:ok, [["cast", 2]]}
    end

    test "a function that runs in a worker whose process is killed is answered", %{pyre: pyre} do
      run = Task.async(fn -> Pyre.run(pyre, "_plain", "sleep", [20], timeout: 20_000) end)

      eventually(fn ->
        match?(
          {:ok, %{under_way: 1}},
          Pyre.Worker.Recorder.read(Pyre.Worker.Launch.paths(Instance.get(pyre), 1).recorder)
        )
      end)

      kill(fn -> Pool.pid(Instance.get(pyre), 1) end)
      assert {:error, %Error{kind: :worker_down}} = Task.await(run)
    end

    test "the supervisor of the workers", %{pyre: pyre, ids: ids} do
      kill(fn -> child(pyre, Pyre.Worker.Supervisor) end)
      assert_all_answer(pyre, ids)
    end

    test "the pulse", %{pyre: pyre, ids: ids} do
      kill(fn -> child(pyre, Pyre.Worker.Pulse) end)
      assert_all_answer(pyre, ids)
    end

    test "the log of a worker: its interpreter is replaced", %{pyre: pyre, ids: ids} do
      os_pid = os_pid(pyre)
      %{log: log} = pyre |> Instance.get() |> Pool.pid(1) |> :sys.get_state()
      Process.exit(log, :kill)
      eventually(fn -> os_pid(pyre) != os_pid end)
      assert_all_answer(pyre, ids)
    end
  end

  describe "the others:" do
    test "the starter", %{pyre: pyre, ids: ids} do
      kill(fn -> process(pyre, :starter) end)
      :ok = Pyre.await_ready(pyre)
      {:ok, "new"} = Pyre.start_agent(pyre, "Journal", id: "new")
      {:ok, 1} = Pyre.call(pyre, "new", :append, %{entry: 0})
      assert_all_answer(pyre, ["new" | ids])
    end

    test "the timers: what was set fires", %{pyre: pyre, ids: ids} do
      {:ok, "t"} = Pyre.start_agent(pyre, "Journal", id: "t")
      {:ok, nil} = Pyre.call(pyre, "t", :later, %{entry: 7, seconds: 0.2})
      kill(fn -> process(pyre, :timers) end)
      eventually(fn -> match?({:ok, %{"entries" => [7]}, _revision}, Pyre.state(pyre, "t")) end)
      for id <- ids, do: assert(Pyre.call(pyre, id, :entries) == {:ok, [0]})
    end

    test "the reaper: what it watched is watched again", %{pyre: pyre, ids: ids} do
      kill(fn -> process(pyre, :reaper) end)
      assert_all_answer(pyre, ids)
      kill_interpreter(pyre)
      for id <- ids, do: assert(Pyre.call(pyre, id, :entries, %{}, timeout: 15_000) == {:ok, [0, 1]})
    end

    test "the reaper's program", %{pyre: pyre, ids: ids} do
      reaper = process(pyre, :reaper)
      {:os_pid, os_pid} = reaper |> :sys.get_state() |> Port.info(:os_pid)
      signal(os_pid, "KILL")
      eventually(fn -> process(pyre, :reaper) != reaper end)
      assert_all_answer(pyre, ids)
    end

    test "everything at once, again and again", %{pyre: pyre, ids: ids} do
      for _round <- 1..2 do
        for role <- [:starter, :timers, :reaper, {:partition, 0}],
            do: Process.exit(process(pyre, role), :kill)

        Process.exit(Pool.pid(Instance.get(pyre), 1), :kill)

        eventually(fn ->
          Enum.all?([:starter, :timers, :reaper, {:partition, 0}], &Process.alive?(process(pyre, &1)))
        end)

        :ok = Pyre.await_ready(pyre)
      end

      assert_all_answer(pyre, ids)
    end
  end
end
