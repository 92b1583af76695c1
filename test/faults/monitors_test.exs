defmodule Pyre.Faults.MonitorsTest do
  # Promise: who watches an agent is told of its end once, and of nothing else, whatever dies in between.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 100)
    {:ok, "w"} = Pyre.start_agent(pyre, "Watchman", id: "w", max_restarts: 100)
    {:ok, nil} = Pyre.call(pyre, "w", :watch, %{id: "j"})
    {:ok, ref} = Pyre.monitor(pyre, "j")
    {:ok, pyre: pyre, ref: ref}
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}
  end

  defp answers(pyre), do: {:ok, _entries} = Pyre.call(pyre, "j", :entries, %{}, timeout: 20_000)

  defp stop_and_assert_told(pyre, ref) do
    refute_received {:DOWN, ^ref, :agent, _id, _reason}
    assert {:ok, []} = Pyre.call(pyre, "w", :downs, %{}, timeout: 20_000)
    :ok = Pyre.stop_agent(pyre, "j")
    assert_receive {:DOWN, ^ref, :agent, "j", :stopped}, 5_000

    downs =
      eventually(fn ->
        {:ok, downs} = Pyre.call(pyre, "w", :downs)
        downs != [] && downs
      end)

    assert [["j", "Stopped", _words]] = downs
    eventually(fn -> :ets.info(Instance.get(pyre).monitors, :size) == 0 end)
    refute_received {:DOWN, ^ref, :agent, _id, _reason}
  end

  test "a kill of the agent's process is no end, nor is one of the watcher's", %{pyre: pyre, ref: ref} do
    for _time <- 1..3, id <- ["j", "w"] do
      kill(eventually(fn -> Pyre.whereis(pyre, id) end))
      answers(pyre)
    end

    stop_and_assert_told(pyre, ref)
  end

  test "nor is one of the supervisors of agents", %{pyre: pyre, ref: ref} do
    for n <- 0..(System.schedulers_online() - 1), do: kill(process(pyre, {:partition, n}))
    answers(pyre)
    stop_and_assert_told(pyre, ref)
  end

  test "nor one of the interpreter", %{pyre: pyre, ref: ref} do
    kill_interpreter(pyre)
    answers(pyre)
    stop_and_assert_told(pyre, ref)
  end

  test "the watches outlive the process that fires them", %{pyre: pyre, ref: ref} do
    watcher = process(pyre, :monitors)
    kill(watcher)
    eventually(fn -> process(pyre, :monitors) not in [nil, watcher] end)
    stop_and_assert_told(pyre, ref)
  end

  test "an end while nobody is there to tell of it is told by the successor", %{pyre: pyre, ref: ref} do
    runtime =
      pyre
      |> process(:monitors)
      |> then(&Process.info(&1, :dictionary))
      |> elem(1)
      |> Keyword.fetch!(:"$ancestors")
      |> hd()

    :ok = Supervisor.terminate_child(runtime, Pyre.Monitors)
    :ok = Pyre.stop_agent(pyre, "j")
    refute_received {:DOWN, ^ref, :agent, _id, _reason}
    {:ok, _pid} = Supervisor.restart_child(runtime, Pyre.Monitors)
    assert_receive {:DOWN, ^ref, :agent, "j", :stopped}, 5_000
  end

  test "an agent that is killed too often is terminated, and that is told", %{pyre: pyre} do
    {:ok, "k"} = Pyre.start_agent(pyre, "Journal", id: "k", max_restarts: 1)
    {:ok, ref} = Pyre.monitor(pyre, "k", restarts: true)
    kill(Pyre.whereis(pyre, "k"))
    assert_receive {:RESTARTED, ^ref, :agent, "k", %Error{kind: :agent_down}}, 5_000
    kill(eventually(fn -> Pyre.whereis(pyre, "k") end))
    assert_receive {:DOWN, ^ref, :agent, "k", %Error{kind: :agent_down}}, 5_000
  end

  test "an on_down for a watcher that is terminated is a dead letter", %{pyre: pyre} do
    {:ok, "v"} = Pyre.start_agent(pyre, "Watchman", id: "v", max_restarts: 0)
    {:ok, nil} = Pyre.call(pyre, "v", :watch, %{id: "j"})
    kill(Pyre.whereis(pyre, "v"))
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "v")) end)
    :ok = Pyre.stop_agent(pyre, "j")

    assert [%{kind: :on_down, agent: "v", args: %{"id" => "j"}, reason: :terminated}] =
             eventually(fn -> with([] <- Pyre.dead_letters(pyre), do: nil) end)
  end

  test "the loss of all tables is told, also to who began to watch just before", %{pyre: pyre, ref: ref} do
    monitors = Instance.whereis(Instance.get(pyre), :monitors)
    :ok = :sys.suspend(monitors)
    {:ok, late} = Pyre.monitor(pyre, "j")

    children =
      pyre
      |> Supervisor.which_children()
      |> List.keyfind(Pyre.InstanceSupervisor, 0)
      |> elem(1)
      |> Supervisor.which_children()

    {Pyre.State, state, :worker, _modules} = List.keyfind(children, Pyre.State, 0)
    kill(state)
    assert_receive {:DOWN, ^ref, :agent, "j", %Error{kind: :agent_down}}, 10_000
    assert_receive {:DOWN, ^late, :agent, "j", %Error{kind: :agent_down}}
  end

  test "an on_start that never succeeds ends in a DOWN", %{pyre: pyre} do
    folder = workspace()

    task =
      Task.async(fn ->
        Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder, fail_at_start: true})
      end)

    eventually(fn -> match?({:ok, _info}, Pyre.info(pyre, "m")) end)
    {:ok, ref} = Pyre.monitor(pyre, "m")
    assert_receive {:DOWN, ^ref, :agent, "m", %PythonError{type: "RuntimeError"}}, 10_000
    assert {:error, %Error{kind: :terminated}} = Task.await(task)
  end
end
