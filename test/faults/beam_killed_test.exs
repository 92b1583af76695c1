defmodule Pyre.Faults.BeamKilledTest do
  # The BEAM's own end, by SIGKILL, leaves no Python process, no child of one, and no file: also when the interpreter
  # is stuck in C code that holds the GIL, or stopped.
  use Pyre.Case, async: true

  alias Pyre.OSProcess

  @moduletag timeout: 60_000

  @agents """
  import ctypes, os, signal, subprocess
  from pyre import Agent, handler

  class Stuck(Agent):
      @handler
      async def hold(self) -> None:
          subprocess.Popen(["sleep", "300"])
          open(os.environ["ENTERED"], "w").close()
          ctypes.PyDLL(None).usleep(300_000_000)

      @handler
      async def stop(self) -> None:
          subprocess.Popen(["sleep", "300"])
          open(os.environ["ENTERED"], "w").close()
          os.kill(os.getpid(), signal.SIGSTOP)
  """

  # Runs in a BEAM of its own.
  @script """
  [agents, python, entered, handler] = System.argv()
  Logger.configure(level: :error)
  {:ok, _} = Application.ensure_all_started(:pyre)
  {:ok, _} = Pyre.start_link(name: Other, agents: agents, python: python, workers: 2, env: [{"ENTERED", entered}])
  :ok = Pyre.await_ready(Other, 30_000)
  {:ok, id} = Pyre.start_agent(Other, "Stuck")
  :ok = Pyre.cast(Other, id, handler)
  IO.puts("DIRECTORY " <> Pyre.Instance.fetch!(Other).directory)
  Process.sleep(:infinity)
  """

  for handler <- ["hold", "stop"] do
    test "with an interpreter that is in #{handler}" do
      folder = workspace()
      agents = Path.join(folder, "agents")
      File.mkdir!(agents)
      File.write!(Path.join(agents, "stuck.py"), @agents)
      entered = Path.join(folder, "entered")
      script = Path.join(folder, "other.exs")
      File.write!(script, @script)

      {port, beam} = start_beam([script, agents, python(), entered, unquote(handler)])
      directory = await_directory(port)
      eventually(fn -> File.exists?(entered) end)
      started = OSProcess.with_environment(directory)
      assert length(started) >= 3, "two interpreters and a child of one, got #{inspect(started)}"

      OSProcess.signal(beam, "KILL")
      for os_pid <- started, do: assert_os_pid_exited(os_pid)
      eventually(fn -> OSProcess.with_environment(directory) == [] end)
      eventually(fn -> not File.exists?(directory) end)
    end
  end

  defp start_beam(args) do
    ebin = :pyre |> :code.lib_dir(:ebin) |> to_string()

    port =
      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_000,
        args: ["-pa", ebin | args]
      ])

    {:os_pid, shell} = Port.info(port, :os_pid)
    # The launcher replaces itself by the BEAM.
    {port, shell}
  end

  defp await_directory(port) do
    receive do
      {^port, {:data, {:eol, "DIRECTORY " <> directory}}} -> directory
      {^port, {:data, {:eol, _other}}} -> await_directory(port)
      {^port, {:exit_status, status}} -> flunk("the other BEAM ended with #{status}")
    after
      30_000 -> flunk("the other BEAM did not become ready")
    end
  end
end
