defmodule Pyre.Worker.Recorder do
  @moduledoc false

  # Reads the flight recorder, the file that an interpreter keeps mapped (docs/wire.md). It answers when the interpreter can't:
  # stopped, stuck in C, or dead.

  @bytes 4_096
  @magic 0x0000000145525950
  @words 74
  @first_thread 8
  @excused 72

  @type t :: %{
          begun: non_neg_integer(),
          on_loop: non_neg_integer(),
          on_loop_since: non_neg_integer(),
          beat: non_neg_integer(),
          lag_us: non_neg_integer(),
          activations: non_neg_integer(),
          under_way: non_neg_integer(),
          threads: [pos_integer()],
          excused_since: non_neg_integer(),
          memory_errors: non_neg_integer()
        }

  @doc "Makes an empty recorder."
  @spec create!(Path.t()) :: :ok
  def create!(path), do: File.write!(path, <<0::size(@bytes)-unit(8)>>)

  @doc "What it says now; `:error` where the interpreter has not written to it yet."
  @spec read(Path.t()) :: {:ok, t()} | :error
  def read(path) do
    with {:ok, file} <- open(path) do
      seen = look(file)
      _closed = :file.close(file)
      seen
    else
      {:error, _reason} -> :error
    end
  end

  @doc "Opens it for who looks again and again; that process alone may use and close it."
  @spec open(Path.t()) :: {:ok, :file.fd()} | {:error, term()}
  def open(path), do: :file.open(path, [:read, :raw, :binary])

  @doc "What the open file says now."
  @spec look(:file.fd()) :: {:ok, t()} | :error
  def look(file) do
    case :file.pread(file, 0, @words * 8) do
      {:ok, <<@magic::64-little, words::binary>>} -> {:ok, parse(words)}
      _unwritten_or_gone -> :error
    end
  end

  defp parse(words) do
    all = for <<word::64-little <- words>>, do: word
    [begun, on_loop, since, beat, lag_us, activations, under_way | rest] = all
    {threads, [excused, memory_errors]} = Enum.split(rest, @excused - @first_thread)

    %{
      begun: begun,
      on_loop: on_loop,
      on_loop_since: since,
      beat: beat,
      lag_us: lag_us,
      activations: activations,
      under_way: under_way,
      threads: Enum.reject(threads, &(&1 == 0)),
      excused_since: excused,
      memory_errors: memory_errors
    }
  end

  @doc "What a dead interpreter left: as `read/1`, all zero where it never wrote."
  @spec left(Path.t()) :: t()
  def left(path) do
    case read(path) do
      {:ok, seen} -> seen
      :error -> parse(<<0::size(@words - 1)-unit(64)>>)
    end
  end
end
