defmodule Pyre.Backoff do
  @moduledoc false

  # How long to wait before an interpreter is started again. Pure but for the jitter.

  @first_ms 200
  @max_ms 10_000
  # One that had been ready can be started: what ended it is found out elsewhere, and its agents wait.
  @max_after_ready_ms 500

  @doc "The delay before the next attempt, after this many failures in a row; shorter where the last one had become ready."
  @spec delay_ms(non_neg_integer(), boolean()) :: non_neg_integer()
  def delay_ms(failures, was_ready? \\ false)
  def delay_ms(0, _was_ready?), do: 0

  def delay_ms(failures, was_ready?) do
    most = if was_ready?, do: @max_after_ready_ms, else: @max_ms
    ceiling = min(@first_ms * Integer.pow(2, min(failures - 1, 16)), most)
    div(ceiling, 2) + :rand.uniform(div(ceiling, 2))
  end
end
