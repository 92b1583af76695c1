defmodule Pyre.Wire.MsgPack.Encoder do
  @moduledoc false

  # Elixir terms to MessagePack. What cannot travel is thrown with its path, which costs one list cell per element
  # while all goes well.

  alias Pyre.{Bin, Ext}
  alias Pyre.Wire.MsgPack.{Text, Timestamp}
  require Pyre.Wire, as: Wire

  @max_integer 0xFFFF_FFFF_FFFF_FFFF
  @min_integer -0x8000_0000_0000_0000

  # Which forms of keys a map has; two of different forms may become the same.
  @no_keys 0
  @atom_keys 1
  @text_keys 2
  @other_keys 3

  @doc "The bytes of `term`, or why there are none and the path of the culprit."
  @spec encode(term()) :: {:ok, iodata()} | {:error, String.t(), [term()]}
  def encode(term) do
    {:ok, [value(term, [], 0)]}
  catch
    {__MODULE__, reason, path} -> path |> Enum.reverse() |> Enum.split_while(&(not key?(&1))) |> place(reason)
  end

  ## Helpers

  # What is wrong with a key is told at its map.
  defp place({path, []}, reason), do: {:error, reason, path}

  defp place({path, [{:key, key} | _inside]}, reason),
    do: {:error, "the key #{inspect(key, limit: 5)}: #{reason}", path}

  defp key?(segment), do: match?({:key, _key}, segment)

  # value(term, path from the inside out, how many containers are around)

  defp value(text, _path, _depth) when is_binary(text), do: text_or_bytes(text)
  defp value(integer, path, _depth) when is_integer(integer), do: integer(integer, path)
  defp value(nil, _path, _depth), do: 0xC0
  defp value(false, _path, _depth), do: 0xC2
  defp value(true, _path, _depth), do: 0xC3
  defp value(atom, _path, _depth) when is_atom(atom), do: text(Atom.to_string(atom))
  defp value(float, _path, _depth) when is_float(float), do: <<0xCB, float::float>>

  defp value(term, path, Wire.max_body_nesting())
       when is_list(term) or (is_map(term) and not is_struct(term)),
       do: refuse("nested more than #{Wire.max_body_nesting()} levels deep", path)

  defp value(list, path, depth) when is_list(list), do: list(list, path, depth + 1)
  defp value(%_{} = struct, path, _depth), do: wrapped(struct, path)
  defp value(map, path, depth) when is_map(map), do: map(map, path, depth + 1)

  defp value(tuple, path, _depth) when is_tuple(tuple),
    do: refuse("a tuple has no counterpart; use a list, such as Tuple.to_list/1 gives", path)

  defp value(term, path, _depth),
    do: refuse("#{name(term)} has no counterpart in Python: #{inspect(term)}", path)

  defp text_or_bytes(binary), do: if(Text.utf8?(binary), do: text(binary), else: bytes(binary))

  defp text(text) do
    case byte_size(text) do
      size when size < 32 -> [0xA0 + size | text]
      size when size < 0x100 -> [<<0xD9, size>> | text]
      size when size < 0x10000 -> [<<0xDA, size::16>> | text]
      size -> [<<0xDB, size::32>> | text]
    end
  end

  defp bytes(bytes) do
    case byte_size(bytes) do
      size when size < 0x100 -> [<<0xC4, size>> | bytes]
      size when size < 0x10000 -> [<<0xC5, size::16>> | bytes]
      size -> [<<0xC6, size::32>> | bytes]
    end
  end

  defp integer(integer, _path) when integer >= 0 and integer < 0x80, do: integer
  defp integer(integer, path) when integer >= 0, do: positive(integer, path)
  defp integer(integer, _path) when integer >= -0x20, do: 0x100 + integer
  defp integer(integer, _path) when integer >= -0x80, do: <<0xD0, integer>>
  defp integer(integer, _path) when integer >= -0x8000, do: <<0xD1, integer::16>>
  defp integer(integer, _path) when integer >= -0x80000000, do: <<0xD2, integer::32>>
  defp integer(integer, _path) when integer >= @min_integer, do: <<0xD3, integer::64>>
  defp integer(_integer, path), do: refuse("integers go from -2^63 to 2^64 - 1, this one is smaller", path)

  defp positive(integer, _path) when integer < 0x100, do: <<0xCC, integer>>
  defp positive(integer, _path) when integer < 0x10000, do: <<0xCD, integer::16>>
  defp positive(integer, _path) when integer < 0x100000000, do: <<0xCE, integer::32>>
  defp positive(integer, _path) when integer <= @max_integer, do: <<0xCF, integer::64>>
  defp positive(_integer, path), do: refuse("integers go from -2^63 to 2^64 - 1, this one is larger", path)

  defp list([{key, _value} | _rest], path, _depth) when is_atom(key),
    do: refuse("a keyword list has no counterpart; make it a map with Map.new/1", path)

  defp list(list, path, depth) do
    {elements, count} = elements(list, 0, path, depth)
    [list_header(count) | elements]
  end

  defp elements([element | rest], index, path, depth) do
    encoded = value(element, [index | path], depth)
    {encoded_rest, count} = elements(rest, index + 1, path, depth)
    {[encoded | encoded_rest], count}
  end

  defp elements([], count, _path, _depth), do: {[], count}

  defp elements(tail, _index, path, _depth),
    do: refuse("an improper list has no counterpart; its tail is #{inspect(tail, limit: 5)}", path)

  defp list_header(count) when count < 16, do: 0x90 + count
  defp list_header(count) when count < 0x10000, do: <<0xDC, count::16>>
  defp list_header(count), do: <<0xDD, count::32>>

  defp map(map, path, depth) do
    pairs = :maps.to_list(map)
    [map_header(map_size(map)) | pairs(pairs, @no_keys, map, path, depth)]
  end

  defp pairs([{key, value} | rest], form, map, path, depth) do
    form = key_form(key, form)
    encoded_key = key(key, path, depth)
    encoded_value = value(value, [key | path], depth)
    [encoded_key, encoded_value | pairs(rest, form, map, path, depth)]
  end

  defp pairs([], form, map, path, _depth) do
    if form == @other_keys, do: check_keys(map, path)
    []
  end

  defp map_header(count) when count < 16, do: 0x80 + count
  defp map_header(count) when count < 0x10000, do: <<0xDE, count::16>>
  defp map_header(count), do: <<0xDF, count::32>>

  defp key_form(key, form) when is_atom(key) and form in [@no_keys, @atom_keys], do: @atom_keys
  defp key_form(key, form) when is_binary(key) and form in [@no_keys, @text_keys], do: @text_keys
  defp key_form(_key, _form), do: @other_keys

  defp key(text, _path, _depth) when is_binary(text), do: text_or_bytes(text)
  defp key(key, path, depth), do: value(key, [{:key, key} | path], depth)

  defp check_keys(map, path) do
    Enum.reduce(map, %{}, fn {key, _value}, seen ->
      travelled = travelled(key)

      case seen do
        %{^travelled => other} ->
          refuse("the keys #{inspect(other)} and #{inspect(key)} become the same", path)

        _new ->
          Map.put(seen, travelled, key)
      end
    end)
  end

  defp travelled(key) when is_atom(key) and key not in [nil, true, false], do: Atom.to_string(key)
  defp travelled(%Bin{data: data}), do: data
  defp travelled(key), do: key

  defp wrapped(%Bin{data: data}, _path) when is_binary(data), do: bytes(data)

  defp wrapped(%Ext{type: type, data: data}, _path)
       when type in -128..127 and type != -1 and is_binary(data),
       do: ext(type, data)

  defp wrapped(%Ext{} = ext, path),
    do:
      refuse(
        "an extension type is from -128 to 127 other than -1, with binary data, got: #{inspect(ext)}",
        path
      )

  defp wrapped(%DateTime{} = datetime, path) do
    case Timestamp.encode(datetime) do
      {:ok, data} -> ext(-1, data)
      :error -> refuse("years before 0 have no counterpart, got: #{inspect(datetime)}", path)
    end
  end

  defp wrapped(%module{}, path) do
    refuse("the struct #{inspect(module)} needs an explicit conversion, such as #{advice(module)}", path)
  end

  defp advice(Date), do: "Date.to_iso8601/1"
  defp advice(Time), do: "Time.to_iso8601/1"
  defp advice(NaiveDateTime), do: "DateTime.from_naive!(value, \"Etc/UTC\")"
  defp advice(MapSet), do: "MapSet.to_list/1"
  defp advice(Range), do: "Enum.to_list/1"
  defp advice(_module), do: "Map.from_struct/1"

  defp ext(type, data) do
    case byte_size(data) do
      1 -> [<<0xD4, type>> | data]
      2 -> [<<0xD5, type>> | data]
      4 -> [<<0xD6, type>> | data]
      8 -> [<<0xD7, type>> | data]
      16 -> [<<0xD8, type>> | data]
      size when size < 0x100 -> [<<0xC7, size, type>> | data]
      size when size < 0x10000 -> [<<0xC8, size::16, type>> | data]
      size -> [<<0xC9, size::32, type>> | data]
    end
  end

  defp name(term) when is_pid(term), do: "a pid"
  defp name(term) when is_reference(term), do: "a reference"
  defp name(term) when is_function(term), do: "a function"
  defp name(term) when is_port(term), do: "a port"
  defp name(term) when is_bitstring(term), do: "a bitstring that is not whole bytes"

  @spec refuse(String.t(), [term()]) :: no_return()
  defp refuse(reason, path), do: throw({__MODULE__, reason, path})
end
