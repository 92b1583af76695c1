defmodule Bench.Settled do
  @moduledoc false

  # What this BEAM and all below it hold once nothing moves any more.

  alias Bench.Machine

  @idle_limit_ms 120_000
  # So often in a row it must not have fallen by more than this.
  @looks 4
  @noise_bytes 100_000

  @doc """
  Waits until these processes, given as a function of an index, hibernate; then what all hold: `{bytes, [{name, bytes}]}`. Idle agents hibernate by
  themselves; all other processes are collected. The BEAM gives freed memory back one piece a second, so it is looked at until it no longer falls.
  """
  def pss(range, pid_of) do
    await_hibernation(range, pid_of, System.monotonic_time(:millisecond) + @idle_limit_ms)
    for pid <- Process.list(), not hibernating?(pid), do: :erlang.garbage_collect(pid)
    lowest(Machine.pss(System.pid()), @looks)
  end

  defp lowest(lowest, 0), do: lowest

  defp lowest({lowest_bytes, _parts} = lowest, looks) do
    Process.sleep(1_000)
    {bytes, _parts} = now = Machine.pss(System.pid())
    if bytes < lowest_bytes - @noise_bytes, do: lowest(now, @looks), else: lowest(lowest, looks - 1)
  end

  # Goes on where it had to wait: who hibernated stays so, since nobody calls.
  defp await_hibernation(first..last, _pid_of, _limit) when first > last, do: :ok

  defp await_hibernation(first..last, pid_of, limit) do
    case Enum.find(first..last, fn n -> not hibernating?(pid_of.(n)) end) do
      nil ->
        :ok

      awake ->
        if System.monotonic_time(:millisecond) > limit, do: raise("agent #{awake} did not become idle")
        Process.sleep(100)
        await_hibernation(awake..last, pid_of, limit)
    end
  end

  defp hibernating?(pid),
    do: Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}}
end
