defmodule Pyre.Wire.MsgPack do
  @moduledoc false

  # The bodies' codec: arguments, replies, states, errors. Runs in the caller's process, never in an agent's or a
  # worker's. Both directions name the place of the trouble inside the value, as in `["orders"][3]["price"]`.

  alias Pyre.Wire.MsgPack.{Decoder, Encoder}
  require Pyre.Wire, as: Wire

  @type opts :: [max_bytes: pos_integer()]

  @doc """
  The MessagePack bytes of `term`.

  An error is of kind `:encode`, with the place in `details.path`, or `:too_large`. `:max_bytes` is the limit,
  16 MiB by default.
  """
  @spec encode(term(), opts()) :: {:ok, binary()} | {:error, Pyre.Error.t()}
  def encode(term, opts \\ []) do
    case Encoder.encode(term) do
      {:ok, iodata} -> iodata |> :erlang.iolist_to_binary() |> bounded(opts)
      {:error, reason, path} -> {:error, error(:encode, "cannot encode the value", reason, path)}
    end
  end

  @doc "The term in `binary`; an error is of kind `:decode` or `:too_large`."
  @spec decode(binary(), opts()) :: {:ok, term()} | {:error, Pyre.Error.t()}
  def decode(binary, opts \\ []) do
    with {:ok, binary} <- bounded(binary, opts) do
      case Decoder.decode(own(binary)) do
        {:ok, term} -> {:ok, term}
        {:error, reason, path} -> {:error, error(:decode, "cannot decode the value", reason, path)}
      end
    end
  end

  ## Helpers

  defp bounded(binary, opts) do
    size = byte_size(binary)
    limit = Keyword.get(opts, :max_bytes, Wire.max_body_bytes())

    if size <= limit,
      do: {:ok, binary},
      else: {:error, Pyre.Error.new(:too_large, too_large(size, limit), %{size: size, limit: limit})}
  end

  # What is decoded are parts of the body, and a body is a part of its frame: one short text that the caller keeps
  # would keep a frame of many messages.
  defp own(binary) do
    if :binary.referenced_byte_size(binary) > 2 * byte_size(binary),
      do: :binary.copy(binary),
      else: binary
  end

  defp too_large(size, limit), do: "the encoded value has #{size} bytes, the limit is #{limit}"

  defp error(kind, what, reason, []), do: Pyre.Error.new(kind, "#{what}: #{reason}", %{path: ""})

  defp error(kind, what, reason, path) do
    path = Enum.map_join(path, &segment/1)
    Pyre.Error.new(kind, "#{what} at #{path}: #{reason}", %{path: path})
  end

  @shown 40

  defp segment(key) when is_binary(key) do
    cond do
      not String.valid?(key) -> "[?]"
      String.length(key) > @shown -> "[#{inspect(String.slice(key, 0, @shown) <> "...")}]"
      true -> "[#{inspect(key)}]"
    end
  end

  defp segment(key) when key in [nil, true, false], do: "[#{inspect(key)}]"
  defp segment(key) when is_atom(key), do: key |> Atom.to_string() |> segment()
  defp segment(key) when is_number(key), do: "[#{String.slice(to_string(key), 0, @shown)}]"
  defp segment(%Pyre.Bin{data: data}), do: segment(data)
  defp segment(_key), do: "[?]"
end
