defmodule Pyre.Wire.Body do
  @moduledoc false

  # What callers put into bodies and take out of them: arguments and replies as MessagePack, errors as maps.

  alias Pyre.Error
  alias Pyre.Wire.MsgPack

  @empty_map <<0x80>>

  @doc "Arguments as a MessagePack map."
  @spec args(map()) :: {:ok, binary()} | {:error, Error.t()}
  def args(args) when args == %{}, do: {:ok, @empty_map}
  def args(args), do: MsgPack.encode(args)

  @doc "An error as a body."
  @spec error(Pyre.error()) :: binary()
  def error(error) do
    case error |> Error.to_body() |> MsgPack.encode() do
      {:ok, body} -> body
      {:error, _unencodable_details} -> error(%{error | details: %{}})
    end
  end

  @doc "The error in a body. One made on the BEAM comes as it is."
  @spec to_error(binary() | Pyre.error()) :: Pyre.error()
  def to_error(body) when is_binary(body) do
    case MsgPack.decode(body) do
      {:ok, map} -> Error.from_body(map)
      {:error, error} -> error
    end
  end

  def to_error(error), do: error

  @doc "What a caller gets: the decoded reply, or the error."
  @spec to_result(0 | pos_integer(), binary() | Pyre.error()) :: {:ok, term()} | {:error, Pyre.error()}
  def to_result(0, body), do: MsgPack.decode(body)
  def to_result(_status, body), do: {:error, to_error(body)}
end
