defmodule Pyre.House.DocsPageTest do
  # What reads the blocks of a page would also find a wrong one.
  use ExUnit.Case, async: true

  alias Pyre.DocsPage

  test "blocks have their language and the line of their text" do
    page = "# A\n\n```sh\nmake run\n```\n\ntext\n\n```\nnone\n```\n"

    assert [%{language: "sh", text: "make run\n", line: 4}, %{language: "", text: "none\n", line: 10}] =
             DocsPage.blocks(page)
  end

  test "a statement has the result that stands behind or below it" do
    text = """
    a = 1      # no result
    a + 1      #=> 2
    b = fn ->
      a
    end

    b.()
    #=> 1
    """

    assert [nil, "2", nil, "1"] == for({_statement, shown} <- DocsPage.statements(text, 1, "page"), do: shown)
  end

  test "so it has in iex's form" do
    text = """
    iex> %{a: 1}
    ...> |> Map.put(:b, 2)
    %{a: 1, b: 2}
    iex> :ok
    :ok
    """

    assert [{_map, "%{a: 1, b: 2}"}, {:ok, ":ok"}] = DocsPage.statements(text, 1, "page")
  end

  test "a console has commands with their output, other blocks commands alone" do
    console = %{language: "console", text: "$ one a\nprinted\n\nand more\n$ two\n", line: 1}
    assert [{"one a", "printed\n\nand more"}, {"two", ""}] == DocsPage.commands(console)
    sh = %{language: "sh", text: "# what for\nmake run    # runs\nA=1 b \\\n  c\n", line: 1}
    assert [{"make run", ""}, {"A=1 b    c", ""}] == DocsPage.commands(sh)
  end

  test "what is shown is what is there, but for dots and the number of spaces" do
    assert DocsPage.shown?("id  7\nstate {}\n", "id 7\nstate {}")
    assert DocsPage.shown?(~s({:ok, "a b"}), ~s({:ok, "a b"}))
    assert DocsPage.shown?("x (at 12:30) y", "x ... y")
    refute DocsPage.shown?("x z", "x y")
    refute DocsPage.shown?("x y and more", "x y")
    refute DocsPage.shown?("a.b", "a+b")
  end
end
