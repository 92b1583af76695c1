defmodule Pyre.Faults.BeamKilledTest do
  # Promise: the end of the BEAM, however sudden, leaves no interpreter, no child of one and no file behind.
  use Pyre.Case, async: true

  alias Pyre.OSProcess

  @moduletag :fault

  # A node of its own: says what it started, then waits to be killed.
  @script ~S"""
  [agents, folder] = System.argv()
  {:ok, _} = Application.ensure_all_started(:pyre)
  Logger.configure(level: :none)
  {:ok, _} = Pyre.start_link(name: Doomed, agents: agents, workers: 2)
  :ok = Pyre.await_ready(Doomed)
  for n <- 1..4, do: {:ok, _} = Pyre.start_agent(Doomed, "Sleeper", id: "s#{n}")
  {:ok, child} = Pyre.call(Doomed, "s1", :start_child)
  {:ok, "pong"} = Pyre.call(Doomed, "s2", :ping)
  HOLD
  pids = Enum.map(Pyre.workers(Doomed), & &1.os_pid)
  IO.puts("started " <> Enum.join([System.pid(), Pyre.Instance.get(Doomed).directory, child | pids], " "))
  Process.sleep(:infinity)
  """

  @hold_gil """
  for n <- 3..4, do: spawn(fn -> Pyre.call(Doomed, "s#\{n}", :hold_gil, %{folder: folder, name: "s#\{n}"}) end)
  """

  @hold_loop """
  for n <- 3..4, do: spawn(fn -> Pyre.call(Doomed, "s#\{n}", :stall, %{seconds: 600}) end)
  """

  defp start_node(hold, folder) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
    script = String.replace(@script, "HOLD", hold)

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :use_stdio,
        line: 4_096,
        args: pa(paths) ++ ["-e", script, fixture("agents"), folder],
        env: [{~c"ERL_AFLAGS", false}, {~c"ERL_CRASH_DUMP_BYTES", ~c"0"}]
      ])

    assert_receive {^port, {:data, {:eol, "started " <> started}}}, 20_000
    [beam, directory, child | workers] = String.split(started)
    os_pids = Enum.map([child | workers], &String.to_integer/1)
    %{beam: String.to_integer(beam), directory: directory, os_pids: os_pids, folder: folder}
  end

  # Only ours: the rest is where elixir finds it by itself.
  defp pa(paths) do
    paths |> Enum.chunk_every(2) |> Enum.filter(fn [_pa, path] -> path =~ "/_build/" end) |> List.flatten()
  end

  defp assert_all_gone(node) do
    for os_pid <- [node.beam | node.os_pids], do: assert_os_pid_exited(os_pid)
    eventually(fn -> OSProcess.with_environment(node.directory) == [] end)
    eventually(fn -> not File.exists?(node.directory) end)
  end

  for {what, hold} <- [{"idle ones", ""}, {"ones that hold their loop", @hold_loop}] do
    test "by SIGKILL: #{what} are gone" do
      node = start_node(unquote(hold), workspace())
      for os_pid <- node.os_pids, do: assert(OSProcess.alive?(os_pid))
      signal(node.beam, "KILL")
      assert_all_gone(node)
    end
  end

  test "by SIGKILL: ones that hold the GIL in C are gone" do
    node = start_node(@hold_gil, workspace())
    for name <- ["s3", "s4"], do: await_gate(node.folder, name)
    signal(node.beam, "KILL")
    assert_all_gone(node)
  end

  test "by SIGKILL: ones that are stopped are gone" do
    node = start_node("", workspace())
    for os_pid <- tl(node.os_pids), do: signal(os_pid, "STOP")
    signal(node.beam, "KILL")
    assert_all_gone(node)
  end

  test "by SIGTERM: all are gone" do
    node = start_node("", workspace())
    signal(node.beam, "TERM")
    assert_all_gone(node)
  end
end
