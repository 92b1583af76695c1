defmodule Pyre.Reaper do
  @moduledoc false

  # Owns the reaper, a small program (priv/reaper.sh) started before any interpreter. It kills process groups on request, without
  # a fork, and all of them when its input closes: that is what leaves no Python behind when the BEAM itself is killed.

  use GenServer

  alias Pyre.{Instance, Worker}

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "From now on this process group ends with us."
  @spec watch(Instance.t(), pos_integer()) :: :ok
  def watch(instance, os_pid), do: Instance.notify(instance, :reaper, {:tell, "watch #{os_pid}\n"})

  @doc "Kills a process group, by force."
  @spec kill(Instance.t(), pos_integer()) :: :ok
  def kill(instance, os_pid), do: Instance.notify(instance, :reaper, {:tell, "kill #{os_pid}\n"})

  @doc "Asks an interpreter for the stacks of its threads; also one whose interpreter's lock is held in C."
  @spec dump(Instance.t(), pos_integer()) :: :ok
  def dump(instance, os_pid), do: Instance.notify(instance, :reaper, {:tell, "dump #{os_pid}\n"})

  ## Callbacks

  @impl GenServer
  def init(name) do
    Process.flag(:trap_exit, true)
    instance = Instance.fetch!(name)
    port = open()
    Port.command(port, "remove #{instance.directory}\n")
    # After the loss of this process: what runs is watched again.
    for %{os_pid: os_pid} when is_integer(os_pid) <- Worker.Pool.all(instance),
        do: Port.command(port, "watch #{os_pid}\n")

    Instance.register(instance, :reaper)
    {:ok, port}
  end

  @impl GenServer
  def handle_info({:tell, line}, port) do
    Port.command(port, line)
    {:noreply, port}
  end

  def handle_info({:EXIT, port, reason}, port), do: {:stop, {:reaper_died, reason}, port}
  def handle_info({port, {:exit_status, status}}, port), do: {:stop, {:reaper_died, status}, port}
  def handle_info({:EXIT, _pid, reason}, port), do: {:stop, reason, port}

  @impl GenServer
  def terminate(_reason, port) do
    Port.command(port, "end\n")
  rescue
    # The program is gone already.
    ArgumentError -> true
  end

  ## Helpers

  defp open do
    script = Path.join(:code.priv_dir(:pyre), "reaper.sh")

    Port.open({:spawn_executable, "/bin/sh"}, [
      :binary,
      :exit_status,
      :use_stdio,
      :hide,
      args: [script, System.pid()]
    ])
  end
end
