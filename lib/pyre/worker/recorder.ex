defmodule Pyre.Worker.Recorder do
  @moduledoc false

  # Reads the flight recorder, the file that an interpreter keeps mapped (docs/wire.md). It answers when the interpreter can't:
  # stopped, stuck in C, or dead.

  @bytes 4_096
  @magic 0x0000000145525950
  @words 8

  @type t :: %{
          begun: non_neg_integer(),
          on_loop: non_neg_integer(),
          on_loop_since: non_neg_integer(),
          beat: non_neg_integer(),
          lag_us: non_neg_integer(),
          activations: non_neg_integer(),
          under_way: non_neg_integer()
        }

  @doc "Makes an empty recorder."
  @spec create!(Path.t()) :: :ok
  def create!(path), do: File.write!(path, <<0::size(@bytes)-unit(8)>>)

  @doc "What it says now; `:error` where the interpreter has not written to it yet."
  @spec read(Path.t()) :: {:ok, t()} | :error
  def read(path) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary]),
         read = :file.pread(file, 0, @words * 8),
         :ok <- :file.close(file),
         {:ok,
          <<@magic::64-little, begun::64-little, on_loop::64-little, since::64-little, beat::64-little,
            lag_us::64-little, activations::64-little, under_way::64-little>>} <- read do
      {:ok,
       %{
         begun: begun,
         on_loop: on_loop,
         on_loop_since: since,
         beat: beat,
         lag_us: lag_us,
         activations: activations,
         under_way: under_way
       }}
    else
      _unwritten_or_gone -> :error
    end
  end

  @doc "The number of the message begun last; 0 where none was."
  @spec begun(Path.t()) :: non_neg_integer()
  def begun(path) do
    case read(path) do
      {:ok, %{begun: begun}} -> begun
      :error -> 0
    end
  end
end
