defmodule Pyre.Faults.RequestsTest do
  # Promise: whatever dies under a chain of calls, who waits for it gets one answer, and nobody is left waiting.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  setup do
    pyre = start_pyre!()
    for id <- ["a", "b", "c"], do: start_agent!(pyre, "Relay", id: id)
    folder = workspace()

    {:ok, request} =
      Pyre.call_async(pyre, "a", :pass_on, %{folder: folder, route: ["b", "c"]}, timeout: 20_000)

    await_gate(folder, "end")
    {:ok, pyre: pyre, folder: folder, request: request}
  end

  defp assert_one_answer(request, kind) do
    assert {:error, %Error{kind: ^kind}} = Pyre.await(request)
    ref = request.ref
    refute_receive {^ref, _status, _body}, 100
  end

  defp assert_all_work(pyre),
    do:
      for(id <- ["a", "b", "c"], do: assert({:ok, _count} = Pyre.call(pyre, id, :add, %{}, timeout: 20_000)))

  test "the interpreter is killed", %{pyre: pyre, request: request} do
    kill_interpreter(pyre)
    assert_one_answer(request, :worker_down)
    assert_all_work(pyre)
    assert :ets.tab2list(Instance.get(pyre).mailbox) == []
    assert :ets.tab2list(Instance.get(pyre).waits) == []
  end

  test "the last agent's process is killed: its caller's handler gets the error, and so on", context do
    %{pyre: pyre, request: request} = context
    Process.exit(Pyre.whereis(pyre, "c"), :kill)
    # An error that a handler does not catch is its own failure.
    assert {:error, %Pyre.PythonError{}} = Pyre.await(request)
    assert_all_work(pyre)
    assert :ets.tab2list(Instance.get(pyre).waits) == []
  end

  test "the first agent's process is killed: what it waited for ends", context do
    %{pyre: pyre, folder: folder, request: request} = context
    Process.exit(Pyre.whereis(pyre, "a"), :kill)
    assert_one_answer(request, :agent_down)
    open_gate(folder, "end")
    assert_all_work(pyre)
  end

  test "it is cancelled while its interpreter is stopped", context do
    %{pyre: pyre, request: request} = context
    os_pid = os_pid(pyre)
    signal(os_pid, "STOP")
    assert :cancelled = Pyre.cancel(request)
    assert_one_answer(request, :cancelled)
    # Its pulse is missed, and another takes over.
    assert_os_pid_exited(os_pid)
    assert_all_work(pyre)
  end
end
