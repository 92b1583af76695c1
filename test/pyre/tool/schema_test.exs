defmodule Pyre.Tool.SchemaTest do
  use ExUnit.Case, async: true

  alias Pyre.Error
  alias Pyre.Tool.Schema

  @order [
    id: [type: :integer, required: true, doc: "the number"],
    price: [type: :float],
    urgent: [type: :boolean, default: false],
    how: [type: {:in, [:fast, "well", 3]}],
    lines: [type: {:list, {:map, sku: [type: :string, required: true], pieces: [type: :integer, default: 1]}}],
    meta: [type: :map],
    tags: [type: :list],
    extra: [type: :any]
  ]

  defp check(args, schema \\ @order), do: Schema.check(schema, args, "order")

  defp refused(args, schema \\ @order) do
    assert {:error, %Error{kind: :invalid_args, message: message, details: %{argument: argument}}} =
             check(args, schema)

    assert message =~ ~s(the tool "order")
    {argument, message}
  end

  test "what fits arrives under atoms, with defaults, and without what was not given" do
    assert check(%{"id" => 3}) == {:ok, %{id: 3, urgent: false}}
    assert check(%{"id" => 3, "price" => 2, "urgent" => true}) == {:ok, %{id: 3, price: 2.0, urgent: true}}
    assert {:ok, %{how: :fast}} = check(%{"id" => 3, "how" => "fast"})
    assert {:ok, %{how: 3}} = check(%{"id" => 3, "how" => 3})
    assert {:ok, %{lines: [%{sku: "a", pieces: 1}]}} = check(%{"id" => 3, "lines" => [%{"sku" => "a"}]})

    assert {:ok, %{meta: %{"a" => 1}, tags: [1, "b"], extra: nil}} =
             check(%{"id" => 3, "meta" => %{"a" => 1}, "tags" => [1, "b"], "extra" => nil})
  end

  test "what does not fit is named, with its place" do
    assert {"id", missing} = refused(%{})
    assert missing =~ ~s("id" is missing (an integer\))
    assert {"nr", unknown} = refused(%{"id" => 1, "nr" => 2})
    assert unknown =~ ~s("nr" is unknown; it takes id, price, urgent)
    assert {"id", _message} = refused(%{"id" => 1.0})
    assert {"id", _message} = refused(%{"id" => nil})
    assert {"price", _message} = refused(%{"id" => 1, "price" => "2"})
    assert {"urgent", _message} = refused(%{"id" => 1, "urgent" => 1})
    assert {"how", how} = refused(%{"id" => 1, "how" => "3"})
    assert how =~ ~s(one of "fast", "well", 3, got: "3")
    assert {"lines", _message} = refused(%{"id" => 1, "lines" => %{}})
    assert {"lines[1].sku", _message} = refused(%{"id" => 1, "lines" => [%{"sku" => "a"}, %{}]})
    assert {"lines[0].size", _message} = refused(%{"id" => 1, "lines" => [%{"sku" => "a", "size" => 1}]})
    assert {"meta", _message} = refused(%{"id" => 1, "meta" => []})
    assert {"meta", _message} = refused(%{"id" => 1, "meta" => ~U[2026-01-01 00:00:00Z]})
    assert {"tags", _message} = refused(%{"id" => 1, "tags" => "a"})
    assert {"a", bytes} = refused(%{"a" => <<255>>}, a: [type: :string])
    assert bytes =~ "must be a string"
  end

  test "an interpreter may send anything" do
    assert {"", _message} = refused([1])
    assert {"", _message} = refused(nil)
    assert {"nil", _message} = refused(%{nil => 1})
    assert {"1", message} = refused(%{1 => 1}, [])
    assert message =~ "it takes none"
    assert {"id", _message} = refused(%{"price" => 1})
  end

  test "the declaration as JSON Schema" do
    assert %{"type" => "object", "required" => ["id"], "additionalProperties" => false} =
             json = Schema.json(@order)

    assert json["properties"] == %{
             "id" => %{"type" => "integer", "description" => "the number"},
             "price" => %{"type" => "number"},
             "urgent" => %{"type" => "boolean", "default" => false},
             "how" => %{"enum" => ["fast", "well", 3]},
             "lines" => %{
               "type" => "array",
               "items" => %{
                 "type" => "object",
                 "properties" => %{
                   "sku" => %{"type" => "string"},
                   "pieces" => %{"type" => "integer", "default" => 1}
                 },
                 "required" => ["sku"],
                 "additionalProperties" => false
               }
             },
             "meta" => %{"type" => "object"},
             "tags" => %{"type" => "array"},
             "extra" => %{}
           }
  end

  test "a declaration that makes no sense is refused" do
    for {schema, reason} <- [
          {:all, "keyword list"},
          {[a: [type: :integer], a: [type: :integer]], "has the argument :a twice"},
          {[a: :integer], "to be declared by :type"},
          {[a: [required: true]], "to be declared by :type"},
          {[a: [type: :integer, max: 3]], "to be declared by :type"},
          {[a: [type: :number]], "expected the :type of :a of it to be one of"},
          {[a: [type: {:in, []}]], "one of"},
          {[a: [type: {:in, [1.5]}]], "one of"},
          {[a: [type: {:in, [nil]}]], "one of"},
          {[a: [type: {:list, :text}]], "one of"},
          {[a: [type: {:map, b: [type: :text]}]], "of :b of :a of it"},
          {[a: [type: :integer, doc: 3]], ":doc of :a of it to be a string"},
          {[a: [type: :integer, required: :yes]], ":required a boolean"},
          {[a: [type: :integer, required: true, default: 3]], "is required"},
          {[a: [type: :integer, default: "3"]], "does not fit"}
        ] do
      error = assert_raise ArgumentError, fn -> Schema.validate!(schema, "it") end
      assert Exception.message(error) =~ reason
    end

    assert Schema.validate!(@order, "it") == :ok
    assert Schema.validate!([a: [type: {:in, [:x]}, default: :x]], "it") == :ok
  end
end
