defmodule Pyre.Ext do
  @moduledoc """
  A value of a MessagePack extension type; in Python a `pyre.Ext`.

  Types from 0 to 127 are for applications, those below 0 belong to MessagePack. Type -1 is the timestamp, which is a
  `DateTime` here and an aware `datetime` in Python.

      iex> Pyre.Ext.new(7, <<1, 2>>)
      %Pyre.Ext{type: 7, data: <<1, 2>>}
  """

  @enforce_keys [:type, :data]
  defstruct [:type, :data]

  @typedoc "A value of an extension type."
  @type t :: %__MODULE__{type: -128..127, data: binary()}

  @doc "Makes a value of extension type `type`."
  @doc since: "0.1.0"
  @spec new(-128..127, binary()) :: t()
  def new(type, data) when type in -128..127 and is_binary(data), do: %__MODULE__{type: type, data: data}
end
