defmodule Pyre.Agent.Sweeper do
  @moduledoc false

  # Tells agents that had nothing to do for their `idle_timeout` to fall asleep. They decide: a message may be on its way to them. One look
  # at all addresses now and then, and no timer per agent; none at all where no agent ever falls asleep.

  use GenServer

  alias Pyre.{Address, Instance, Patience}

  # How late an agent may fall asleep: by this part of the shortest timeout there is.
  @late 8
  @shortest_ms 10
  @longest_ms 30_000

  # So many at a time, and then the processors are others' for a moment.
  @at_once 500
  @pause_ms 10

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name, hibernate_after: @longest_ms)

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :sweeper)
    {:ok, arm(%{instance: instance, timer: nil})}
  end

  @impl GenServer
  # There is a shorter timeout now.
  def handle_info(:look, state), do: {:noreply, arm(state)}

  def handle_info({:timeout, timer, :sweep}, %{instance: instance, timer: timer} = state) do
    :ok = Address.each_due(instance, Instance.now_ms(), @at_once, &tell/1)
    {:noreply, arm(%{state | timer: nil})}
  end

  # One that was taken back too late.
  def handle_info({:timeout, _earlier, :sweep}, state), do: {:noreply, state}

  ## Helpers

  defp tell(pids) do
    for pid <- pids, do: send(pid, :sleep)
    if length(pids) == @at_once, do: Patience.pause(@pause_ms)
  end

  defp arm(%{instance: instance, timer: timer} = state) do
    _left = timer && :erlang.cancel_timer(timer)

    case Instance.idle_timeout(instance) do
      nil -> %{state | timer: nil}
      ms -> %{state | timer: :erlang.start_timer(period(ms), self(), :sweep)}
    end
  end

  defp period(ms), do: ms |> div(@late) |> max(@shortest_ms) |> min(@longest_ms)
end
