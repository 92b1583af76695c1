defmodule Pyre.Eventually do
  @moduledoc false

  # For what nobody sends a message about: a row of a table, a file, a process of the operating system.

  import ExUnit.Assertions

  @pause_ms 10

  @doc "The first truthy value of `check`, or a failure once `timeout` ms are over."
  @spec eventually((() -> value), pos_integer()) :: value when value: term()
  def eventually(check, timeout \\ 10_000),
    do: try_until(check, System.monotonic_time(:millisecond) + timeout)

  defp try_until(check, until) do
    cond do
      value = check.() -> value
      System.monotonic_time(:millisecond) >= until -> flunk("it did not happen in time")
      true -> pause() && try_until(check, until)
    end
  end

  # Not Process.sleep/1: a message that comes meanwhile stays where it is.
  defp pause do
    receive do
    after
      @pause_ms -> true
    end
  end
end
