defmodule Pyre.House.DocsTest do
  use ExUnit.Case, async: true

  @modules Application.spec(:pyre, :modules)

  test "every module is documented, or says that it is internal" do
    assert [] == for(module <- @modules, module_doc(module) == :none, do: module)
  end

  test "every public function of a documented module has a doc" do
    undocumented =
      for module <- documented(), {{:function, name, arity}, doc} <- function_docs(module), doc == :none do
        Exception.format_mfa(module, name, arity)
      end

    assert [] == undocumented
  end

  test "every type of a documented module is explained" do
    unexplained =
      for module <- documented(),
          {:docs_v1, _line, _language, _format, _doc, _metadata, docs} = Code.fetch_docs(module),
          {{:type, name, arity}, _line, _signature, :none, _metadata} <- docs,
          do: Exception.format_mfa(module, name, arity)

    assert [] == unexplained
  end

  test "every public function has a spec, those of internal modules too" do
    unspecified =
      for module <- @modules, {name, arity} <- functions(module) -- specified(module) do
        Exception.format_mfa(module, name, arity)
      end

    assert [] == unspecified
  end

  test "an example in a doc is Elixir, and calls what there is" do
    wrong =
      for module <- documented(),
          {name, doc} <- [{inspect(module), module_doc(module)} | texts(module)],
          example <- examples(doc),
          problem <- problems(example),
          do: "#{name}: #{problem}"

    assert [] == wrong
  end

  test "every function of Pyre has an example" do
    assert [] == for({name, doc} <- texts(Pyre), examples(doc) == [], do: name)
  end

  test "each public module is in a group of the documentation, and each page of it is there" do
    docs = Mix.Project.config()[:docs]
    grouped = docs[:groups_for_modules] |> Keyword.values() |> List.flatten()
    tasks = Enum.filter(documented(), &String.starts_with?(inspect(&1), "Mix.Tasks."))
    assert Enum.sort(documented()) == Enum.sort([Pyre | grouped] ++ tasks)
    for page <- docs[:extras], do: assert(File.exists?(page))
    assert "docs/guides/first-agent.md" in docs[:extras]
  end

  # What is indented by four, as Markdown has code, between paragraphs that aren't; command lines are no Elixir.
  defp examples(%{"en" => text}) do
    text
    |> String.split(~r/\n(?:\s*\n)+/)
    |> Enum.chunk_by(&code?/1)
    |> Enum.filter(&code?(hd(&1)))
    |> Enum.map(&Enum.join(&1, "\n\n"))
    |> Enum.reject(&(&1 =~ ~r/^ *mix /))
  end

  defp examples(_none), do: []

  defp code?(paragraph) do
    lines = String.split(paragraph, "\n", trim: true)
    lines != [] and Enum.all?(lines, &String.starts_with?(&1, "    "))
  end

  defp texts(module) do
    {:docs_v1, _line, _language, _format, _doc, _metadata, docs} = Code.fetch_docs(module)

    for {{:function, name, arity}, _line, _signature, doc, _metadata} <- docs,
        is_map(doc),
        do: {Exception.format_mfa(module, name, arity), doc}
  end

  # Parts of a longer one can begin with a keyword, as in mix.exs.
  defp problems(example) do
    example = Regex.replace(~r/^( *)(iex|\.\.\.)> ?/m, example, "")

    with {:error, {_where, why, token}} <- Code.string_to_quoted(example),
         {:error, _no_keywords} <- Code.string_to_quoted("[#{example}]") do
      ["#{inspect(why)} #{inspect(token)} in #{example}"]
    else
      {:ok, quoted} -> unknown_calls(quoted)
    end
  end

  defp unknown_calls(quoted) do
    {_quoted, calls} =
      Macro.prewalk(piped(quoted), [], fn
        {{:., _, [{:__aliases__, _, [:Pyre | _] = name}, function]}, _, args} = node, calls ->
          {node, [{Module.concat(name), function, length(args)} | calls]}

        node, calls ->
          {node, calls}
      end)

    for {module, function, arity} <- calls,
        not (Code.ensure_loaded?(module) and function_exported?(module, function, arity)),
        do: Exception.format_mfa(module, function, arity)
  end

  # What a pipe gives is the first argument; a capture says how many there are.
  defp piped(quoted) do
    Macro.prewalk(quoted, fn
      {:&, _, [{:/, _, [{call, meta, []}, arity]}]} -> {call, meta, List.duplicate(nil, arity)}
      {:|>, _, [left, {call, meta, args}]} when is_list(args) -> {call, meta, [left | args]}
      node -> node
    end)
  end

  defp documented, do: Enum.filter(@modules, &(is_map(module_doc(&1)) and module_doc(&1) != %{}))

  defp module_doc(module) do
    {:docs_v1, _line, _language, _format, doc, _metadata, _docs} = Code.fetch_docs(module)
    doc
  end

  defp function_docs(module) do
    {:docs_v1, _line, _language, _format, _doc, _metadata, docs} = Code.fetch_docs(module)
    own = functions(module)

    for {{_kind, name, arity} = key, _line, _signature, doc, _metadata} <- docs,
        {name, arity} in own,
        do: {key, doc}
  end

  # What callers may name: less what a behaviour asks for, which has its doc and spec there, and what macros put in.
  defp functions(module) do
    module.__info__(:functions)
    |> Enum.reject(fn {name, _arity} -> generated?(name) end)
    |> Kernel.--(callbacks(module))
  end

  defp generated?(name), do: String.starts_with?(Atom.to_string(name), "__") or name in [:child_spec]

  defp callbacks(module) do
    for {:behaviour, behaviours} <- module.module_info(:attributes),
        behaviour <- behaviours,
        callback <- behaviour.behaviour_info(:callbacks),
        do: callback
  end

  # A spec of the longest form stands for those that defaults make of it.
  defp specified(module) do
    defaults = defaults(module)

    for {name, arity} <- specs(module),
        shorter <- 0..Map.get(defaults, {name, arity}, 0),
        do: {name, arity - shorter}
  end

  defp specs(module) do
    case Code.Typespec.fetch_specs(module) do
      {:ok, specs} -> for {key, _spec} <- specs, do: key
      :error -> []
    end
  end

  defp defaults(module) do
    {:docs_v1, _line, _language, _format, _doc, _metadata, docs} = Code.fetch_docs(module)

    for {{_kind, name, arity}, _line, _signature, _doc, %{defaults: n}} <- docs,
        into: %{},
        do: {{name, arity}, n}
  end
end
