defmodule Pyre do
  @moduledoc """
  Supervised, stateful agents written in Python, on Erlang/OTP.

  An *agent* is an address, a mailbox and a state. They live on the BEAM; its code runs in a CPython interpreter, a *worker*, that may die at
  any moment. Then another one takes over, and the agent keeps its address, its queued messages and its committed
  state.

      children = [{Pyre, name: MyApp.Pyre, agents: "priv/python/agents", workers: 4}]
      Supervisor.start_link(children, strategy: :one_for_one)

      {:ok, "visits"} = Pyre.start_agent(MyApp.Pyre, "Counter", id: "visits")
      {:ok, 3} = Pyre.call(MyApp.Pyre, "visits", :add, %{n: 3})

  Several instances may live on one node; each function's first argument is the name of one.

  ## Options of an instance

  #{Pyre.Options.docs(:instance)}

  ## Pools

  Agent classes may need packages that exclude each other. `:pools` names further pools of workers:

      {Pyre, name: MyApp.Pyre, agents: "priv/agents", pools: [ml: [python: "/srv/ml/bin/python", workers: 1, agents: ["priv/ml"]]]}

  A class says which it runs in (`pool = "ml"`), else it is that of its directory. The pool `:default` is always there, and has what the instance's own
  options say; so does another one where it says nothing. With several directories in `:agents`, one that has a `.venv` is a pool by itself, under
  the directory's name. A pool's options:

  #{Pyre.Options.docs(:pool)}

  ## Errors

  What went wrong is returned as `{:error, error}`, where `error` is a `Pyre.Error` (ours: its `kind` is from a closed set) or a
  `Pyre.PythonError` (the handler's own exception). Only the caller's own mistakes raise: an `ArgumentError` names
  the argument or option and says what was expected.

  ## Values

  Arguments, replies and states travel as MessagePack. A binary that is valid UTF-8 arrives as `str`, any other as `bytes`
  (`Pyre.Bin` forces bytes); atoms arrive as `str`; `DateTime` is an aware `datetime`. Structs need an explicit conversion.
  """

  alias Pyre.Agent.{Client, Commits, Quarantine, Restarting, Restarts, Starter, Stopping, Streaming}

  alias Pyre.{
    Address,
    CastMany,
    Classes,
    DeadLetters,
    Drain,
    Escalations,
    Events,
    FanOut,
    Generations,
    Group,
    Health,
    History
  }

  alias Pyre.{
    Instance,
    Limits,
    Mailbox,
    Monitors,
    Options,
    Pause,
    Request,
    StartMany,
    Telemetry,
    Timers,
    Tool,
    Trace,
    Worker
  }

  alias Pyre.Wire.{Body, MsgPack}
  alias Pyre.Worker.Pool

  @typedoc "The name of an instance: its option `:name`."
  @type instance :: atom()
  @typedoc "An agent's address: 1 to 255 bytes of UTF-8, unique in the instance."
  @type id :: String.t()
  @typedoc "The name of a group: as an id, and unique among groups."
  @type group :: String.t()
  @typedoc "An agent class by the name that it has in Python; `Counter` and `:Counter` mean `\"Counter\"`."
  @type class :: String.t() | atom()
  @typedoc "A handler by the name of its method: 1 to 255 bytes."
  @type handler :: String.t() | atom()
  @typedoc "What went wrong: on Pyre's side, or in the agent's own code."
  @type error :: Pyre.Error.t() | Pyre.PythonError.t()

  @max_handler_bytes 255

  @doc """
  A child specification, for a host's supervisor.

      iex> Pyre.child_spec(name: MyApp.Pyre).id
      MyApp.Pyre
  """
  @doc since: "0.1.0"
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    config = Instance.config(opts)
    %{id: config.name, start: {__MODULE__, :start_link, [opts]}, type: :supervisor, shutdown: :infinity}
  end

  @doc """
  Starts an instance. It returns before the interpreters are ready; see `await_ready/2`. A snapshot that can't be read is
  `{:error, %Pyre.Error{kind: :decode}}`.

      {:ok, _pid} = Pyre.start_link(name: MyApp.Pyre, agents: "priv/python/agents")
  """
  @doc since: "0.1.0"
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts) do
    config = Instance.config(opts)

    case Pyre.Snapshot.check(config.snapshot) do
      {:error, error} -> {:error, error}
      _usable_or_none -> Pyre.Supervisor.start_link(config)
    end
  end

  @doc """
  Waits until all workers are ready and the agents with `autostart` run.

      :ok = Pyre.await_ready(MyApp.Pyre, 10_000)

  Else `{:error, error}` with the kind `:not_ready`, or `:worker_start` and what the interpreter said.
  """
  @doc since: "0.1.0"
  @spec await_ready(instance(), timeout()) :: :ok | {:error, error()}
  def await_ready(instance, timeout \\ 30_000) do
    check_timeout!(timeout)
    instance |> Instance.fetch!() |> Starter.await(:ready, timeout)
  end

  @doc """
  Starts an agent of a class.

      {:ok, "root"} = Pyre.start_agent(MyApp.Pyre, "Watcher", id: "root", args: %{path: "/"})

  Options:

  #{Pyre.Options.docs(:agent)}

  Errors: `:unknown_class`, `:invalid_args`, `:invalid_id`, `:already_started`, `:not_ready`, `:worker_start`, `:stopping`, and, where the
  class has an `on_start` that fails, `:terminated`.
  """
  @doc since: "0.1.0"
  @spec start_agent(instance(), class(), keyword()) :: {:ok, id()} | {:error, error()}
  def start_agent(instance, class, opts \\ []),
    do: instance |> Instance.fetch!() |> Starter.start(class, opts)

  @doc """
  Starts many agents, several at once; the results come in the order of the list. Only those of one group are started in that order, too.

      [{:ok, "a"}, {:ok, "b"}] = Pyre.start_agents(MyApp.Pyre, [{"Counter", id: "a"}, {"Counter", id: "b"}])
  """
  @doc since: "0.1.0"
  @spec start_agents(instance(), [{class(), keyword()}]) :: [{:ok, id()} | {:error, error()}]
  def start_agents(instance, agents) when is_list(agents),
    do: instance |> Instance.fetch!() |> StartMany.run(agents)

  def start_agents(_instance, other),
    do: raise(ArgumentError, "expected a list of {class, options}, got: #{inspect(other, limit: 5)}")

  @doc """
  Calls a handler of an agent and waits for its reply.

      {:ok, 5} = Pyre.call(MyApp.Pyre, "visits", :add, %{n: 5})
      {:ok, 1} = Pyre.call(MyApp.Pyre, "anna", :add, %{n: 1}, start: {"Counter", []})

  The reply is sent after the agent's new state is committed. Options:

  #{Pyre.Options.docs(:call)}

  Errors that are the call's own: `:not_found`, `:overloaded`, `:deadline` (it did not run), `:timeout` (it was cancelled),
  `:worker_down`, `:terminated`, `:encode`, `:too_large`; `Pyre.Error.retryable?/1` says whether trying again is safe.
  """
  @doc since: "0.1.0"
  @spec call(instance(), id(), handler(), map(), keyword()) :: {:ok, term()} | {:error, error()}
  def call(instance, id, handler, args \\ %{}, opts \\ []) do
    instance = Instance.fetch!(instance)
    handler = handler!(handler)
    opts = Options.validate!(:call, opts)
    timeout = opts[:timeout] || instance.config.call_timeout

    Telemetry.span([:call], %{name: instance.name, handler: handler}, fn ->
      with :ok <- Starter.check_id(id),
           {:ok, body} <- args |> args!() |> Body.args(),
           :ok <- Starter.ensure(instance, id, opts[:start]) do
        Instance.count(instance, :calls)

        Tool.Chain.guard(instance, id, handler, fn ->
          Client.call(instance, id, :call, handler, body, timeout, opts[:priority])
        end)
      end
    end)
  end

  @doc """
  Begins a call, and returns at once: the request can be awaited, looked at and cancelled.

      {:ok, request} = Pyre.call_async(MyApp.Pyre, "visits", :add, %{n: 5})
      {:ok, 5} = Pyre.await(request)

  The options and errors are those of `call/5`; `:timeout` is the call's deadline, whether anybody awaits it or not. The death of the process
  that made it cancels it.
  """
  @doc since: "0.1.0"
  @spec call_async(instance(), id(), handler(), map(), keyword()) :: {:ok, Request.t()} | {:error, error()}
  def call_async(instance, id, handler, args \\ %{}, opts \\ []) do
    instance = Instance.fetch!(instance)
    handler = handler!(handler)
    opts = Options.validate!(:call, opts)

    with :ok <- Starter.check_id(id),
         {:ok, body} <- args |> args!() |> Body.args(),
         :ok <- Starter.ensure(instance, id, opts[:start]) do
      Instance.count(instance, :calls)
      timeout = opts[:timeout] || instance.config.call_timeout
      Request.open(instance, id, handler, body, timeout, opts[:priority])
    end
  end

  @doc """
  Waits for the answer to a request, in the process that made it.

      {:ok, 5} = Pyre.await(request)

  Without `timeout` until the call's deadline. Where `timeout` ms pass first, `{:error, error}` of the kind `:timeout` with `pending: true` in
  its details: the call goes on, and can be awaited again. An answer is taken once.
  """
  @doc since: "0.1.0"
  @spec await(Request.t(), timeout()) :: {:ok, term()} | {:error, error()}
  def await(request, timeout \\ :infinity), do: request |> request!() |> Request.await(timeout)

  @doc """
  Where a request stands: `:queued`, `:running`, `:retrying` (it waits for its next attempt) or `:done`: answered, one way or another.

      :queued = Pyre.status(request)
  """
  @doc since: "0.1.0"
  @spec status(Request.t()) :: :queued | :running | :retrying | :done
  def status(request), do: request |> request!() |> Request.status()

  @doc """
  Cancels a request: a queued message is taken out of the mailbox, a running handler is cancelled and its changes are rolled back, and with it
  what it waits for, down the chain.

      :cancelled = Pyre.cancel(request)

  `:already_done` where its answer was faster. Whoever waits gets `{:error, error}` of the kind `:cancelled`.
  """
  @doc since: "0.1.0"
  @spec cancel(Request.t()) :: :cancelled | :already_done | :not_found
  def cancel(request) do
    %{instance: instance, message_id: message_id} = request!(request)
    cancel(instance, message_id)
  end

  defp request!(%Request{} = request), do: request

  defp request!(other),
    do: raise(ArgumentError, "expected a request, as call_async/5 gives it, got: #{inspect(other, limit: 5)}")

  @doc """
  Cancels any message by its id, `{agent, number}`: the number is what `ctx.message_id`, the history and log lines show.

      :cancelled = Pyre.cancel(MyApp.Pyre, {"visits", 7})

  A cast that is cancelled becomes no dead letter. `:already_done` where it has ended, `:not_found` where there is no such agent, or it never had
  such a message.
  """
  @doc since: "0.1.0"
  @spec cancel(instance(), Request.message_id()) :: :cancelled | :already_done | :not_found
  def cancel(instance, {id, number}) when is_binary(id) and is_integer(number) and number > 0,
    do: instance |> Instance.fetch!() |> Request.cancel(id, number)

  def cancel(_instance, other),
    do: raise(ArgumentError, "expected a message's id, {agent, number}, got: #{inspect(other, limit: 5)}")

  @doc """
  Makes many calls at once, and gives their results in the same order.

      [{:ok, 1}, {:ok, 7}] = Pyre.call_many(MyApp.Pyre, [{"anna", :add, %{n: 1}}, {"bert", :add, %{n: 7}}])

  One deadline is for all of them: what is not answered by then is cancelled, what was not begun isn't. Options:

  #{Pyre.Options.docs(:call_many)}
  """
  @doc since: "0.1.0"
  @spec call_many(instance(), [{id(), handler(), map()}], keyword()) :: [{:ok, term()} | {:error, error()}]
  def call_many(instance, calls, opts \\ [])

  def call_many(instance, calls, opts) when is_list(calls) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:call_many, opts)
    calls = Enum.map(calls, &prepared/1)
    Instance.count(instance, :calls, length(calls))
    FanOut.run(instance, calls, opts[:timeout] || instance.config.call_timeout, opts[:max_concurrency])
  end

  def call_many(_instance, other, _opts), do: no_messages!(other)

  @spec no_messages!(term()) :: no_return()
  defp no_messages!(other),
    do: raise(ArgumentError, "expected a list of {id, handler, args}, got: #{inspect(other, limit: 5)}")

  defp prepared({id, handler, args}) do
    handler = handler!(handler)

    with :ok <- Starter.check_id(id), {:ok, body} <- args |> args!() |> Body.args(), do: {id, handler, body}
  end

  defp prepared(other),
    do: raise(ArgumentError, "expected {id, handler, args} in the list, got: #{inspect(other, limit: 5)}")

  @doc """
  As `call/5`, but returns the reply itself and raises the error.

      5 = Pyre.call!(MyApp.Pyre, "visits", :add, %{n: 5})
  """
  @doc since: "0.1.0"
  @spec call!(instance(), id(), handler(), map(), keyword()) :: term()
  def call!(instance, id, handler, args \\ %{}, opts \\ []) do
    case call(instance, id, handler, args, opts) do
      {:ok, reply} -> reply
      {:error, error} -> raise error
    end
  end

  @doc """
  Reads what a handler yields, chunk by chunk: a lazy enumerable.

      MyApp.Pyre |> Pyre.stream("writer", :draft, %{topic: "tea"}) |> Enum.each(&IO.write/1)

  The message is sent when the first chunk is asked for, and occupies the agent until the handler has ended. The handler runs at most 16
  chunks, or 1 MiB, ahead of the reader. Leaving early (`Enum.take/2`), or the reader's death, closes the generator at
  once: its `finally` runs, and its changes are rolled back. The state is committed at the end, or by `ctx.commit()`; chunks
  are there before. Options:

  #{Pyre.Options.docs(:stream)}

  What ends the stream before its end is raised, after the chunks that came before it: the same errors as of `call/5`. A stream that has
  begun is never run again: where its worker dies, `:worker_down` is raised.
  """
  @doc since: "0.1.0"
  @spec stream(instance(), id(), handler(), map(), keyword()) :: Enumerable.t()
  def stream(instance, id, handler, args \\ %{}, opts \\ []) do
    instance = Instance.fetch!(instance)
    handler = handler!(handler)
    opts = Options.validate!(:stream, opts)

    with :ok <- Starter.check_id(id), {:ok, body} <- args |> args!() |> Body.args() do
      Streaming.chunks(instance, id, handler, body, opts, fn -> Starter.ensure(instance, id, opts[:start]) end)
    else
      {:error, error} -> raise error
    end
  end

  @doc """
  Sends a message without a reply. `:ok` means that it is in the agent's mailbox, where the death of any process can't lose it.

      :ok = Pyre.cast(MyApp.Pyre, "visits", :add, %{n: 5})

  Options:

  #{Pyre.Options.docs(:cast)}

  Errors: `:not_found`, `:overloaded`, `:rate_limited`, `:terminated`, `:stopping`, `:encode`, `:too_large`. What becomes of the message
  afterwards is told by `history/3`, and by `dead_letters/2` where it was given up.
  """
  @doc since: "0.1.0"
  @spec cast(instance(), id(), handler(), map(), keyword()) :: :ok | {:error, error()}
  def cast(instance, id, handler, args \\ %{}, opts \\ []) do
    instance = Instance.fetch!(instance)
    handler = handler!(handler)
    opts = Options.validate!(:cast, opts)

    with :ok <- Starter.check_id(id),
         {:ok, body} <- args |> args!() |> Body.args(),
         :ok <- Starter.ensure(instance, id, opts[:start]),
         {:ok, _key} <- Mailbox.put(instance, id, :cast, handler, body, 0, nil, opts[:priority]) do
      Instance.count(instance, :casts)
    end
  end

  @doc """
  Sends many messages without a reply, and tells for each, in the same order, what `cast/5` would.

      [:ok, :ok] = Pyre.cast_many(MyApp.Pyre, [{"anna", :add, %{n: 1}}, {"bert", :add, %{n: 7}}])

  Those to one agent arrive in their order, and wake it once. Each is accepted or refused for itself: where a mailbox is nearly full, the first
  ones find room. Options, for all of them:

  #{Pyre.Options.docs(:cast)}
  """
  @doc since: "0.1.0"
  @spec cast_many(instance(), [{id(), handler(), map()}], keyword()) :: [:ok | {:error, error()}]
  def cast_many(instance, casts, opts \\ [])

  def cast_many(instance, casts, opts) when is_list(casts) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:cast, opts)
    casts = Enum.map(casts, &prepared/1)
    CastMany.run(instance, casts, opts)
  end

  def cast_many(_instance, other, _opts), do: no_messages!(other)

  @doc """
  Stops an agent. It overtakes what is queued; the running message may end (`:drain_timeout`), `on_stop` runs, queued calls are
  answered `:stopped`. Afterwards the id is free.

      :ok = Pyre.stop_agent(MyApp.Pyre, "visits")

  Options:

  #{Pyre.Options.docs(:stop)}

  Errors: `:not_found`, `:invalid_id`, `:stopped` where somebody else stops it already, and `:timeout` where it takes longer; the stop is
  carried out all the same.
  """
  @doc since: "0.1.0"
  @spec stop_agent(instance(), id(), keyword()) :: :ok | {:error, error()}
  def stop_agent(instance, id, opts \\ []), do: instance |> Instance.fetch!() |> Stopping.stop(id, opts)

  @doc """
  Restarts an agent. One that is terminated runs again, with a fresh budget and with its state; one that runs is restarted between two
  messages, keeping its state and its queue. Returns after `on_start`.

      :ok = Pyre.restart_agent(MyApp.Pyre, "visits")

  Options:

  #{Pyre.Options.docs(:restart)}

  Errors: `:not_found`, `:parked`, and `:terminated` where its group is, or where it fails again.
  """
  @doc since: "0.1.0"
  @spec restart_agent(instance(), id(), keyword()) :: :ok | {:error, error()}
  def restart_agent(instance, id, opts \\ []),
    do: instance |> Instance.fetch!() |> Restarting.restart(id, opts)

  @doc """
  Forgets a terminated agent, with its state. Afterwards the id is free.

      :ok = Pyre.delete_agent(MyApp.Pyre, "visits")

  Errors: `:not_found`, and `:already_started` where it is not terminated: `stop_agent/3` is for those.
  """
  @doc since: "0.1.0"
  @spec delete_agent(instance(), id()) :: :ok | {:error, error()}
  def delete_agent(instance, id), do: instance |> Instance.fetch!() |> Restarting.delete(id)

  @doc """
  Starts a group: an OTP supervisor over agents and further groups.

      {:ok, "orders"} =
        Pyre.start_group(MyApp.Pyre, "orders",
          strategy: :rest_for_one,
          agents: [{"Book", id: "book"}, {"Clerk", id: "clerk"}]
        )

      {:ok, "clerk-2"} = Pyre.start_agent(MyApp.Pyre, "Clerk", id: "clerk-2", group: "orders")
      {:ok, "shipping"} = Pyre.start_group(MyApp.Pyre, "shipping", group: "orders")

  Returns once `on_start` of all agents has run, in order; or with the first error, with everything stopped again.

  When an agent crashes, the strategy says which of the others are restarted with it. Those keep their state and their queue; of what
  they were running, a cast or an idempotent call runs again, and any other call is answered `:restarted`. An agent
  whose very first `on_start` fails is terminated, as a child that can't be started.

  A group that fails more often than `:max_restarts` in `:max_seconds` (in it no agent has a budget of its own) fails: its parent
  restarts it, and counts. One without a parent is terminated, as an agent would be: it and its agents stay known, with
  their states, until `restart_group/3` or `stop_group/3`. Options:

  #{Pyre.Options.docs(:group)}

  Errors: those of `start_agent/3`; `:not_found`, `:terminated` and `:stopped` also for the `:group`.
  """
  @doc since: "0.1.0"
  @spec start_group(instance(), group(), keyword()) :: {:ok, group()} | {:error, error()}
  def start_group(instance, name, opts \\ []),
    do: instance |> Instance.fetch!() |> Group.Control.start(name, opts)

  @doc """
  Starts a terminated group again: the groups and agents in it, with their states and with a fresh budget.

      :ok = Pyre.restart_group(MyApp.Pyre, "orders")

  Options:

  #{Pyre.Options.docs(:restart)}

  Errors: `:not_found`, `:already_started` where it is not terminated, and those of `start_group/3`.
  """
  @doc since: "0.1.0"
  @spec restart_group(instance(), group(), keyword()) :: :ok | {:error, error()}
  def restart_group(instance, name, opts \\ []),
    do: instance |> Instance.fetch!() |> Group.Control.restart(name, opts)

  @doc """
  Stops a group: what is in it, last to first, each as `stop_agent/3` does it. Afterwards all names are free.

      :ok = Pyre.stop_group(MyApp.Pyre, "orders")

  Options, for each agent:

  #{Pyre.Options.docs(:stop)}

  Errors: `:not_found`, and `:timeout` as of `stop_agent/3`.
  """
  @doc since: "0.1.0"
  @spec stop_group(instance(), group(), keyword()) :: :ok | {:error, error()}
  def stop_group(instance, name, opts \\ []),
    do: instance |> Instance.fetch!() |> Group.Control.stop(name, opts)

  @doc """
  The supervision tree over groups and agents, as data.

      %{kind: :instance, children: [%{kind: :group, name: "orders", strategy: :rest_for_one, status: :running,
        restarts: 0, children: [%{kind: :agent, name: "book", class: "Book", status: :running}]}]} = Pyre.tree(MyApp.Pyre)

  Children come in the order of their group. `restarts` is how often a process was started anew, for whatever reason. A group's status is
  `:starting`, `:running`, `:restarting`, `:stopping` or `:terminated`.
  """
  @doc since: "0.1.0"
  @spec tree(instance()) :: map()
  def tree(instance), do: instance |> Instance.fetch!() |> Group.Tree.read()

  @doc """
  Lets an agent that is parked run again, and forgets its strikes.

      :ok = Pyre.unpark(MyApp.Pyre, "visits")

  An agent is parked when its handlers have hurt their worker again and again (blocked its loop, crashed it); what is known of
  it stands in `Pyre.info/2` under `:quarantine`. `{:error, error}` with the kind `:not_found`; where it is not parked,
  nothing happens.
  """
  @doc since: "0.1.0"
  @spec unpark(instance(), id()) :: :ok | {:error, error()}
  def unpark(instance, id) do
    instance = Instance.fetch!(instance)

    with :ok <- Starter.check_id(id), {:ok, agent} <- address(instance, id) do
      if agent.status == :parked, do: Restarting.unpark(instance, agent), else: :ok
    end
  end

  @doc """
  Parks an agent, between two messages: its mailbox is kept and fills up, nothing runs, and whoever waits for an answer is
  told `:parked`, until `unpark/2`.

      :ok = Pyre.park(MyApp.Pyre, "visits")

  Agents that hurt their workers again and again are parked without anybody asking; this is for a person who knows better.
  Options:

  #{Pyre.Options.docs(:park)}

  Errors: `:not_found`, `:terminated`, and `:timeout` where the running message does not end.
  """
  @doc since: "0.1.0"
  @spec park(instance(), id(), keyword()) :: :ok | {:error, error()}
  def park(instance, id, opts \\ []) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:park, opts)

    with :ok <- Starter.check_id(id), {:ok, agent} <- address(instance, id) do
      if agent.status == :parked, do: :ok, else: park_agent(instance, id, opts)
    end
  end

  defp park_agent(instance, id, opts) do
    reason = opts[:reason] || "an operator asked for it"
    timeout = opts[:timeout] || instance.config.call_timeout
    with {:ok, _nil} <- Client.call(instance, id, :park, <<>>, reason, timeout), do: :ok
  end

  @doc """
  Who hurt a worker and is not trusted yet, with the evidence, newest first.

      [%{id: "visits", class: "Counter", status: :parked, strikes: 3, suspect: false, evidence: [_ | _]}] = Pyre.quarantine(MyApp.Pyre)
  """
  @doc since: "0.1.0"
  @spec quarantine(instance()) :: [map()]
  def quarantine(instance), do: instance |> Instance.fetch!() |> Quarantine.list()

  @doc """
  The committed state of an agent and its revision, which grows by one with each commit.

      {:ok, %{"total" => 8}, 2} = Pyre.state(MyApp.Pyre, "visits")

  Before the first commit the revision is 0 and the map holds the start arguments. No Python is asked. Errors: `:not_found`, `:invalid_id`.
  """
  @doc since: "0.1.0"
  @spec state(instance(), id()) :: {:ok, map(), non_neg_integer()} | {:error, error()}
  def state(instance, id) do
    instance = Instance.fetch!(instance)

    with :ok <- Starter.check_id(id),
         {:ok, %{handle: handle}} <- address(instance, id),
         {committed, revision} = Commits.get(instance, handle),
         args = Address.start_args(instance, id),
         {:ok, map} <- MsgPack.decode(if(revision == 0, do: args, else: committed)) do
      {:ok, map, revision}
    end
  end

  @doc """
  Replaces the state of an agent, between two messages. Returns the new revision.

      {:ok, 3} = Pyre.put_state(MyApp.Pyre, "visits", %{total: 0}, expect_revision: 2)

  Python takes it up with the next message; a state that it can't use is an error of that message, and the agent is
  terminated: it is never replaced by a blank one. Options:

  #{Pyre.Options.docs(:put_state)}

  Errors: `:not_found`, `:encode`, `:too_large`, `:timeout`, and `:invalid_args` with `details.revision` where another revision is committed.
  """
  @doc since: "0.1.0"
  @spec put_state(instance(), id(), map(), keyword()) :: {:ok, pos_integer()} | {:error, error()}
  def put_state(instance, id, state, opts \\ []) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:put_state, opts)
    timeout = opts[:timeout] || instance.config.call_timeout

    with :ok <- Starter.check_id(id),
         {:ok, body} <- state |> args!() |> Body.args() do
      Client.call(instance, id, :put_state, <<>>, {body, opts[:expect_revision]}, timeout)
    end
  end

  @doc """
  Runs a function of a Python module, without an agent. Never run twice.

      {:ok, 4.0} = Pyre.run(MyApp.Pyre, "math", "sqrt", [16])

  `args` is a list (by position) or a map (by name). `module` is found as by Python's `import`; the agents' directories are searched too.
  Options:

  #{Pyre.Options.docs(:run)}

  Errors: a `Pyre.PythonError` for what the function, or its import, raised; `:timeout`, `:worker_down`, `:encode`, `:too_large`; `:parked` for a
  function that has hurt its interpreter twice.
  """
  @doc since: "0.1.0"
  @spec run(instance(), String.t(), handler(), list() | map(), keyword()) :: {:ok, term()} | {:error, error()}
  def run(instance, module, function, args \\ [], opts \\ []) do
    instance = Instance.fetch!(instance)
    function = handler!(function)
    opts = Options.validate!(:run, opts)

    unless is_binary(module),
      do: raise(ArgumentError, "expected the module to be a string, got: #{inspect(module, limit: 5)}")

    args = if is_list(args), do: args, else: args!(args)

    with {:ok, body} <- MsgPack.encode(args) do
      Worker.Run.call(instance, {module, function, body}, opts[:timeout] || instance.config.call_timeout)
    end
  end

  @doc """
  Offers agents a tool, as the option `:tools` does; see `Pyre.Tool`. One with the same name is replaced.

      :ok = Pyre.add_tool(MyApp.Pyre, MyApp.CrmLookup)
      :ok = Pyre.add_tool(MyApp.Pyre, {"clock", fn _args -> {:ok, DateTime.utc_now()} end, description: "Tells the time."})

  It lasts as long as the instance does. An `ArgumentError` says why something is no tool.
  """
  @doc since: "0.1.0"
  @spec add_tool(instance(), Pyre.Tool.entry()) :: :ok
  def add_tool(instance, tool) do
    instance = Instance.fetch!(instance)
    spec = Tool.Spec.new!(tool)
    Tool.Table.put(instance, spec)
    Instance.notify(instance, :tools, {:changed, spec.name})
  end

  @doc """
  Offers agents a tool no more. What runs of it runs on; who waits for it gets `:not_found`.

      :ok = Pyre.remove_tool(MyApp.Pyre, "clock")

  Errors: `:not_found`.
  """
  @doc since: "0.1.0"
  @spec remove_tool(instance(), String.t()) :: :ok | {:error, error()}
  def remove_tool(instance, name) do
    instance = Instance.fetch!(instance)
    with :ok <- Tool.Table.delete(instance, name), do: Instance.notify(instance, :tools, {:changed, name})
  end

  @doc """
  The tools that agents are offered, by name: what each does, its arguments as JSON Schema, and how many of it run and wait.

      [%{name: "crm.lookup", description: "Looks a customer up by number.", schema: %{"type" => "object"}, running: 0, waiting: 0}] =
        Pyre.tools(MyApp.Pyre)
  """
  @doc since: "0.1.0"
  @spec tools(instance()) :: [map()]
  def tools(instance) do
    instance = Instance.fetch!(instance)
    counts = Tool.Runs.counts(instance)

    for spec <- Tool.Table.all(instance) do
      {running, waiting} = Map.get(counts, spec.name, {0, 0})

      spec
      |> Map.take([:name, :description, :timeout, :max_concurrency, :max_waiting])
      |> Map.merge(%{schema: spec.json, running: running, waiting: waiting})
    end
  end

  @doc """
  The handlers of a class that are marked `@handler(tool=True)`, by name, with their arguments as JSON Schema: as a language model is
  told of what it may use.

      {:ok, [%{name: "take", description: "Take pieces out of the stock.", schema: %{"type" => "object"}}]} =
        Pyre.schema(MyApp.Pyre, "Stock")

  Errors: `:unknown_class`.
  """
  @doc since: "0.1.0"
  @spec schema(instance(), class()) :: {:ok, [map()]} | {:error, error()}
  def schema(instance, class), do: instance |> Instance.fetch!() |> Classes.tools(Starter.to_name!(class))

  @doc """
  The process of an agent, or nil: where there is no such agent, where it is just between two processes, and where it is asleep (`info/2`
  tells the `:status`). It is not woken by that.

      pid = Pyre.whereis(MyApp.Pyre, "visits")

  An agent whose process somebody else links or monitors does not fall asleep. `monitor/3` watches the agent itself, whatever becomes of its
  process.
  """
  @doc since: "0.1.0"
  @spec whereis(instance(), id()) :: pid() | nil
  def whereis(instance, id) do
    with {:ok, %{pid: pid}} when is_pid(pid) <- instance |> Instance.fetch!() |> Address.fetch(id),
         true <- Process.alive?(pid) do
      pid
    else
      _none -> nil
    end
  end

  @doc """
  The agents, as maps with `id`, `class`, `status` and `mailbox` (the number of messages in it), sorted by id.

      [%{id: "visits", status: :running}] = Pyre.agents(MyApp.Pyre, class: "Counter")

  The filter takes `:class` and `:status` (`:starting`, `:running`, `:asleep`, `:restarting`, `:terminated`, `:stopping`, `:parked`).
  `:asleep` are those that had nothing to do for their `:idle_timeout`; looking at one doesn't wake it.
  """
  @doc since: "0.1.0"
  @spec agents(instance(), keyword()) :: [map()]
  def agents(instance, filter \\ []) do
    instance = Instance.fetch!(instance)
    filter = filter!(filter)

    instance
    |> Address.all()
    |> Enum.filter(fn agent -> Enum.all?(filter, fn {key, value} -> agent[key] == value end) end)
    |> Enum.map(&Map.take(&1, [:id, :class, :status, :mailbox]))
    |> Enum.sort_by(& &1.id)
  end

  @doc """
  Watches an agent, as `Process.monitor/1` does a process. The caller gets, once,

      {:DOWN, ref, :agent, id, reason}

  when the agent is terminated, stopped or deleted. A restart is no end, however it came about: only the address counts. The reason is

    * `:stopped` - it was stopped or deleted
    * a `Pyre.PythonError` or `Pyre.Error` - it was terminated: what it failed with last
    * a `Pyre.Error` of the kind `:not_found` - nobody has this id; the message is there at once
    * a `Pyre.Error` of the kind `:stopping` or `:agent_down` - the instance ended, or lost its tables

  With `restarts: true` also, for each crash that the agent is restarted after,

      {:RESTARTED, ref, :agent, id, error}

  when it is written down; `on_start` may still have to run. The watch ends with the caller.

      {:ok, ref} = Pyre.monitor(MyApp.Pyre, "visits")

  Options:

  #{Pyre.Options.docs(:monitor)}
  """
  @doc since: "0.1.0"
  @spec monitor(instance(), id(), keyword()) :: {:ok, reference()} | {:error, error()}
  def monitor(instance, id, opts \\ []) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:monitor, opts)
    with :ok <- Starter.check_id(id), do: {:ok, Monitors.watch(instance, id, opts[:restarts])}
  end

  @doc """
  Takes a watch of the calling process back, and its messages out of the caller's mailbox.

      :ok = Pyre.demonitor(MyApp.Pyre, ref)
  """
  @doc since: "0.1.0"
  @spec demonitor(instance(), reference()) :: :ok
  def demonitor(instance, ref) when is_reference(ref),
    do: instance |> Instance.fetch!() |> Monitors.unwatch(ref)

  def demonitor(_instance, other),
    do: raise(ArgumentError, "expected what monitor/3 gave, a reference, got: #{inspect(other, limit: 5)}")

  @doc """
  Pauses agents: their mailboxes fill up to their bound, but no message begins, nor does `on_start` (so that `start_agent/3`, which
  waits for it, is answered `:deadline`; the agent is there). What runs may end.

      :ok = Pyre.pause(MyApp.Pyre, {:agent, "visits"})
      :ok = Pyre.pause(MyApp.Pyre, {:class, "Counter"})
      :ok = Pyre.pause(MyApp.Pyre, :all)

  Deadlines run on: a call that waits is answered `:deadline`. A timer that fires again while its last fire still waits takes
  its place. `stop_agent/3` works as ever, `on_stop` included. A pause survives whatever dies, except for the tables themselves, and
  an agent's ends when it is stopped. An agent runs again once no pause holds it: neither its own, nor its class's, nor that of all.
  """
  @doc since: "0.1.0"
  @spec pause(instance(), {:agent, id()} | {:class, class()} | {:group, term()} | :all) ::
          :ok | {:error, error()}
  def pause(instance, what), do: instance |> Instance.fetch!() |> Pause.pause(paused!(what))

  @doc """
  Lifts a pause; nothing happens where there is none.

      :ok = Pyre.resume(MyApp.Pyre, {:agent, "visits"})

  Afterwards the messages run in the order in which they came.
  """
  @doc since: "0.1.0"
  @spec resume(instance(), {:agent, id()} | {:class, class()} | {:group, term()} | :all) :: :ok
  def resume(instance, what), do: instance |> Instance.fetch!() |> Pause.resume(paused!(what))

  @doc """
  The messages without a caller that were given up, the newest last: casts and timers whose handler failed or refused them, under
  which workers kept dying, or whose agent was stopped or terminated first.

      [%{id: 7, agent: "visits", handler: "add", reason: :failed}] = Pyre.dead_letters(MyApp.Pyre, agent: "visits")

  Each is a map with `id`, `agent`, `class`, `kind` (`:cast`, `:timer`, `:on_down`, `:decision`), `handler`, `args`, `reason`, `error`, `attempts`
  and `at`. The reasons:

    * `:failed` - its handler raised. It is never run again by itself
    * `:refused` - its handler refused it (`Reject`, `raises=`), or its arguments or its handler's name didn't fit
    * `:timeout` - it ran longer than `:max_runtime`
    * `:attempts` - it was begun `:max_attempts` times, and each time its worker died
    * `:terminated`, `:stopped` - its agent was, before it came to the message
    * `:stopping` - the instance shuts down

  The filter takes `:agent`, `:class`, `:handler`, `:kind` and `:reason`. At most `:max_dead_letters` and 16 MiB are kept; beyond
  that the oldest is dropped, and counted as `dead_letters_dropped` in `info/1`.
  """
  @doc since: "0.1.0"
  @spec dead_letters(instance(), keyword()) :: [map()]
  def dead_letters(instance, filter \\ []), do: instance |> Instance.fetch!() |> DeadLetters.list(filter)

  @doc """
  Puts the message of a dead letter into its agent's mailbox again, at the end. The letter is gone then; where the mailbox refuses it,
  it stays. With `:all`, how many were put there.

      :ok = Pyre.retry_dead_letter(MyApp.Pyre, 7)
      {:ok, 12} = Pyre.retry_dead_letter(MyApp.Pyre, :all)

  Errors: `:not_found` for a letter that is not there, and those of `cast/5`.
  """
  @doc since: "0.1.0"
  @spec retry_dead_letter(instance(), pos_integer() | :all) ::
          :ok | {:ok, non_neg_integer()} | {:error, error()}
  def retry_dead_letter(instance, letter), do: instance |> Instance.fetch!() |> DeadLetters.retry(letter)

  @doc """
  Throws a dead letter away, or `:all` of them.

      :ok = Pyre.discard_dead_letter(MyApp.Pyre, 7)

  Errors: `:not_found`.
  """
  @doc since: "0.1.0"
  @spec discard_dead_letter(instance(), pos_integer() | :all) ::
          :ok | {:ok, non_neg_integer()} | {:error, error()}
  def discard_dead_letter(instance, letter), do: instance |> Instance.fetch!() |> DeadLetters.discard(letter)

  @doc """
  Tells all who want it of an event: agents (`@on`, `ctx.subscribe`) and processes (`subscribe/2`), on all nodes.

      :ok = Pyre.publish(MyApp.Pyre, "orders.paid", %{id: 7, cents: 1250})

  A topic is words with dots between them. Nobody is waited for: agents get it as a message into their mailboxes, and miss it where those
  are full (counted as `events_dropped`). The events of one publisher arrive in its order. `{:error, error}` for a topic that is none, or
  an event that MessagePack can't carry.
  """
  @doc since: "0.1.0"
  @spec publish(instance(), String.t(), term()) :: :ok | {:error, error()}
  def publish(instance, topic, event) do
    instance = Instance.fetch!(instance)
    Instance.count(instance, :events)
    with {:ok, body} <- MsgPack.encode(event), do: Events.publish(instance, topic, body)
  end

  @doc """
  Has the calling process get events: `{:pyre_event, instance, topic, event}`.

      :ok = Pyre.subscribe(MyApp.Pyre, "orders.*")

  In a pattern `*` stands for one word, and `**`, at its end, for any further ones. `"pyre.progress.**"` are the reports of `ctx.progress`. A
  process with 10,000 messages waiting misses events; before the next that it gets, it is told `{:pyre_events_dropped, instance, count}`. It
  ends with the process, or with `unsubscribe/2`.
  """
  @doc since: "0.1.0"
  @spec subscribe(instance(), String.t()) :: :ok | {:error, error()}
  def subscribe(instance, pattern), do: instance |> Instance.fetch!() |> Events.subscribe(pattern)

  @doc """
  Has the calling process get no more events of a pattern.

      :ok = Pyre.unsubscribe(MyApp.Pyre, "orders.*")
  """
  @doc since: "0.1.0"
  @spec unsubscribe(instance(), String.t()) :: :ok | {:error, error()}
  def unsubscribe(instance, pattern), do: instance |> Instance.fetch!() |> Events.unsubscribe(pattern)

  @doc """
  Sets what may be spent (`ctx.spend(usd=0.02, tokens=800)`): by an agent, a class, a tenant, or the whole instance.

      :ok = Pyre.set_budget(MyApp.Pyre, {:agent, "researcher"}, usd: 5.0, tokens: 1_000_000)
      :ok = Pyre.set_budget(MyApp.Pyre, {:tenant, "acme"}, [usd: 50], per: :day)

  It is looked at before a message is run: where it is used up, a call is answered `:budget_exhausted`, anything else becomes a dead letter. What
  runs already is not stopped, so that a budget may be overdrawn by what runs at once. `per` is `:total` (the default), `:minute`, `:hour` or
  `:day`, by the clock in UTC. An amount of nil takes the budget back, and forgets what was spent.
  """
  @doc since: "0.1.0"
  @spec set_budget(instance(), Limits.scope(), keyword(number() | nil), keyword()) :: :ok
  def set_budget(instance, scope, amounts, opts \\ []) do
    instance = Instance.fetch!(instance)
    scope = budget_scope!(scope)
    per = Options.validate!(:budget, opts)[:per]
    amounts = Enum.map(amounts!(amounts), fn {unit, amount} -> {Atom.to_string(unit), amount} end)
    Enum.each(amounts, fn {unit, amount} -> Limits.set_budget(instance, scope, unit, amount, per) end)
  end

  @doc """
  What was spent by an agent, a class, a tenant or `:instance`, and its budgets, by unit.

      %{"usd" => %{spent: 1.25, limit: 5, per: :total}} = Pyre.budget(MyApp.Pyre, {:agent, "researcher"})
  """
  @doc since: "0.1.0"
  @spec budget(instance(), Limits.scope()) :: %{String.t() => map()}
  def budget(instance, scope), do: instance |> Instance.fetch!() |> Limits.budget(budget_scope!(scope))

  @doc """
  Forgets what was spent; the budgets stay.

      :ok = Pyre.reset_budget(MyApp.Pyre, {:agent, "researcher"})
  """
  @doc since: "0.1.0"
  @spec reset_budget(instance(), Limits.scope()) :: :ok
  def reset_budget(instance, scope), do: instance |> Instance.fetch!() |> Limits.reset(budget_scope!(scope))

  defp budget_scope!(:instance), do: :instance
  defp budget_scope!({kind, name}) when kind in [:agent, :tenant] and is_binary(name), do: {kind, name}
  defp budget_scope!({:class, name}) when is_binary(name), do: {:class, name}

  defp budget_scope!({:class, name}) when is_atom(name),
    do: {:class, name |> inspect() |> String.trim_leading(":")}

  defp budget_scope!(other),
    do:
      raise(
        ArgumentError,
        "expected :instance, {:agent, id}, {:class, class} or {:tenant, key}, got: #{inspect(other, limit: 5)}"
      )

  defp amounts!(amounts) do
    if Keyword.keyword?(amounts) and amounts != [] and
         Enum.all?(amounts, fn {_unit, amount} -> amount == nil or (is_number(amount) and amount >= 0) end),
       do: amounts,
       else:
         raise(
           ArgumentError,
           "expected amounts such as [usd: 5.0, tokens: 1_000_000], got: #{inspect(amounts, limit: 5)}"
         )
  end

  @doc """
  What happened to an agent lately, the newest last: maps with `at`, `event`, and what else there is to tell.

      {:ok, [%{event: :message, handler: "add", outcome: :ok, duration_us: 180}]} = Pyre.history(MyApp.Pyre, "visits")

  The events:

    * `:message` - a message ended: `message_id`, `kind` (`:call`, `:cast`, `:timer`, ...), `handler`, `attempt`, `duration_us` (nil where
      its begin is not known; of casts that ran together each has its share), `outcome`, and, unless that is `:ok`, `error` (a kind, or the name of a Python exception) and `message`
      (what it says, cut at 500 characters). The other outcomes: `:failed`, `:refused`, `:retried` (it is to run again), `:interrupted`
      (its worker or its agent's process died under it), `:blamed` (it killed its worker), `:cancelled`, `:expired` (it did not run)
    * `:progress` - the last report of a message: `message_id`, `handler`, `attempt`, `fraction`, `text`
    * `:crashed` - the agent's process ended over an `error`; `verdict` is `:restart` or `:terminate`
    * `:restarted` - not after a crash; `reason` is `:requested` or `:supervisor` (its group's strategy)
    * `:terminated`, `:parked` - for good, until somebody restarts or unparks it; `message` tells why
    * `:struck` - it hurt its `worker`: `handler`, `message_id`, `message`; `verdict` is `:probation` or `:park`
    * `:escalation_opened` - `escalation`, `kind`, `question`, `assignee`; `:escalation_decided` - the same, and `outcome`, `answer`, `by`
    * `:unparked`, `:paused`, `:resumed` (pauses of this very agent), `:state_put` (with its `message_id` and the `revision`)

  The last messages that ended well are kept, and as many other entries: `:history` of each, an option of the instance. They survive
  whatever happens to the interpreter and to the agent's process, and go with `stop_agent/3` and `delete_agent/2`.

  Of what messages carried nothing is kept. With the instance's option `payloads: true` a `:message` has its `args` and, where it ended
  well, its `reply`; what is larger than 16 KiB stands as `{:too_large, bytes}`. Options:

  #{Pyre.Options.docs(:history)}
  """
  @doc since: "0.1.0"
  @spec history(instance(), id(), keyword()) :: {:ok, [map()]} | {:error, error()}
  def history(instance, id, opts \\ []) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:history, opts)

    with :ok <- Starter.check_id(id),
         {:ok, %{handle: handle}} <- address(instance, id),
         do: {:ok, History.list(instance, handle, opts)}
  end

  @doc """
  Follows an agent live: a lazy enumerable of the entries that `history/3` has, from the instant on at which it is enumerated. Of
  progress it has each report, not only a message's last.

      MyApp.Pyre |> Pyre.trace("visits", limit: 10) |> Enum.each(&IO.inspect/1)

  It ends by itself: after `:limit` entries, after `:timeout`, when the agent is stopped or deleted, and when the instance ends. Nobody
  waits for who reads it: where `:buffer` entries are still to be read, further ones are left out, and in their place comes one
  `%{event: :dropped, count: n}`. It belongs to the process that enumerates it, and ends with it.

  Where nobody has the id, a `Pyre.Error` of the kind `:not_found` is raised when it is enumerated. Options:

  #{Pyre.Options.docs(:trace)}
  """
  @doc since: "0.1.0"
  @spec trace(instance(), id(), keyword()) :: Enumerable.t()
  def trace(instance, id, opts \\ []) do
    instance = Instance.fetch!(instance)
    opts = Options.validate!(:trace, opts)

    with {:error, error} <- Starter.check_id(id), do: raise(error)
    Trace.stream(instance, id, opts)
  end

  @doc """
  What agents ask people (`ctx.escalate`), the oldest first: an inbox of exceptions.

      [%{id: 7, agent: "desk", question: "Refund 900 EUR?", options: ["approve", "reject"]}] =
        Pyre.inbox(MyApp.Pyre, assignee: "ada")

  Each is a map with `id`, `status` (`:open` or `:decided`), `kind`, `agent`, `class`, `question`, `options` (nil: any text), `data`,
  `assignee`, `default`, `then`, `since` and `expires`; a decided one also has

    * `outcome` - `:answered`, `:dismissed`, `:expired`, or `:closed`: the agent was stopped, or the message that waited has ended
    * `answer`, `by`, `at` - what, who and when

  The kind is `:question`, or `:failure` for a message that used its attempts up (`Retry(on_exhausted="escalate")`): `"retry"` runs it
  again, with all its attempts; `"discard"` and a dismissal make it a dead letter.

  The filter takes `:agent`, `:class`, `:assignee` and `:status` (`:open`, the default, `:decided` or `:all`). Of the decided ones
  the last 1,000 that nobody needs any more are kept.
  """
  @doc since: "0.1.0"
  @spec inbox(instance(), keyword()) :: [map()]
  def inbox(instance, filter \\ []), do: instance |> Instance.fetch!() |> Escalations.Inbox.list(filter)

  @doc """
  Answers an escalation, once. Where there are options, with one of them; else with any text.

      :ok = Pyre.answer(MyApp.Pyre, 7, "approve", by: "ada")

  `:by` says who decides; it is kept, and told the agent. Errors: `:invalid_args` for an answer that is no option, `:not_found` for an
  escalation that is not open any more; its message and `details` (`by`, `answer`, `outcome`, `at`) say what became of it.
  """
  @doc since: "0.1.0"
  @spec answer(instance(), pos_integer(), String.t(), keyword()) :: :ok | {:error, error()}
  def answer(instance, escalation, answer, opts),
    do: instance |> Instance.fetch!() |> Escalations.answer(escalation, answer, opts)

  @doc """
  Takes an escalation out of the inbox without an answer: the agent is told so.

      :ok = Pyre.dismiss(MyApp.Pyre, 7, by: "ada")

  A handler that waits gets an exception (`pyre.errors.Unanswered`), a continuation the outcome `"dismissed"` and no answer. Errors: `:not_found`.
  """
  @doc since: "0.1.0"
  @spec dismiss(instance(), pos_integer(), keyword()) :: :ok | {:error, error()}
  def dismiss(instance, escalation, opts),
    do: instance |> Instance.fetch!() |> Escalations.dismiss(escalation, opts)

  @doc """
  What the instance is doing: workers, agents by status, classes, import problems, counters.

      %{agents: %{running: 12}, counters: %{calls: 801}} = Pyre.info(MyApp.Pyre)

    * `name`, `stopping` - whether the intake is closed
    * `workers` - how many shared interpreters are ready
    * `agents` - how many have each status
    * `classes`, `problems` - the agent classes that were found; files that could not be imported, maps with `"file"` and `"error"`
    * `messages_waiting`, `timers`, `dead_letters`, `escalations` - how many there are
    * `paused` - what `pause/2` holds
    * `limits`, `slots`, `budget` - what is allowed, who has a slot or waits for one, what was spent
    * `counters` - what happened since the instance started: `calls`, `casts`, `delivered`, `commits`, `failures`, `restarts`, `worker_deaths`, ...
  """
  @doc since: "0.1.0"
  @spec info(instance()) :: map()
  def info(instance) do
    instance = Instance.fetch!(instance)

    %{
      name: instance.name,
      stopping: Instance.closed?(instance),
      workers: Enum.count(Pool.all(instance), &(&1.status == :ready and &1.role == :shared)),
      agents: Address.counts(instance),
      classes: Classes.names(instance),
      problems: Enum.map(Classes.problems(instance), &Map.take(&1, ["file", "error", "pool"])),
      timers: :ets.info(instance.timers, :size),
      messages_waiting: :ets.info(instance.mailbox, :size),
      dead_letters: :ets.info(instance.dead_letters, :size),
      paused: Pause.list(instance),
      escalations: Escalations.Table.count(instance),
      limits: instance.config.limits,
      slots: Limits.Slots.counts(instance),
      budget: Limits.budget(instance, :instance),
      counters: Instance.counters(instance)
    }
  end

  @doc """
  What one agent is doing: class, status, whether it is paused, mailbox, revision, restarts, last error, worker.

      {:ok, %{status: :running, restarts: 0}} = Pyre.info(MyApp.Pyre, "visits")

  `running` are the messages that run, maps with `message_id`, `kind`, `handler` and `attempt`.
  `progress` is what a handler reported last with `ctx.progress`, or nil: a map with `fraction` (from 0 to 1, or nil), `text`, `at`,
  `message_id`, `handler` and `attempt`.
  """
  @doc since: "0.1.0"
  @spec info(instance(), id()) :: {:ok, map()} | {:error, error()}
  def info(instance, id) do
    instance = Instance.fetch!(instance)

    with :ok <- Starter.check_id(id), {:ok, agent} <- address(instance, id) do
      {_state, revision} = Commits.get(instance, agent.handle)
      {restart, opts} = Keyword.pop(agent.opts, :restart, :permanent)

      {:ok,
       agent
       |> Map.take([:id, :class, :status, :pid, :mailbox, :mailbox_bytes, :max_mailbox])
       |> Map.merge(%{
         worker: if(agent.worker > 0, do: agent.worker),
         running: instance |> Mailbox.claimed(agent.handle) |> Enum.map(&running/1),
         paused: Pause.paused?(instance, agent),
         revision: revision,
         restarts: Restarts.total(instance, agent.handle),
         last_error: Restarts.last_error(instance, agent.handle),
         restart: restart,
         group: Group.Table.parent(instance, {:agent, id}),
         timers: Timers.count(instance, agent.handle),
         subscriptions: Events.Subscriptions.of(instance, agent.handle),
         rate_limit: opts[:rate_limit] || Classes.limit(instance, agent.class, "rate_limit"),
         budget: Limits.budget(instance, {:agent, id}),
         escalations: Escalations.Table.count(instance, agent.handle),
         quarantine: Quarantine.fetch(instance, agent.handle),
         progress: History.last_progress(instance, agent.handle),
         meta: Keyword.get(opts, :meta, %{})
       })}
    end
  end

  defp running(%{key: {_handle, _lane, number}} = message),
    do: %{message_id: number, kind: message.kind, handler: message.handler, attempt: message.attempt}

  @doc """
  The workers: pool, role, status, operating system pid, restarts, the lag of the loop in microseconds, activations, resident
  memory.

      [%{worker: 1, role: :shared, status: :ready, os_pid: 4711} | _others] = Pyre.workers(MyApp.Pyre)

  Roles: `:shared` ones take any agent; the `:spare` is warm and takes the place of a shared one that is lost; `:probation` is
  for agents that hurt a worker; `{:dedicated, _}` and `{:tenant, key}` were asked for with `:isolation`.
  """
  @doc since: "0.1.0"
  @spec workers(instance()) :: [map()]
  def workers(instance) do
    for worker <- instance |> Instance.fetch!() |> Pool.all() do
      worker
      |> Map.take([:worker, :pool, :role, :status, :os_pid, :deaths, :last_error, :lag_us, :activations])
      |> Map.put(:rss_bytes, Worker.Process.rss_bytes(worker.os_pid))
    end
  end

  @doc """
  Replaces an interpreter: what runs in it may end (`:drain_timeout`), its agents move to others between two messages.

      :ok = Pyre.recycle(MyApp.Pyre, 1)

  Returns when the drain has begun; `{:error, error}` with the kind `:not_found` where no worker that is ready has this number.
  """
  @doc since: "0.1.0"
  @spec recycle(instance(), pos_integer()) :: :ok | {:error, error()}
  def recycle(instance, worker) when is_integer(worker) and worker > 0,
    do: instance |> Instance.fetch!() |> Worker.recycle(worker)

  def recycle(_instance, other),
    do: raise(ArgumentError, "expected the worker to be its number, got: #{inspect(other, limit: 5)}")

  @doc """
  Has all interpreters run what the agents' directories hold now.

      {:ok, %{generation: 2, status: :current}} = Pyre.reload(MyApp.Pyre)

  One interpreter more is started with the new code. Where a file that was sound can't be imported any more, the generation is rejected:
  `{:error, error}` of the kind `:worker_start`, with the `problems` in its details, and everything goes on as it was. Else a share of the
  agents (`:canary_share`, one in ten) tries it for `:canary_period` (5 seconds): where they crash more than the others, where a state does not
  migrate, or where the interpreter dies, it is rejected too, and they go back. Then one interpreter after the other ends as soon as what runs in it has ended (at the latest after `:generation_timeout`), and agents move
  between two messages: nobody sees an error of the change itself. A class of another `version` has its agents' states migrated.

  Files that change without a reload concern nobody, not even an interpreter that is started later.
  `{:ok, %{status: :unchanged}}` where no file has changed. Options:

  #{Pyre.Options.docs(:reload)}
  """
  @doc since: "0.1.0"
  @spec reload(instance(), keyword()) ::
          {:ok, %{generation: pos_integer(), status: :current | :unchanged}} | {:error, error()}
  def reload(instance, opts \\ []),
    do: instance |> Instance.fetch!() |> Generations.reload(Options.validate!(:reload, opts))

  @doc """
  The generations of agents' code, the newest first: maps with `generation`, `status`, `at`, `reason` and the `workers` that run it.

      [%{generation: 1, status: :current, workers: [1, 2, 3]}] = Pyre.generations(MyApp.Pyre)

  `status` is `:importing`, `:trial`, `:rejected` (with the `reason`), `:rolling`, `:current` or `:retired`. A rejected one still has a
  worker where an agent has committed a state with it that the current code is too old for.
  """
  @doc since: "0.1.0"
  @spec generations(instance()) :: [map()]
  def generations(instance), do: instance |> Instance.fetch!() |> Generations.all()

  @doc """
  How the instance is, without asking Python.

      %{status: :ready, reasons: []} = Pyre.health(MyApp.Pyre)

  The status is `:ready`; `:starting` where a worker or an autostart agent is not up yet, or not up again; or `:draining`. The reasons
  say in words what is missing.
  """
  @doc since: "0.1.0"
  @spec health(instance()) :: %{status: :ready | :starting | :draining, reasons: [String.t()]}
  def health(instance), do: instance |> Instance.fetch!() |> Health.look()

  @doc """
  Closes the intake and waits until no message runs: what a node does before it ends. There is no way back.

      :ok = Pyre.drain(MyApp.Pyre)

  Calls, casts and starts are answered `:stopping` from now on, queued calls too; queued casts and timers stay where they are. `{:error, error}`
  with the kind `:timeout` where something still runs after `timeout` (the instance's `:drain_timeout` by default).
  """
  @doc since: "0.1.0"
  @spec drain(instance(), timeout() | :default) :: :ok | {:error, error()}
  def drain(instance, timeout \\ :default) do
    instance = Instance.fetch!(instance)
    timeout = if timeout == :default, do: instance.config.drain_timeout, else: timeout
    check_timeout!(timeout)
    Drain.close(instance, timeout)
  end

  @doc """
  All figures of the instance as a flat list: `{name, labels, value}`. `Pyre.Metrics.prometheus/1` is the same as text.

      {:pyre_calls_total, [], 801} = MyApp.Pyre |> Pyre.metrics() |> List.keyfind(:pyre_calls_total, 0)
  """
  @doc since: "0.1.0"
  @spec metrics(instance()) :: [Pyre.Metrics.sample()]
  def metrics(instance), do: Pyre.Metrics.all(instance)

  ## Helpers

  defp address(instance, id) do
    with :error <- Address.fetch(instance, id), do: {:error, Mailbox.not_found(id)}
  end

  defp handler!(handler) when is_binary(handler) and byte_size(handler) in 1..@max_handler_bytes, do: handler

  defp handler!(handler) when is_atom(handler) and handler not in [nil, true, false],
    do: Atom.to_string(handler)

  defp handler!(handler),
    do:
      raise(
        ArgumentError,
        "expected the handler to be its name, an atom or a string of 1 to #{@max_handler_bytes} bytes, got: " <>
          inspect(handler, limit: 5, printable_limit: 50)
      )

  defp args!(args) when is_map(args) and not is_struct(args), do: args

  defp args!(args),
    do:
      raise(
        ArgumentError,
        "expected a map (names to values), got: #{inspect(args, limit: 5, printable_limit: 50)}"
      )

  defp check_timeout!(:infinity), do: :ok
  defp check_timeout!(timeout) when is_integer(timeout) and timeout >= 0, do: :ok

  defp check_timeout!(timeout),
    do:
      raise(
        ArgumentError,
        "expected the timeout to be a non-negative integer (milliseconds) or :infinity, got: #{inspect(timeout)}"
      )

  @statuses [:starting, :running, :asleep, :restarting, :terminated, :stopping, :parked]
  defp paused!({:agent, id}) when is_binary(id), do: {:agent, id}
  defp paused!({:class, class}), do: {:class, Starter.to_name!(class)}
  defp paused!({:group, name}), do: {:group, name}
  defp paused!(:all), do: :all

  defp paused!(other),
    do:
      raise(
        ArgumentError,
        "expected {:agent, id}, {:class, class}, {:group, name} or :all, got: #{inspect(other, limit: 5)}"
      )

  defp filter!(filter) do
    filter
    |> List.wrap()
    |> Enum.map(fn
      {:class, class} ->
        {:class, Starter.to_name!(class)}

      {:status, status} when status in @statuses ->
        {:status, status}

      other ->
        raise ArgumentError,
              "expected the filter to hold class: a class or status: one of #{inspect(@statuses)}, got: #{inspect(other, limit: 5)}"
    end)
  end
end
