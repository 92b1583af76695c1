defmodule Pyre.Wire.Frame do
  @moduledoc false

  # Frames: a 32-bit length, then one ETF term, which is a batch of envelopes. Own code rather than {:packet, 4},
  # which believes any length: 104 bytes made the BEAM reserve 2 GB.

  require Pyre.Wire, as: Wire
  alias Pyre.Wire.ETF

  @enforce_keys [:max_bytes]
  defstruct [:max_bytes, buffered: [], have: 0, need: nil]

  # `buffered` holds the chunks of the frame that is not complete, newest first, and `have` their size. `need` is the
  # size of that frame with its prefix, nil while not even the prefix is there.
  @opaque t :: %__MODULE__{
            max_bytes: pos_integer(),
            buffered: [binary()],
            have: non_neg_integer(),
            need: pos_integer() | nil
          }

  @prefix_bytes 4

  @doc "The frame of a batch of envelopes; raises where it is larger than the other side would take."
  @spec encode([ETF.envelope(), ...]) :: iolist()
  def encode([_first | _rest] = envelopes) do
    payload = ETF.encode(envelopes)

    case byte_size(payload) do
      size when size <= Wire.max_frame_bytes() -> [<<size::32>>, payload]
      size -> raise ArgumentError, "a frame holds at most #{Wire.max_frame_bytes()} bytes, got: #{size}"
    end
  end

  @doc "The batch of envelopes in a frame's payload."
  @spec decode(binary()) :: {:ok, [ETF.envelope(), ...]} | {:error, String.t()}
  def decode(payload) do
    with {:ok, term} <- ETF.decode(payload) do
      if batch?(term), do: {:ok, term}, else: {:error, "expected a list of envelopes, got another term"}
    end
  end

  @doc "A framer for a new stream of bytes."
  @spec new(pos_integer()) :: t()
  def new(max_bytes \\ Wire.max_frame_bytes()), do: %__MODULE__{max_bytes: max_bytes}

  @doc """
  Takes the bytes that came in next, gives the payloads of the frames that they complete.

  After an error the stream is of no use any more.
  """
  @spec push(t(), binary()) :: {:ok, [binary()], t()} | {:error, String.t()}
  def push(%__MODULE__{have: 0} = framer, chunk), do: split(chunk, framer, [])

  def push(%__MODULE__{need: nil} = framer, chunk),
    do: split(join(framer, chunk), %{framer | buffered: [], have: 0}, [])

  def push(%__MODULE__{need: need, have: have} = framer, chunk) when have + byte_size(chunk) < need,
    do: {:ok, [], %{framer | buffered: [chunk | framer.buffered], have: have + byte_size(chunk)}}

  def push(%__MODULE__{need: need, have: have} = framer, chunk) do
    missing = need - have
    <<last::binary-size(missing), rest::binary>> = chunk
    <<_size::32, payload::binary>> = join(framer, last)
    split(rest, %{framer | buffered: [], have: 0, need: nil}, [payload])
  end

  ## Helpers

  defp split(<<size::32, _rest::binary>>, %{max_bytes: max}, _payloads) when size == 0 or size > max,
    do: {:error, "a frame announces #{size} bytes; allowed are 1 to #{max}"}

  defp split(<<size::32, payload::binary-size(size), rest::binary>>, framer, payloads),
    do: split(rest, framer, [payload | payloads])

  defp split(<<>>, framer, payloads), do: {:ok, :lists.reverse(payloads), framer}

  defp split(<<size::32, _rest::binary>> = cut, framer, payloads),
    do: keep(cut, %{framer | need: size + @prefix_bytes}, payloads)

  defp split(cut, framer, payloads), do: keep(cut, framer, payloads)

  # The cut frame is copied: as a part of its chunk it would hold the whole chunk until it is complete.
  defp keep(cut, framer, payloads) do
    framer = %{framer | buffered: [:binary.copy(cut)], have: byte_size(cut)}
    {:ok, :lists.reverse(payloads), framer}
  end

  defp join(framer, last), do: IO.iodata_to_binary(:lists.reverse(framer.buffered, [last]))

  defp batch?([_first | _rest] = list), do: Enum.all?(list, &envelope?/1)
  defp batch?(_other), do: false

  defp envelope?(term), do: is_tuple(term) and tuple_size(term) > 0 and is_integer(elem(term, 0))
end
