defmodule Pyre.Integration.EventsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}
  alias Pyre.Events.Subscriptions

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, id: start_agent!(pyre, "Listener", id: "l")}
  end

  defp heard(pyre, id, count) do
    eventually(fn ->
      {:ok, state, _revision} = Pyre.state(pyre, id)
      heard = Map.get(state, "heard", [])
      length(heard) == count && heard
    end)
  end

  test "agents hear what their classes want, with what their handlers name", %{pyre: pyre, id: id} do
    for topic <- ["orders.paid", "orders", "news", "alarms", "alarms.fire.late", "weather"],
        do: :ok = Pyre.publish(pyre, topic, topic)

    assert heard(pyre, id, 4) == [["orders.paid", "orders.paid"], ["news"], ["alarms"], ["alarms.fire.late"]]

    assert {:ok, %{subscriptions: subscriptions}} = Pyre.info(pyre, id)
    assert Enum.sort(subscriptions) == [{"alarms.**", "told"}, {"news", "told"}, {"orders.*", "ordered"}]
  end

  test "processes hear it too, in the publisher's order, and end with unsubscribe", %{pyre: pyre, id: id} do
    :ok = Pyre.subscribe(pyre, "counted.**")
    :ok = Pyre.subscribe(pyre, "counted.exactly")
    :ok = Pyre.unsubscribe(pyre, "counted.exactly")
    {:ok, nil} = Pyre.call(pyre, id, :tell, %{topic: "counted.exactly", count: 200})

    for number <- 0..199,
        do: assert_received({:pyre_event, ^pyre, "counted.exactly", %{"number" => ^number}})

    :ok = Pyre.unsubscribe(pyre, "counted.**")
    :ok = Pyre.publish(pyre, "counted.exactly", nil)
    refute_received {:pyre_event, _pyre, _topic, _event}
    assert %{counters: %{events: 201, events_dropped: 0}} = Pyre.info(pyre)
  end

  test "a subscription rides with the commit, and outlives restarts", %{pyre: pyre} do
    id = start_agent!(pyre, "Deaf", id: "d", max_restarts: 10)
    {:ok, nil} = Pyre.call(pyre, id, :listen, %{pattern: "a.*"})
    Process.exit(Pyre.whereis(pyre, id), :kill)
    kill_interpreter(pyre)
    :ok = Pyre.publish(pyre, "a.b", 1)
    assert heard(pyre, id, 1) == [["a.b"]]
    :ok = Pyre.stop_agent(pyre, id)
    :ok = Pyre.publish(pyre, "a.b", 1)
    {:ok, ^id} = Pyre.start_agent(pyre, "Deaf", id: id)
    assert {:ok, %{subscriptions: [], mailbox: 0}} = Pyre.info(pyre, id)
  end

  test "one that a failed handler asked for is none; one that was given up stays so", %{pyre: pyre, id: id} do
    {:error, _failed} = Pyre.call(pyre, id, :listen, %{pattern: "a.*", fail: true})
    {:ok, nil} = Pyre.call(pyre, id, :ignore, %{pattern: "news"})
    {:error, _failed} = Pyre.call(pyre, id, :listen, %{pattern: "a.*", fail: true})
    for topic <- ["a.b", "news", "orders.new"], do: :ok = Pyre.publish(pyre, topic, 1)
    assert heard(pyre, id, 1) == [["orders.new", 1]]
  end

  test "who does not keep up misses events and nobody else does", %{pyre: pyre} do
    folder = workspace()
    slow = start_agent!(pyre, "Listener", id: "slow", max_mailbox: 10)
    task = Task.async(fn -> Pyre.call(pyre, slow, :stand, %{folder: folder}, timeout: 20_000) end)
    await_gate(folder, "busy")
    for n <- 1..30, do: :ok = Pyre.publish(pyre, "news", n)
    assert heard(pyre, "l", 30) == for(n <- 1..30, do: [n])
    open_gate(folder, "busy")
    Task.await(task)
    assert heard(pyre, slow, 9) == for(n <- 1..9, do: [n])
    assert %{counters: %{events_dropped: 21}} = Pyre.info(pyre)
  end

  test "a process that does not read misses events, and is told how many", %{pyre: pyre} do
    :ok = Pyre.subscribe(pyre, "flood")
    for _n <- 1..10_005, do: :ok = Pyre.publish(pyre, "flood", 1)
    assert flush_events(0) == 10_000
    :ok = Pyre.publish(pyre, "flood", 2)
    assert_received {:pyre_events_dropped, ^pyre, 5}
    assert_received {:pyre_event, ^pyre, "flood", 2}
  end

  defp flush_events(count) do
    receive do
      {:pyre_event, _pyre, "flood", 1} -> flush_events(count + 1)
    after
      0 -> count
    end
  end

  test "a process that ends is forgotten, also where who watches it was killed", %{pyre: pyre} do
    instance = Instance.get(pyre)
    before = Instance.subscriptions(instance)

    pids =
      for _n <- 1..2 do
        test = self()

        pid =
          spawn(fn -> Pyre.subscribe(pyre, "x.*") && send(test, :ready) && receive(do: (:never -> :ok)) end)

        assert_receive :ready
        pid
      end

    events = process(pyre, :events)
    Process.exit(events, :kill)
    eventually(fn -> process(pyre, :events) not in [nil, events] end)
    for pid <- pids, do: Process.exit(pid, :kill)
    eventually(fn -> Subscriptions.processes(instance) == [] end)
    assert Instance.subscriptions(instance) == before
    assert :ets.match(instance.subscriptions, {{:wild, "x.*"}, :_, :_}) == []
  end

  test "progress is an event", %{pyre: pyre, id: id} do
    :ok = Pyre.subscribe(pyre, "pyre.progress.**")
    {:ok, nil} = Pyre.call(pyre, id, :work)

    assert_receive {:pyre_event, ^pyre, "pyre.progress.l",
                    %{"fraction" => 0.5, "text" => "half", "agent" => "l"}}
  end

  test "what is no topic, pattern or event is refused", %{pyre: pyre, id: id} do
    assert {:error, %Error{kind: :invalid_args}} = Pyre.publish(pyre, "orders.*", 1)
    assert {:error, %Error{kind: :invalid_args}} = Pyre.publish(pyre, "", 1)
    assert {:error, %Error{kind: :invalid_args}} = Pyre.subscribe(pyre, "orders.pa*")
    assert {:error, %Error{kind: :encode}} = Pyre.publish(pyre, "orders", self())

    assert {:error, %Pyre.PythonError{type: "ValueError"}} =
             Pyre.call(pyre, id, :tell, %{topic: "a..b", count: 1})
  end
end
