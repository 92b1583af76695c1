defmodule Pyre.Suggestion do
  @moduledoc false

  # What somebody may have meant who wrote a name that is not there. Pure.

  @close_enough 0.8

  @doc "The known name that is closest, if one is close."
  @spec closest(String.t(), [String.t()]) :: String.t() | nil
  def closest(name, known) do
    known
    |> Enum.filter(&(String.jaro_distance(&1, name) > @close_enough))
    |> Enum.max_by(&String.jaro_distance(&1, name), fn -> nil end)
  end

  @doc "The same as the end of a sentence: `, did you mean ...?`, or nothing."
  @spec hint(String.t(), [String.t()]) :: String.t()
  def hint(name, known) do
    case closest(name, known) do
      nil -> ""
      best -> ", did you mean #{best}?"
    end
  end
end
