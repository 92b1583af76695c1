defmodule Pyre.Integration.SleepTest do
  # An agent that is asleep is rows and no process, and nobody who sends it something can tell.
  use Pyre.Case, async: true

  import Pyre.Lull

  alias Pyre.{Address, Error, Instance}
  alias Pyre.Control.Verbs
  alias Pyre.Worker.Pool

  # Longer than any test: nobody falls asleep but those whom the test tells to.
  @long 3_600_000

  describe "an agent that had nothing to do for its idle_timeout" do
    test "has no process, and goes on with the next message where it was" do
      pyre = start_pyre!(idle_timeout: 50)
      start_agent!(pyre, "Journal", id: "j")
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      await_sleep(pyre, "j")
      assert Pyre.whereis(pyre, "j") == nil
      assert {:ok, %{status: :asleep, pid: nil, revision: 1, worker: nil, restarts: 0}} = Pyre.info(pyre, "j")
      assert [%{id: "j", status: :asleep}] = Pyre.agents(pyre, status: :asleep)
      assert %{agents: %{asleep: 1, running: 0}, counters: %{sleeps: 1, wakes: 0}} = Pyre.info(pyre)
      assert {:pyre_agents, [status: :asleep], 1} in Pyre.metrics(pyre)
      assert {:ok, %{"entries" => [1]}, 1} = Pyre.state(pyre, "j")
      assert {:ok, [%{handler: "append"}]} = Pyre.history(pyre, "j")
      assert %{children: [%{name: "j", status: :asleep, restarts: 0}]} = Pyre.tree(pyre)

      assert {:ok, %{"agents" => [%{id: "j"}]}} =
               Verbs.run(pyre, "agents", %{"status" => "asleep"}, &{:ok, &1})

      # Looking did not wake it.
      assert Pyre.info(pyre).counters.wakes == 0
      assert {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 2})
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "j")
      assert %{children: [%{name: "j", restarts: 0}]} = Pyre.tree(pyre)
      assert Pyre.info(pyre).counters.wakes == 1
      await_sleep(pyre, "j")
    end

    test "is forgotten by its interpreter" do
      pyre = start_pyre!(idle_timeout: @long)
      for id <- ["a", "b"], do: start_agent!(pyre, "Journal", id: id)
      for id <- ["a", "b"], do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      eventually(fn -> match?([%{activations: 2}], Pyre.workers(pyre)) end)
      assert Pool.load(Instance.get(pyre), 1) == 2
      lull(pyre, "a")
      eventually(fn -> match?([%{activations: 1}], Pyre.workers(pyre)) end)
      assert Pool.load(Instance.get(pyre), 1) == 1
      assert {:ok, 2} = Pyre.call(pyre, "a", :append, %{entry: 2})
    end

    test "falls asleep by what was said at its start, else by its class, else by the instance" do
      pyre = start_pyre!(idle_timeout: 50)
      never = start_agent!(pyre, "Journal", idle_timeout: :infinity)
      late = start_agent!(pyre, "Dozer", idle_timeout: @long)
      for id <- [never, late], do: await_hibernation(pyre, id)
      soon = start_agent!(pyre, "Journal")
      await_sleep(pyre, soon)
      assert Address.sleep_at(Instance.get(pyre), never) == nil
      assert_in_delta Address.sleep_at(Instance.get(pyre), late), Instance.now_ms() + @long, 60_000

      pyre = start_pyre!()
      by_class = start_agent!(pyre, "Dozer")
      by_option = start_agent!(pyre, "Journal", idle_timeout: 20)
      for id <- [by_class, by_option], do: await_sleep(pyre, id)
      never = start_agent!(pyre, "Journal")
      assert is_pid(await_hibernation(pyre, never))
      assert Address.sleep_at(Instance.get(pyre), never) == nil
      assert {:ok, [1]} = Pyre.call(pyre, by_class, :say, %{n: 1})
    end

    test "does not where somebody counts on its process" do
      pyre = start_pyre!(idle_timeout: @long)
      start_agent!(pyre, "Journal", id: "j")
      pid = await_hibernation(pyre, "j")
      monitor = Process.monitor(pid)
      nudge(pyre, "j", pid)
      # It has gone back to where it was, with a new term.
      eventually(fn -> Address.sleep_at(Instance.get(pyre), "j") > 0 end)
      assert await_hibernation(pyre, "j") == pid
      Process.demonitor(monitor)
      Process.link(pid)
      nudge(pyre, "j", pid)
      eventually(fn -> Address.sleep_at(Instance.get(pyre), "j") > 0 end)
      assert await_hibernation(pyre, "j") == pid
      Process.unlink(pid)
      assert lull(pyre, "j")
    end

    test "does not in a group, whose supervisor restarts processes in their order" do
      pyre = start_pyre!(idle_timeout: 20)
      {:ok, "g"} = Pyre.start_group(pyre, "g", agents: [{"Journal", id: "a"}, {"Journal", id: "b"}])
      start_agent!(pyre, "Journal", id: "alone")
      {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
      for id <- ["a", "b"], do: await_hibernation(pyre, id)
      await_sleep(pyre, "alone")
      for id <- ["a", "b"], do: assert(Address.sleep_at(Instance.get(pyre), id) == nil)
    end

    test "does not while a message of its waits for its next attempt, a person, or the end of a pause" do
      pyre = start_pyre!(idle_timeout: @long)
      start_agent!(pyre, "Journal", id: "j")
      :ok = Pyre.pause(pyre, {:agent, "j"})
      :ok = Pyre.cast(pyre, "j", :append, %{entry: 1})
      pid = await_hibernation(pyre, "j")
      nudge(pyre, "j", pid)
      nudge(pyre, "j", pid)
      assert await_hibernation(pyre, "j") == pid
      assert {:ok, %{status: :running, mailbox: 1}} = Pyre.info(pyre, "j")
      :ok = Pyre.resume(pyre, {:agent, "j"})
      assert {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 2})
    end
  end

  describe "while it is asleep" do
    setup do
      pyre = start_pyre!(idle_timeout: @long)
      {:ok, pyre: pyre, folder: workspace()}
    end

    test "many who send at once wake it once, and each one's messages run in order", %{pyre: pyre} do
      start_agent!(pyre, "Journal", id: "j")
      lull(pyre, "j")

      1..40
      |> Enum.map(fn sender ->
        Task.async(fn ->
          for n <- 1..20, do: :ok = Pyre.cast(pyre, "j", :append, %{entry: 1000 * sender + n})
          {:ok, _count} = Pyre.call(pyre, "j", :append, %{entry: 1000 * sender + 21}, timeout: 20_000)
        end)
      end)
      |> Task.await_many(25_000)

      {:ok, entries} = Pyre.call(pyre, "j", :entries)

      assert Enum.group_by(entries, &div(&1, 1000), &rem(&1, 1000)) ==
               Map.new(1..40, &{&1, Enum.to_list(1..21)})

      assert %{counters: %{wakes: 1, sleeps: 1, restarts: 0}} = Pyre.info(pyre)
    end

    test "its on_start does not run anew, and its on_stop runs when it is stopped", %{
      pyre: pyre,
      folder: folder
    } do
      start_agent!(pyre, "Mortal", id: "m", args: %{folder: folder})
      lull(pyre, "m")
      assert {:ok, 1} = Pyre.call(pyre, "m", :starts)
      lull(pyre, "m")
      assert :ok = Pyre.stop_agent(pyre, "m")
      assert life(folder, "m") == ["start", "stop"]
      assert {:error, %Error{kind: :not_found}} = Pyre.info(pyre, "m")
      start_agent!(pyre, "Mortal", id: "m", args: %{folder: folder})
    end

    test "it is stopped with its state kept, and is no agent to delete", %{pyre: pyre} do
      start_agent!(pyre, "Journal", id: "j")
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      lull(pyre, "j")
      assert {:error, %Error{kind: :already_started}} = Pyre.delete_agent(pyre, "j")
      assert {:error, %Error{kind: :already_started}} = Pyre.start_agent(pyre, "Journal", id: "j")
      assert {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", if_exists: :return)
      assert {:ok, %{status: :asleep}} = Pyre.info(pyre, "j")
      assert :ok = Pyre.stop_agent(pyre, "j", keep: true)
      start_agent!(pyre, "Journal", id: "j")
      assert {:ok, [1]} = Pyre.call(pyre, "j", :entries)
    end

    test "it is restarted on request, and then on_start runs", %{pyre: pyre, folder: folder} do
      start_agent!(pyre, "Mortal", id: "m", args: %{folder: folder})
      lull(pyre, "m")
      assert :ok = Pyre.restart_agent(pyre, "m")
      assert life(folder, "m") == ["start", "start"]
    end

    test "its timers fire, and its subscriptions hold", %{pyre: pyre} do
      start_agent!(pyre, "Clockwork", id: "c")
      {:ok, nil} = Pyre.call(pyre, "c", :set_after, %{seconds: 0.4, key: "soon"})
      start_agent!(pyre, "Listener", id: "l")
      for id <- ["c", "l"], do: lull(pyre, id)
      assert {:ok, %{timers: 1}} = Pyre.info(pyre, "c")
      :ok = Pyre.publish(pyre, "orders.paid", 7)
      eventually(fn -> match?({:ok, %{"heard" => [["orders.paid", 7]]}, 1}, Pyre.state(pyre, "l")) end)
      eventually(fn -> match?({:ok, %{"ticks" => ["after"]}, 2}, Pyre.state(pyre, "c")) end)
    end

    test "a person's answer wakes it", %{pyre: pyre} do
      start_agent!(pyre, "Clerk", id: "c")
      {:ok, 1} = Pyre.call(pyre, "c", :file, %{amount: 900})
      lull(pyre, "c")
      [%{id: escalation, agent: "c"}] = Pyre.inbox(pyre)
      assert {:ok, %{status: :asleep, escalations: 1}} = Pyre.info(pyre, "c")
      :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
      eventually(fn -> match?({:ok, %{"pending" => 0, "decided" => [_one]}, 2}, Pyre.state(pyre, "c")) end)
    end

    test "a stream, another agent and a state wake it", %{pyre: pyre} do
      start_agent!(pyre, "Streamer", id: "s")
      lull(pyre, "s")
      assert pyre |> Pyre.stream("s", :count, %{to: 5}) |> Enum.to_list() == [0, 1, 2, 3, 4]
      lull(pyre, "s")
      assert {:ok, 2} = Pyre.put_state(pyre, "s", %{made: 99}, expect_revision: 1)
      assert {:ok, %{"made" => 99}, 2} = Pyre.state(pyre, "s")
      lull(pyre, "s")
      start_agent!(pyre, "Reader", id: "r")
      lull(pyre, "r")
      assert {:ok, request} = Pyre.call_async(pyre, "s", :count_up, %{})
      assert {:error, _no_such_handler} = Pyre.await(request)
      lull(pyre, "s")
      assert Pyre.cancel(pyre, request.message_id) == :already_done
      assert {:ok, %{status: :asleep}} = Pyre.info(pyre, "s")
    end

    test "who watches it hears of its end, and of nothing before", %{pyre: pyre} do
      for id <- ["a", "b"], do: start_agent!(pyre, "Journal", id: id)
      {:ok, before} = Pyre.monitor(pyre, "a")
      for id <- ["a", "b"], do: lull(pyre, id)
      {:ok, asleep} = Pyre.monitor(pyre, "a")
      {:ok, other} = Pyre.monitor(pyre, "b", restarts: true)
      start_agent!(pyre, "Watchman", id: "w")
      {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "b"})
      lull(pyre, "w")
      {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
      lull(pyre, "a")
      refute_received {:DOWN, _ref, :agent, _id, _reason}
      :ok = Pyre.stop_agent(pyre, "a")
      assert_receive {:DOWN, ^before, :agent, "a", :stopped}
      assert_receive {:DOWN, ^asleep, :agent, "a", :stopped}
      # Woken, it is watched as ever.
      {:ok, 1} = Pyre.call(pyre, "b", :append, %{entry: 1})
      Process.exit(Pyre.whereis(pyre, "b"), :kill)
      assert_receive {:RESTARTED, ^other, :agent, "b", %Error{kind: :agent_down}}
      lull(pyre, "b")
      assert {:ok, %{status: :asleep}} = Pyre.info(pyre, "w")
      :ok = Pyre.stop_agent(pyre, "b")
      assert_receive {:DOWN, ^other, :agent, "b", :stopped}
      eventually(fn -> match?({:ok, %{"downs" => [["b" | _why]]}, 2}, Pyre.state(pyre, "w")) end)
    end

    test "it may be paused and parked", %{pyre: pyre} do
      start_agent!(pyre, "Journal", id: "j")
      lull(pyre, "j")
      :ok = Pyre.pause(pyre, {:agent, "j"})
      assert {:ok, %{status: :asleep, paused: true}} = Pyre.info(pyre, "j")
      :ok = Pyre.cast(pyre, "j", :append, %{entry: 1})
      pid = eventually(fn -> Pyre.whereis(pyre, "j") end)
      assert await_hibernation(pyre, "j") == pid
      assert {:ok, %{status: :running, paused: true, mailbox: 1}} = Pyre.info(pyre, "j")
      :ok = Pyre.resume(pyre, {:agent, "j"})
      assert {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 2})

      lull(pyre, "j")
      :ok = Pyre.park(pyre, "j")
      nudge(pyre, "j", Pyre.whereis(pyre, "j"))
      assert {:error, %Error{kind: :parked}} = Pyre.call(pyre, "j", :entries)
      assert {:ok, %{status: :parked}} = Pyre.info(pyre, "j")
      :ok = Pyre.unpark(pyre, "j")
      assert {:ok, 3} = Pyre.call(pyre, "j", :append, %{entry: 3})
    end

    test "a message to it counts against its limits, and is refused where it is overrun", %{pyre: pyre} do
      start_agent!(pyre, "Journal", id: "j", max_mailbox: 3, rate_limit: {5, 3_600_000})
      :ok = Pyre.pause(pyre, :all)
      lull(pyre, "j")
      for entry <- 1..3, do: :ok = Pyre.cast(pyre, "j", :append, %{entry: entry})
      assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "j", :append, %{entry: 4})
      :ok = Pyre.resume(pyre, :all)
      eventually(fn -> match?({:ok, %{"entries" => [1, 2, 3]}, 3}, Pyre.state(pyre, "j")) end)
      lull(pyre, "j")
      # Tokens are not won by sleeping: three ran, the fourth was refused but counted.
      assert :ok = Pyre.cast(pyre, "j", :append, %{entry: 5})
      assert {:error, %Error{kind: :rate_limited}} = Pyre.cast(pyre, "j", :append, %{entry: 6})
    end
  end

  test "autostart agents that are asleep are there" do
    pyre = start_pyre!(agents: fixture("autostart_agents"), idle_timeout: @long)
    for id <- ["front", "Porter"], do: lull(pyre, id)
    %{reasons: reasons} = Pyre.health(pyre)
    refute Enum.any?(reasons, &(&1 =~ "front" or &1 =~ "Porter"))
    assert {:ok, 1} = Pyre.call(pyre, "front", :room)
  end

  test "on_stop of those asleep runs at shutdown, of those that were used" do
    folder = workspace()
    pyre = start_pyre!(idle_timeout: @long, drain_timeout: 5_000)
    for id <- ["m", "n"], do: start_agent!(pyre, "Mortal", id: id, args: %{folder: folder})
    for id <- ["m", "n"], do: lull(pyre, id)
    :ok = stop_supervised(pyre)
    for id <- ["m", "n"], do: assert(life(folder, id) == ["start", "stop"])
  end

  describe "a snapshot" do
    setup do
      folder = workspace()
      {:ok, folder: folder, opts: [snapshot: Path.join(folder, "snapshot"), idle_timeout: @long]}
    end

    test "has those asleep go on sleeping; the first message in a new node begins an incarnation", %{
      folder: folder,
      opts: opts
    } do
      one = start_pyre!(opts)
      start_agent!(one, "Mortal", id: "m", args: %{folder: folder})
      start_agent!(one, "Journal", id: "j")
      {:ok, 1} = Pyre.call(one, "j", :append, %{entry: 1})
      for id <- ["m", "j"], do: lull(one, id)
      :ok = stop_supervised(one)

      two = start_pyre!(opts)
      assert {:ok, %{status: :asleep, revision: 1, mailbox: 0}} = Pyre.info(two, "j")
      assert {:ok, 2} = Pyre.call(two, "j", :append, %{entry: 2})
      assert {:ok, %{status: :asleep}} = Pyre.info(two, "m")
      assert life(folder, "m") == ["start"]
      assert {:ok, 2} = Pyre.call(two, "m", :starts)
      lull(two, "m")
      assert {:ok, 2} = Pyre.call(two, "m", :starts)
      assert life(folder, "m") == ["start", "start"]
    end

    test "has what came for one asleep wake it in the new node", %{opts: opts} do
      one = start_pyre!(opts)
      for id <- ["j", "k"], do: start_agent!(one, "Journal", id: id)
      for id <- ["j", "k"], do: lull(one, id)
      # Nobody wakes it any more.
      :sys.suspend(process(one, :waker))
      :ok = Pyre.cast(one, "j", :append, %{entry: 7})
      assert {:ok, %{status: :asleep, mailbox: 1}} = Pyre.info(one, "j")
      :ok = stop_supervised(one)

      two = start_pyre!(opts)
      eventually(fn -> match?({:ok, %{"entries" => [7]}, 1}, Pyre.state(two, "j")) end)
      assert {:ok, %{status: :asleep}} = Pyre.info(two, "k")
    end

    test "keeps an agent's own idle_timeout", %{opts: opts} do
      opts = Keyword.delete(opts, :idle_timeout)
      one = start_pyre!(opts)
      start_agent!(one, "Journal", id: "j", idle_timeout: 40)
      await_sleep(one, "j")
      :ok = stop_supervised(one)
      two = start_pyre!(opts)
      {:ok, 1} = Pyre.call(two, "j", :append, %{entry: 1})
      await_sleep(two, "j")
    end
  end

  describe "code that changed meanwhile" do
    @till """
    from pyre import Agent, handler

    class Till(Agent):
        class State:
            cents: int = 0

        @handler
        async def pay(self, cents: int) -> int:
            self.state.cents += cents
            return self.state.cents
    """

    @till_2 """
    from pyre import Agent, handler

    class Till(Agent):
        version = 2
        idle_timeout = 0.05

        class State:
            euros: float = 0.0

        @staticmethod
        def migrate(state: dict, from_version: int) -> dict:
            return {"euros": state["cents"] / 100}

        @handler
        async def pay(self, cents: int) -> float:
            self.state.euros += cents / 100
            return self.state.euros
    """

    setup do
      folder = workspace()
      File.write!(Path.join(folder, "till.py"), @till)
      pyre = start_pyre!(agents: folder, idle_timeout: @long)
      start_agent!(pyre, "Till", id: "t")
      {:ok, 150} = Pyre.call(pyre, "t", :pay, %{cents: 150})
      lull(pyre, "t")
      {:ok, pyre: pyre, folder: folder}
    end

    test "migrates its state when it wakes, and says when it sleeps", %{pyre: pyre, folder: folder} do
      File.write!(Path.join(folder, "till.py"), @till_2)
      assert {:ok, %{generation: 2}} = Pyre.reload(pyre)
      assert {:ok, %{"cents" => 150}, 1} = Pyre.state(pyre, "t")
      assert {:ok, %{status: :asleep}} = Pyre.info(pyre, "t")
      assert {:ok, 2.0} = Pyre.call(pyre, "t", :pay, %{cents: 50})
      assert {:ok, %{"euros" => 2.0}, 2} = Pyre.state(pyre, "t")
      await_sleep(pyre, "t")
    end

    test "has one whose class is gone parked when it wakes, with what waits", %{pyre: pyre, folder: folder} do
      File.rename!(Path.join(folder, "till.py"), Path.join(folder, "till.txt"))
      assert {:ok, %{generation: 2}} = Pyre.reload(pyre)
      :ok = Pyre.cast(pyre, "t", :pay, %{cents: 1})
      eventually(fn -> match?({:ok, %{status: :parked, mailbox: 1}}, Pyre.info(pyre, "t")) end)
      File.rename!(Path.join(folder, "till.txt"), Path.join(folder, "till.py"))
      assert {:ok, %{generation: 3}} = Pyre.reload(pyre)
      :ok = Pyre.unpark(pyre, "t")
      eventually(fn -> match?({:ok, %{"cents" => 151}, 2}, Pyre.state(pyre, "t")) end)
      lull(pyre, "t")
    end
  end

  defp life(folder, id),
    do: folder |> Path.join("#{id}.life") |> File.read!() |> String.split("\n", trim: true)
end
