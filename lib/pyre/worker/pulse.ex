defmodule Pyre.Worker.Pulse do
  @moduledoc false

  # Looks at every interpreter a few times a second without asking it: its flight recorder, and whether its process is still there. It
  # never touches a port, so that no full pipe can stop it.

  use GenServer

  alias Pyre.{Instance, Worker}
  alias Pyre.Worker.{Pool, Recorder}

  @beat_ms 250

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## Callbacks

  @impl GenServer
  def init(name) do
    {:ok, Instance.fetch!(name), {:continue, :beat}}
  end

  @impl GenServer
  def handle_continue(:beat, instance), do: beat(instance)

  @impl GenServer
  def handle_info(:beat, instance), do: beat(instance)

  ## Helpers

  defp beat(instance) do
    for %{os_pid: os_pid} = worker when is_integer(os_pid) <- Pool.all(instance), do: look(instance, worker)
    Process.send_after(self(), :beat, @beat_ms)
    {:noreply, instance}
  end

  defp look(instance, %{worker: no, pid: pid, os_pid: os_pid}) do
    unless Worker.Process.alive?(os_pid), do: send(pid, {:vanished, os_pid})

    with {:ok, seen} <- Recorder.read(Worker.recorder_path(instance, no)),
         do: Pool.observed(instance, no, seen.lag_us, seen.activations)
  end
end
