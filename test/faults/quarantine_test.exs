defmodule Pyre.Faults.QuarantineTest do
  # Promise: an agent that hurt its worker hurts nobody twice. It runs on alone, and is parked when it does not stop.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault

  defp start!(opts \\ []),
    do: start_pyre!([agents: fixture("agents/misbehaving"), stall_timeout: 300, call_timeout: 20_000] ++ opts)

  defp worker_of(pyre, id) do
    {:ok, %{worker: no}} = Pyre.info(pyre, id)
    Enum.find(Pyre.workers(pyre), &(&1.worker == no))
  end

  test "its second strike kills the probation worker, not the shared one; at the third it is parked" do
    pyre = start!()
    {:ok, "n"} = Pyre.start_agent(pyre, "Neighbour", id: "n")
    {:ok, "bad"} = Pyre.start_agent(pyre, "OsExit", id: "bad")
    {:ok, 1} = Pyre.call(pyre, "n", :add)

    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :go)
    {:ok, 2} = Pyre.call(pyre, "n", :add)
    %{role: :shared, os_pid: shared} = worker_of(pyre, "n")

    for _strike <- 1..2, do: assert({:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :go))
    assert %{role: :shared, os_pid: ^shared, deaths: 1} = worker_of(pyre, "n")
    {:ok, 3} = Pyre.call(pyre, "n", :add)

    assert {:ok, %{status: :parked, quarantine: %{strikes: 3, evidence: [last | _earlier]}}} =
             Pyre.info(pyre, "bad")

    assert %{handler: "go", reason: reason, os_pid: os_pid} = last
    assert reason =~ "exited with status 3"
    assert_os_pid_exited(os_pid)
  end

  test "while it is parked calls are refused at once, casts wait, and both run again after unpark" do
    pyre = start!()
    {:ok, "bad"} = Pyre.start_agent(pyre, "Segfault", id: "bad", max_mailbox: 5)
    for _strike <- 1..3, do: assert({:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :go))
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.call(pyre, "bad", :ok)
    assert message =~ "unpark"
    for _n <- 1..5, do: :ok = Pyre.cast(pyre, "bad", :ok)
    assert {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, "bad", :ok)
    assert {:ok, %{mailbox: 5, status: :parked}} = Pyre.info(pyre, "bad")

    # Nor does the end of its process let it out.
    pid = Pyre.whereis(pyre, "bad")
    Process.exit(pid, :kill)
    eventually(fn -> Pyre.whereis(pyre, "bad") not in [nil, pid] end)
    assert {:error, %Error{kind: :parked}} = Pyre.call(pyre, "bad", :ok)

    assert Pyre.unpark(pyre, "bad") == :ok
    eventually(fn -> match?({:ok, %{mailbox: 0, status: :running}}, Pyre.info(pyre, "bad")) end, 20_000)
    assert Pyre.call(pyre, "bad", :ok) == {:ok, "ok"}
  end

  test "a parked agent can be stopped, and its id is free" do
    pyre = start!()
    {:ok, "bad"} = Pyre.start_agent(pyre, "OsExit", id: "bad")
    for _strike <- 1..3, do: Pyre.call(pyre, "bad", :go)
    assert {:ok, %{status: :parked}} = Pyre.info(pyre, "bad")
    assert Pyre.stop_agent(pyre, "bad") == :ok
    assert {:ok, "bad"} = Pyre.start_agent(pyre, "Neighbour", id: "bad")
  end

  test "several that had begun are suspects: each runs alone once, and returns" do
    pyre = start!()
    folder = workspace()
    {:ok, "bad"} = Pyre.start_agent(pyre, "Segfault", id: "bad")

    slow =
      for n <- 1..3 do
        {:ok, id} = Pyre.start_agent(pyre, "BlockedThread", id: "t#{n}")
        :ok = Pyre.cast(pyre, id, :poll, %{sign: Path.join(folder, id)})
        eventually(fn -> File.exists?(Path.join(folder, id)) end)
        id
      end

    # In a thread: what was on the loop, and what in which thread, does not tell who did it.
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :in_thread)

    suspects =
      for id <- slow ++ ["bad"], {:ok, %{quarantine: %{suspect: true}}} <- [Pyre.info(pyre, id)], do: id

    assert length(suspects) > 0
    assert {:ok, %{quarantine: %{strikes: 0}}} = Pyre.info(pyre, "bad")
    for id <- slow, do: Pyre.stop_agent(pyre, id, timeout: 20_000)
    assert Pyre.call(pyre, "bad", :ok) == {:ok, "ok"}
    assert {:ok, %{quarantine: %{suspect: false}}} = Pyre.info(pyre, "bad")
  end

  test "an operator's kill is nobody's strike" do
    pyre = start!()
    folder = workspace()
    {:ok, "t"} = Pyre.start_agent(pyre, "BlockedThread", id: "t")
    :ok = Pyre.cast(pyre, "t", :poll, %{sign: Path.join(folder, "t")})
    eventually(fn -> File.exists?(Path.join(folder, "t")) end)
    pyre |> os_pid() |> signal("KILL")
    eventually(fn -> match?([%{deaths: 1, status: :ready}], Pyre.workers(pyre)) end)
    assert {:ok, %{quarantine: %{strikes: 0, suspect: false}}} = Pyre.info(pyre, "t")
  end

  test "a function that runs without an agent is refused after its second strike" do
    pyre = start!()
    {:ok, "n"} = Pyre.start_agent(pyre, "Neighbour", id: "n")
    {:ok, 1} = Pyre.call(pyre, "n", :add)
    for _strike <- 1..2, do: assert({:error, %Error{kind: :worker_down}} = Pyre.run(pyre, "os", "_exit", [3]))
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.run(pyre, "os", "_exit", [3])
    assert message =~ "os._exit"
    assert {:ok, _pid} = Pyre.run(pyre, "os", "getpid")
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
  end

  test "strikes decay" do
    pyre = start!(strike_decay: 1)
    {:ok, "bad"} = Pyre.start_agent(pyre, "OsExit", id: "bad")
    for _strike <- 1..4, do: assert({:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :go))

    eventually(fn -> match?({:ok, %{status: :running, quarantine: %{strikes: 0}}}, Pyre.info(pyre, "bad")) end)
  end

  test "isolation: an interpreter of its own, or one for each tenant" do
    pyre = start!(max_isolated: 2)
    {:ok, "own"} = Pyre.start_agent(pyre, "InfiniteLoop", id: "own", isolation: :dedicated)

    for id <- ["a1", "a2"],
        do: {:ok, ^id} = Pyre.start_agent(pyre, "Neighbour", id: id, isolation: {:tenant, "a"})

    {:ok, "free"} = Pyre.start_agent(pyre, "Neighbour", id: "free")
    assert Pyre.call(pyre, "own", :ok) == {:ok, "ok"}
    for id <- ["a1", "a2", "free"], do: assert(Pyre.call(pyre, id, :add) == {:ok, 1})
    assert %{role: {:dedicated, _handle}} = worker_of(pyre, "own")
    assert %{role: {:tenant, "a"}, worker: no} = worker_of(pyre, "a1")
    assert %{worker: ^no} = worker_of(pyre, "a2")
    assert %{role: :shared} = worker_of(pyre, "free")

    {:ok, "b1"} = Pyre.start_agent(pyre, "Neighbour", id: "b1", isolation: {:tenant, "b"})
    assert {:error, %Error{kind: :overloaded, message: message}} = Pyre.call(pyre, "b1", :add)
    assert message =~ ":max_isolated"

    assert_raise ArgumentError, ~r/:isolation/, fn ->
      Pyre.start_agent(pyre, "Neighbour", isolation: {:tenant, :a})
    end
  end
end
