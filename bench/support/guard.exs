defmodule Bench.Guard do
  @moduledoc false

  # Compares ratios to the floor with those of a baseline. Ratios, since the floor meets whatever the machine does as ours does; and with a
  # wide tolerance, so that it fails for what went wrong and not for who else is busy. Pure.

  @tolerance 2.0

  @doc "How many times worse than its baseline a figure may be."
  def tolerance, do: @tolerance

  @doc """
  A row for each figure of the baseline: `{name, measured, baseline, times_worse, ok?}`. Both are maps of ratios to the floor's speed, in which more is
  better. A figure that was not measured is not well.
  """
  def compare(measured, baseline, tolerance \\ @tolerance) do
    for {name, wanted} <- Enum.sort(baseline) do
      case measured do
        %{^name => ratio} when ratio > 0 -> {name, ratio, wanted, wanted / ratio, wanted / ratio <= tolerance}
        _missing -> {name, nil, wanted, nil, false}
      end
    end
  end

  @doc "The rows as text, a line each."
  def text(rows) do
    Enum.map_join(rows, "\n", fn {name, ratio, wanted, worse, ok?} ->
      "#{String.pad_trailing("#{name}", 16)} #{shown(ratio)} × the floor's speed, baseline #{shown(wanted)}: " <>
        "#{shown(worse)} × as slow, #{if ok?, do: "ok", else: "TOO SLOW"}"
    end)
  end

  defp shown(nil), do: "not measured"
  defp shown(value), do: :erlang.float_to_binary(value / 1, decimals: 2)
end
