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
  # The next sweep is this many times as far away as the last one took: of a million agents one takes its time.
  @share 20

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
    {:ok, arm(%{instance: instance, timer: nil, took_us: 0})}
  end

  @impl GenServer
  # There is a shorter timeout now.
  def handle_info(:look, state), do: {:noreply, arm(state)}

  def handle_info({:timeout, timer, :sweep}, %{instance: instance, timer: timer} = state) do
    :ets.safe_fixtable(instance.agents, true)
    took_us = sweep(fn -> Address.due(instance, Instance.now_ms(), @at_once) end, 0)
    :ets.safe_fixtable(instance.agents, false)
    {:noreply, arm(%{state | timer: nil, took_us: took_us})}
  end

  # One that was taken back too late.
  def handle_info({:timeout, _earlier, :sweep}, state), do: {:noreply, state}

  ## Helpers

  defp sweep(look, took_us) do
    case :timer.tc(look) do
      {us, {pids, continuation}} ->
        tell(pids)
        sweep(fn -> Address.further_due(continuation) end, took_us + us)

      {us, :"$end_of_table"} ->
        took_us + us
    end
  end

  defp tell(pids) do
    for pid <- pids, do: send(pid, :sleep)
    if length(pids) == @at_once, do: Patience.pause(@pause_ms)
  end

  defp arm(%{instance: instance, timer: timer} = state) do
    _left = timer && :erlang.cancel_timer(timer)

    case Instance.idle_timeout(instance) do
      nil -> %{state | timer: nil}
      ms -> %{state | timer: :erlang.start_timer(period(ms, state.took_us), self(), :sweep)}
    end
  end

  defp period(ms, took_us),
    do: ms |> div(@late) |> max(@shortest_ms) |> min(@longest_ms) |> max(div(@share * took_us, 1_000))
end
