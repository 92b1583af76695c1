defmodule Pyre.Faults.MisbehavingTest do
  # Promise: whatever one agent does, its neighbours keep their state and go on. What Python itself survives costs the
  # worker nothing; what it doesn't costs it once, with all that it started.
  use Pyre.Case, async: true

  alias Pyre.{Error, OSProcess, PythonError}

  @moduletag :fault

  defp start!(opts \\ []) do
    pyre =
      start_pyre!([agents: fixture("agents/misbehaving"), stall_timeout: 500, call_timeout: 20_000] ++ opts)

    {:ok, "n"} = Pyre.start_agent(pyre, "Neighbour", id: "n")
    {:ok, 1} = Pyre.call(pyre, "n", :add)
    pyre
  end

  # {class, handler, what its caller gets}
  @survived [
    {"FdExhaustion", :go, :ok},
    {"FdExhaustion", :fail, "OSError"},
    {"Interrupted", :go, "KeyboardInterrupt"},
    {"Interrupted", :in_thread, "KeyboardInterrupt"},
    {"Interrupted", :in_callback, :ok},
    {"Exits", :go, "SystemExit"},
    {"Exits", :in_task, "SystemExit"},
    {"RecursionFailure", :go, "RecursionError"},
    {"RecursionFailure", :through_c, "RecursionError"},
    {"StderrFlood", :go, :ok},
    {"StdoutNoise", :go, :ok},
    {"StdoutNoise", :on_loop, :ok},
    {"ThreadLeak", :go, :ok},
    {"UnencodableState", :go, :encode},
    {"UnencodableState", :deep, :encode},
    {"UnprintableException", :go, "UnprintableError"},
    {"UnprintableException", :log, :ok}
  ]

  test "what an interpreter survives costs nobody else anything" do
    pyre = start!()
    os_pid = os_pid(pyre)

    for {{class, handler, outcome}, number} <- Enum.with_index(@survived) do
      {:ok, id} = Pyre.start_agent(pyre, class, id: "a#{number}")

      case {outcome, Pyre.call(pyre, id, handler)} do
        {:ok, {:ok, _reply}} -> :ok
        {type, {:error, %PythonError{type: found}}} when is_binary(type) -> assert found =~ type
        {kind, {:error, %Error{kind: found}}} -> assert kind == found
        {_outcome, unexpected} -> flunk("#{class}.#{handler}: #{inspect(unexpected)}")
      end

      assert {:ok, _ok} = Pyre.call(pyre, id, :ok)
      assert {:ok, _total} = Pyre.call(pyre, "n", :add)
    end

    assert Pyre.call(pyre, "n", :total) == {:ok, length(@survived) + 1}
    assert os_pid(pyre) == os_pid
    assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "n")
  end

  for {class, handler} <- [{"Segfault", :go}, {"Segfault", :in_thread}, {"OsExit", :go}, {"SigstopSelf", :go}] do
    test "#{class}.#{handler}: the interpreter is lost, the neighbour's state is not" do
      pyre = start!()
      os_pid = os_pid(pyre)
      {:ok, "bad"} = Pyre.start_agent(pyre, unquote(class), id: "bad")

      assert {:error, %Error{kind: :worker_down, details: %{begun: true}}} =
               Pyre.call(pyre, "bad", unquote(handler))

      assert Pyre.call(pyre, "n", :add) == {:ok, 2}
      assert_os_pid_exited(os_pid)
      assert Pyre.call(pyre, "bad", :ok) == {:ok, "ok"}
    end
  end

  test "a fatal error leaves Python's stack in the evidence" do
    pyre = start!()
    {:ok, "bad"} = Pyre.start_agent(pyre, "Segfault", id: "bad")
    assert {:error, %Error{details: %{stack: stack}}} = Pyre.call(pyre, "bad", :go)
    assert stack =~ "Segmentation fault"
    assert stack =~ "segfault.py"
  end

  test "a child that holds all pipes does not hide its interpreter's death, and ends with it" do
    pyre = start!()
    os_pid = os_pid(pyre)
    {:ok, "bad"} = Pyre.start_agent(pyre, "GrandchildHoldsPipe", id: "bad")
    {:ok, child} = Pyre.call(pyre, "bad", :go)
    assert OSProcess.alive?(child)
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :die)
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
    assert_os_pid_exited(os_pid)
    assert_os_pid_exited(child)
  end

  test "a bomb of forks ends with its interpreter" do
    pyre = start!()
    os_pid = os_pid(pyre)
    {:ok, "bad"} = Pyre.start_agent(pyre, "ForkBomb", id: "bad")
    {:ok, children} = Pyre.call(pyre, "bad", :go)
    {:ok, forks} = Pyre.call(pyre, "bad", :fork, %{count: 20})
    assert length(children) == 50
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
    signal(os_pid, "KILL")
    assert Pyre.call(pyre, "n", :add) == {:ok, 3}
    for pid <- [os_pid | children ++ forks], do: assert_os_pid_exited(pid)
  end

  test "an on_start that raises uses the restarts up, and whoever waits is told" do
    pyre = start!()

    assert {:error, %Error{kind: :terminated, message: message}} =
             Pyre.start_agent(pyre, "OnStartRaises", id: "bad", max_restarts: 1)

    assert message =~ "it can't begin"
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
  end

  test "memory that runs out is a failure of the handler, and its interpreter is replaced" do
    pyre = start!(max_worker_rss: 100 * 1_048_576)
    os_pid = os_pid(pyre)
    {:ok, "bad"} = Pyre.start_agent(pyre, "OutOfMemory", id: "bad")

    # Taken in the time between two looks at its size, or the soft limit comes first: both end it, neither the state.
    assert {:error, error} = Pyre.call(pyre, "bad", :go, %{megabytes: 600})
    assert match?(%PythonError{type: "MemoryError"}, error) or match?(%Error{kind: :worker_down}, error)
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
    assert_os_pid_exited(os_pid)
  end

  test "a handler's thread that takes the processor delays its neighbours, and no more; it is named" do
    pyre = start!(log: true)
    os_pid = os_pid(pyre)
    {:ok, "bad"} = Pyre.start_agent(pyre, "CpuBoundThread", id: "bad")
    :ok = Pyre.cast(pyre, "bad", :go, %{seconds: 25.0})
    totals = for _n <- 1..20, do: Pyre.call(pyre, "n", :add)
    assert totals == for(n <- 2..21, do: {:ok, n})

    # On a machine that does other things it may take a while until the thread has had a processor for a second.
    assert_receive {:logged, :warning, message, %{agent_id: "bad", handler: "go"}}, 25_000
    assert os_pid(pyre) == os_pid
    assert message =~ "of a CPU"
  end
end
