defmodule Pyre.Integration.DocsExamplesTest do
  # The example of each function of `Pyre` is run, on an instance that is as the example takes it to be. What an example can't know (a pid, an
  # id, a duration) is put in here, in sight.
  use Pyre.Case, async: true

  {:docs_v1, _line, _language, _format, _doc, _metadata, docs} = Code.fetch_docs(Pyre)

  @examples (for {{:function, name, arity}, _line, _signature, %{"en" => doc}, _metadata} <- docs do
               paragraphs = String.split(doc, ~r/\n(?:\s*\n)+/)

               code? = fn text ->
                 text |> String.split("\n", trim: true) |> Enum.all?(&String.starts_with?(&1, "    "))
               end

               {{name, arity}, paragraphs |> Enum.filter(code?) |> Enum.join("\n\n")}
             end)

  # Run by other tests: {function, where}.
  @elsewhere %{
    {:child_spec, 1} => "test/pyre/pyre_test.exs, as a doctest",
    {:start_link, 1} => "every test that starts an instance"
  }

  # What leaves an instance that is of no use to the others.
  @alone [drain: 2, quarantine: 1, recycle: 2, reload: 2]

  setup_all do
    {:ok, shared: instance()}
  end

  setup %{shared: pyre} do
    for %{kind: kind, name: name} <- Pyre.tree(pyre).children do
      :ok = if(kind == :group, do: Pyre.stop_group(pyre, name), else: Pyre.stop_agent(pyre, name))
    end

    for %{name: name} <- Pyre.tools(pyre), do: :ok = Pyre.remove_tool(pyre, name)
    {:ok, _count} = Pyre.discard_dead_letter(pyre, :all)
    Pyre.resume(pyre, {:class, "Counter"})
    Pyre.resume(pyre, :all)
  end

  defp instance, do: start_pyre!(agents: fixture("documented"), stall_timeout: 300)

  # What the instance must hold first. Gives what is put in for parts of the example, and variables for it.
  defp prepare({name, _arity}, pyre) when name in [:call, :call!, :call_async, :cast],
    do: visits(pyre)

  defp prepare({name, _arity}, pyre) when name in [:restart_agent, :stop_agent, :whereis, :park, :monitor],
    do: visits(pyre)

  defp prepare({name, 2}, pyre) when name in [:info, :agents], do: visits(pyre)

  # The time that it takes by default is a minute.
  defp prepare({:trace, 3}, pyre), do: visits(pyre) && {[{"limit: 10", "limit: 10, timeout: 200"}], []}

  defp prepare({name, 3}, pyre) when name in [:call_many, :cast_many],
    do: for(id <- ["anna", "bert"], do: start(pyre, "Counter", id)) && {[], []}

  defp prepare({name, _arity}, pyre) when name in [:state, :put_state] do
    visits(pyre)
    for n <- [3, 5], do: {:ok, _total} = Pyre.call(pyre, "visits", :add, %{n: n})
    {[], []}
  end

  defp prepare({:await, 2}, pyre) do
    visits(pyre)
    {:ok, request} = Pyre.call_async(pyre, "visits", :add, %{n: 5})
    {[], [request: request]}
  end

  defp prepare({name, 1}, pyre) when name in [:status, :cancel] do
    visits(pyre)
    :ok = Pyre.pause(pyre, {:agent, "visits"})
    {:ok, request} = Pyre.call_async(pyre, "visits", :add, %{n: 5})
    {[], [request: request]}
  end

  defp prepare({:cancel, 2}, pyre) do
    {_none, [request: request]} = prepare({:cancel, 1}, pyre)
    {"visits", number} = request.message_id
    {[{~s({"visits", 7}), ~s({"visits", #{number}})}], []}
  end

  defp prepare({:history, 3}, pyre) do
    visits(pyre)
    {:ok, 1} = Pyre.call(pyre, "visits", :add)
    {[{"180", "_"}], []}
  end

  defp prepare({:info, 1}, pyre), do: visits(pyre) && {[{"running: 12", "running: 1"}, {"801", "_"}], []}
  defp prepare({:metrics, 1}, _pyre), do: {[{"[], 801}", "[], _}"}], []}
  defp prepare({:workers, 1}, _pyre), do: {[{"4711", "_"}], []}

  defp prepare({:generations, 1}, _pyre),
    do: {[{"[1, 2, 3]", "[_ | _]"}, {"generation: 1", "generation: _"}], []}

  # No file has changed.
  defp prepare({:reload, 2}, _pyre),
    do: {[{"(MyApp.Pyre)", "(MyApp.Pyre, force: true)"}, {"generation: 2", "generation: _"}], []}

  defp prepare({:dead_letters, 2}, pyre), do: {[{"id: 7", "id: #{letter(pyre)}"}], []}
  defp prepare({:discard_dead_letter, 2}, pyre), do: {[{"7", "#{letter(pyre)}"}], []}
  defp prepare({:retry_dead_letter, 2}, pyre), do: {[{"7", "#{letter(pyre)}"}, {"12", "_"}], []}
  defp prepare({:inbox, 2}, pyre), do: {[{"7", "#{question(pyre)}"}], []}
  defp prepare({name, _arity}, pyre) when name in [:answer, :dismiss], do: {[{"7", "#{question(pyre)}"}], []}

  defp prepare({:quarantine, 1}, pyre) do
    parked(pyre)
    {[], []}
  end

  defp prepare({:unpark, 2}, pyre), do: ready(visits(pyre) && Pyre.park(pyre, "visits"))

  defp prepare({:delete_agent, 2}, pyre) do
    {:ok, "visits"} = Pyre.start_agent(pyre, "Clerk", id: "visits", max_restarts: 0)
    {:error, _raised} = Pyre.call(pyre, "visits", :fail)
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "visits")) end)
    {[], []}
  end

  defp prepare({:restart_group, 3}, pyre) do
    {:ok, "orders"} = Pyre.start_group(pyre, "orders", max_restarts: 0, agents: [{"Clerk", id: "clerk"}])
    {:error, _raised} = Pyre.call(pyre, "clerk", :fail)
    eventually(fn -> match?(%{children: [%{status: :terminated}]}, Pyre.tree(pyre)) end)
    {[], []}
  end

  defp prepare({:stop_group, 3}, pyre), do: group(pyre)
  defp prepare({:tree, 1}, pyre), do: group(pyre)
  defp prepare({:resume, 2}, pyre), do: ready(visits(pyre) && Pyre.pause(pyre, {:agent, "visits"}))
  defp prepare({:pause, 2}, pyre), do: visits(pyre)

  defp prepare({name, _arity}, pyre) when name in [:budget, :reset_budget] do
    start(pyre, "Clerk", "researcher")
    :ok = Pyre.set_budget(pyre, {:agent, "researcher"}, usd: 5)
    {:ok, nil} = Pyre.call(pyre, "researcher", :spend)
    {[], []}
  end

  defp prepare({:demonitor, 2}, pyre) do
    visits(pyre)
    {:ok, ref} = Pyre.monitor(pyre, "visits")
    {[], [ref: ref]}
  end

  defp prepare({:unsubscribe, 2}, pyre), do: ready(Pyre.subscribe(pyre, "orders.*"))
  defp prepare({:remove_tool, 2}, pyre), do: ready(Pyre.add_tool(pyre, clock()))
  defp prepare({:add_tool, 2}, _pyre), do: {[{"MyApp.CrmLookup", inspect(__MODULE__.CrmLookup)}], []}
  defp prepare({:tools, 1}, pyre), do: ready(Pyre.add_tool(pyre, __MODULE__.CrmLookup))

  defp prepare({:stream, 5}, pyre),
    do: start(pyre, "Writer", "writer") && {[{"IO.write", "String.length"}], []}

  defp prepare(_function, _pyre), do: {[], []}

  defmodule CrmLookup do
    @behaviour Pyre.Tool

    @impl Pyre.Tool
    def name, do: "crm.lookup"

    @impl Pyre.Tool
    def description, do: "Looks a customer up by number."

    @impl Pyre.Tool
    def run(_args, _caller), do: {:ok, nil}
  end

  defp clock, do: {"clock", fn _args -> {:ok, nil} end, description: "Tells the time."}

  defp ready(:ok), do: {[], []}

  defp visits(pyre), do: start(pyre, "Counter", "visits") && {[], []}

  defp start(pyre, class, id) do
    {:ok, ^id} = Pyre.start_agent(pyre, class, id: id)
    id
  end

  defp group(pyre) do
    {:ok, "orders"} =
      Pyre.start_group(pyre, "orders", strategy: :rest_for_one, agents: [{"Book", id: "book"}])

    {[], []}
  end

  defp letter(pyre) do
    visits(pyre)
    :ok = Pyre.cast(pyre, "visits", :add, %{n: -1})
    [%{id: letter}] = eventually(fn -> with([] <- Pyre.dead_letters(pyre), do: nil) end)
    letter
  end

  defp question(pyre) do
    start(pyre, "Clerk", "desk")
    {:ok, nil} = Pyre.call(pyre, "desk", :ask)
    [%{id: escalation}] = Pyre.inbox(pyre)
    escalation
  end

  defp parked(pyre) do
    visits(pyre)

    eventually(
      fn ->
        match?({:error, %Pyre.Error{kind: :parked}}, Pyre.call(pyre, "visits", :block, %{}, timeout: 20_000))
      end,
      20_000
    )
  end

  for {{name, arity} = function, _example} <- @examples, not is_map_key(@elsewhere, function) do
    test "#{name}/#{arity}", %{shared: shared} do
      function = unquote(Macro.escape(function))
      pyre = if function in @alone, do: instance(), else: shared
      {texts, binding} = prepare(function, pyre)
      {_function, example} = List.keyfind(@examples, function, 0)

      example =
        Enum.reduce(texts, example, fn {text, instead}, example -> replace!(example, text, instead) end)

      example = String.replace(example, "MyApp.Pyre", inspect(pyre))
      # The messages that a watch sends are no statements.
      example = Regex.replace(~r/^ *\{:(DOWN|RESTARTED).*$/m, example, "")
      assert {_value, _binding} = Code.eval_string(example, binding)
    end
  end

  test "what is run elsewhere is a function with an example" do
    for {function, _where} <- @elsewhere, do: assert(List.keymember?(@examples, function, 0))
  end

  defp replace!(example, text, instead) do
    assert example =~ text, "the example has no #{text} any more"
    String.replace(example, text, instead)
  end
end
