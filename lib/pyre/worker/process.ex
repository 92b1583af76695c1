defmodule Pyre.Worker.Process do
  @moduledoc false

  # What /proc says of an operating system process. Where there is no /proc, only the port tells of a death.

  # Longer than any of the files that are read here.
  @bytes 1_024

  @doc "Is it there, and no zombie? One that nobody reaps still has its number."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(os_pid), do: state(os_pid) not in [:gone, "Z", "X"]

  @doc "Its state's letter, as ps shows it (T is stopped); nil where that can't be told."
  @spec state(pos_integer()) :: String.t() | :gone | nil
  def state(os_pid) do
    case read("/proc/#{os_pid}/stat") do
      # The name before the state stands in parentheses and may itself hold some.
      {:ok, stat} -> stat |> String.split(") ") |> List.last() |> String.first()
      {:error, _reason} -> if File.dir?("/proc/self"), do: :gone
    end
  end

  @doc "How long its main thread could have run but had to wait for a processor, in all, in ms; 0 where that can't be told."
  @spec waited_ms(pos_integer()) :: non_neg_integer()
  def waited_ms(os_pid) do
    with {:ok, text} <- read("/proc/#{os_pid}/task/#{os_pid}/schedstat"),
         [_ran, waited | _slices] <- String.split(text) do
      div(String.to_integer(waited), 1_000_000)
    else
      _unknown -> 0
    end
  end

  @doc "Resident memory in bytes, or nil where that can't be told."
  @spec rss_bytes(pos_integer() | nil) :: non_neg_integer() | nil
  def rss_bytes(os_pid) do
    with {:ok, statm} <- read("/proc/#{os_pid}/statm"),
         [_size, pages | _rest] <- String.split(statm) do
      String.to_integer(pages) * 4_096
    else
      _unknown -> nil
    end
  end

  # Raw: whoever watches must not wait for another process, such as the file server.
  defp read(path) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      answer = :file.read(file, @bytes)
      _closed = :file.close(file)
      if answer == :eof, do: {:error, :enoent}, else: answer
    end
  end
end
