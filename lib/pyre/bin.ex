defmodule Pyre.Bin do
  @moduledoc """
  Marks a binary as bytes, so that Python gets `bytes` of it even where it happens to be valid UTF-8.

      Pyre.call(MyApp.Pyre, "files", :append, %{chunk: %Pyre.Bin{data: "looks like text"}})

  A plain binary travels as `str` where it is valid UTF-8, else as `bytes`. On the way back both are plain binaries.

      iex> Pyre.Bin.new("abc")
      %Pyre.Bin{data: "abc"}
  """

  @enforce_keys [:data]
  defstruct [:data]

  @typedoc "Bytes."
  @type t :: %__MODULE__{data: binary()}

  @doc "Marks `data` as bytes."
  @doc since: "0.1.0"
  @spec new(binary()) :: t()
  def new(data) when is_binary(data), do: %__MODULE__{data: data}
end
