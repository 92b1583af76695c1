defmodule Pyre.Integration.ToolsTest do
  # Tools: what the BEAM does for agents.
  use Pyre.Case, async: true

  alias Pyre.Tool.Caller

  defmodule Crm do
    @behaviour Pyre.Tool

    @impl true
    def name, do: "crm.lookup"

    @impl true
    def description, do: "Looks a customer up."

    @impl true
    def schema,
      do: [
        id: [type: :integer, required: true, doc: "the number"],
        city: [type: {:in, [:rome, :bonn]}, default: :bonn]
      ]

    @impl true
    def run(%{id: 0}, _caller), do: {:error, "there is no customer 0"}

    def run(%{id: id, city: city}, %Caller{} = caller),
      do: {:ok, %{id: id, city: inspect(city), agent: caller.agent}}
  end

  setup context do
    pyre = start_pyre!(tools: [Crm | context[:tools] || []])
    {:ok, pyre: pyre, id: start_agent!(pyre, "Handyman", id: "h")}
  end

  defp use_tool(context, tool, args \\ %{}, opts \\ []),
    do: Pyre.call(context.pyre, context.id, :use, Map.merge(%{tool: tool, args: args}, Map.new(opts)))

  defp fail_at(context, tool, args \\ %{}) do
    {:ok, told} = Pyre.call(context.pyre, context.id, :fail_at, %{tool: tool, args: args})
    told
  end

  # A tool that tells the test that it runs, and ends when the test says so.
  defp door(name, opts \\ []) do
    test = self()

    run = fn args, caller ->
      send(test, {:entered, name, self(), args, caller})

      receive do
        {:leave, value} -> {:ok, value}
      end
    end

    {name, run, Keyword.merge([schema: [n: [type: :integer]]], opts)}
  end

  defp add(context, tool), do: :ok = Pyre.add_tool(context.pyre, tool)

  defp entered(name) do
    assert_receive {:entered, ^name, task, args, caller}, 5_000
    {task, args, caller}
  end

  test "a module's tool gets arguments that fit, with defaults, and the caller", context do
    assert {:ok, %{"id" => 3, "city" => ":bonn", "agent" => "h"}} = use_tool(context, "crm.lookup", %{id: 3})
    assert {:ok, %{"city" => ":rome"}} = use_tool(context, "crm.lookup", %{id: 3, city: "rome"})
    assert {:ok, 2} = Pyre.call(context.pyre, context.id, :used)
  end

  test "a plain handler uses it from its thread", context do
    args = %{tool: "crm.lookup", args: %{id: 3}}
    assert {:ok, %{"id" => 3}} = Pyre.call(context.pyre, context.id, :use_in_thread, args)
  end

  test "what does not fit is told, with the argument", context do
    assert %{"kind" => "invalid_args", "details" => %{"argument" => "id"}} =
             told = fail_at(context, "crm.lookup")

    assert told["message"] =~ ~s("id" is missing)

    assert %{"kind" => "invalid_args", "message" => unknown} =
             fail_at(context, "crm.lookup", %{id: 3, name: "x"})

    assert unknown =~ ~s("name" is unknown; it takes id, city)
    assert %{"kind" => "invalid_args", "message" => wrong} = fail_at(context, "crm.lookup", %{id: "3"})
    assert wrong =~ ~s("id" must be an integer, got: "3")
  end

  test "an unknown tool is not found", context do
    assert %{"kind" => "not_found", "message" => message} = fail_at(context, "crm.lookop", %{id: 3})
    assert message =~ ~s(did you mean "crm.lookup"?)
  end

  test "an error that it returns is a ToolError that is expected", context do
    assert %{"tool" => "crm.lookup", "expected" => true, "message" => "there is no customer 0"} =
             fail_at(context, "crm.lookup", %{id: 0})

    add(context, {"picky", fn _args -> {:error, %{left: 3}} end})
    assert %{"type" => "error", "data" => %{"left" => 3}, "expected" => true} = fail_at(context, "picky")
    add(context, {"odd", fn _args -> {:error, self()} end})
    assert %{"data" => "#PID" <> _, "expected" => true} = fail_at(context, "odd")
  end

  test "whatever else goes wrong in it is a ToolError too, and hurts nothing", context do
    agent = Pyre.whereis(context.pyre, context.id)
    add(context, {"raises", fn _args -> raise ArgumentError, "no" end})
    add(context, {"throws", fn _args -> throw(:ball) end})
    add(context, {"exits", fn _args -> exit(:enough) end})
    add(context, {"killed", fn _args -> Process.exit(self(), :kill) end})
    add(context, {"returns", fn _args -> :whatever end})
    add(context, {"unsayable", fn _args -> {:ok, self()} end})

    assert %{"type" => "ArgumentError", "message" => "no", "expected" => false} =
             told = fail_at(context, "raises")

    assert told["trace"] =~ "tools_test.exs"
    assert %{"type" => "throw", "message" => ":ball"} = fail_at(context, "throws")
    assert %{"type" => "exit", "message" => ":enough"} = fail_at(context, "exits")
    assert %{"type" => "exit", "message" => ":killed"} = fail_at(context, "killed")
    assert %{"type" => "ReturnError"} = fail_at(context, "returns")
    assert %{"kind" => "encode"} = fail_at(context, "unsayable")
    assert Pyre.whereis(context.pyre, context.id) == agent
  end

  test "a ToolError that nobody catches is the handler's own failure", context do
    assert {:error, %Pyre.PythonError{type: "ToolError", message: message}} =
             use_tool(context, "crm.lookup", %{id: 0})

    assert message =~ "there is no customer 0"
  end

  test "the caller is told completely", context do
    id = start_agent!(context.pyre, "Handyman", isolation: {:tenant, "acme"})
    add(context, door("gate"))
    context = %{context | id: id}
    began = System.monotonic_time(:millisecond)
    task = Task.async(fn -> use_tool(context, "gate", %{n: 1}) end)
    {tool, %{n: 1}, caller} = entered("gate")
    instance = context.pyre

    assert %Caller{instance: ^instance, agent: ^id, class: "Handyman", handler: "use", tenant: "acme"} =
             caller

    assert is_integer(caller.message)
    assert_in_delta caller.deadline, began + 5_000, 5_000
    send(tool, {:leave, 7})
    assert Task.await(task) == {:ok, 7}
  end

  test "a hook uses it too", context do
    add(context, {"greet", fn _args, caller -> {:ok, inspect({caller.handler, caller.message})} end})
    id = start_agent!(context.pyre, "Opener")
    assert Pyre.call(context.pyre, id, :said) == {:ok, ~s({"on_start", nil})}
  end

  test "handlers that run beside others use it at the same time", context do
    add(context, door("gate"))
    context = Map.put(context, :gate, %{tool: "gate", args: %{}})

    tasks =
      for _n <- 1..2, do: Task.async(fn -> Pyre.call(context.pyre, context.id, :use_beside, context.gate) end)

    tools = for _n <- 1..2, do: entered("gate")
    for {tool, _args, _caller} <- tools, do: send(tool, {:leave, 1})
    assert Task.await_many(tasks) == [{:ok, 1}, {:ok, 1}]
  end

  test "its own time is over: the handler is told, the task ended", context do
    add(context, door("gate", timeout: 50))
    told = Task.async(fn -> fail_at(context, "gate") end)
    {tool, _args, _caller} = entered("gate")
    ref = Process.monitor(tool)
    assert %{"kind" => "timeout"} = Task.await(told)
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 5_000
    assert eventually(fn -> match?([_crm, %{running: 0, waiting: 0}], Pyre.tools(context.pyre)) end)
  end

  test "the handler may give it less time, and the caller's deadline is the last", context do
    add(context, door("gate"))

    assert {:error, %{type: "CallTimeout"}} = use_tool(context, "gate", %{}, timeout: 0.05)

    {tool, _args, _caller} = entered("gate")
    eventually(fn -> not Process.alive?(tool) end)

    args = %{tool: "gate", args: %{}}
    # Whichever of the two is handled first.
    assert {:error, _timeout} = Pyre.call(context.pyre, context.id, :use, args, timeout: 100)
    {tool, _args, caller} = entered("gate")
    assert caller.deadline <= System.monotonic_time(:millisecond)
    eventually(fn -> not Process.alive?(tool) end)
  end

  test "only so many run at a time; the others wait in order, and not too many", context do
    add(context, door("gate", max_concurrency: 1, max_waiting: 2))
    args = %{tool: "gate", numbers: [1, 2, 3, 4]}
    task = Task.async(fn -> Pyre.call(context.pyre, context.id, :use_many, args) end)

    for n <- 1..3 do
      {tool, %{n: ^n}, _caller} = entered("gate")
      refute_received {:entered, _name, _task, _args, _caller}
      send(tool, {:leave, n * 10})
    end

    assert Task.await(task) == {:ok, [10, 20, 30, "overloaded"]}
  end

  test "who waits past the deadline is told that it did not run", context do
    add(context, door("gate", max_concurrency: 1))
    other = start_agent!(context.pyre, "Handyman")
    holder = Task.async(fn -> use_tool(%{context | id: other}, "gate") end)
    {tool, _args, _caller} = entered("gate")
    assert {:error, %{type: "Deadline"}} = use_tool(context, "gate", %{}, timeout: 0.05)
    send(tool, {:leave, 1})
    assert Task.await(holder) == {:ok, 1}
    refute_received {:entered, _name, _task, _args, _caller}
  end

  test "tools come and go", context do
    assert [%{name: "crm.lookup"}] = Pyre.tools(context.pyre)
    add(context, {"clock", fn _args -> {:ok, 12} end})
    assert use_tool(context, "clock") == {:ok, 12}
    add(context, {"clock", fn _args -> {:ok, 13} end})
    assert use_tool(context, "clock") == {:ok, 13}
    assert Pyre.remove_tool(context.pyre, "clock") == :ok
    assert {:error, %{kind: :not_found}} = Pyre.remove_tool(context.pyre, "clock")
    assert %{"kind" => "not_found"} = fail_at(context, "clock")
  end

  test "who waits for a tool that is removed is told", context do
    add(context, door("gate", max_concurrency: 1))
    args = %{tool: "gate", numbers: [1, 2]}
    task = Task.async(fn -> Pyre.call(context.pyre, context.id, :use_many, args) end)
    {tool, _args, _caller} = entered("gate")
    eventually(fn -> match?([_crm, %{waiting: 1}], Pyre.tools(context.pyre)) end)
    :ok = Pyre.remove_tool(context.pyre, "gate")
    send(tool, {:leave, 1})
    assert Task.await(task) == {:ok, [1, "not_found"]}
  end

  test "more room lets those begin that wait", context do
    add(context, door("gate", max_concurrency: 1))
    args = %{tool: "gate", numbers: [1, 2]}
    task = Task.async(fn -> Pyre.call(context.pyre, context.id, :use_many, args) end)
    {first, _args, _caller} = entered("gate")
    add(context, door("gate", max_concurrency: 2))
    {second, _args, _caller} = entered("gate")
    send(first, {:leave, 1})
    send(second, {:leave, 2})
    assert Task.await(task) == {:ok, [1, 2]}
  end

  test "an agent is told the tools with their schemas", context do
    assert {:ok, [tool]} = Pyre.call(context.pyre, context.id, :offered)

    assert tool == %{
             "name" => "crm.lookup",
             "description" => "Looks a customer up.",
             "schema" => %{
               "type" => "object",
               "properties" => %{
                 "id" => %{"type" => "integer", "description" => "the number"},
                 "city" => %{"enum" => ["rome", "bonn"], "default" => "bonn"}
               },
               "required" => ["id"],
               "additionalProperties" => false
             }
           }
  end

  test "a tool calls agents, but not the one that waits for it", context do
    add(
      context,
      {"ask", fn %{id: id, handler: handler}, caller -> Pyre.call(caller.instance, id, handler) end,
       schema: [id: [type: :string, required: true], handler: [type: :string, required: true]]}
    )

    other = start_agent!(context.pyre, "Handyman", id: "other")
    assert use_tool(context, "ask", %{id: other, handler: "used"}) == {:ok, 0}
    # It runs beside the handler that waits.
    assert use_tool(context, "ask", %{id: "h", handler: "peek"}) == {:ok, 1}

    assert %{"type" => "Pyre.Error", "message" => message} =
             fail_at(context, "ask", %{id: "h", handler: "used"})

    assert message =~ ~s("h" -> "h")
    assert Pyre.call(context.pyre, context.id, :used) == {:ok, 2}
  end

  test "a circle through a tool and another agent is refused", context do
    add(
      context,
      {"ask", fn %{args: args}, caller -> Pyre.call(caller.instance, "other", :fail_at, args) end,
       schema: [args: [type: :map, required: true]]}
    )

    add(context, {"back", fn _args, caller -> Pyre.call(caller.instance, "h", :used) end})
    start_agent!(context.pyre, "Handyman", id: "other")

    assert %{"reply" => %{"type" => "Pyre.Error", "message" => message}} =
             fail_at(context, "ask", %{args: %{tool: "back", args: %{}}})

    assert message =~ ~s("other" -> "h" -> "other")
  end

  test "a handler that is a tool has a schema", context do
    assert {:ok, [tool]} = Pyre.schema(context.pyre, "Handyman")
    assert %{name: "build", description: "Build a part.", schema: schema} = tool
    assert schema["required"] == ["part"]
    assert schema["properties"]["part"]["description"] == "what to build, with its parts"

    assert schema["properties"]["size"] == %{
             "enum" => ["small", "large"],
             "default" => "small",
             "description" => "how large it is to be"
           }

    assert schema["properties"]["how"] == %{
             "enum" => ["fast", "well"],
             "default" => "well",
             "description" => "the way"
           }

    assert schema["$defs"]["Part"]["properties"]["parts"]["anyOf"] |> hd() == %{
             "type" => "array",
             "items" => %{"$ref" => "#/$defs/Part"}
           }

    args = %{part: %{name: "door", parts: [%{name: "knob"}]}, size: "large"}
    assert Pyre.call(context.pyre, context.id, :build, args) == {:ok, "door large well"}
    assert {:ok, []} = Pyre.schema(context.pyre, "Trier")
    assert {:error, %{kind: :unknown_class}} = Pyre.schema(context.pyre, "Nobody")
  end

  test "what is no tool is refused with a reason", context do
    assert_raise ArgumentError, ~r/expected String to be a Pyre.Tool/, fn ->
      Pyre.add_tool(context.pyre, String)
    end

    assert_raise ArgumentError, ~r/unknown option :max_concurency, did you mean :max_concurrency/, fn ->
      Pyre.add_tool(context.pyre, {Crm, max_concurency: 3})
    end

    assert_raise ArgumentError, ~r/two tools have the name "crm.lookup"/, fn ->
      Pyre.child_spec(tools: [Crm, Crm])
    end
  end
end
