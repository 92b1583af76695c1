defmodule Pyre.Worker.Pulse do
  @moduledoc false

  # Looks at every interpreter many times a second without asking it: its flight recorder, and what /proc says of its process.
  # It finds the interpreter that is gone, stuck, stopped or too large, and tells the worker that owns it. It
  # never touches a port, so that no full pipe can stop it.

  use GenServer

  require Logger

  alias Pyre.{Instance, Reaper, Worker}
  alias Pyre.Worker.{Launch, Pool, Recorder, Stall}

  @beat_ms 50
  # Every so many beats: what changes slowly.
  @slow_beats 5
  # If this process itself is late by more, the machine was suspended or overrun: nobody is blamed for this round.
  @late_ms 500
  # So long a stack is waited for.
  @stack_beats 5

  defstruct [:instance, :due, beats: 0, watches: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## Callbacks

  @impl GenServer
  def init(name) do
    Process.flag(:priority, :high)
    instance = Instance.fetch!(name)
    Instance.register(instance, :pulse)
    {:ok, %__MODULE__{instance: instance, due: Instance.now_ms()}, {:continue, :beat}}
  end

  @impl GenServer
  def handle_continue(:beat, state), do: beat(state)

  @impl GenServer
  def handle_info(:beat, state), do: beat(state)

  ## Helpers

  defp beat(state) do
    now = Instance.now_ms()
    late? = now - state.due > @late_ms
    watches = if late?, do: %{}, else: state.watches

    watches =
      for %{os_pid: os_pid} = worker when is_integer(os_pid) <- Pool.all(state.instance), into: %{} do
        {os_pid, look(state, worker, Map.get(watches, os_pid), now)}
      end

    Process.send_after(self(), :beat, @beat_ms)
    {:noreply, %{state | watches: watches, beats: state.beats + 1, due: now + @beat_ms}}
  end

  defp look(%{instance: instance} = state, %{worker: no, pid: pid, os_pid: os_pid} = worker, watch, now) do
    process_state = Worker.Process.state(os_pid)
    if process_state in [:gone, "Z", "X"], do: send(pid, {:vanished, os_pid})

    case Recorder.read(Launch.paths(instance, no).recorder) do
      {:ok, seen} ->
        if rem(state.beats, @slow_beats) == 0, do: weigh(instance, worker, seen)
        watch_for_stall(state, worker, {seen, process_state}, watch, now)

      :error ->
        nil
    end
  end

  defp weigh(instance, %{worker: no, os_pid: os_pid, pid: pid}, seen) do
    rss = Worker.Process.rss_bytes(os_pid) || 0
    Pool.observed(instance, no, seen.lag_us, seen.activations, rss)
    send(pid, {:weighed, os_pid, rss, seen.memory_errors})
  end

  defp watch_for_stall(%{instance: %{config: %{stall_timeout: :infinity}}}, _worker, _seen, _watch, _now),
    do: nil

  defp watch_for_stall(_state, %{status: status}, _seen, _watch, _now) when status not in [:ready, :draining],
    do: nil

  # Its stack was asked for so many beats ago. Who is stopped can't tell; who has no processor for a moment gets a few beats more.
  defp watch_for_stall(state, worker, {seen, process_state}, {:found, watch, beats}, now) do
    case judge(state, worker, seen, watch, now) do
      {{:stuck, stuck}, watch} ->
        if beats == @stack_beats or stopped?(process_state) or stack?(state, worker) do
          send(worker.pid, {:stalled, worker.os_pid, stuck, stopped?(process_state)})
          {:told, watch}
        else
          {:found, watch, beats + 1}
        end

      {:moving, watch} ->
        watch
    end
  end

  defp watch_for_stall(_state, _worker, _seen, {:told, _watch} = told, _now), do: told

  defp watch_for_stall(state, worker, {seen, process_state}, watch, now) do
    case judge(state, worker, seen, watch, now) do
      {{:stuck, stuck}, watch} ->
        # First: an interpreter whose user took the signal away ends by it.
        send(worker.pid, {:stalling, worker.os_pid, stuck, stopped?(process_state)})
        Reaper.dump(state.instance, worker.os_pid)
        {:found, watch, 1}

      {:moving, watch} ->
        watch
    end
  end

  defp judge(%{instance: instance}, %{os_pid: os_pid}, seen, watch, now) do
    look = %{seen: seen, now_ms: now, waited_ms: Worker.Process.waited_ms(os_pid)}
    Stall.look(watch, look, instance.config.stall_timeout, instance.config.start_timeout)
  end

  defp stack?(%{instance: instance}, %{worker: no}) do
    case File.stat(Launch.paths(instance, no).stacks) do
      {:ok, %File.Stat{size: size}} -> size > 0
      {:error, _gone} -> false
    end
  end

  defp stopped?(process_state), do: process_state in ["T", "t"]
end
