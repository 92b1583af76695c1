defmodule Pyre.Faults.LoopBlockedTest do
  # Promise: an interpreter whose loop is blocked, however that was done, is found within :stall_timeout and replaced. Its
  # other agents go on with their committed state; the culprit is named with its stack.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault
  @stall 300

  defp start!(opts \\ []) do
    start_pyre!([agents: fixture("agents/misbehaving"), stall_timeout: @stall, stall_warning: 50] ++ opts)
  end

  defp neighbours(pyre, count) do
    for n <- 1..count do
      {:ok, id} = Pyre.start_agent(pyre, "Neighbour", id: "n#{n}")
      {:ok, ^n} = Pyre.call(pyre, id, :add, %{n: n})
      id
    end
  end

  for {class, handler, reason, frame} <- [
        {"InfiniteLoop", "go", "held its loop", "infinite_loop.py"},
        {"TimeSleep", "go", "held its loop", "time_sleep.py"},
        {"GilHeldInC", "go", "held its loop", "gil_held_in_c.py"}
      ] do
    test "#{class}: replaced, the neighbours go on, the culprit is named" do
      pyre = start!()
      neighbours(pyre, 20)
      {:ok, "bad"} = Pyre.start_agent(pyre, unquote(class), id: "bad")
      os_pid = os_pid(pyre)

      assert {:error, %Error{kind: :worker_down, details: details} = error} =
               Pyre.call(pyre, "bad", unquote(handler), %{}, timeout: 20_000)

      assert error.message =~ unquote(reason)
      assert details.begun == true
      assert details.stack =~ unquote(frame)
      assert_os_pid_exited(os_pid)
      for n <- 1..20, do: assert(Pyre.call(pyre, "n#{n}", :total, %{}, timeout: 20_000) == {:ok, n})
      assert {:ok, %{quarantine: %{strikes: 1, evidence: [evidence]}}} = Pyre.info(pyre, "bad")
      assert evidence.handler == unquote(handler)
      assert evidence.stack =~ unquote(frame)
      assert evidence.rss_bytes > 1_000_000
      assert {:ok, %{quarantine: %{strikes: 0, suspect: false}}} = Pyre.info(pyre, "n1")
      assert Pyre.call(pyre, "bad", :ok, %{}, timeout: 20_000) == {:ok, "ok"}
    end
  end

  test "a thread that holds the interpreter's lock in C stops the loop too" do
    pyre = start!()
    neighbours(pyre, 3)
    {:ok, "bad"} = Pyre.start_agent(pyre, "GilHeldInC", id: "bad")
    os_pid = os_pid(pyre)
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :in_thread, %{}, timeout: 20_000)
    assert_os_pid_exited(os_pid)
    assert {:ok, %{quarantine: %{strikes: 1}}} = Pyre.info(pyre, "bad")
    assert Pyre.call(pyre, "n3", :total, %{}, timeout: 20_000) == {:ok, 3}
  end

  test "an interpreter that is stopped from outside is replaced, and nobody is blamed" do
    pyre = start!()
    neighbours(pyre, 3)
    os_pid = os_pid(pyre)
    signal(os_pid, "STOP")
    assert Pyre.call(pyre, "n3", :total, %{}, timeout: 20_000) == {:ok, 3}
    assert_os_pid_exited(os_pid)
    assert {:ok, %{quarantine: %{strikes: 0}}} = Pyre.info(pyre, "n3")
    assert [%{deaths: 1}] = Pyre.workers(pyre)
  end

  test "casts to neighbours that wait behind the blocked loop are run once, in order" do
    pyre = start!()
    [id] = neighbours(pyre, 1)
    {:ok, "bad"} = Pyre.start_agent(pyre, "InfiniteLoop", id: "bad")
    :ok = Pyre.cast(pyre, "bad", :go)
    for n <- 1..50, do: :ok = Pyre.cast(pyre, id, :add, %{n: n})
    eventually(fn -> Pyre.call(pyre, id, :total, %{}, timeout: 20_000) == {:ok, 1 + 1275} end, 20_000)
    eventually(fn -> match?({:ok, %{quarantine: %{strikes: 1}}}, Pyre.info(pyre, "bad")) end)
    assert Pyre.info(pyre).counters.dropped_casts == 1
  end

  test "with stall_timeout: :infinity nothing is replaced" do
    pyre = start!(stall_timeout: :infinity, call_timeout: 1_000)
    {:ok, "bad"} = Pyre.start_agent(pyre, "TimeSleep", id: "bad")
    os_pid = os_pid(pyre)
    assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, "bad", :go)
    assert os_pid(pyre) == os_pid
  end

  test "the warm spare takes the place of the one that is lost" do
    pyre = start!(spare: true)
    neighbours(pyre, 3)
    {:ok, "bad"} = Pyre.start_agent(pyre, "InfiniteLoop", id: "bad")
    eventually(fn -> match?([_shared, %{role: :spare, status: :ready}], Pyre.workers(pyre)) end, 20_000)
    [%{worker: 1, role: :shared, os_pid: lost}, %{worker: 2, os_pid: spare}] = Pyre.workers(pyre)
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :go, %{}, timeout: 20_000)
    assert Pyre.call(pyre, "n3", :total, %{}, timeout: 20_000) == {:ok, 3}
    assert_os_pid_exited(lost)

    eventually(
      fn ->
        match?(
          [%{role: :spare, status: :ready, deaths: 1}, %{role: :shared, status: :ready, os_pid: ^spare}],
          Pyre.workers(pyre)
        )
      end,
      20_000
    )
  end

  test "what neighbours had begun: casts and idempotent calls run again, other calls are told" do
    pyre = start_pyre!(agents: [fixture("agents"), fixture("agents/misbehaving")], stall_timeout: @stall)
    folder = workspace()

    tasks =
      for {id, handler} <- [{"call", :go}, {"again", :go_again}] do
        {:ok, ^id} = Pyre.start_agent(pyre, "Gatekeeper", id: id)
        args = %{folder: folder, name: id}
        {id, Task.async(fn -> Pyre.call(pyre, id, handler, args, timeout: 25_000) end)}
      end

    {:ok, "cast"} = Pyre.start_agent(pyre, "Gatekeeper", id: "cast")
    :ok = Pyre.cast(pyre, "cast", :go, %{folder: folder, name: "cast"})
    for id <- ["call", "again", "cast"], do: await_gate(folder, id)

    {:ok, "bad"} = Pyre.start_agent(pyre, "InfiniteLoop", id: "bad")
    :ok = Pyre.cast(pyre, "bad", :go)
    for id <- ["again", "cast"], do: assert(await_gate(folder, id, 2) == ["1", "2"])
    for id <- ["call", "again", "cast"], do: open_gate(folder, id)

    results = for {id, task} <- tasks, into: %{}, do: {id, Task.await(task, 25_000)}
    assert {:error, %Error{kind: :worker_down, details: %{begun: true}}} = results["call"]
    assert results["again"] == {:ok, 2}
    assert Pyre.call(pyre, "cast", :passed, %{}, timeout: 20_000) == {:ok, [["cast", 2]]}
    assert Pyre.call(pyre, "call", :passed, %{}, timeout: 20_000) == {:ok, []}
    # They were many, but the one on the loop is certain.
    for id <- ["call", "again", "cast"], do: assert({:ok, %{quarantine: %{strikes: 0}}} = Pyre.info(pyre, id))
  end
end
