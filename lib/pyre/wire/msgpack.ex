defmodule Pyre.Wire.MsgPack do
  @moduledoc false
  @spec encode(term(), keyword()) :: {:ok, binary()} | {:error, Pyre.Error.t()}
  def encode(term, _opts \\ []), do: {:ok, :erlang.term_to_binary(term)}
  @spec decode(binary()) :: {:ok, term()} | {:error, Pyre.Error.t()}
  def decode(binary), do: {:ok, :erlang.binary_to_term(binary)}
end
