defmodule Pyre.Faults.NoFalseAlarmTest do
  # Promise: only what is stuck is replaced. An import, a full garbage collection, the opening of a resource, a crowd of
  # messages and a suspended machine are not.
  use Pyre.Case, async: true

  @moduletag :fault

  for class <- ["Imports", "Opens", "Collects"] do
    test "#{class}: the loop is held for longer than :stall_timeout, and nothing is replaced" do
      pyre =
        start_pyre!(
          agents: fixture("agents/excused"),
          env: [{"TEST_SLOW_SECONDS", "1.2"}],
          stall_timeout: 300,
          call_timeout: 20_000
        )

      {:ok, id} = Pyre.start_agent(pyre, unquote(class))
      os_pid = os_pid(pyre)
      assert {:ok, _reply} = Pyre.call(pyre, id, :go)
      assert os_pid(pyre) == os_pid
      assert [%{deaths: 0}] = Pyre.workers(pyre)
    end
  end

  test "a crowd of messages makes the loop late, but it moves" do
    pyre = start_pyre!(agents: fixture("agents/misbehaving"), stall_timeout: 200, call_timeout: 25_000)
    for n <- 1..100, do: {:ok, _id} = Pyre.start_agent(pyre, "Neighbour", id: "n#{n}")
    for round <- 1..100, n <- 1..100, do: :ok = Pyre.cast(pyre, "n#{n}", :add, %{n: round})
    for n <- 1..100, do: assert({:ok, 5050} = Pyre.call(pyre, "n#{n}", :total))
    assert [%{deaths: 0}] = Pyre.workers(pyre)
  end

  test "where the watcher itself was stopped, nobody is blamed for the time" do
    pyre = start_pyre!(agents: fixture("agents/misbehaving"), stall_timeout: 800, call_timeout: 20_000)
    {:ok, "slow"} = Pyre.start_agent(pyre, "TimeSleep", id: "slow")
    pulse = pyre |> Pyre.Instance.get() |> Pyre.Instance.whereis(:pulse)
    slow = Task.async(fn -> Pyre.call(pyre, "slow", :go, %{seconds: 1.2}) end)
    eventually(fn -> match?([%{activations: 1}], Pyre.workers(pyre)) end)

    # As a suspended machine does: the step lasts 1.2 s on the clock, and is seen at its beginning and after its middle.
    :ok = :sys.suspend(pulse)
    eventually(fn -> Process.info(pulse, :message_queue_len) != {:message_queue_len, 0} end)
    refute Task.yield(slow, 650)
    :ok = :sys.resume(pulse)
    assert {:ok, _reply} = Task.await(slow, 20_000)
    assert [%{deaths: 0}] = Pyre.workers(pyre)
  end

  test "an import that hangs at the start is named" do
    pyre = boot_pyre!(agents: fixture("hanging_import"), start_timeout: 1_500, stall_timeout: 300)

    error = eventually(fn -> hd(Pyre.workers(pyre)).last_error end, 20_000)
    assert error.kind == :worker_start
    assert error.details.stack =~ "hangs.py"
  end
end
