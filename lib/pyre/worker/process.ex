defmodule Pyre.Worker.Process do
  @moduledoc false

  # What /proc says of an operating system process. Where there is no /proc, only the port tells of a death.

  # Longer than any of the files that are read here.
  @bytes 1_024

  @typedoc "The files of a process that is looked at again and again: to open and close one costs twice as much as to read it."
  @type files :: %{os_pid: pos_integer(), stat: :file.fd() | nil, schedstat: :file.fd() | nil}

  @doc "Opens the files of a process; the caller's process alone may use and close them."
  @spec open(pos_integer()) :: files()
  def open(os_pid),
    do: %{os_pid: os_pid, stat: open_file(stat_path(os_pid)), schedstat: open_file(schedstat_path(os_pid))}

  @doc "Closes them."
  @spec close(files()) :: :ok
  def close(files) do
    for file when file != nil <- [files.stat, files.schedstat], do: _ok_or_closed = :file.close(file)
    :ok
  end

  @doc "Is it there, and no zombie? One that nobody reaps still has its number."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(os_pid), do: state(os_pid) not in [:gone, "Z", "X"]

  @doc "Its state's letter, as ps shows it (T is stopped); nil where that can't be told."
  @spec state(pos_integer() | files()) :: String.t() | :gone | nil
  def state(%{os_pid: os_pid, stat: nil}), do: state(os_pid)
  def state(%{stat: file}), do: file |> read_again() |> letter()
  def state(os_pid), do: os_pid |> stat_path() |> read() |> letter()

  # The name before the state stands in parentheses and may itself hold some.
  defp letter({:ok, stat}), do: stat |> String.split(") ") |> List.last() |> String.first()
  defp letter({:error, _reason}), do: if(File.dir?("/proc/self"), do: :gone)

  @doc "How long its main thread could have run but had to wait for a processor, in all, in ms; 0 where that can't be told."
  @spec waited_ms(files()) :: non_neg_integer()
  def waited_ms(%{schedstat: nil}), do: 0

  def waited_ms(%{schedstat: file}) do
    with {:ok, text} <- read_again(file),
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

  defp stat_path(os_pid), do: "/proc/#{os_pid}/stat"
  defp schedstat_path(os_pid), do: "/proc/#{os_pid}/task/#{os_pid}/schedstat"

  # Raw: whoever watches must not wait for another process, such as the file server.
  defp read(path) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]) do
      answer = read_again(file)
      _closed = :file.close(file)
      answer
    end
  end

  defp open_file(path) do
    case :file.open(path, [:read, :raw, :binary]) do
      {:ok, file} -> file
      {:error, _reason} -> nil
    end
  end

  defp read_again(file),
    do: with(:eof <- :file.pread(file, 0, @bytes), do: {:error, :enoent})
end
