defmodule Pyre.Wire.MsgPack.Decoder do
  @moduledoc false

  # MessagePack to Elixir terms. As in Pyre.Wire.ETF, one function walks the bytes, tail-recursively, with what is
  # open on an explicit stack: nothing is allocated from a count, the depth is known, and the path of a trouble is
  # read off the stack only when there is one.

  alias Pyre.Ext
  alias Pyre.Wire.MsgPack.{Text, Timestamp}
  require Pyre.Wire, as: Wire

  @doc "The term in `binary`, or what is wrong with it and the path of the place."
  @spec decode(binary()) :: {:ok, term()} | {:error, String.t(), [term()]}
  def decode(binary), do: items(binary, 1, [], [], 0)

  ## Helpers

  # items(bytes, elements still to come, those found in reverse, what is open around, how deep)
  # A map's elements are its keys and values by turns.

  defp items(<<rest::binary>>, 0, [term], [], _depth), do: finish(rest, term)

  defp items(<<rest::binary>>, 0, found, [{:list, left, around} | stack], depth),
    do: items(rest, left, [:lists.reverse(found) | around], stack, depth - 1)

  defp items(<<rest::binary>>, 0, found, [{:map, left, around} | stack] = open, depth) do
    case to_map(found) do
      {:ok, map} -> items(rest, left, [map | around], stack, depth - 1)
      {:error, reason} -> failed(reason, [], open)
    end
  end

  defp items(<<value, rest::binary>>, left, found, stack, depth) when value < 0x80,
    do: items(rest, left - 1, [value | found], stack, depth)

  defp items(<<0x5::3, size::5, text::binary-size(size), rest::binary>>, left, found, stack, depth),
    do: text(rest, text, left, found, stack, depth)

  defp items(<<0x8::4, size::4, rest::binary>>, left, found, stack, depth),
    do: open(rest, :map, 2 * size, left, found, stack, depth)

  defp items(<<0x9::4, size::4, rest::binary>>, left, found, stack, depth),
    do: open(rest, :list, size, left, found, stack, depth)

  defp items(<<0x7::3, value::5, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [value - 32 | found], stack, depth)

  defp items(<<0xC0, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [nil | found], stack, depth)

  defp items(<<0xC2, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [false | found], stack, depth)

  defp items(<<0xC3, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [true | found], stack, depth)

  for {tag, type} <- [
        {0xCA, quote(do: float - 32)},
        {0xCB, quote(do: float - 64)},
        {0xCC, quote(do: 8)},
        {0xCD, quote(do: 16)},
        {0xCE, quote(do: 32)},
        {0xCF, quote(do: 64)},
        {0xD0, quote(do: signed - 8)},
        {0xD1, quote(do: signed - 16)},
        {0xD2, quote(do: signed - 32)},
        {0xD3, quote(do: signed - 64)}
      ] do
    defp items(<<unquote(tag), value::unquote(type), rest::binary>>, left, found, stack, depth),
      do: items(rest, left - 1, [value | found], stack, depth)
  end

  for {tag, bits} <- [{0xD9, 8}, {0xDA, 16}, {0xDB, 32}] do
    defp items(
           <<unquote(tag), size::unquote(bits), text::binary-size(size), rest::binary>>,
           left,
           found,
           stack,
           depth
         ),
         do: text(rest, text, left, found, stack, depth)
  end

  for {tag, bits} <- [{0xC4, 8}, {0xC5, 16}, {0xC6, 32}] do
    defp items(
           <<unquote(tag), size::unquote(bits), bytes::binary-size(size), rest::binary>>,
           left,
           found,
           stack,
           depth
         ),
         do: items(rest, left - 1, [bytes | found], stack, depth)
  end

  for {tag, bits} <- [{0xDC, 16}, {0xDD, 32}] do
    defp items(<<unquote(tag), size::unquote(bits), rest::binary>>, left, found, stack, depth),
      do: open(rest, :list, size, left, found, stack, depth)
  end

  for {tag, bits} <- [{0xDE, 16}, {0xDF, 32}] do
    defp items(<<unquote(tag), size::unquote(bits), rest::binary>>, left, found, stack, depth),
      do: open(rest, :map, 2 * size, left, found, stack, depth)
  end

  for {tag, size} <- [{0xD4, 1}, {0xD5, 2}, {0xD6, 4}, {0xD7, 8}, {0xD8, 16}] do
    defp items(
           <<unquote(tag), type::signed, data::binary-size(unquote(size)), rest::binary>>,
           left,
           found,
           stack,
           depth
         ),
         do: ext(rest, type, data, left, found, stack, depth)
  end

  for {tag, bits} <- [{0xC7, 8}, {0xC8, 16}, {0xC9, 32}] do
    defp items(
           <<unquote(tag), size::unquote(bits), type::signed, data::binary-size(size), rest::binary>>,
           left,
           found,
           stack,
           depth
         ),
         do: ext(rest, type, data, left, found, stack, depth)
  end

  defp items(<<0xC1, _rest::binary>>, _left, found, stack, _depth),
    do: failed("the byte 0xc1 is reserved", found, stack)

  defp items(<<0xCA, _value::32, _rest::binary>>, _left, found, stack, _depth), do: no_float(found, stack)
  defp items(<<0xCB, _value::64, _rest::binary>>, _left, found, stack, _depth), do: no_float(found, stack)
  defp items(<<_rest::binary>>, _left, found, stack, _depth), do: failed("it is cut short", found, stack)

  defp text(rest, text, left, found, stack, depth) do
    if Text.utf8?(text),
      do: items(rest, left - 1, [text | found], stack, depth),
      else: failed("text that is not UTF-8", found, stack)
  end

  defp open(_rest, _kind, _size, _left, found, stack, Wire.max_body_nesting()),
    do: failed("nested more than #{Wire.max_body_nesting()} levels deep", found, stack)

  defp open(rest, kind, size, left, found, stack, depth),
    do: items(rest, size, [], [{kind, left - 1, found} | stack], depth + 1)

  defp ext(rest, -1, data, left, found, stack, depth) do
    case Timestamp.decode(data) do
      {:ok, datetime} -> items(rest, left - 1, [datetime | found], stack, depth)
      {:error, reason} -> failed(reason, found, stack)
    end
  end

  defp ext(rest, type, data, left, found, stack, depth),
    do: items(rest, left - 1, [%Ext{type: type, data: data} | found], stack, depth)

  defp to_map(found) do
    pairs = to_pairs(found, [])
    map = :maps.from_list(pairs)
    if map_size(map) == length(pairs), do: {:ok, map}, else: {:error, twice(pairs)}
  end

  defp to_pairs([value, key | found], pairs), do: to_pairs(found, [{key, value} | pairs])
  defp to_pairs([], pairs), do: pairs

  defp twice(pairs) do
    keys = Enum.map(pairs, &elem(&1, 0))
    "the key #{inspect(hd(keys -- Enum.uniq(keys)), limit: 5)} stands twice in one map"
  end

  defp finish(<<>>, term), do: {:ok, term}
  defp finish(rest, _term), do: {:error, "#{byte_size(rest)} bytes follow it", []}

  defp no_float(found, stack), do: failed("a NaN or infinite float, which Elixir has not", found, stack)

  # The path is read off the stack: each open container with the elements found in it.
  defp failed(reason, found, stack), do: {:error, reason, path(found, stack, [])}

  defp path(_found, [], path), do: path

  defp path(found, [{:list, _left, around} | stack], path),
    do: path(around, stack, [length(found) | path])

  defp path(found, [{:map, _left, around} | stack], path) do
    if rem(length(found), 2) == 1,
      do: path(around, stack, [hd(found) | path]),
      else: path(around, stack, path)
  end
end
