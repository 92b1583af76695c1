defmodule Pyre.Wire.MsgPack.Timestamp do
  @moduledoc false

  # The timestamp extension (type -1) in its three forms, and DateTime.

  # DateTime.from_unix/2 raises for some of what lies outside.
  @years_0_to_9999 -62_167_219_200..253_402_300_799

  @doc "The shortest form of `datetime`."
  @spec encode(DateTime.t()) :: {:ok, binary()} | :error
  def encode(%DateTime{year: year}) when year < 0, do: :error

  def encode(%DateTime{microsecond: {microseconds, _precision}} = datetime) do
    # Rounds down, as the nanoseconds of the wire count upwards.
    {:ok, form(DateTime.to_unix(datetime), microseconds * 1_000)}
  end

  @doc "The instant in `data`, with what is beyond microseconds cut off."
  @spec decode(binary()) :: {:ok, DateTime.t()} | {:error, String.t()}
  def decode(<<seconds::32>>), do: instant(seconds, 0)
  def decode(<<nanoseconds::30, seconds::34>>), do: instant(seconds, nanoseconds)
  def decode(<<nanoseconds::32, seconds::64-signed>>), do: instant(seconds, nanoseconds)
  def decode(data), do: {:error, "a timestamp has 4, 8 or 12 bytes, got #{byte_size(data)}"}

  ## Helpers

  defp form(seconds, 0) when seconds in 0..0xFFFFFFFF, do: <<seconds::32>>
  defp form(seconds, nanoseconds) when seconds in 0..0x3FFFFFFFF, do: <<nanoseconds::30, seconds::34>>
  defp form(seconds, nanoseconds), do: <<nanoseconds::32, seconds::64>>

  defp instant(_seconds, nanoseconds) when nanoseconds > 999_999_999,
    do: {:error, "a timestamp has at most 999999999 nanoseconds, got #{nanoseconds}"}

  defp instant(seconds, nanoseconds) when seconds in @years_0_to_9999 do
    datetime = DateTime.from_unix!(seconds)
    {:ok, %{datetime | microsecond: microsecond(div(nanoseconds, 1_000))}}
  end

  defp instant(seconds, _nanoseconds),
    do: {:error, "a timestamp of #{seconds} seconds is not within the years 0 to 9999"}

  defp microsecond(0), do: {0, 0}
  defp microsecond(microseconds), do: {microseconds, 6}
end
