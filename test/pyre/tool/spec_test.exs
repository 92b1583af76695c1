defmodule Pyre.Tool.SpecTest do
  use ExUnit.Case, async: true

  alias Pyre.Tool.Spec

  defmodule CrmLookup do
    @behaviour Pyre.Tool

    @impl true
    def description, do: "Looks."

    @impl true
    def run(args, _caller), do: {:ok, args}
  end

  defp name(tool), do: Spec.new!(tool).name

  test "a module, with a name of its own, a given one, or that of its last part" do
    assert name(CrmLookup) == "crm_lookup"
    assert name({CrmLookup, name: "crm.lookup"}) == "crm.lookup"

    assert %{description: "Looks.", schema: [], timeout: 5, max_concurrency: 2} =
             Spec.new!({CrmLookup, timeout: 5, max_concurrency: 2})
  end

  test "a function of the arguments, or of the caller too" do
    assert %{name: "one", run: run} = Spec.new!({"one", fn args -> {:ok, args} end})
    assert run.(%{a: 1}, :caller) == {:ok, %{a: 1}}
    assert %{run: run} = Spec.new!({"two", fn args, caller -> {args, caller} end, description: "Both."})
    assert run.(1, 2) == {1, 2}
  end

  test "what is no tool is refused with a reason" do
    run = fn _args -> {:ok, nil} end

    for {tool, reason} <- [
          {nil, "expected a tool to be a module"},
          {"name", "expected a tool to be a module"},
          {{"name", :run}, "expected a tool to be a module"},
          {String, "expected String to be a Pyre.Tool"},
          {Nowhere, "expected Nowhere to be a Pyre.Tool"},
          {{CrmLookup, description: "x"}, "tells its description by itself"},
          {{CrmLookup, timeout: 0}, "expected :timeout to be a positive integer or :infinity"},
          {{"", run}, "1 to 255 bytes"},
          {{:name, run}, "1 to 255 bytes"},
          {{String.duplicate("x", 256), run}, "1 to 255 bytes"},
          {{"a", fn -> :ok end}, "to take args, or args and caller"},
          {{"a", run, name: "b"}, "has its name already"},
          {{"a", run, schema: %{}}, "expected :schema to be a keyword list"},
          {{"a", run, schema: [b: [type: :text]]}, "of :b of the tool \"a\""},
          {{"a", run, description: <<255>>}, "to be text"},
          {{"a", run, schema: [b: [type: :any, default: self()]]}, "can't travel"}
        ] do
      error = assert_raise ArgumentError, fn -> Spec.new!(tool) end
      assert Exception.message(error) =~ reason
    end
  end
end
