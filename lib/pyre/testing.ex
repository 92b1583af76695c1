defmodule Pyre.Testing do
  @moduledoc """
  Tests of Elixir code that uses Pyre, without Python.

  An instance of `Pyre.Testing` is the real one: agents have their processes, mailboxes, committed states, deadlines, restarts and histories, and
  the code under test calls `Pyre` as ever. Only what would run in Python is *scripted*: a function of the test answers, or the
  test itself, when it likes. So arguments travel as they always do (atoms arrive as strings), an option that doesn't exist is refused,
  and errors are those that Pyre has. Python need not be installed.

      defmodule MyApp.VisitsTest do
        use ExUnit.Case, async: true

        import Pyre.Testing

        # One instance for each test, so that they run side by side; it ends with the test.
        setup %{module: module, test: test} do
          name = Module.concat(module, test)
          start_supervised!({Pyre.Testing, name: name, agents: %{"Counter" => {counter(), state: [total: 0]}}})
          %{pyre: name}
        end

        defp counter do
          %{
            add: fn %{"n" => n}, %{"total" => total} -> {:reply, total + n, %{"total" => total + n}} end,
            limited: fn _args -> {:fail, %Pyre.PythonError{type: "Reject", message: "too many", expected: true}} end,
            slow: :manual
          }
        end

        # A function answers.
        test "visits are counted", %{pyre: pyre} do
          {:ok, "visits"} = Pyre.start_agent(pyre, "Counter", id: "visits")

          assert {:ok, 3} = Pyre.call(pyre, "visits", :add, %{n: 3})
          assert :ok = Pyre.cast(pyre, "visits", :add, %{n: 4})
          # An agent takes its messages in their order: when this one is answered, the cast has run.
          assert {:error, %Pyre.PythonError{expected: true}} = Pyre.call(pyre, "visits", :limited)

          assert_called(pyre, "visits", :add, %{"n" => 3})
          assert_called(pyre, "visits", :add, %{"n" => 4})
          refute_called(pyre, "visits", :slow, _, 0)
          assert {:ok, %{"total" => 7}, _revision} = Pyre.state(pyre, "visits")
        end

        # The test answers, when it likes.
        test "a caller waits, another gets an error", %{pyre: pyre} do
          start = {"Counter", []}
          anna = Task.async(fn -> Pyre.call(pyre, "anna", :slow, %{page: :home}, start: start) end)
          bert = Task.async(fn -> Pyre.call(pyre, "bert", :slow, %{page: :cart}, start: start) end)

          first = assert_called(pyre, "anna", :slow, %{"page" => "home"})
          second = assert_called(pyre, "bert", :slow, %{"page" => page})
          assert page == "cart"

          fail(second, %Pyre.PythonError{type: "ValueError", message: "no such page"})
          assert {:error, %Pyre.PythonError{type: "ValueError"}} = Task.await(bert)

          reply(first, 42, %{"total" => 42})
          assert {:ok, 42} = Task.await(anna)
          assert {:ok, %{"total" => 42}, 1} = Pyre.state(pyre, "anna")
        end
      end

  ## Options

    * `:name` - the instance's name, `Pyre` by default
    * `:agents` - what is scripted: a map from the names of classes to maps of handlers; see below
    * `:functions` - functions for `Pyre.run/5`: a map from `"module.function"` to what answers, as for handlers
    * `:workers` (1), `:spare` (`false`) and `:drain_timeout` (0) have other defaults than in an instance, all others of `Pyre` are the same. Those
      that are for Python alone (`:python`, `:env`, `:watch`) are refused

  ## What is scripted

  A class is a map of handlers by name, or `{handlers, options}` with these options:

    * `:state` - the fields of its state, as `defstruct` has them: `[:article, pieces: 3]`. A start argument that is no field is refused, and
      one without a default is required, as in Python; none by default
    * `:autostart` - `true`, an id, or a map from ids to start arguments, as in Python

  A handler is a function of `(args)`, `(args, state)` or `(args, state, message)`, or `:manual`, or either with options: `{function, interleave:
  true}` lets messages to one agent run side by side, `idempotent: true` is what Pyre tells in its errors. Arguments and state are maps with strings
  as keys; the message is a `Pyre.Testing.Message`. The hooks `on_start` and `on_stop` are handlers, too. A function returns

    * `{:reply, value}`, or `{:reply, value, state}`, which is committed
    * `{:fail, exception}` - a `Pyre.PythonError` is what Python code raises: the agent restarts, unless it is `expected: true`. A `Pyre.Error`
      comes as it is; another exception, or one that is raised, comes as a `Pyre.PythonError` of its name
    * `{:stream, values}` or `{:stream, values, state}` - for `Pyre.stream/5`; lazy values are made as the reader takes them

  With the message, or with that of a `:manual` handler, a script uses Pyre as `ctx` does in Python: `use_tool/3`, `publish/3`, `progress/3` and
  `escalate/3`; other agents it asks by `Pyre.call/5`.

  A handler that isn't scripted is answered by an error of the kind `:unknown_handler`, a class by `:unknown_class`.

  The functions run in processes that have the test as their caller (`$callers`): mocks and sandboxed connections of the test are theirs, too.

  ## Where the instance's name is fixed

  Code that calls `MyApp.Pyre` by that name, rather than by one that it is given, needs an instance of that name. Leave `{Pyre, ...}` out of the
  application's children in `config/test.exs`, start `{Pyre.Testing, name: MyApp.Pyre, ...}` in the test, and have it run alone (`async: false`).

  ## What is not there

  Nothing checks that the script is like the Python code: a handler that was renamed there is still scripted here. A few tests with the real
  agents belong beside these. An interpreter that is stuck, or too large, can't be had; one that dies can: `crash/1`.
  """

  alias Pyre.{Error, Instance}
  alias Pyre.Testing.{Calls, Interpreter, Message, Script}
  alias Pyre.Wire.MsgPack

  require Pyre.Wire, as: Wire

  # Progress travels in parts of the whole.
  @whole 1_000_000
  @defaults [workers: 1, spare: false, drain_timeout: 0]
  @for_python [:python, :env, :watch]

  @doc "A child specification, for `start_supervised!/1`. The process that asks for it is the caller of the scripted functions."
  @doc since: "0.1.0"
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    callers = [self() | Process.get(:"$callers", [])]
    {config, _script} = config!(opts)
    start = {__MODULE__, :start_link, [Keyword.put_new(opts, :callers, callers)]}
    %{id: {__MODULE__, config.name}, start: start, type: :supervisor, shutdown: :infinity}
  end

  @doc """
  Starts an instance whose workers are scripted. It is ready when this returns; the options are above.

      {:ok, _pid} = Pyre.Testing.start_link(name: MyApp.Pyre, agents: %{"Echo" => %{say: fn args -> {:reply, args} end}})
  """
  @doc since: "0.1.0"
  @spec start_link(keyword()) :: Supervisor.on_start() | {:error, Pyre.error()}
  def start_link(opts) do
    {config, script} = config!(opts)
    calls = calls_name(config.name)
    callers = Keyword.get_lazy(opts, :callers, fn -> [self() | Process.get(:"$callers", [])] end)
    stand_in = {Interpreter, %{script: script, calls: calls, callers: callers}}
    config = Map.put(config, :interpreter, stand_in)

    children = [
      {Calls, calls},
      %{
        id: config.name,
        start: {Pyre.Supervisor, :start_link, [config]},
        type: :supervisor,
        shutdown: :infinity
      }
    ]

    with {:ok, supervisor} <- Supervisor.start_link(children, strategy: :rest_for_one) do
      case Pyre.await_ready(config.name) do
        :ok ->
          {:ok, supervisor}

        {:error, error} ->
          Supervisor.stop(supervisor)
          {:error, error}
      end
    end
  end

  defp config!(opts) do
    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options to be a keyword list, got: #{inspect(opts, limit: 5)}")

    {ours, opts} = Keyword.split(opts, [:agents, :functions, :callers])

    for option <- @for_python, Keyword.has_key?(opts, option) do
      raise ArgumentError,
            "expected no #{inspect(option)}: an instance of Pyre.Testing starts no Python, so it would do nothing"
    end

    script = Script.new!(Keyword.get(ours, :agents, %{}), Keyword.get(ours, :functions, %{}))
    {@defaults |> Keyword.merge(opts) |> Instance.config(), script}
  end

  @doc """
  Asserts that an agent got a message, and gives it: a `Pyre.Testing.Message`.

      message = assert_called(MyApp.Pyre, "visits", :add, %{"n" => n})

  `args` is a pattern for the arguments, whose variables are bound as by `assert_receive`; strings are keys there. Where the message has not
  come yet it is waited for, `timeout` ms long (ExUnit's `:assert_receive_timeout` by default). Each message is given once, the oldest first:
  two such lines need two messages. For a function that `Pyre.run/5` names, the id is `nil` and the handler `"module.function"`.
  """
  @doc since: "0.1.0"
  defmacro assert_called(instance, id, handler, args \\ {:_, [], nil}, timeout \\ nil) do
    {matcher, variables, text} = matcher(args, __CALLER__)

    quote do
      {unquote(variables), message} =
        Pyre.Testing.__take__(
          unquote(instance),
          unquote(id),
          unquote(handler),
          unquote(matcher),
          unquote(text),
          unquote(timeout)
        )

      message
    end
  end

  @doc """
  Asserts that an agent gets no such message that was not given by `assert_called/5` before.

      refute_called(MyApp.Pyre, "visits", :reset)

  It waits as long as `refute_receive` does (ExUnit's `:refute_receive_timeout`), or `timeout` ms; 0 where all that matters has ended, as
  after a call.
  """
  @doc since: "0.1.0"
  defmacro refute_called(instance, id, handler, args \\ {:_, [], nil}, timeout \\ nil) do
    {matcher, _variables, text} = matcher(args, __CALLER__)

    quote do
      Pyre.Testing.__refute__(
        unquote(instance),
        unquote(id),
        unquote(handler),
        unquote(matcher),
        unquote(text),
        unquote(timeout)
      )
    end
  end

  # A function that says whether the arguments match, and with which values of the pattern's variables.
  defp matcher(pattern, caller) do
    text = Macro.to_string(pattern)
    pattern = Macro.prewalk(pattern, &Macro.expand(&1, %{caller | context: :match}))
    variables = variables(pattern)

    matcher =
      quote generated: true do
        fn
          unquote(pattern) -> {:matched, unquote(variables)}
          _other -> :no
        end
      end

    {matcher, variables, text}
  end

  defp variables({:when, _meta, [pattern, _guard]}), do: variables(pattern)

  defp variables(pattern) do
    {_pattern, found} =
      Macro.prewalk(pattern, [], fn
        {:^, _meta, [_pinned]}, found ->
          {:pinned, found}

        {:"::", _meta, [left, _type]}, found ->
          {left, found}

        {name, _meta, context} = variable, found when is_atom(name) and is_atom(context) ->
          {variable, [variable | found]}

        node, found ->
          {node, found}
      end)

    found
    |> Enum.reject(fn {name, _meta, _context} -> String.starts_with?(Atom.to_string(name), "_") end)
    |> Enum.uniq_by(fn {name, meta, context} -> {name, meta[:counter], context} end)
  end

  @doc false
  @spec __take__(atom(), String.t() | nil, Pyre.handler(), function(), String.t(), timeout() | nil) ::
          {list(), Message.t()}
  def __take__(instance, id, handler, matcher, pattern, timeout) do
    timeout = timeout || ExUnit.configuration() |> Keyword.get(:assert_receive_timeout, 100)

    case instance |> calls!() |> Calls.take({id, to_string(handler), matcher}, timeout) do
      {:ok, values, message} ->
        {values, message}

      {:none, seen} ->
        ExUnit.Assertions.flunk(
          "expected #{whom(id)} to get #{handler} with arguments that match #{pattern} within #{timeout} ms\n" <>
            seen(instance, id, seen)
        )
    end
  end

  @doc false
  @spec __refute__(atom(), String.t() | nil, Pyre.handler(), function(), String.t(), timeout() | nil) ::
          false
  def __refute__(instance, id, handler, matcher, pattern, timeout) do
    timeout = timeout || ExUnit.configuration() |> Keyword.get(:refute_receive_timeout, 100)

    case instance |> calls!() |> Calls.take({id, to_string(handler), matcher}, timeout) do
      {:none, _seen} ->
        false

      {:ok, _values, message} ->
        ExUnit.Assertions.flunk(
          "expected #{whom(id)} not to get #{handler} with arguments that match #{pattern}, but it got\n" <>
            line({message, false})
        )
    end
  end

  defp whom(nil), do: "the workers"
  defp whom(id), do: inspect(id)

  defp seen(instance, id, seen) do
    case Enum.filter(seen, fn {message, _taken?} -> message.id == id end) do
      [] ->
        others = for {%{id: id}, _taken?} <- seen, id != nil, uniq: true, do: inspect(id)

        known =
          if others == [], do: "no agent got any", else: "agents that got some: #{Enum.join(others, ", ")}"

        "#{inspect(instance)} has seen no message for it; #{known}"

      messages ->
        "it got, the oldest first:\n" <> Enum.map_join(messages, "\n", &line/1)
    end
  end

  defp line({message, taken?}) do
    asserted = if taken?, do: ", already asserted", else: ""

    "  * #{message.handler} #{inspect(message.args, limit: 20)} (#{message.kind}, #{message.outcome}#{asserted})"
  end

  @doc """
  The messages that reached an agent, the oldest first, whether they were asserted or not. A `nil` as id gives those of `Pyre.run/5`.

      [%Pyre.Testing.Message{handler: "add", outcome: :replied}] = Pyre.Testing.calls(MyApp.Pyre, "visits")
  """
  @doc since: "0.1.0"
  @spec calls(Pyre.instance(), Pyre.id() | nil) :: [Message.t()]
  def calls(instance, id), do: for(%{id: ^id} = message <- instance |> calls!() |> Calls.all(), do: message)

  @doc """
  Answers a message of a `:manual` handler with a value, and ends a stream.

      reply(message, 42)

  With a state, a map, this one is committed, as `{:reply, value, state}` of a function is.
  """
  @doc since: "0.1.0"
  @spec reply(Message.t(), term()) :: :ok
  def reply(%Message{} = message, value), do: message |> Interpreter.answer({:reply, value}) |> done!(message)

  @doc "The same, with a state to commit."
  @doc since: "0.1.0"
  @spec reply(Message.t(), term(), map()) :: :ok
  def reply(%Message{} = message, value, state) when is_map(state),
    do: message |> Interpreter.answer({:reply, value, state}) |> done!(message)

  @doc """
  Has a message of a `:manual` handler fail with an exception, as `{:fail, exception}` of a function does.

      fail(message, %Pyre.PythonError{type: "ValueError", message: "negative n"})
  """
  @doc since: "0.1.0"
  @spec fail(Message.t(), Exception.t()) :: :ok
  def fail(%Message{} = message, error) when is_exception(error),
    do: message |> Interpreter.answer({:fail, error}) |> done!(message)

  @doc """
  Sends a chunk to who reads the stream of a `:manual` handler; `reply/2` ends it.

      chunk(message, "token")

  Nobody runs more than 16 chunks ahead of a reader: the next one is an `ArgumentError`.
  """
  @doc since: "0.1.0"
  @spec chunk(Message.t(), term()) :: :ok
  def chunk(%Message{} = message, value), do: message |> Interpreter.chunk(value, :refuse) |> done!(message)

  @doc """
  Kills the interpreter that runs a message, as it were: all that it runs is lost, and the next one takes over.

      crash(message)

  Callers get an error of the kind `:worker_down` with `begun: true`, casts are run again, and committed states are kept.
  """
  @doc since: "0.1.0"
  @spec crash(Message.t()) :: :ok
  def crash(%Message{} = message), do: message |> Interpreter.crash() |> done!(message)

  @doc """
  Uses a tool of the instance, as `ctx.tool` does in Python: the tool runs as ever, with its checks, its limits and its `Pyre.Tool.Caller`.

      {:ok, %{"name" => "Ada"}} = use_tool(message, "crm.lookup", %{id: 1})

  What a tool answers with as an error is a `Pyre.PythonError` of the type `"ToolError"`.
  """
  @doc since: "0.1.0"
  @spec use_tool(Message.t(), String.t(), map()) :: {:ok, term()} | {:error, Pyre.error()}
  def use_tool(%Message{} = message, tool, args \\ %{}) when is_binary(tool) and is_map(args),
    do: request!(message, Wire.verb_tool(), tool, args, 0)

  @doc """
  Publishes an event, as `ctx.publish` does in Python.

      :ok = publish(message, "orders.created", %{id: 7})
  """
  @doc since: "0.1.0"
  @spec publish(Message.t(), String.t(), term()) :: :ok | {:error, Pyre.error()}
  def publish(%Message{} = message, topic, event \\ nil) when is_binary(topic) do
    with {:ok, _nothing} <- request!(message, Wire.verb_publish(), topic, event, 0), do: :ok
  end

  @doc """
  Tells how far the message is, as `ctx.progress` does in Python: a fraction from 0 to 1, or nil, and a text.

      progress(message, 0.5, "half of it")
  """
  @doc since: "0.1.0"
  @spec progress(Message.t(), number() | nil, String.t()) :: :ok
  def progress(message, fraction, text \\ "")

  def progress(%Message{} = message, nil, text) when is_binary(text),
    do: message |> Interpreter.progress([], text) |> done!(message)

  def progress(%Message{} = message, fraction, text)
      when is_number(fraction) and fraction >= 0 and fraction <= 1 and is_binary(text),
      do: message |> Interpreter.progress(round(fraction * @whole), text) |> done!(message)

  @doc """
  Asks a person, as `ctx.escalate` does in Python, and waits for what `Pyre.answer/4` or `Pyre.dismiss/3` decide.

      {:ok, %{"answer" => "approve", "by" => "ada"}} = escalate(message, "Refund 900 EUR?", options: ["approve", "reject"])

  The options are `:options`, `:data`, `:assignee`, `:default`, and `:timeout` in ms. The map has `"outcome"` (`"answered"`, `"dismissed"`,
  `"expired"`), `"answer"`, `"by"`, `"at"` and `"escalation"`. In the process of the test, which is the one to answer, have a `Task` ask.
  """
  @doc since: "0.1.0"
  @spec escalate(Message.t(), String.t(), keyword()) :: {:ok, map()} | {:error, Pyre.error()}
  def escalate(%Message{} = message, question, opts \\ []) when is_binary(question) do
    opts = Keyword.validate!(opts, [:options, :data, :assignee, :default, timeout: 0])
    {timeout, asked} = opts |> Map.new() |> Map.pop!(:timeout)

    with {:ok, data} <- MsgPack.encode(asked[:data]) do
      asked = Map.merge(%{options: nil, assignee: nil, default: nil}, asked)
      asked = Map.merge(asked, %{question: question, data: %Pyre.Bin{data: data}})
      request!(message, Wire.verb_escalate(), question, asked, timeout)
    end
  end

  defp request!(message, verb, name, value, timeout_ms) do
    with {:ok, body} <- MsgPack.encode(value) do
      case Interpreter.request(message, {verb, "", name, body, timeout_ms}) do
        {:error, outcome} when is_atom(outcome) -> not_done!(outcome, message)
        result -> result
      end
    end
  end

  defp done!(:ok, _message), do: :ok
  defp done!({:error, reason}, message), do: not_done!(reason, message)

  @spec not_done!(atom() | Error.t(), Message.t()) :: no_return()
  defp not_done!(reason, message), do: raise(ArgumentError, "#{name(message)} #{why(reason)}")

  defp name(%Message{id: nil, handler: function}), do: "the run of #{function}"
  defp name(%Message{id: id, handler: handler}), do: "the message #{handler} of #{inspect(id)}"

  defp why(%Error{} = error), do: "can't be answered by that: #{Exception.message(error)}"

  defp why(:scripted),
    do: "is answered by a function; script its handler as :manual to answer it in the test"

  defp why(:replied), do: "was answered already"
  defp why(:failed), do: "was answered already: it failed"
  defp why(:cancelled), do: "was cancelled: whoever called has given it up, or its agent has ended"
  defp why(:lost), do: "was lost with its worker; look for its next attempt with assert_called"
  defp why(:no_stream), do: "is no stream, so it has no chunks: it was sent by Pyre.call or Pyre.cast"
  defp why(:full), do: "has 16 chunks, or 1 MiB, that nobody has read: read some before the next one"

  ## Helpers

  defp calls!(instance) do
    case Instance.fetch!(instance).config do
      %{interpreter: {Interpreter, %{calls: calls}}} ->
        calls

      _real ->
        raise ArgumentError,
              "the instance #{inspect(instance)} runs Python: only one that was started with {Pyre.Testing, name: " <>
                "#{inspect(instance)}, agents: ...} knows what it was asked"
    end
  end

  defp calls_name(name), do: Module.concat(name, Pyre.Testing.Calls)
end
