defmodule Bench.Stats do
  @moduledoc false

  @doc "The median of a list."
  def median(values), do: percentile(values, 50)

  @doc "The value below which `percent` of the list lies (nearest rank)."
  def percentile(values, percent) do
    sorted = Enum.sort(values)
    rank = ceil(percent / 100 * length(sorted))
    Enum.at(sorted, max(rank, 1) - 1)
  end

  @doc "Median, smallest and largest of a list, and the list itself."
  def summary(values),
    do: %{median: median(values), min: Enum.min(values), max: Enum.max(values), values: values}

  @doc "Rounded to so many digits behind the point."
  def round(value, digits) when is_float(value), do: Float.round(value, digits)
  def round(value, _digits), do: value
end
