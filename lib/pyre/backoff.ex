defmodule Pyre.Backoff do
  @moduledoc false

  # How long to wait before an interpreter is started again. Pure but for the jitter.

  @first_ms 200
  @max_ms 10_000

  @doc "The delay before the next attempt, after this many failures in a row."
  @spec delay_ms(non_neg_integer()) :: non_neg_integer()
  def delay_ms(0), do: 0

  def delay_ms(failures) do
    ceiling = min(@first_ms * Integer.pow(2, min(failures - 1, 16)), @max_ms)
    div(ceiling, 2) + :rand.uniform(div(ceiling, 2))
  end
end
