defmodule Pyre.Agent.Requests do
  @moduledoc false

  # What a running handler asks for: calls, casts, new agents, commits. Everything an agent emits passes through its own process,
  # in the order in which it was emitted. Nothing here waits: what takes time is answered later by a message.

  require Pyre.Wire, as: Wire

  alias Pyre.Agent.{Commits, Escalations, Retries, Spawning, Starter, Steps, Stopping, Tools, Waits}
  alias Pyre.{Classes, Error, Events, Group, Instance, Mailbox, Monitors, Timers, Worker}
  alias Pyre.Tool.Runs
  alias Pyre.Wire.{Body, MsgPack}

  @typep origin :: {worker :: pid(), ref :: non_neg_integer()}

  @nothing <<0xC0>>
  @longest_shield_ms 60_000

  @doc "Carries a request out, or begins to."
  @spec make(Pyre.Agent.t(), Mailbox.key(), origin(), tuple()) :: Pyre.Agent.t()
  # The upper bits of a verb are a priority, which calls and casts may have.
  def make(state, key, origin, {verb, target, name, body, timeout_ms}) when verb >= Wire.priority_high() do
    priority = if verb >= Wire.priority_low(), do: :low, else: :high

    case rem(verb, Wire.priority_high()) do
      Wire.verb_call() ->
        call(state, key, origin, {target, name, body, priority}, deadline(state, key, timeout_ms))

      Wire.verb_cast() ->
        cast(state, origin, {target, name, body, priority})

      _another ->
        answer(origin, 1, Error.new(:protocol, "the verb #{verb} has no priority"))
        state
    end
  end

  def make(state, key, origin, {Wire.verb_call(), target, handler, args, timeout_ms}),
    do: call(state, key, origin, {target, handler, args, :normal}, deadline(state, key, timeout_ms))

  def make(state, key, origin, {Wire.verb_stream(), target, handler, args, _timeout_ms}),
    do: open_stream(state, key, origin, {target, handler, args})

  def make(state, _key, origin, {Wire.verb_cast(), target, handler, args, _timeout_ms}),
    do: cast(state, origin, {target, handler, args, :normal})

  def make(state, key, origin, {Wire.verb_spawn(), id, class, body, timeout_ms}) do
    id = if id == "", do: Starter.make_id(class), else: id
    token = Instance.unique(state.instance)

    case Waits.add(state.instance, state.id, id, token) do
      :ok ->
        instance = state.instance
        in_background(token, fn -> spawn_agent(instance, class, id, body, timeout_ms) end)
        remember(state, token, %{origin: origin, message: key, target: id, timer: nil})

      {:deadlock, circle} ->
        answer(origin, 1, deadlock(circle))
        state
    end
  end

  def make(%{instance: instance} = state, key, origin, {Wire.verb_group(), name, _class, body, _timeout_ms}) do
    token = Instance.unique(instance)

    with {:ok, opts} <- Spawning.group(body),
         ids = for({_class, agent} <- opts[:agents], do: agent[:id]),
         :ok <- add_edges(state, ids, token) do
      in_background(token, fn -> Group.Control.start(instance, name, opts) end)
      remember(state, token, %{origin: origin, message: key, target: ids, timer: nil})
    else
      {:error, error} ->
        answer(origin, 1, error)
        state

      {:deadlock, circle} ->
        answer(origin, 1, deadlock(circle))
        state
    end
  end

  def make(%{id: id} = state, _key, origin, {Wire.verb_stop(), id, _name, _body, _timeout_ms}) do
    case Mailbox.put(state.instance, id, :stop, <<>>, :delete, 0, nil) do
      {:ok, _key} -> answer(origin, 0, @nothing)
      {:error, error} -> answer(origin, 1, error)
    end

    state
  end

  def make(state, key, origin, {Wire.verb_stop(), id, _name, _body, _timeout_ms}) do
    token = Instance.unique(state.instance)
    instance = state.instance

    in_background(token, fn ->
      with :ok <- Stopping.stop(instance, id, []), do: {:ok, nil}
    end)

    remember(state, token, %{origin: origin, message: key, target: id, timer: nil})
  end

  def make(state, _key, origin, {Wire.verb_monitor(), id, _name, _body, _timeout_ms}) do
    Monitors.watch_for(state.instance, {state.id, state.handle}, :binary.copy(id))
    answer(origin, 0, @nothing)
    state
  end

  def make(state, _key, origin, {Wire.verb_demonitor(), id, _name, _body, _timeout_ms}) do
    Monitors.unwatch_for(state.instance, state.handle, id)
    answer(origin, 0, @nothing)
    state
  end

  # Nobody would ever take the result of a hook's step out again: there is no message that ends.
  def make(state, {_handle, hook, _seq}, origin, {Wire.verb_step(), _target, _name, _body, _timeout_ms})
      when is_atom(hook) do
    answer(origin, 1, Error.new(:invalid_args, "#{hook} is run anew each time: ctx.step is for messages"))
    state
  end

  def make(state, key, origin, {Wire.verb_step(), _target, name, <<>>, _timeout_ms}) do
    answer(origin, 0, Steps.fetch(state.instance, key, name))
    state
  end

  def make(state, key, origin, {Wire.verb_step(), _target, name, body, _timeout_ms}) do
    Steps.record(state.instance, key, name, body)
    answer(origin, 0, @nothing)
    state
  end

  def make(state, key, origin, {Wire.verb_escalate(), _target, place, body, timeout_ms}) do
    case Escalations.ask(state, key, place, body, timeout_ms) do
      {:open, id} ->
        # Nobody is waited for whose answer could depend on this agent.
        request = %{origin: origin, message: key, target: [], timer: nil, escalation: id}
        remember(state, Instance.unique(state.instance), request)

      {:done, answer} ->
        answer(origin, 0, answer)
        state

      {:error, error} ->
        answer(origin, 1, error)
        state
    end
  end

  def make(state, _key, origin, {Wire.verb_timers(), _target, _name, _body, _timeout_ms}) do
    {:ok, body} = state.instance |> Timers.list(state.handle) |> MsgPack.encode()
    answer(origin, 0, body)
    state
  end

  def make(state, key, origin, {Wire.verb_tool(), _target, name, body, timeout_ms}) do
    token = Instance.unique(state.instance)

    case Tools.run(state, token, message(state, key), {name, body, timeout_ms}) do
      :ok ->
        remember(state, token, %{origin: origin, message: key, target: [], timer: nil, tool: name})

      {:error, error} ->
        answer(origin, 1, error)
        state
    end
  end

  def make(state, _key, origin, {Wire.verb_tools(), _target, _name, _body, _timeout_ms}) do
    answer(origin, 0, Tools.list(state.instance))
    state
  end

  def make(
        %{running: %{key: key} = running} = state,
        key,
        origin,
        {Wire.verb_commit(), _target, version, body, _timeout_ms}
      )
      when not is_map_key(running, :cancelled) do
    Commits.put(state.instance, state.handle, body, nil, nil, version(version))
    answer(origin, 0, @nothing)
    state
  end

  def make(state, _key, origin, {Wire.verb_commit(), _target, _version, _body, _timeout_ms}),
    do: refuse_stale(state, origin)

  def make(state, _key, origin, {Wire.verb_publish(), _target, topic, body, _timeout_ms}) do
    Instance.count(state.instance, :events)

    # What came in a frame would keep the whole frame alive for as long as it waits.
    case Events.publish(state.instance, :binary.copy(topic), :binary.copy(body)) do
      :ok -> answer(origin, 0, @nothing)
      {:error, error} -> answer(origin, 1, error)
    end

    state
  end

  # Too late where it is cancelled already; then that is on its way to the handler.
  def make(
        %{running: %{key: key} = running} = state,
        key,
        origin,
        {Wire.verb_shield(), _target, _name, _body, ms}
      )
      when not is_map_key(running, :cancelled) or ms == 0 do
    answer(origin, 0, @nothing)
    running = shield(running, ms)
    if ms == 0 and is_map_key(running, :cancelled), do: cancel(state, key)
    %{state | running: running}
  end

  def make(state, _key, origin, {Wire.verb_shield(), _target, _name, _body, _ms}) do
    answer(origin, 0, @nothing)
    state
  end

  def make(state, _key, origin, {verb, _target, _name, _body, _timeout_ms}) do
    answer(origin, 1, Error.new(:protocol, "there is no request with the verb #{verb}"))
    state
  end

  @doc "Answers a request of a message that has ended."
  @spec refuse_stale(Pyre.Agent.t(), origin()) :: Pyre.Agent.t()
  def refuse_stale(state, origin) do
    answer(origin, 1, Error.new(:stale_activation, "the message that made this request has ended"))
    state
  end

  @doc "The answer to a request is there."
  @spec answered(Pyre.Agent.t(), pos_integer(), non_neg_integer(), binary() | Pyre.error()) :: Pyre.Agent.t()
  def answered(%{requests: requests} = state, token, status, body) do
    case Map.pop(requests, token) do
      {nil, _requests} ->
        state

      {request, requests} ->
        forget(state, token, request)
        answer(request.origin, status, body)
        %{state | requests: requests}
    end
  end

  @doc "A person has decided what a handler waits for."
  @spec decided(Pyre.Agent.t(), pos_integer()) :: Pyre.Agent.t()
  def decided(state, id) do
    with {:ok, body} <- Escalations.fetch(state.instance, id) do
      tokens = for {token, %{escalation: ^id}} <- state.requests, do: token
      Enum.reduce(tokens, state, &answered(&2, &1, 0, body))
    else
      :error -> state
    end
  end

  @doc "A call took too long: the callee is asked to cancel it, and the handler is told."
  @spec timed_out(Pyre.Agent.t(), pos_integer()) :: Pyre.Agent.t()
  def timed_out(%{requests: requests} = state, token) do
    case requests do
      %{^token => %{target: target, called: called}} ->
        attempt = Mailbox.attempt(state.instance, called)

        error =
          if Mailbox.withdraw(state.instance, target, called),
            do: expired(target, attempt),
            else: cancel_callee(state, target, called)

        answered(state, token, 1, error)

      _answered ->
        state
    end
  end

  defp expired(target, 1) do
    Error.new(
      :deadline,
      "the call to #{inspect(target)} was still waiting in its mailbox at its deadline; it did not run"
    )
  end

  defp expired(target, attempt), do: Retries.error(target, attempt)

  defp cancel_callee(state, target, called) do
    with {:ok, %{pid: pid}} when is_pid(pid) <- Pyre.Address.fetch(state.instance, target),
         do: send(pid, {:cancel, called})

    Error.new(:timeout, "the call to #{inspect(target)} did not end in time; it is cancelled", %{
      committed: :unknown
    })
  end

  @doc "A chunk of a stream that a handler reads."
  @spec item(Pyre.Agent.t(), pos_integer(), {pid(), pos_integer()}, binary()) :: Pyre.Agent.t()
  def item(%{requests: requests} = state, token, producer, body) do
    case requests do
      %{^token => %{origin: {worker, ref}} = request} ->
        Worker.item(worker, ref, body)
        %{state | requests: Map.put(requests, token, %{request | producer: producer})}

      _withdrawn ->
        state
    end
  end

  @doc "A handler has read chunks of a stream: its producer may go on."
  @spec read(Pyre.Agent.t(), non_neg_integer(), pos_integer()) :: term()
  def read(state, ref, count) do
    with {_token, %{producer: {agent, number}, called: called}} <- find(state, ref),
         do: send(agent, {:credit, called, number, count})
  end

  @doc "A handler doesn't want the answer to a request any more: what is done for it is cancelled."
  @spec withdraw(Pyre.Agent.t(), non_neg_integer()) :: Pyre.Agent.t()
  def withdraw(%{requests: requests} = state, ref) do
    case find(state, ref) do
      {token, request} ->
        take_back(state, token, request)
        forget(state, token, request)
        %{state | requests: Map.delete(requests, token)}

      nil ->
        state
    end
  end

  defp find(state, ref), do: Enum.find(state.requests, &match?({_token, %{origin: {_worker, ^ref}}}, &1))

  defp take_back(state, _token, %{called: called, target: target}) do
    _error = Mailbox.withdraw(state.instance, target, called) || cancel_callee(state, target, called)
    :ok
  end

  defp take_back(state, token, %{tool: _name}), do: Runs.give_up(state.instance, token)
  defp take_back(_state, _token, _answered_otherwise), do: :ok

  @doc "A message is cancelled, and with it what it waits for, down the chain."
  @spec cancel(Pyre.Agent.t(), Mailbox.key()) :: :ok
  def cancel(%{requests: requests} = state, key) do
    for {token, %{message: ^key} = request} <- requests, do: take_back(state, token, request)
    :ok
  end

  @doc "A message has ended: what it still waits for concerns nobody any more."
  @spec close(Pyre.Agent.t(), Mailbox.key()) :: Pyre.Agent.t()
  def close(%{requests: requests} = state, _key) when requests == %{}, do: state

  def close(state, key) do
    {mine, others} = Enum.split_with(state.requests, fn {_token, request} -> request.message == key end)

    for {token, request} <- mine do
      # Nobody reads on, or waits for the tool. A call that was only made, and not awaited, goes on.
      if is_map_key(request, :producer) or is_map_key(request, :tool), do: take_back(state, token, request)
      forget(state, token, request)
    end

    %{state | requests: Map.new(others)}
  end

  # From its cancellation, until an instant at the latest: Pyre.Agent.Watch waits so long for its end.
  defp shield(message, 0), do: Map.delete(message, :shielded)

  defp shield(message, ms),
    do: Map.put(message, :shielded, Instance.now_ms() + min(ms, @longest_shield_ms))

  # That of the class, where it may be another than that of the state before.
  defp version(digits) do
    case Integer.parse(digits) do
      {version, ""} when version > 0 -> version
      _unchanged -> nil
    end
  end

  defp cast(%{instance: instance} = state, origin, {target, handler, args, priority}) do
    Instance.count(instance, :casts)
    # What came in a frame would keep the whole frame alive for as long as it waits.
    {handler, args} = {:binary.copy(handler), :binary.copy(args)}

    case Mailbox.put(instance, target, :cast, handler, args, 0, nil, priority) do
      {:ok, _key} -> answer(origin, 0, @nothing)
      {:error, error} -> answer(origin, 1, error)
    end

    state
  end

  # Without a deadline of its own: how long its reader waits for a chunk is the reader's to say.
  defp open_stream(state, key, origin, {target, handler, args}) do
    Instance.count(state.instance, :calls)
    token = Instance.unique(state.instance)
    handler = :binary.copy(handler)
    reply_to = {:agent, self(), token}

    with :ok <- add_edge(state, target, handler, token),
         {:ok, called} <-
           Mailbox.put(
             state.instance,
             target,
             :stream,
             handler,
             :binary.copy(args),
             inherited(state, key),
             reply_to
           ) do
      request = %{origin: origin, message: key, target: target, timer: nil, called: called, producer: nil}
      remember(state, token, request)
    else
      {:error, error} ->
        Waits.remove(state.instance, state.id, target, token)
        answer(origin, 1, error)
        state

      {:deadlock, circle} ->
        answer(origin, 1, deadlock(circle))
        state
    end
  end

  defp call(state, key, origin, {target, handler, args, priority}, deadline) do
    Instance.count(state.instance, :calls)
    token = Instance.unique(state.instance)

    with :ok <- add_edge(state, target, handler, token),
         {:ok, called} <-
           Mailbox.put(
             state.instance,
             target,
             :call,
             :binary.copy(handler),
             :binary.copy(args),
             deadline,
             {:agent, self(), token},
             priority
           ) do
      timer = Process.send_after(self(), {:request_timeout, token}, max(deadline - Instance.now_ms(), 0) + 1)
      remember(state, token, %{origin: origin, message: key, target: target, timer: timer, called: called})
    else
      {:error, error} ->
        Waits.remove(state.instance, state.id, target, token)
        answer(origin, 1, error)
        state

      {:deadlock, circle} ->
        answer(origin, 1, deadlock(circle))
        state
    end
  end

  # A handler that runs beside others is answered whatever its agent does: waiting for it can't close a circle.
  defp add_edge(state, target, handler, token) do
    with {:ok, %{class: class}} <- Pyre.Address.fetch(state.instance, target),
         false <- Classes.interleave?(state.instance, class, handler) do
      Waits.add(state.instance, state.id, target, token)
    else
      _unknown_or_beside -> :ok
    end
  end

  # It waits for the on_start of all of them.
  defp add_edges(state, ids, token) do
    Enum.reduce_while(ids, :ok, fn id, :ok ->
      case Waits.add(state.instance, state.id, id, token) do
        :ok ->
          {:cont, :ok}

        deadlock ->
          forget_edges(state, ids, token)
          {:halt, deadlock}
      end
    end)
  end

  defp forget_edges(state, ids, token),
    do: Enum.each(ids, &Waits.remove(state.instance, state.id, &1, token))

  defp deadlock(circle) do
    Error.new(:deadlock, "this call would never be answered: #{Enum.map_join(circle, " -> ", &inspect/1)}", %{
      chain: circle
    })
  end

  # A call made by a handler ends with the handler's own deadline, at the latest.
  defp deadline(state, key, timeout_ms) do
    own = Instance.now_ms() + if(timeout_ms == 0, do: default_timeout(state), else: timeout_ms)

    case inherited(state, key) do
      0 -> own
      inherited -> min(own, inherited)
    end
  end

  defp inherited(state, key) do
    case message(state, key) do
      %{deadline: deadline} when deadline > 0 -> deadline - 1
      _none -> 0
    end
  end

  defp message(state, key), do: Enum.find([state.running | state.beside], &(&1 != nil and &1.key == key))

  defp default_timeout(state) do
    case state.instance.config.call_timeout do
      :infinity -> 86_400_000
      timeout -> timeout
    end
  end

  defp spawn_agent(instance, class, id, body, timeout_ms) do
    with {:ok, opts} <- Spawning.agent(body) do
      timeout = if timeout_ms == 0, do: [], else: [timeout: timeout_ms]
      Starter.start(instance, class, Keyword.merge(opts, [id: id] ++ timeout))
    end
  end

  # Starting and stopping ask other processes and wait for them; this one must not.
  defp in_background(token, function) do
    agent = self()

    spawn(fn ->
      {status, body} =
        try do
          case function.() do
            {:ok, value} -> {0, encode(value)}
            {:error, error} -> {1, error}
          end
        rescue
          error -> {1, Error.new(:invalid_args, Exception.message(error))}
        catch
          :exit, reason -> {1, Error.new(:internal, "the request ended with #{inspect(reason, limit: 10)}")}
        end

      send(agent, {:answer, token, status, body})
    end)
  end

  defp encode(value) do
    {:ok, body} = MsgPack.encode(value)
    body
  end

  defp remember(state, token, request), do: %{state | requests: Map.put(state.requests, token, request)}

  defp forget(state, token, request) do
    _left = request.timer && Process.cancel_timer(request.timer)
    forget_edges(state, List.wrap(request.target), token)
  end

  defp answer({worker, ref}, 0, body), do: Worker.result(worker, ref, Wire.result_done(), body)

  defp answer({worker, ref}, _error, body) when is_binary(body),
    do: Worker.result(worker, ref, Wire.result_error(), body)

  defp answer({worker, ref}, _error, error),
    do: Worker.result(worker, ref, Wire.result_error(), Body.error(error))
end
