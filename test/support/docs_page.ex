defmodule Pyre.DocsPage do
  @moduledoc false

  # The code blocks of a page of the documentation, and what is shown in them: Elixir statements with their results, command lines with
  # what they print. Pure.

  @fence ~r/^```([^\n]*)\n(.*?)^```$/ms

  @type block :: %{language: String.t(), text: String.t(), line: pos_integer()}

  @doc "The fenced blocks of a page, in order, each with the line on which its text begins."
  @spec blocks(String.t()) :: [block()]
  def blocks(page) do
    for [{start, _all}, language, text] <- Regex.scan(@fence, page, return: :index) do
      before = binary_part(page, 0, start)
      line = length(String.split(before, "\n")) + 1
      %{language: page |> part(language) |> String.trim(), text: part(page, text), line: line}
    end
  end

  defp part(page, {start, length}), do: binary_part(page, start, length)

  @doc "The statements of a block of Elixir, each with the result that the page shows for it (`#=> ...`, or as in `iex`), if it shows one."
  @spec statements(String.t(), pos_integer(), String.t()) :: [{Macro.t(), String.t() | nil}]
  def statements(text, line, file) do
    text = from_iex(text)
    {quoted, comments} = Code.string_to_quoted_with_comments!(text, line: line, file: file)
    results = for %{text: "#=> " <> result, line: at} <- comments, do: {at, result}
    quoted = unblock(quoted)
    ends = ends(text, line)

    for {{statement, at}, next} <- Enum.zip(Enum.zip(quoted, ends), tl(ends) ++ [:infinity]) do
      shown = for {line, result} <- results, line >= at and line < next, do: result
      {statement, if(shown != [], do: Enum.join(shown, " "))}
    end
  end

  # What `iex` prints becomes a comment, so that each line keeps its number.
  defp from_iex(text) do
    if text =~ ~r/^iex> /m do
      text
      |> String.split("\n")
      |> Enum.map_join("\n", fn
        "iex> " <> statement -> statement
        "...> " <> rest -> rest
        "" -> ""
        printed -> "#=> " <> printed
      end)
    else
      text
    end
  end

  defp unblock({:__block__, _meta, statements}), do: statements
  defp unblock(statement), do: [statement]

  # A bare literal tells its line only where it is asked to.
  defp ends(text, line) do
    text
    |> Code.string_to_quoted!(
      line: line,
      literal_encoder: fn literal, meta -> {:ok, {:literal, meta, [literal]}} end
    )
    |> unblock()
    |> Enum.map(&last_line/1)
  end

  defp last_line(statement) do
    {_statement, last} =
      Macro.prewalk(statement, 0, fn
        {_form, meta, _args} = node, last -> {node, max(last, Keyword.get(meta, :line, 0))}
        node, last -> {node, last}
      end)

    last
  end

  @doc "The command lines of a block, each with what it prints: in a `console` those after `$ `, else all."
  @spec commands(block()) :: [{String.t(), String.t()}]
  def commands(%{language: "console", text: text}) do
    for "$ " <> shown <- String.split("\n" <> text, ~r/\n(?=\$ )/, trim: true) do
      case String.split(shown, "\n", parts: 2) do
        [command, output] -> {command, String.trim_trailing(output)}
        [command] -> {command, ""}
      end
    end
  end

  def commands(%{text: text}) do
    text
    |> String.replace("\\\n", " ")
    |> String.split("\n", trim: true)
    |> Enum.map(&(&1 |> String.replace(~r/(^|\s)#.*$/, "") |> String.trim()))
    |> Enum.reject(&(&1 == ""))
    |> Enum.map(&{&1, ""})
  end

  @doc "Does a text have the shown form? In that, `...` stands for anything, and spaces for any number of them."
  @spec shown?(String.t(), String.t()) :: boolean()
  def shown?(text, shown) do
    pattern =
      shown
      |> String.split("...")
      |> Enum.map_join(".*", fn part -> part |> Regex.escape() |> String.replace(~r/(\\ )+/, "\\s+") end)

    Regex.match?(Regex.compile!("^\\s*#{pattern}\\s*$", "s"), text)
  end
end
