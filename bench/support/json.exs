defmodule Bench.Json do
  @moduledoc false

  # Writes JSON. Elixir before 1.18 has no module for it.

  @doc "A term of maps, lists, strings, atoms and numbers as indented JSON."
  def encode(term), do: IO.iodata_to_binary([write(term, 0), ?\n])

  defp write(map, depth) when is_map(map) do
    fields = for {key, value} <- Enum.sort(map), do: [text(to_string(key)), ": ", write(value, depth + 1)]
    block(fields, "{", "}", depth)
  end

  defp write(list, depth) when is_list(list) do
    if Enum.all?(list, &is_number/1),
      do: ["[", list |> Enum.map(&write(&1, depth)) |> Enum.intersperse(", "), "]"],
      else: block(Enum.map(list, &write(&1, depth + 1)), "[", "]", depth)
  end

  defp write(atom, _depth) when atom in [nil, true, false], do: if(atom == nil, do: "null", else: "#{atom}")
  defp write(atom, _depth) when is_atom(atom), do: text(Atom.to_string(atom))
  defp write(text, _depth) when is_binary(text), do: text(text)
  defp write(integer, _depth) when is_integer(integer), do: Integer.to_string(integer)
  defp write(float, _depth) when is_float(float), do: float |> Float.round(3) |> Float.to_string()

  defp block([], open, close, _depth), do: [open, close]

  defp block(items, open, close, depth) do
    indent = ["\n", String.duplicate("  ", depth + 1)]
    [open, indent, Enum.intersperse(items, [",", indent]), "\n", String.duplicate("  ", depth), close]
  end

  defp text(text), do: [?", for(<<char::utf8 <- text>>, do: escape(char)), ?"]

  defp escape(?"), do: "\\\""
  defp escape(?\\), do: "\\\\"
  defp escape(?\n), do: "\\n"
  defp escape(char) when char < 32, do: "\\u" <> (char |> Integer.to_string(16) |> String.pad_leading(4, "0"))
  defp escape(char), do: <<char::utf8>>
end
