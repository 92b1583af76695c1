defmodule Pyre.House.DocsLinksTest do
  # What a page of the documentation points to is there: files, headings, and modules and functions that it names.
  use ExUnit.Case, async: true

  @pages Path.wildcard("*.md") ++ Path.wildcard("docs/**/*.md")
  @guides Path.wildcard("docs/guides/*.md")

  test "a link leads to a file that is there, and to a heading of it" do
    broken = for page <- @pages, target <- links(page), not there?(page, target), do: "#{page}: #{target}"

    assert [] == broken
  end

  test "a function of Pyre's that a page names with its arity is there" do
    missing =
      for page <- @pages,
          not String.starts_with?(page, "docs/decisions"),
          [name, module, function, arity] <-
            Regex.scan(~r/`((?:Pyre\.)?[A-Z][\w.]*?)?\.?([a-z_]+[?!]?)\/(\d)`/, File.read!(page),
              capture: :all
            ),
          module != "",
          not exported?(Module.concat([module]), String.to_atom(function), String.to_integer(arity)),
          do: "#{page}: #{name}"

    assert [] == missing
  end

  test "every guide and every decision is in the index, and every guide in the README" do
    index = File.read!("docs/README.md")

    for page <- @guides,
        do: assert(index =~ "(guides/#{Path.basename(page)})", "docs/README.md misses #{page}")

    for page <- Path.wildcard("docs/decisions/*.md"),
        do: assert(index =~ "(decisions/#{Path.basename(page)})", "docs/README.md misses #{page}")

    for page <- @guides, do: assert(File.read!("README.md") =~ "(#{page})", "README.md misses #{page}")
  end

  test "every test of a fault is in the fault model" do
    model = File.read!("docs/guides/fault-model.md")
    missing = for test <- Path.wildcard("test/faults/*_test.exs"), not (model =~ "../../#{test}"), do: test
    assert [] == missing
  end

  defp links(page) do
    text = Regex.replace(~r/^```.*?^```$/ms, File.read!(page), "")

    for [_all, target] <- Regex.scan(~r/\]\(([^)\s]+)\)/, text),
        not String.contains?(target, "://"),
        do: target
  end

  defp there?(page, target) do
    case String.split(target, "#", parts: 2) do
      ["", heading] -> heading in headings(page)
      [path, heading] -> File.exists?(beside(page, path)) and heading in headings(beside(page, path))
      [path] -> File.exists?(beside(page, path))
    end
  end

  defp beside(page, path), do: page |> Path.dirname() |> Path.join(path)

  defp headings(page) do
    for [_all, heading] <- Regex.scan(~r/^#+ (.+)$/m, File.read!(page)),
        do: heading |> String.downcase() |> String.replace(~r/[^\w\s-]/u, "") |> String.replace(" ", "-")
  end

  defp exported?(module, function, arity),
    do:
      Code.ensure_loaded?(module) and
        (function_exported?(module, function, arity) or macro_exported?(module, function, arity))
end
