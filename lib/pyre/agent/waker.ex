defmodule Pyre.Agent.Waker do
  @moduledoc false

  # Gives agents that are asleep a process again. Whoever puts a message into the mailbox of one says so here, and does not wait: that may
  # be an agent's process, and whoever it is may be killed the next instant. One process for all makes of many messages one start; what it
  # has not come to when it is lost, its successor finds: agents that are asleep although something is counted in.

  use GenServer

  alias Pyre.{Address, Classes, Instance}

  # How soon a start that failed is tried again: the supervisor is being restarted, or the new process was killed at once.
  @retry_ms 20

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    # First: who sends from now on finds this process, and whoever did before has been counted in.
    Instance.register(instance, :waker)
    {:ok, instance, {:continue, :catch_up}}
  end

  @impl GenServer
  def handle_continue(:catch_up, instance), do: {:noreply, catch_up(instance)}

  @impl GenServer
  def handle_info({:wake, id}, instance), do: {:noreply, wake(id, instance)}
  def handle_info(:catch_up, instance), do: {:noreply, catch_up(instance)}

  ## Helpers

  defp catch_up(instance) do
    if Classes.known?(instance), do: Enum.each(Address.overslept(instance), &wake(&1, instance))
    instance
  end

  # Out of a snapshot they wait until it is known whether their class has an `on_start`; then comes `:catch_up`.
  defp wake(id, instance) do
    with true <- Classes.known?(instance) and Address.asleep?(instance, id),
         {:error, _reason} <- Pyre.Agent.Supervisor.start_child(instance, id),
         do: Process.send_after(self(), {:wake, id}, @retry_ms)

    instance
  end
end
