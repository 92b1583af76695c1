defmodule Pyre.Wire.MsgPack.Text do
  @moduledoc false

  # Tells text from bytes.

  import Bitwise

  # Four bytes at a time: eight would not be a small integer, and of seven the emulator has no fast match.
  @high_bits 0x80808080

  @doc "Whether `binary` is UTF-8."
  @spec utf8?(binary()) :: boolean()
  def utf8?(<<word::32, rest::binary>>) when band(word, @high_bits) == 0, do: utf8?(rest)
  def utf8?(<<byte, rest::binary>>) when byte < 0x80, do: utf8?(rest)
  def utf8?(<<_character::utf8, rest::binary>>), do: utf8?(rest)
  def utf8?(<<>>), do: true
  def utf8?(_binary), do: false
end
