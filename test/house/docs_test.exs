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

  test "every public function has a spec, those of internal modules too" do
    unspecified =
      for module <- @modules, {name, arity} <- functions(module) -- specified(module) do
        Exception.format_mfa(module, name, arity)
      end

    assert [] == unspecified
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
