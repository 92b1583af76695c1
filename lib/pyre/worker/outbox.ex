defmodule Pyre.Worker.Outbox do
  @moduledoc false

  # What is on its way to an interpreter: envelopes that wait to become one frame, and frames that wait for room in the pipe.
  # Writing never suspends the worker's process: while the pipe is full this queue grows, and the pulse finds out why.

  alias Pyre.Wire.Frame

  # A batch is written when the mailbox is empty, or earlier when it is this large: one message more, with its state and
  # start arguments, still makes a frame within the limit.
  @batch_count 512
  @batch_bytes 1_048_576

  defstruct batch: [], count: 0, bytes: 0, yielded?: false, unsent: []

  @type t :: %__MODULE__{}

  @doc "Puts an envelope into the batch; `bytes` are those of its bodies."
  @spec push(t(), tuple(), non_neg_integer()) :: t()
  def push(%__MODULE__{batch: batch, count: count, bytes: sum} = outbox, envelope, bytes),
    do: %{outbox | batch: [envelope | batch], count: count + 1, bytes: sum + bytes}

  @doc "What the batch asks for: nothing, a write when there is nothing else to do, or a write now."
  @spec urgency(t()) :: :none | :idle | :now
  def urgency(%__MODULE__{batch: []}), do: :none

  def urgency(%__MODULE__{count: count, bytes: bytes}) when count >= @batch_count or bytes >= @batch_bytes,
    do: :now

  def urgency(_outbox), do: :idle

  @doc "Closes the batch and writes what the pipe takes."
  @spec flush(t(), port() | pid()) :: {:ok | :full, t()}
  def flush(%__MODULE__{batch: []} = outbox, _port), do: {:ok, outbox}

  def flush(%__MODULE__{batch: batch, unsent: unsent}, port) do
    frame = batch |> Enum.reverse() |> Frame.encode()
    write(%__MODULE__{unsent: unsent ++ [frame]}, port)
  end

  @doc "Writes what waits, as far as the pipe takes it."
  @spec write(t(), port() | pid()) :: {:ok | :full, t()}
  def write(%__MODULE__{unsent: []} = outbox, _port), do: {:ok, outbox}

  # A plain command would suspend the process while the pipe is full; then it could not even notice why.
  def write(%__MODULE__{unsent: [frame | rest]} = outbox, port) do
    if command(port, frame),
      do: write(%{outbox | unsent: rest}, port),
      else: {:full, outbox}
  rescue
    # The port closed in this instant: its own message tells why.
    ArgumentError -> {:ok, %{outbox | unsent: []}}
  end

  defp command(port, frame) when is_port(port), do: Port.command(port, frame, [:nosuspend])

  # What stands in for an interpreter has no pipe that could be full.
  defp command(stand_in, frame) do
    send(stand_in, {self(), {:command, frame}})
    true
  end
end
