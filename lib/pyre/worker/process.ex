defmodule Pyre.Worker.Process do
  @moduledoc false

  # What /proc says of an operating system process. Where there is no /proc, only the port tells of a death.

  @doc "Is it there, and no zombie? One that nobody reaps still has its number."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> state(stat) not in ["Z", "X"]
      {:error, _reason} -> not File.dir?("/proc/self")
    end
  end

  @doc "Resident memory in bytes, or nil where that can't be told."
  @spec rss_bytes(pos_integer() | nil) :: non_neg_integer() | nil
  def rss_bytes(os_pid) do
    with {:ok, statm} <- File.read("/proc/#{os_pid}/statm"),
         [_size, pages | _rest] <- String.split(statm) do
      String.to_integer(pages) * 4_096
    else
      _unknown -> nil
    end
  end

  # The name before the state stands in parentheses and may itself hold some.
  defp state(stat), do: stat |> String.split(") ") |> List.last() |> String.first()
end
