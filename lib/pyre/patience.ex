defmodule Pyre.Patience do
  @moduledoc false

  # Waiting where there is no message to wait for: for the end of a process, or a while before another look. The mailbox of
  # whoever waits is left as it is.

  @doc "Waits until a process has ended; false where it has not within the time."
  @spec await_end(pid(), timeout()) :: boolean()
  def await_end(pid, timeout \\ :infinity) do
    monitor = Process.monitor(pid)

    receive do
      {:DOWN, ^monitor, :process, ^pid, _reason} -> true
    after
      timeout ->
        Process.demonitor(monitor, [:flush])
        false
    end
  end

  @doc "Lets a while pass."
  @spec pause(non_neg_integer()) :: :ok
  def pause(ms) do
    receive do
    after
      ms -> :ok
    end
  end
end
