defmodule Pyre.Worker.PostMortem do
  @moduledoc false

  # What an interpreter left behind, read after its death and before its successor starts: its last words, the stacks that its
  # threads had, and who was running. From these come the error that callers get and the blame.
  #
  # Blame is certain where one handler was on the loop, or alone; else all that had begun are suspects. Nobody is
  # blamed for what came from outside: an operator's kill, a closed pipe, our own decision to replace it.

  alias Pyre.{Error, Pools}
  alias Pyre.Worker.{Log, Pool, Recorder, Stall}

  # Of each of the last lines that stand in an error; its details hold them whole.
  @said_characters 400
  @said_lines 5
  @kept_lines 50
  # So much of a file's end is read.
  @end_bytes 16_384
  # What a person, a supervisor of the system or its memory killer sends. SIGKILL above all.
  @external_signals [1, 2, 3, 9, 15]

  @type cause ::
          {:exit, status :: non_neg_integer()}
          | :lost
          | {:stall, Stall.stuck(), stopped? :: boolean()}
          | {:memory, bytes :: pos_integer()}
          | :ours
  @type blame :: %{(number :: pos_integer()) => :certain | :suspect}

  @doc "Who is to blame among the unfinished messages."
  @spec blame(cause(), Recorder.t(), [pos_integer()], stacks :: String.t()) :: blame()
  def blame(:ours, _left, _unfinished, _stacks), do: %{}

  def blame({:exit, status}, _left, _unfinished, _stacks) when (status - 128) in @external_signals, do: %{}
  def blame({:exit, _status}, left, unfinished, _stacks), do: running(left, unfinished)

  # Its pipe closed before its exit status came: a fatal error of Python's leaves its mark, os._exit doesn't.
  def blame(:lost, left, unfinished, stacks),
    do: if(stacks =~ "Fatal Python error", do: running(left, unfinished), else: %{})

  def blame({:memory, _bytes}, left, unfinished, _stacks), do: running(%{left | on_loop: 0}, unfinished)

  # The watchdog's thread still beats, so the interpreter's lock is free, and the step itself is what lasts.
  def blame({:stall, {:handler, number, _ms, :beating}, false}, _left, unfinished, _stacks),
    do: if(number in unfinished, do: %{number => :certain}, else: %{})

  # A signal may have stopped it at any step; only one that is alone again will show it.
  def blame({:stall, _stuck, true}, left, unfinished, _stacks),
    do: left |> running(unfinished) |> Map.new(fn {number, _certain} -> {number, :suspect} end)

  def blame({:stall, _stuck, false}, left, unfinished, _stacks), do: running(left, unfinished)

  defp running(%{begun: begun, on_loop: on_loop, threads: threads}, unfinished) do
    case {Enum.filter(unfinished, &(&1 <= begun)), on_loop in unfinished, threads} do
      {[alone], _on_loop?, _threads} -> %{alone => :certain}
      {_several, true, []} -> %{on_loop => :certain}
      {several, _on_loop?, _threads} -> Map.new(several, &{&1, :suspect})
    end
  end

  @doc "The blame where it is known which messages don't end."
  @spec certain(%{term() => pos_integer() | nil}) :: blame()
  def certain(stuck),
    do: for({_activation, number} when number != nil <- stuck, into: %{}, do: {number, :certain})

  @doc "What the agent of a message is told: nothing, or how sure we are, and why."
  @spec charge(blame(), pos_integer(), map()) :: nil | {:certain | :suspect, map()}
  def charge(blame, number, evidence) do
    case blame do
      %{^number => degree} -> {degree, evidence}
      %{} -> nil
    end
  end

  @doc "What is kept of the death, for those who are blamed."
  @spec evidence(map(), Error.t()) :: map()
  def evidence(%{instance: instance, no: no, os_pid: os_pid}, error) do
    %{
      at: DateTime.utc_now() |> DateTime.truncate(:second),
      reason: error.message,
      worker: no,
      os_pid: os_pid,
      rss_bytes: with(0 <- Pool.rss_bytes(instance, no), do: nil),
      stack: Map.get(error.details, :stack, "")
    }
  end

  @doc "The stacks that the interpreter wrote when it was asked to, or when it died of a fatal error."
  @spec stacks(Path.t()) :: String.t()
  def stacks(path), do: path |> read_end() |> String.split("\n") |> Enum.map_join("\n", &Log.printable/1)

  @doc "The error that tells of the death, to callers and in the log."
  @spec error(:worker_down | :worker_start, map(), String.t(), [String.t()], String.t()) :: Error.t()
  def error(kind, %{worker: no, os_pid: os_pid, pool: pool}, reason, lines, stacks) do
    said =
      lines
      |> Enum.reject(&(&1 == ""))
      |> Enum.take(-@said_lines)
      |> Enum.map_join("\n", &String.slice(&1, 0, @said_characters))

    verb = if kind == :worker_down, do: "died", else: "could not be started"
    message = "worker #{no}#{Pools.words(pool)} (os pid #{inspect(os_pid)}) #{verb}: #{reason}"
    message = if said == "", do: message, else: "#{message}; it said last:\n#{said}"
    details = %{worker: no, output: lines |> Enum.take(-@kept_lines) |> Enum.join("\n")}
    Error.new(kind, message, if(stacks == "", do: details, else: Map.put(details, :stack, stacks)))
  end

  @doc "Until it has connected to the log socket, an interpreter's standard error goes to a file: its lines."
  @spec early_lines(Path.t()) :: [String.t()]
  def early_lines(path),
    do: path |> read_end() |> String.split("\n", trim: true) |> Enum.map(&Log.printable/1)

  @doc "A cause in words."
  @spec words(cause()) :: String.t()
  def words({:exit, status}) when status > 128, do: "it was ended by signal #{status - 128}"
  def words({:exit, status}), do: "it exited with status #{status}"
  def words(:lost), do: "its process is gone"
  def words({:stall, _stuck, true}), do: "it was stopped by a signal, and not continued"
  def words({:stall, {:handler, _number, ms, _beating}, _stopped}), do: "a handler held its loop for #{ms} ms"
  def words({:stall, {:loop, ms}, _stopped}), do: "its loop made no turn for #{ms} ms"
  def words({:memory, bytes}), do: "it took #{div(bytes, 1_048_576)} MB, twice the :max_worker_rss"

  defp read_end(path) do
    with {:ok, %File.Stat{size: size}} <- File.stat(path),
         {:ok, {:ok, text}} <-
           File.open(path, [:read, :raw, :binary], &:file.pread(&1, max(size - @end_bytes, 0), @end_bytes)) do
      text
    else
      _empty_or_missing -> ""
    end
  end
end
