defmodule Pyre.Chaos.Monkey do
  @moduledoc false

  # The trouble of the soak: kills, stops, freezes and floods, at random but the same for the same seed.

  alias Pyre.{Chaos, Instance, Patience}
  alias Pyre.Worker.Pool

  @acts [
    kill_interpreter: 6,
    stop_interpreter: 2,
    kill_agent: 10,
    kill_partition: 2,
    kill_worker: 3,
    kill_helper: 2,
    freeze_loop: 2,
    freeze_thread: 1,
    crash_interpreter: 2,
    shout: 3
  ]
  @dice for {act, weight} <- @acts, _n <- 1..weight, do: act
  @helpers [:starter, :timers, :pulse, :isolation, :monitors, :escalations, :waker, :sweeper]
  @freeze_timeout_ms 500

  @doc "Makes trouble until then; what was done, and how often."
  @spec run(atom(), [String.t()], Chaos.options(), :atomics.atomics_ref()) :: %{atom() => pos_integer()}
  def run(name, ids, options, until) do
    _seeded = :rand.seed(:exsss, {options.seed, 0, 0})
    trouble(name, List.to_tuple(ids), options, until, %{})
  end

  defp trouble(name, ids, options, until, done) do
    Patience.pause(:rand.uniform(2 * options.pause_ms))

    if Chaos.over?(until) or enough?(done, options) do
      done
    else
      act = options.only || Enum.random(@dice)
      # What finds nobody to meet is not counted.
      done = if do_one(act, name, ids) == :none, do: done, else: Map.update(done, act, 1, &(&1 + 1))
      trouble(name, ids, options, until, done)
    end
  end

  defp enough?(_done, %{most: nil}), do: false
  defp enough?(done, %{most: most}), do: done |> Map.values() |> Enum.sum() >= most

  defp do_one(:kill_interpreter, name, _ids), do: signal(name, "KILL")
  defp do_one(:stop_interpreter, name, _ids), do: signal(name, "STOP")

  defp do_one(:kill_agent, name, ids),
    do: kill(Pyre.whereis(name, elem(ids, :rand.uniform(tuple_size(ids)) - 1)))

  defp do_one(:kill_partition, name, _ids),
    do: kill(find(name, {:partition, :rand.uniform(System.schedulers_online()) - 1}))

  defp do_one(:kill_worker, name, _ids), do: kill(Enum.random(Pool.all(Instance.fetch!(name))).pid)
  defp do_one(:kill_helper, name, _ids), do: kill(find(name, Enum.random(@helpers)))
  defp do_one(:freeze_loop, name, _ids), do: vandal(name, :freeze)
  defp do_one(:freeze_thread, name, _ids), do: vandal(name, :freeze_in_thread)
  defp do_one(:crash_interpreter, name, _ids), do: vandal(name, :crash)
  defp do_one(:shout, name, _ids), do: vandal(name, :shout)

  # A new one each time: it would be on probation the second time, and hurt nobody.
  defp vandal(name, handler) do
    spawn(fn ->
      with {:ok, id} <- Pyre.start_agent(name, "Vandal") do
        _answer = Pyre.call(name, id, handler, %{}, timeout: @freeze_timeout_ms)
        Pyre.stop_agent(name, id)
      end
    end)
  end

  defp signal(name, signal) do
    case for %{os_pid: os_pid, status: :ready} <- Pyre.workers(name), do: os_pid do
      [] -> :none
      os_pids -> System.cmd("/bin/kill", ["-s", signal, "#{Enum.random(os_pids)}"], stderr_to_stdout: true)
    end
  end

  defp find(name, role), do: name |> Instance.fetch!() |> Instance.whereis(role)

  defp kill(nil), do: :none
  defp kill(pid), do: Process.exit(pid, :kill)
end
