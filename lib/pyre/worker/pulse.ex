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

  defstruct [:instance, :due, beats: 0, watches: %{}, files: %{}]

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

    workers = for %{os_pid: os_pid} = worker when is_integer(os_pid) <- Pool.all(state.instance), do: worker
    state = %{state | files: open(state, workers)}

    watches =
      for %{os_pid: os_pid} = worker <- workers,
          into: %{},
          do: {os_pid, look(state, worker, Map.get(watches, os_pid), now)}

    Process.send_after(self(), :beat, @beat_ms)
    {:noreply, %{state | watches: watches, beats: state.beats + 1, due: now + @beat_ms}}
  end

  # Each interpreter's files are opened once.
  defp open(%{instance: instance, files: files}, workers) do
    {kept, gone} = Map.split(files, Enum.map(workers, & &1.os_pid))
    for {_os_pid, {recorder, process}} <- gone, do: close(recorder, process)

    for %{os_pid: os_pid, worker: no} <- workers,
        not is_map_key(kept, os_pid),
        # Where that fails, for lack of descriptors say, it is tried again at the next beat.
        {:ok, recorder} <- [Recorder.open(Launch.paths(instance, no).recorder)],
        into: kept,
        do: {os_pid, {recorder, Worker.Process.open(os_pid)}}
  end

  defp close(recorder, process) do
    _closed = :file.close(recorder)
    Worker.Process.close(process)
  end

  defp look(%{files: files} = state, %{os_pid: os_pid} = worker, watch, now) do
    case files do
      %{^os_pid => {recorder, process}} ->
        process_state = process |> Worker.Process.state() |> told(worker)
        seen(state, worker, {Recorder.look(recorder), process_state}, watch, now)

      %{} ->
        _state = os_pid |> Worker.Process.state() |> told(worker)
        nil
    end
  end

  defp told(process_state, %{pid: pid, os_pid: os_pid}) do
    if process_state in [:gone, "Z", "X"], do: send(pid, {:vanished, os_pid})
    process_state
  end

  defp seen(_state, _worker, {:error, _process_state}, _watch, _now), do: nil

  defp seen(state, worker, {{:ok, seen}, process_state}, watch, now) do
    if rem(state.beats, @slow_beats) == 0, do: weigh(state.instance, worker, seen)
    watch_for_stall(state, worker, {seen, process_state}, watch, now)
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

  defp judge(%{instance: instance} = state, %{os_pid: os_pid}, seen, watch, now) do
    look = %{
      seen: seen,
      now_ms: now,
      waited_ms: state.files |> Map.fetch!(os_pid) |> elem(1) |> Worker.Process.waited_ms()
    }

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
