defmodule Pyre.Faults.ToolsTest do
  # Promise: a tool runs only as long as somebody waits for it, and whatever dies, its place is free again.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  @moduletag :fault

  setup do
    pyre = start_pyre!()
    :ok = Pyre.add_tool(pyre, door(max_concurrency: 1))
    {:ok, pyre: pyre, id: start_agent!(pyre, "Handyman", id: "h")}
  end

  # A tool that tells the test that it runs, and ends when the test says so.
  defp door(opts) do
    test = self()

    run = fn args, _caller ->
      if args[:stubborn], do: Process.flag(:trap_exit, true)
      send(test, {:entered, self()})
      stay()
    end

    {"door", run, Keyword.merge([schema: [n: [type: :integer], stubborn: [type: :boolean]]], opts)}
  end

  defp stay do
    receive do
      {:leave, value} -> {:ok, value}
      _stays -> stay()
    end
  end

  defp entered do
    assert_receive {:entered, tool}, 10_000
    {tool, Process.monitor(tool)}
  end

  defp use_door(context, args \\ %{}, opts \\ []) do
    args = %{tool: "door", args: args}
    Task.async(fn -> Pyre.call(context.pyre, context.id, :use, args, opts) end)
  end

  defp left(pyre),
    do: Map.take(Instance.get(pyre), [:tool_runs, :waits]) |> Map.values() |> Enum.flat_map(&:ets.tab2list/1)

  defp assert_free(context) do
    task = use_door(context)
    {tool, _ref} = entered()
    send(tool, {:leave, :free})
    assert Task.await(task) == {:ok, "free"}
    assert eventually(fn -> left(context.pyre) == [] end)
    assert [%{running: 0, waiting: 0}] = Pyre.tools(context.pyre)
  end

  test "the interpreter is killed while a tool runs", context do
    task = use_door(context)
    {_tool, ref} = entered()
    context.pyre |> os_pid() |> signal("KILL")
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 10_000
    assert {:error, %Error{kind: :worker_down}} = Task.await(task)
    assert_free(context)
  end

  test "the interpreter is killed while handlers that run beside another use tools", context do
    :ok = Pyre.add_tool(context.pyre, door(max_concurrency: 2))
    args = %{tool: "door", args: %{}}
    call = fn handler -> Task.async(fn -> Pyre.call(context.pyre, context.id, handler, args) end) end
    first = call.(:use)
    {_tool, one} = entered()
    second = call.(:use_beside)
    {_tool, two} = entered()
    context.pyre |> os_pid() |> signal("KILL")
    for ref <- [one, two], do: assert_receive({:DOWN, ^ref, :process, _pid, :shutdown}, 10_000)
    for task <- [first, second], do: assert({:error, %Error{kind: :worker_down}} = Task.await(task))
    assert_free(context)
  end

  test "the interpreter is killed under a cast: the tool runs again with it", context do
    :ok = Pyre.cast(context.pyre, context.id, :use, %{tool: "door", args: %{}})
    {_tool, ref} = entered()
    context.pyre |> os_pid() |> signal("KILL")
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 10_000
    {tool, _ref} = entered()
    send(tool, {:leave, 1})

    assert eventually(fn -> match?({:ok, %{"used" => 1}, _revision}, Pyre.state(context.pyre, context.id)) end)

    assert_free(context)
  end

  test "the agent's process is killed while a tool runs, and while another waits for it", context do
    other = start_agent!(context.pyre, "Handyman")
    task = use_door(context)
    {_tool, ref} = entered()
    waiting = use_door(%{context | id: other})
    eventually(fn -> match?([%{waiting: 1}], Pyre.tools(context.pyre)) end)
    context.pyre |> Pyre.whereis(context.id) |> Process.exit(:kill)
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 10_000
    assert {:error, %Error{kind: :agent_down}} = Task.await(task)
    {tool, _ref} = entered()
    send(tool, {:leave, 2})
    assert Task.await(waiting) == {:ok, 2}
    assert_free(context)
  end

  test "whoever waits for a tool dies first", context do
    holder = use_door(%{context | id: start_agent!(context.pyre, "Handyman")})
    {tool, _ref} = entered()
    task = use_door(context)
    eventually(fn -> match?([%{waiting: 1}], Pyre.tools(context.pyre)) end)
    context.pyre |> Pyre.whereis(context.id) |> Process.exit(:kill)
    assert eventually(fn -> match?([%{running: 1, waiting: 0}], Pyre.tools(context.pyre)) end)
    assert {:error, %Error{kind: :agent_down}} = Task.await(task)
    send(tool, {:leave, 1})
    assert Task.await(holder) == {:ok, 1}
    assert_free(context)
  end

  test "a tool is killed from outside", context do
    task = use_door(context)
    {tool, _ref} = entered()
    Process.exit(tool, :kill)
    assert {:error, %PythonError{type: "ToolError", message: message}} = Task.await(task)
    assert message =~ "killed"
    assert_free(context)
  end

  test "a tool that never returns ends with the message that asked for it", context do
    task = use_door(context, %{}, timeout: 200)
    {_tool, ref} = entered()
    assert {:error, _timeout} = Task.await(task)
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 10_000
    assert_free(context)
  end

  test "one that doesn't let itself be ended is killed", context do
    task = use_door(context, %{stubborn: true}, timeout: 200)
    {_tool, ref} = entered()
    assert {:error, _timeout} = Task.await(task)
    assert_receive {:DOWN, ^ref, :process, _pid, :killed}, 10_000
    assert_free(context)
  end

  test "the agent is stopped while a tool runs", context do
    task = use_door(context)
    {_tool, ref} = entered()
    :ok = Pyre.stop_agent(context.pyre, context.id)
    assert_receive {:DOWN, ^ref, :process, _pid, :shutdown}, 10_000
    assert {:error, %Error{kind: :stopped}} = Task.await(task)
    assert_free(%{context | id: start_agent!(context.pyre, "Handyman")})
  end

  test "the runner is killed: what runs goes on, and what waits has its turn", context do
    holder = use_door(context)
    {tool, _ref} = entered()
    waiting = use_door(%{context | id: start_agent!(context.pyre, "Handyman")})
    eventually(fn -> match?([%{waiting: 1}], Pyre.tools(context.pyre)) end)
    runner = process(context.pyre, :tools)
    Process.exit(runner, :kill)
    eventually(fn -> process(context.pyre, :tools) not in [nil, runner] end)
    # The first still has the place.
    refute_received {:entered, _second}
    send(tool, {:leave, 1})
    assert Task.await(holder) == {:ok, 1}
    {tool, _ref} = entered()
    send(tool, {:leave, 2})
    assert Task.await(waiting) == {:ok, 2}
    assert_free(context)
  end

  test "the tasks' supervisor is killed: their callers are told", context do
    task = use_door(context)
    {_tool, ref} = entered()
    context.pyre |> process(:tool_tasks) |> Process.exit(:kill)
    assert_receive {:DOWN, ^ref, :process, _pid, :killed}, 10_000
    assert {:error, %PythonError{type: "ToolError"}} = Task.await(task)
    assert_free(context)
  end

  test "a tool that waits for an agent is ended: nobody waits for that one any more", context do
    other = start_agent!(context.pyre, "Handyman", id: "other")
    ask = fn _args, caller -> Pyre.call(caller.instance, other, :use, %{tool: "door", args: %{}}) end
    :ok = Pyre.add_tool(context.pyre, {"ask", ask})
    task = Task.async(fn -> Pyre.call(context.pyre, context.id, :use, %{tool: "ask", args: %{}}) end)
    {tool, _ref} = entered()
    context.pyre |> Pyre.whereis(context.id) |> Process.exit(:kill)
    assert {:error, %Error{kind: :agent_down}} = Task.await(task)
    send(tool, {:leave, 1})
    assert eventually(fn -> left(context.pyre) == [] end)
  end
end
