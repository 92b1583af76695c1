defmodule Pyre.Faults.ShutdownTest do
  # Promise: the end of an instance lets what runs end, answers whoever waits, and leaves nothing behind.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault

  setup do
    {:ok, folder: workspace()}
  end

  defp begin(pyre, folder, handler \\ :go) do
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    call = Task.async(fn -> Pyre.call(pyre, "g", handler, %{folder: folder, name: "a"}, timeout: 20_000) end)
    await_gate(folder, "a")
    call
  end

  defp stop(pyre), do: Task.async(fn -> Supervisor.stop(pyre) end)

  defp await_closed(pyre), do: eventually(fn -> Pyre.info(pyre).stopping end)

  test "what runs may end; what waits, and what comes, is told", %{folder: folder} do
    pyre = start_pyre!(drain_timeout: 10_000)
    running = begin(pyre, folder)
    waiting = for _n <- 1..3, do: Task.async(fn -> Pyre.call(pyre, "g", :passed) end)
    eventually(fn -> match?({:ok, %{mailbox: 4}}, Pyre.info(pyre, "g")) end)
    stopping = stop(pyre)
    await_closed(pyre)
    for task <- waiting, do: assert({:error, %Error{kind: :stopping}} = Task.await(task))
    assert {:error, %Error{kind: :stopping} = error} = Pyre.call(pyre, "g", :passed)
    assert Error.retryable?(error)
    assert {:error, %Error{kind: :stopping}} = Pyre.cast(pyre, "g", :passed)
    assert {:error, %Error{kind: :stopping}} = Pyre.start_agent(pyre, "Echo")
    assert {:error, %Error{kind: :stopping}} = Pyre.run(pyre, "math", "sqrt", [4])
    open_gate(folder, "a")
    assert Task.await(running) == {:ok, 1}
    assert Task.await(stopping, 20_000) == :ok
  end

  for handler <- [:go, :go_in_thread, :hold_loop] do
    test "what runs longer than the drain's time is cut, and its caller is told (#{handler})", %{
      folder: folder
    } do
      pyre = start_pyre!(drain_timeout: 100)
      running = begin(pyre, folder, unquote(handler))
      stopping = stop(pyre)
      assert {:error, %Error{kind: kind}} = Task.await(running, 10_000)
      assert kind == :agent_down
      assert Task.await(stopping, 20_000) == :ok
    end
  end

  test "a function that runs longer is cut, and its caller is told" do
    pyre = start_pyre!(drain_timeout: 100)
    running = Task.async(fn -> Pyre.run(pyre, "_plain", "sleep", [60], timeout: 20_000) end)
    path = Pyre.Worker.Launch.paths(Pyre.Instance.get(pyre), 1).recorder
    eventually(fn -> match?({:ok, %{under_way: 1}}, Pyre.Worker.Recorder.read(path)) end)
    stopping = stop(pyre)
    assert {:error, %Error{}} = Task.await(running, 10_000)
    assert Task.await(stopping, 20_000) == :ok
  end

  test "while interpreters are still starting takes no longer than they" do
    pyre = boot_pyre!()
    assert Supervisor.stop(pyre) == :ok
  end

  test "of an interpreter that is stopped is by force", %{folder: folder} do
    pyre = start_pyre!(drain_timeout: 100)
    running = begin(pyre, folder)
    os_pid = os_pid(pyre)
    signal(os_pid, "STOP")
    stopping = stop(pyre)
    assert {:error, %Error{}} = Task.await(running, 15_000)
    assert Task.await(stopping, 20_000) == :ok
    assert_os_pid_exited(os_pid)
  end

  test "with its supervisor killed leaves no interpreter", %{folder: folder} do
    pyre = start_pyre!()
    running = begin(pyre, folder)
    os_pid = os_pid(pyre)
    monitor = Process.monitor(Process.whereis(pyre))
    Process.exit(Process.whereis(pyre), :kill)
    assert_receive {:DOWN, ^monitor, :process, _pid, :killed}
    assert_os_pid_exited(os_pid)
    assert {:error, %Error{kind: :agent_down}} = Task.await(running, 10_000)
  end
end
