defmodule Pyre.Faults.SleepTest do
  # Promise: whatever dies while agents sleep, fall asleep or wake, no accepted message is lost, doubled or out of order, and nobody runs twice.
  use Pyre.Case, async: true

  import Pyre.Lull

  alias Pyre.{Address, Instance, Patience}

  @moduletag :fault
  @moduletag timeout: 90_000
  @long 3_600_000

  setup do
    {:ok, pyre: start_pyre!(idle_timeout: @long)}
  end

  defp sleepers(pyre, count) do
    ids = for n <- 1..count, do: start_agent!(pyre, "Journal", id: "j#{n}")
    for id <- ids, do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 0})
    for id <- ids, do: lull(pyre, id)
    ids
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  defp wakes(pyre), do: Pyre.info(pyre).counters.wakes
  defp asleep(pyre), do: Pyre.info(pyre).agents.asleep

  test "the end of an interpreter, of a worker or of supervisors wakes nobody", %{pyre: pyre} do
    ids = sleepers(pyre, 20)
    {:ok, 1} = Pyre.call(pyre, start_agent!(pyre, "Journal", id: "awake"), :append, %{entry: 0})
    kill_interpreter(pyre)
    assert asleep(pyre) == 20
    no = fn -> Enum.find(Pyre.Worker.Pool.all(Instance.get(pyre)), &(&1.worker == 1)).pid end
    kill(no.())

    for number <- 0..(System.schedulers_online() - 1) do
      before = process(pyre, {:partition, number})
      kill(before)
      eventually(fn -> process(pyre, {:partition, number}) not in [before, nil] end)
    end

    for role <- [:sweeper, :waker, :monitors, :timers, :starter] do
      before = process(pyre, role)
      kill(before)
      eventually(fn -> process(pyre, role) not in [before, nil] end)
    end

    assert {:ok, 2} = Pyre.call(pyre, "awake", :append, %{entry: 1}, timeout: 20_000)
    assert asleep(pyre) == 20
    assert wakes(pyre) == 0
    for id <- ids, do: assert({:ok, 2} = Pyre.call(pyre, id, :append, %{entry: 1}, timeout: 20_000))
    assert wakes(pyre) == 20
  end

  test "what was sent while nobody wakes is found by the next who does", %{pyre: pyre} do
    ids = sleepers(pyre, 10)
    waker = process(pyre, :waker)
    :sys.suspend(waker)
    for id <- ids, do: :ok = Pyre.cast(pyre, id, :append, %{entry: 1})
    call = Task.async(fn -> Pyre.call(pyre, "j1", :append, %{entry: 2}, timeout: 20_000) end)
    eventually(fn -> match?({:ok, %{mailbox: 2}}, Pyre.info(pyre, "j1")) end)
    assert asleep(pyre) == 10
    kill(waker)
    assert {:ok, 3} = Task.await(call, 20_000)

    for id <- ids,
        do: eventually(fn -> match?({:ok, %{"entries" => [0, 1 | _]}, _}, Pyre.state(pyre, id)) end)

    assert wakes(pyre) == 10
  end

  test "where the supervisor is away, who wakes tries again", %{pyre: pyre} do
    sleepers(pyre, 1)
    supervisor = process(pyre, {:partition, Pyre.Agent.Supervisor.partition("j1")})
    :sys.suspend(supervisor)
    :ok = Pyre.cast(pyre, "j1", :append, %{entry: 1})
    # It waits for an answer that never comes.
    eventually(fn -> Process.info(process(pyre, :waker), :message_queue_len) == {:message_queue_len, 0} end)
    kill(supervisor)
    assert {:ok, 3} = Pyre.call(pyre, "j1", :append, %{entry: 2}, timeout: 20_000)
    assert wakes(pyre) == 1
  end

  test "a process that is killed after it fell asleep leaves an agent that is asleep, or awake", %{pyre: pyre} do
    start_agent!(pyre, "Journal", id: "j")
    {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
    pid = await_hibernation(pyre, "j")
    # As far as it comes before the last step.
    assert Address.fall_asleep(Instance.get(pyre), "j", pid)
    assert {:ok, %{status: :asleep}} = Pyre.info(pyre, "j")
    kill(pid)
    assert {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 2})
    assert {:ok, %{restarts: 0, status: :running}} = Pyre.info(pyre, "j")
    assert wakes(pyre) == 1
  end

  test "one that is killed when it has just woken is restarted as any other", %{pyre: pyre} do
    sleepers(pyre, 1)
    :ok = Pyre.pause(pyre, :all)
    :ok = Pyre.cast(pyre, "j1", :append, %{entry: 1})
    kill(eventually(fn -> Pyre.whereis(pyre, "j1") end))
    :ok = Pyre.resume(pyre, :all)
    assert {:ok, 3} = Pyre.call(pyre, "j1", :append, %{entry: 2}, timeout: 20_000)
    assert {:ok, %{restarts: 1}} = Pyre.info(pyre, "j1")
  end

  test "of two processes that are started for one agent only one has it", %{pyre: pyre} do
    [id] = sleepers(pyre, 1)
    instance = Instance.get(pyre)

    for _round <- 1..50 do
      lull(pyre, id)

      started =
        1..8
        |> Enum.map(fn _n -> Task.async(fn -> Pyre.Agent.Supervisor.start_child(instance, id) end) end)
        |> Task.await_many()

      assert [{:ok, pid}] = Enum.reject(started, &(&1 == :ignore))
      assert Pyre.whereis(pyre, id) == pid
    end

    assert wakes(pyre) == 50
    assert {:ok, 2} = Pyre.call(pyre, id, :append, %{entry: 1})
  end

  # Each round begins with an agent that has nothing to do, and has it told to sleep at the instant in which several send.
  test "falling asleep against sending: nothing is lost, doubled or out of order", %{pyre: pyre} do
    ids = for n <- 1..4, do: start_agent!(pyre, "Journal", id: "j#{n}")
    ids |> Enum.map(&Task.async(fn -> race(pyre, &1, 150) end)) |> Task.await_many(80_000)

    for id <- ids do
      {:ok, entries} = Pyre.call(pyre, id, :entries)
      assert_ledger(entries, 3, 150)
    end

    %{counters: %{wakes: wakes, sleeps: sleeps, restarts: 0}} = Pyre.info(pyre)
    assert sleeps > 100
    assert wakes == sleeps
  end

  defp race(pyre, id, rounds) do
    for round <- 1..rounds do
      pid = await_hibernation(pyre, id)

      senders =
        for sender <- 1..3 do
          Task.async(fn ->
            spin(:rand.uniform(80_000))
            send_one(pyre, id, rem(round + sender, 2), sender * 1_000 + round)
          end)
        end

      spin(:rand.uniform(20_000))
      if pid, do: nudge(pyre, id, pid)
      Task.await_many(senders, 20_000)
    end
  end

  defp send_one(pyre, id, 0, entry), do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry})

  defp send_one(pyre, id, 1, entry),
    do: {:ok, _count} = Pyre.call(pyre, id, :append, %{entry: entry}, timeout: 20_000)

  # Some microseconds, without giving the processor up.
  defp spin(0), do: :ok
  defp spin(n), do: spin(n - 1)

  test "agents that doze off all the time, several senders, and processes that are killed: the ledger is whole",
       %{
         pyre: pyre
       } do
    ids =
      for n <- 1..6, do: start_agent!(pyre, "Journal", id: "d#{n}", idle_timeout: 1, max_restarts: 100_000)

    stop = :atomics.new(1, [])
    killer = Task.async(fn -> kill_on(pyre, ids, stop) end)

    for(id <- ids, sender <- 1..3, do: {id, sender})
    |> Enum.map(fn {id, sender} -> Task.async(fn -> pour(pyre, id, sender, 1, 60) end) end)
    |> Task.await_many(80_000)

    :atomics.put(stop, 1, 1)
    assert Task.await(killer) > 0

    for id <- ids do
      {:ok, entries} = Pyre.call(pyre, id, :entries, %{}, timeout: 20_000)
      assert_ledger(entries, 3, 60)
    end

    assert Pyre.info(pyre).counters.sleeps > 50
  end

  # Casts: of a call under which its agent's process is killed nobody knows.
  defp pour(_pyre, _id, _sender, n, last) when n > last, do: :ok

  defp pour(pyre, id, sender, n, last) do
    :ok = Pyre.cast(pyre, id, :append, %{entry: sender * 1_000 + n})
    # About as long as it takes to fall asleep.
    Patience.pause(:rand.uniform(150))
    pour(pyre, id, sender, n + 1, last)
  end

  defp kill_on(pyre, ids, stop, count \\ 0) do
    if :atomics.get(stop, 1) == 1 do
      count
    else
      Patience.pause(150)

      case Pyre.whereis(pyre, Enum.random(ids)) do
        nil -> kill_on(pyre, ids, stop, count)
        pid -> Process.exit(pid, :kill) && kill_on(pyre, ids, stop, count + 1)
      end
    end
  end

  defp assert_ledger(entries, senders, last) do
    expected = Map.new(1..senders, &{&1, Enum.to_list(1..last)})
    assert Enum.group_by(entries, &div(&1, 1_000), &rem(&1, 1_000)) == expected
  end
end
