defmodule Pyre.TestingTest do
  use ExUnit.Case, async: true

  import Pyre.Eventually
  import Pyre.Testing

  alias Pyre.{Error, PythonError}
  alias Pyre.Testing.Message

  @moduletag :capture_log

  # The example of the documentation is a test module, which runs beside this one.
  {:docs_v1, _line, _language, _format, %{"en" => doc}, _metadata, _docs} = Code.fetch_docs(Pyre.Testing)
  [example] = Regex.run(~r/^    defmodule .*?^    end$/ms, doc)
  Code.compile_string(example, "example of Pyre.Testing")

  defp start!(%{test: test}, agents, opts \\ []) do
    name = Module.concat(__MODULE__, test)
    start_supervised!({Pyre.Testing, [name: name, agents: agents] ++ opts})
    name
  end

  defp start_agent!(pyre, class, opts) do
    {:ok, id} = Pyre.start_agent(pyre, class, opts)
    id
  end

  defp counter do
    add = fn args, %{"total" => total} ->
      total = total + Map.get(args, "n", 1)
      {:reply, total, %{total: total}}
    end

    %{add: add, look: fn _args, state -> {:reply, state} end, later: :manual}
  end

  defp reject(text, data \\ nil),
    do: %PythonError{type: "Reject", message: text, data: data, expected: true}

  describe "a function answers" do
    test "a call, with the arguments as they travel", context do
      pyre = start!(context, %{"Echo" => %{say: fn args -> {:reply, args} end}})
      start_agent!(pyre, "Echo", id: "echo")

      assert {:ok, %{"mode" => "fast", "list" => [1, nil]}} =
               Pyre.call(pyre, "echo", :say, %{mode: :fast, list: [1, nil]})

      assert {:error, %Error{kind: :encode}} = Pyre.call(pyre, "echo", :say, %{pid: self()})

      assert_raise ArgumentError, ~r/unknown option :timeot/, fn ->
        Pyre.call(pyre, "echo", :say, %{}, timeot: 1)
      end
    end

    test "and its state is committed, with a revision", context do
      pyre = start!(context, %{Counter: {counter(), state: [total: 0]}})
      start_agent!(pyre, Counter, id: "a", args: %{total: 10})

      assert {:ok, 13} = Pyre.call(pyre, "a", :add, %{n: 3})
      assert {:ok, 14} = Pyre.call(pyre, "a", :add)
      assert {:ok, %{"total" => 14}, 2} = Pyre.state(pyre, "a")
      assert {:ok, %{"total" => 14}} = Pyre.call(pyre, "a", :look)
      assert {:ok, _state, 2} = Pyre.state(pyre, "a")

      {:ok, 3} = Pyre.put_state(pyre, "a", %{total: 100})
      assert {:ok, 101} = Pyre.call(pyre, "a", :add)
    end

    test "a start argument must be a field, and one without a default is required", context do
      pyre = start!(context, %{"Stock" => {counter(), state: [:article, pieces: 3]}})

      assert {:error, %Error{kind: :invalid_args, message: message}} =
               Pyre.start_agent(pyre, "Stock", args: %{artikel: "tea"})

      assert message =~ "it takes article, pieces"
      assert {:error, %Error{kind: :invalid_args}} = Pyre.start_agent(pyre, "Stock", args: %{pieces: 1})
      start_agent!(pyre, "Stock", id: "tea", args: %{article: "tea"})
      assert {:ok, %{"article" => "tea", "pieces" => 3}} = Pyre.call(pyre, "tea", :look)
    end

    test "agents that the class starts are there when the instance is", context do
      autostart = %{"visits" => %{total: 7}}
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0], autostart: autostart}})
      assert {:ok, 8} = Pyre.call(pyre, "visits", :add)
    end

    test "an exception restarts the agent, and the state is that of before", context do
      crash = fn %{"how" => how} ->
        case how do
          "error" -> raise KeyError, key: :x, term: %{}
          "python" -> {:fail, %PythonError{type: "ValueError", message: "negative n"}}
          "reject" -> {:fail, reject("too many", %{"left" => 2})}
          "exit" -> exit(:done)
          "nothing" -> :ok
        end
      end

      pyre = start!(context, %{"Counter" => {Map.put(counter(), :crash, crash), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a", max_restarts: 100)
      {:ok, 1} = Pyre.call(pyre, "a", :add)
      call = fn how -> with {:error, error} <- Pyre.call(pyre, "a", :crash, %{how: how}), do: error end

      assert %PythonError{type: "Reject", expected: true, data: %{"left" => 2}} = call.("reject")
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "a")
      assert %PythonError{type: "KeyError", traceback: traceback} = call.("error")
      assert traceback =~ "testing_test.exs"
      assert %PythonError{type: "ValueError", message: "negative n", expected: false} = call.("python")
      assert %PythonError{type: "ErlangError"} = call.("exit")
      assert %PythonError{type: "ArgumentError", message: message} = call.("nothing")
      assert message =~ ~s(the handler "crash" of "Counter" must return {:reply, value})
      assert message =~ "got: :ok"
      assert {:ok, 2} = Pyre.call(pyre, "a", :add)
      assert {:ok, %{restarts: 4}} = Pyre.info(pyre, "a")
    end

    test "a handler or a class that is not scripted is unknown, and it is said what to do", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      assert {:error, %Error{kind: :unknown_handler, message: message}} = Pyre.call(pyre, "a", :sub)
      assert message =~ ~s(no handler "sub" is scripted for the class "Counter": add it to :agents)
      assert message =~ "(scripted: add, later, look)"
      assert {:error, %Error{kind: :unknown_class}} = Pyre.start_agent(pyre, "Nothing")
      assert [%Message{handler: "sub", outcome: :failed}] = calls(pyre, "a")
    end

    test "a stream is read, and made no further than that", context do
      test = self()

      numbers = fn %{"to" => to} ->
        {:stream, Stream.map(1..to, fn n -> send(test, {:made, n}) && n end)}
      end

      pyre = start!(context, %{"Source" => %{numbers: numbers, one: fn _args -> {:reply, 1} end}})
      start_agent!(pyre, "Source", id: "s")
      assert Enum.to_list(Pyre.stream(pyre, "s", :numbers, %{to: 100})) == Enum.to_list(1..100)
      for n <- 1..100, do: assert_received({:made, ^n})
      assert [1, 2, 3] = pyre |> Pyre.stream("s", :numbers, %{to: 1_000_000}) |> Enum.take(3)
      refute_received {:made, 1_000}

      assert_raise PythonError, ~r/is read as a stream: it must return/, fn ->
        Enum.to_list(Pyre.stream(pyre, "s", :one))
      end
    end

    test "the hooks of a class, and what Pyre.run runs", context do
      hooked = %{
        on_start: fn _args, state -> {:reply, nil, Map.put(state, "started", true)} end,
        look: fn _args, state -> {:reply, state} end
      }

      functions = %{"math.sqrt" => fn [n] -> {:reply, :math.sqrt(n)} end}
      pyre = start!(context, %{"Hooked" => {hooked, state: [started: false]}}, functions: functions)
      start_agent!(pyre, "Hooked", id: "h")
      assert {:ok, %{"started" => true}} = Pyre.call(pyre, "h", :look)
      assert {:ok, 4.0} = Pyre.run(pyre, "math", :sqrt, [16])
      assert_called(pyre, nil, "math.sqrt", [16])
      assert {:error, %Error{kind: :unknown_handler, message: message}} = Pyre.run(pyre, "os", :getcwd)
      assert message =~ ~s(no function "os.getcwd" is scripted: add it to :functions)
    end

    test "the test is the caller of a function", context do
      answer = fn _args -> {:reply, self() |> Process.info(:dictionary) |> inspect()} end
      pyre = start!(context, %{"Who" => %{calls: answer}})
      start_agent!(pyre, "Who", id: "who")
      assert {:ok, text} = Pyre.call(pyre, "who", :calls)
      assert text =~ inspect(self())
    end
  end

  describe "the test answers" do
    test "messages of several agents in any order", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      requests = for id <- ["a", "b", "c"], do: ask(pyre, id)
      [a, b, c] = for id <- ["a", "b", "c"], do: assert_called(pyre, id, :later)
      for {message, n} <- [{c, 3}, {a, 1}, {b, 2}], do: reply(message, n)
      assert [{:ok, 1}, {:ok, 2}, {:ok, 3}] = Enum.map(requests, &Pyre.await/1)
    end

    test "with a state, with errors, and not twice", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      request = ask(pyre, "a")
      message = assert_called(pyre, "a", "later")
      assert %Message{kind: :call, state: %{"total" => 0}, outcome: :running} = message
      reply(message, :done, %{total: 5})
      assert {:ok, "done"} = Pyre.await(request)
      assert {:ok, %{"total" => 5}, 1} = Pyre.state(pyre, "a")
      assert_raise ArgumentError, ~r/later of "a" was answered already/, fn -> reply(message, 1) end

      request = ask(pyre, "a")
      message = assert_called(pyre, "a", :later)
      fail(message, Error.new(:rate_limited, "the provider says no"))
      assert {:error, %Error{kind: :rate_limited}} = Pyre.await(request)

      request = ask(pyre, "a")
      message = assert_called(pyre, "a", :later)
      assert_raise ArgumentError, ~r/can't be answered by that/, fn -> reply(message, self()) end
      fail(message, reject("no"))
      assert {:error, %PythonError{expected: true}} = Pyre.await(request)

      {:ok, 6} = Pyre.call(pyre, "a", :add)
      message = assert_called(pyre, "a", :add)
      assert [_, _, _, %Message{handler: "add", outcome: :replied}] = calls(pyre, "a")
      assert_raise ArgumentError, ~r/was answered already/, fn -> reply(message, 1) end
    end

    test "an agent's messages come one after the other, or side by side where they interleave", context do
      handlers = %{one: :manual, beside: {:manual, interleave: true}}
      pyre = start!(context, %{"Slow" => handlers})
      start_agent!(pyre, "Slow", id: "s")
      ask = fn handler, n -> ask(pyre, "s", handler, %{n: n}) end

      [first, second] = [ask.(:one, 1), ask.(:one, 2)]
      message = assert_called(pyre, "s", :one, %{"n" => 1})
      refute_called(pyre, "s", :one, %{"n" => 2}, 20)
      beside = ask.(:beside, 3)
      reply(assert_called(pyre, "s", :beside, %{"n" => 3}), "beside")
      assert {:ok, "beside"} = Pyre.await(beside)
      reply(message, 1)
      assert {:ok, 1} = Pyre.await(first)
      reply(assert_called(pyre, "s", :one, %{"n" => 2}), 2)
      assert {:ok, 2} = Pyre.await(second)
    end

    test "a deadline is real: who calls gets its error, and the message is cancelled", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, "a", :later, %{}, timeout: 30)
      message = assert_called(pyre, "a", :later)
      eventually(fn -> match?([%Message{outcome: :cancelled}], calls(pyre, "a")) end)

      assert_raise ArgumentError, ~r/was cancelled: whoever called has given it up/, fn ->
        reply(message, 1)
      end

      assert {:ok, 1} = Pyre.call(pyre, "a", :add)
    end

    test "a full mailbox refuses", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a", max_mailbox: 2)
      request = ask(pyre, "a")
      message = assert_called(pyre, "a", :later)
      :ok = Pyre.cast(pyre, "a", :add)
      assert {:error, %Error{kind: :overloaded}} = Pyre.call(pyre, "a", :add)
      reply(message, nil)
      assert {:ok, nil} = Pyre.await(request)
      assert_called(pyre, "a", :add)
    end

    test "a stream chunk by chunk, no further than a reader allows", context do
      pyre = start!(context, %{"Source" => %{tokens: :manual}})
      start_agent!(pyre, "Source", id: "s")
      reader = Task.async(fn -> Enum.to_list(Pyre.stream(pyre, "s", :tokens)) end)
      message = assert_called(pyre, "s", :tokens)
      for token <- ["a", "b"], do: chunk(message, token)
      reply(message, nil)
      assert ["a", "b"] = Task.await(reader)

      request = ask(pyre, "s", :tokens)
      message = assert_called(pyre, "s", :tokens)
      assert_raise ArgumentError, ~r/is no stream/, fn -> chunk(message, "a") end
      reply(message, 1)
      {:ok, 1} = Pyre.await(request)
    end

    test "its interpreter dies: calls are told, casts are run again", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      {:ok, 1} = Pyre.call(pyre, "a", :add)
      request = ask(pyre, "a")
      message = assert_called(pyre, "a", :later)
      crash(message)
      assert {:error, %Error{kind: :worker_down, details: %{begun: true}}} = Pyre.await(request)
      assert_raise ArgumentError, ~r/was lost with its worker/, fn -> reply(message, 1) end

      assert {:ok, 2} = Pyre.call(pyre, "a", :add)
      :ok = Pyre.cast(pyre, "a", :later)
      %Message{attempt: 1} = message = assert_called(pyre, "a", :later, _, 5_000)
      crash(message)
      assert %Message{attempt: 2} = assert_called(pyre, "a", :later, _, 5_000)
    end
  end

  describe "a script uses Pyre as agents do" do
    test "a tool of the host", context do
      lookup = fn %{id: id}, caller -> {:ok, %{name: "Ada #{id}", for: caller.agent}} end
      schema = [id: [type: :integer, required: true]]
      tools = [{"crm.lookup", lookup, description: "Looks a customer up.", schema: schema}]
      greet = fn args, _state, message -> {:reply, message |> use_tool("crm.lookup", args) |> told()} end
      pyre = start!(context, %{"Desk" => %{greet: greet, manual: :manual}}, tools: tools)
      start_agent!(pyre, "Desk", id: "desk")

      assert {:ok, %{"name" => "Ada 1", "for" => "desk"}} = Pyre.call(pyre, "desk", :greet, %{id: 1})
      assert {:ok, "the arguments of the tool " <> _why} = Pyre.call(pyre, "desk", :greet, %{id: "one"})

      request = ask(pyre, "desk", :manual)
      message = assert_called(pyre, "desk", :manual)
      assert {:ok, %{"name" => "Ada 2"}} = use_tool(message, "crm.lookup", %{id: 2})
      reply(message, nil)
      {:ok, nil} = Pyre.await(request)
      assert_raise ArgumentError, ~r/was answered already/, fn -> use_tool(message, "crm.lookup") end
    end

    test "events and progress", context do
      pyre = start!(context, %{"Desk" => %{work: :manual}})
      start_agent!(pyre, "Desk", id: "desk")
      :ok = Pyre.subscribe(pyre, "orders.*")
      request = ask(pyre, "desk", :work)
      message = assert_called(pyre, "desk", :work)
      assert :ok = publish(message, "orders.created", %{id: 7})
      assert_receive {:pyre_event, ^pyre, "orders.created", %{"id" => 7}}
      assert :ok = progress(message, 0.5, "half of it")

      eventually(fn ->
        match?({:ok, %{progress: %{fraction: 0.5, text: "half of it"}}}, Pyre.info(pyre, "desk"))
      end)

      reply(message, nil)
      {:ok, nil} = Pyre.await(request)
    end

    test "a question to a person", context do
      refund = fn args, _state, message ->
        {:ok, decision} =
          escalate(message, "Refund?", options: ["approve", "reject"], data: args, assignee: "ada")

        {:reply, decision["answer"]}
      end

      pyre = start!(context, %{"Desk" => %{refund: refund}})
      start_agent!(pyre, "Desk", id: "desk")
      request = ask(pyre, "desk", :refund, %{eur: 900})
      [question] = eventually(fn -> with [] <- Pyre.inbox(pyre, assignee: "ada"), do: nil end)
      assert %{question: "Refund?", options: ["approve", "reject"], data: %{"eur" => 900}} = question
      assert {:error, %Error{kind: :invalid_args}} = Pyre.answer(pyre, question.id, "maybe", by: "ada")
      :ok = Pyre.answer(pyre, question.id, "approve", by: "ada")
      assert {:ok, "approve"} = Pyre.await(request)
    end
  end

  describe "the instance is the real one" do
    test "agents have interpreters of their own, and workers are replaced", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      start_agent!(pyre, "Counter", id: "alone", isolation: :dedicated)
      {:ok, 1} = Pyre.call(pyre, "a", :add)
      {:ok, 1} = Pyre.call(pyre, "alone", :add)
      assert {:ok, %{worker: 1}} = Pyre.info(pyre, "a")
      assert {:ok, %{worker: other}} = Pyre.info(pyre, "alone")
      assert other != 1
      :ok = Pyre.recycle(pyre, 1)
      assert {:ok, 2} = Pyre.call(pyre, "a", :add)
    end

    test "groups restart together, and what is given up is a dead letter", context do
      fail = fn _args -> {:fail, %PythonError{type: "ValueError"}} end
      pyre = start!(context, %{"Counter" => {Map.put(counter(), :fail, fail), state: [total: 0]}})
      agents = for id <- ["a", "b"], do: {"Counter", id: id}
      {:ok, "g"} = Pyre.start_group(pyre, "g", strategy: :one_for_all, agents: agents)
      b = Pyre.whereis(pyre, "b")
      ref = Process.monitor(b)
      :ok = Pyre.cast(pyre, "a", :fail)
      assert_receive {:DOWN, ^ref, :process, ^b, _reason}
      eventually(fn -> match?([%{agent: "a", handler: "fail"}], Pyre.dead_letters(pyre)) end)
      assert {:ok, 1} = Pyre.call(pyre, "b", :add)
    end

    test "with limits", context do
      pyre =
        start!(context, %{"Counter" => {counter(), state: [total: 0]}},
          limits: [{"Counter", rate: {1, 60_000}}]
        )

      start_agent!(pyre, "Counter", id: "a")
      {:ok, 1} = Pyre.call(pyre, "a", :add)
      assert {:error, %Error{kind: :rate_limited}} = Pyre.call(pyre, "a", :add)
    end
  end

  describe "assertions" do
    test "bind the variables of their pattern, and take each message once", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      for n <- [1, 2, 1], do: :ok = Pyre.cast(pyre, "a", :add, %{n: n})
      wanted = 2
      assert_called(pyre, "a", :add, %{"n" => ^wanted})
      assert_called(pyre, "a", :add, %{"n" => n} when n < 2)
      assert n == 1
      assert %Message{args: %{"n" => 1}} = assert_called(pyre, "a", :add)
      assert refute_called(pyre, "a", :add, _, 0) == false
      assert [1, 2, 1] = for(message <- calls(pyre, "a"), do: message.args["n"])
    end

    test "say what came instead", context do
      pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
      start_agent!(pyre, "Counter", id: "a")
      {:ok, 3} = Pyre.call(pyre, "a", :add, %{n: 3})
      text = failure(fn -> assert_called(pyre, "a", :add, %{"n" => 4}, 10) end)
      assert text =~ ~s(expected "a" to get add with arguments that match %{"n" => 4} within 10 ms)
      assert text =~ ~s(  * add %{"n" => 3} \(call, replied\))
      assert failure(fn -> assert_called(pyre, "b", :add, _, 0) end) =~ ~s(agents that got some: "a")
      text = failure(fn -> refute_called(pyre, "a", :add) end)
      assert text =~ ~s(not to get add with arguments that match _, but it got\n  * add %{"n" => 3})
    end

    test "need an instance of this module", _context do
      assert_raise ArgumentError, ~r/no Pyre instance named/, fn -> calls(:nobody, "a") end
    end
  end

  describe "what a test got wrong" do
    for {name, agents, message} <- [
          {"a handler that is no function", quote(do: %{"A" => %{go: 1}}),
           ~s(expected the handler go of the class "A" in :agents to be :manual or a function)},
          {"an option that is none", quote(do: %{"A" => {%{go: :manual}, stat: []}}),
           "to be some of :state, :autostart, got: [stat: []]"},
          {"a list of names", quote(do: ["A"]), "expected :agents to be a map of classes"},
          {"fields that are none", quote(do: %{"A" => {%{}, state: 5}}), "to be fields with their defaults"}
        ] do
      test "is said: #{name}" do
        error = assert_raise ArgumentError, fn -> Pyre.Testing.child_spec(agents: unquote(agents)) end
        assert error.message =~ unquote(message)
      end
    end

    test "is said: an option for Python" do
      assert_raise ArgumentError, ~r/expected no :python/, fn ->
        Pyre.Testing.child_spec(agents: %{}, python: "python3")
      end
    end

    test "is said: an option that doesn't exist" do
      assert_raise ArgumentError, ~r/unknown option :max_mailbx, did you mean :max_mailbox\?/, fn ->
        Pyre.Testing.child_spec(agents: %{}, max_mailbx: 1)
      end
    end
  end

  test "an instance ends with its test, and leaves nothing behind", context do
    pyre = start!(context, %{"Counter" => {counter(), state: [total: 0]}})
    directory = Pyre.Instance.get(pyre).directory
    request = ask(pyre, "a")
    assert_called(pyre, "a", :later)
    :ok = stop_supervised({Pyre.Testing, pyre})
    assert {:error, %Error{kind: :agent_down}} = Pyre.await(request)
    refute File.exists?(directory)
    assert Process.whereis(pyre) == nil
  end

  defp ask(pyre, id, handler \\ :later, args \\ %{}) do
    {:ok, request} = Pyre.call_async(pyre, id, handler, args, start: {"Counter", []})
    request
  end

  defp told({:ok, value}), do: value
  defp told({:error, error}), do: Exception.message(error)
  defp failure(assertion), do: assert_raise(ExUnit.AssertionError, assertion).message
end
