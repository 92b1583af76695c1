defmodule Pyre.Agent.Ending do
  @moduledoc false

  # How messages and agents end badly, or for good: what is answered to whom, what is run again, and whether the agent
  # lives on. Runs in the agent's process.

  require Logger

  alias Pyre.Agent.{Commits, Quarantine, Restarts, Waits}
  alias Pyre.Events.Subscriptions
  alias Pyre.Group.Member

  alias Pyre.{
    Address,
    Classes,
    DeadLetters,
    Error,
    Escalations,
    Generations,
    History,
    Instance,
    Limits,
    Mailbox
  }

  alias Pyre.{Monitors, PythonError}
  alias Pyre.{Pause, Telemetry, Timers, Worker}
  alias Pyre.Worker.Pool

  @doc "A handler failed: this incarnation ends, and its supervisor starts the next."
  @spec failed(Pyre.Agent.t(), map(), Pyre.error()) :: no_return()
  def failed(state, message, error) do
    log(state, message, error)
    # It raised, as any may, and the worker lives.
    Quarantine.cleared(state.instance, state.handle)
    for beside <- state.beside, do: restart_beside(state, beside)
    leave(state)

    case crashed(state, error) do
      {:restart, _delay} ->
        begin_anew(state)
        Address.put_status(state.instance, state.id, :restarting)
        Generations.crashed(state.instance, state, error, 1)
        exit({:agent_failed, state.id, Exception.message(error)})

      :exhausted ->
        terminated(state)
        Generations.crashed(state.instance, state, error, 1)
        exit({:shutdown, {:terminated, state.id}})
    end
  end

  @doc "Writes a crash down; what follows."
  @spec crashed(Pyre.Agent.t(), Pyre.error()) :: Restarts.verdict()
  def crashed(%{instance: instance, id: id, handle: handle} = state, error) do
    Instance.count(instance, :failures)
    {:ok, row} = Address.fetch(instance, id)

    Telemetry.event([:agent, :failed], %{count: 1}, %{
      name: instance.name,
      id: id,
      class: state.class,
      error: error
    })

    verdict = Restarts.record(instance, handle, Member.judged_by(instance, row, error), error)
    History.record(instance, handle, :crashed, Map.put(History.about(error), :verdict, verdict(verdict)))

    if verdict != :exhausted, do: Monitors.restarted(instance, id, handle, error)
    verdict
  end

  defp verdict({:restart, _delay}), do: :restart
  defp verdict(:exhausted), do: :terminate

  @doc "After a crash: where the agent wants it, its state and its timers are forgotten."
  @spec begin_anew(Pyre.Agent.t()) :: term()
  def begin_anew(%{instance: instance, id: id} = state) do
    {:ok, %{opts: opts}} = Address.fetch(instance, id)
    if opts[:on_restart] == :initial, do: forget_state(state)
  end

  # What was committed before the crash did happen: who waits for its reply gets it before it is forgotten.
  defp forget_state(%{instance: instance, id: id, handle: handle}) do
    for message <- Mailbox.claimed(instance, handle),
        {:ok, reply} <- [Commits.answer(instance, handle, message.key)] do
      Mailbox.reply(message.reply_to, 0, reply)
      Mailbox.delete(instance, id, message)
    end

    Timers.delete(instance, handle)
    Subscriptions.delete(instance, handle)
    Commits.delete(instance, handle)
  end

  @doc "The agent stays known, with its state, but runs no more. All who wait are told."
  @spec terminated(Pyre.Agent.t() | map()) :: :ok
  def terminated(%{instance: instance, id: id, handle: handle} = state) do
    Instance.count(instance, :terminations)
    Address.put_status(instance, id, :terminated)
    error = Mailbox.terminated(instance, id, handle)
    History.record(instance, handle, :terminated, %{message: error.message})
    settle_all(state, error)
    Logger.error(Exception.message(error), agent_id: id, class: state.class, pyre: instance.name)
  end

  defp settle_all(%{instance: instance, handle: handle} = state, error) do
    claimed = instance |> Mailbox.claimed(handle) |> Enum.reject(&ended_before?(state, &1))
    left = claimed ++ Mailbox.claim_all(instance, handle)
    settle(state, Enum.reject(left, &(state.stop != nil and &1.key == state.stop.key)), error)
  end

  @doc "Ends a message that a process which was killed had committed or given up, and only not taken out of the mailbox yet."
  @spec ended_before?(map(), Mailbox.t()) :: boolean()
  def ended_before?(%{instance: instance, id: id, handle: handle}, message) do
    case Commits.answer(instance, handle, message.key) do
      {:ok, reply} ->
        Mailbox.reply(message.reply_to, 0, reply)
        Mailbox.delete(instance, id, message) == :ok

      :error ->
        DeadLetters.settled?(instance, message.key) and Mailbox.delete(instance, id, message) == :ok
    end
  end

  # Callers are told; what has none becomes a letter, before it leaves the mailbox.
  defp settle(%{instance: instance, id: id} = state, messages, error) do
    {silent, awaited} = Enum.split_with(messages, &(&1.reply_to == nil and &1.kind != :stop))

    for message <- awaited do
      Mailbox.delete(instance, id, message)
      answer(message, error)
    end

    for message <- silent do
      DeadLetters.put(instance, state, message, reason(instance, error), error)
      Mailbox.delete(instance, id, message)
    end

    if silent != [], do: log_given_up(state, silent, error)
  end

  defp answer(%{kind: :stop} = message, _error), do: Mailbox.reply(message.reply_to, 0, <<0xC0>>)
  defp answer(message, error), do: Mailbox.reply(message.reply_to, 1, error)

  defp reason(instance, error),
    do: if(Instance.closed?(instance), do: :stopping, else: DeadLetters.reason(error))

  defp log_given_up(state, messages, error) do
    summary = DeadLetters.summary(for message <- messages, do: {state.id, state.class, message.handler})

    Logger.warning(
      "#{length(messages)} messages are given up, #{Exception.message(error)}: #{summary}",
      agent_id: state.id,
      class: state.class,
      pyre: state.instance.name
    )
  end

  @doc "Neither its arguments nor its state make an activation: trying again would not help."
  @spec unusable(Pyre.Agent.t(), Pyre.error()) :: no_return()
  def unusable(state, error) do
    log(state, nil, error)
    leave(state)
    _verdict = crashed(state, error)
    terminated(state)
    Generations.crashed(state.instance, state, error, 2)
    exit({:shutdown, {:terminated, state.id}})
  end

  @doc "A message that may have begun when its worker, or its agent's process, died."
  @spec interrupted(Pyre.Agent.t(), Mailbox.t(), Error.t()) :: term()
  def interrupted(%{instance: instance} = state, message, error) do
    History.ended(instance, state.handle, message, :interrupted, error)

    cond do
      not rerun?(state, message) ->
        Mailbox.delete(instance, state.id, message)
        Mailbox.reply(message.reply_to, 1, error)

      # It may wait for days, over many an interpreter's end, and is no culprit.
      Escalations.Table.awaiting?(instance, message.key) ->
        Instance.count(instance, :resent)
        Mailbox.unclaim(instance, message.key, message.attempt)

      message.attempt < instance.config.max_attempts ->
        Instance.count(instance, :resent)
        Mailbox.unclaim(instance, message.key, message.attempt + 1)

      true ->
        settle(state, [message], error)
    end
  end

  # Its first chunks have been read.
  defp rerun?(_state, %{kind: :stream}), do: false
  defp rerun?(_state, %{kind: kind}) when kind != :call, do: true

  # Who waits for a person can only do so as long as the handler may be run again.
  defp rerun?(%{instance: instance} = state, message) do
    Classes.idempotent?(instance, state.class, message.handler) or
      Escalations.Table.asked?(instance, message.key)
  end

  @doc "The message that hurt its worker: nobody runs it again."
  @spec culprit(Pyre.Agent.t(), map(), Error.t()) :: :ok
  def culprit(_state, %{kind: hook}, _error) when hook in [:on_start, :on_stop], do: :ok

  # Its caller was told that it is cancelled.
  def culprit(state, message, _error) when is_map_key(message, :cancelled),
    do: Mailbox.delete(state.instance, state.id, message)

  def culprit(state, %{reply_to: nil} = message, error) do
    History.ended(state.instance, state.handle, message, :blamed, error)
    dropped(state, message, error, :blamed)
    Mailbox.delete(state.instance, state.id, message)
  end

  def culprit(state, message, error) do
    History.ended(state.instance, state.handle, message, :blamed, error)
    Mailbox.delete(state.instance, state.id, message)
    Mailbox.reply(message.reply_to, 1, error)
    :ok
  end

  @doc "The agent hurt its worker; what follows. The message is nil where it was cancelled before."
  @spec struck(Pyre.Agent.t(), map() | nil, map()) :: :probation | :park
  def struck(state, message, evidence) do
    handler = message && ((message.handler != "" && message.handler) || to_string(message.kind))
    known = %{class: state.class, handler: handler, message_id: message && elem(message.key, 2)}
    verdict = Quarantine.strike(state.instance, state.handle, Map.merge(evidence, known))

    told = %{
      handler: handler,
      message_id: known.message_id,
      worker: evidence.worker,
      message: evidence.reason
    }

    History.record(state.instance, state.handle, :struck, Map.put(told, :verdict, verdict))

    if verdict == :probation do
      where = if handler, do: "in #{handler}, ", else: ""

      Logger.error(
        "agent #{inspect(state.id)} (#{state.class}) is on probation: #{where}#{evidence.reason}#{stack(evidence)}",
        agent_id: state.id,
        class: state.class,
        handler: handler,
        pyre: state.instance.name
      )
    end

    verdict
  end

  @doc "An operator parks it: the evidence is what they said."
  @spec parked_by_hand(Pyre.Agent.t(), String.t()) :: map()
  def parked_by_hand(state, reason) do
    evidence = %{
      at: DateTime.utc_now(),
      reason: reason,
      class: state.class,
      handler: nil,
      message_id: nil,
      worker: 0,
      os_pid: nil,
      rss_bytes: nil,
      stack: ""
    }

    Quarantine.note(state.instance, state.handle, evidence)
    evidence
  end

  @doc "The agent hurt its workers too often: its mailbox is kept, and it runs no more until a person has looked."
  @spec parked(Pyre.Agent.t(), map()) :: :ok
  def parked(%{instance: instance, id: id, handle: handle} = state, evidence) do
    Instance.count(instance, :parked)
    Address.put_status(instance, id, :parked)
    error = Mailbox.parked(instance, id, handle)
    History.record(instance, handle, :parked, %{message: error.message})

    for %{reply_to: reply_to} = message <- Mailbox.waiting(instance, handle), reply_to != nil do
      if Mailbox.withdraw(instance, id, message.key), do: answer(message, error)
    end

    Waits.clear(instance, id)

    Logger.error("#{error.message}#{stack(evidence)}",
      agent_id: id,
      class: state.class,
      pyre: instance.name
    )
  end

  defp stack(%{stack: ""}), do: ""
  defp stack(%{stack: stack}), do: "\n#{stack}"

  @doc "A message without a caller is given up: it becomes a dead letter. Whoever calls this takes it out of the mailbox afterwards."
  @spec dropped(Pyre.Agent.t(), map(), Pyre.error(), DeadLetters.reason() | nil) :: :ok
  def dropped(state, message, error, reason \\ nil)
  def dropped(_state, %{kind: hook}, _error, _reason) when hook in [:on_start, :on_stop], do: :ok

  def dropped(state, message, error, reason) do
    DeadLetters.put(state.instance, state, message, reason || DeadLetters.reason(error), error)

    Logger.warning(
      "a #{message.kind} of #{state.class}.#{message.handler} to agent #{inspect(state.id)} is given up: #{Exception.message(error)}",
      agent_id: state.id,
      class: state.class,
      handler: message.handler,
      pyre: state.instance.name
    )
  end

  @doc "The agent ends because it was asked to: whoever waits is told, and its address is free again."
  @spec stopped(Pyre.Agent.t()) :: no_return()
  def stopped(%{instance: instance, id: id, handle: handle, stop: stop} = state) do
    Address.put_status(instance, id, :stopping)
    error = Error.new(:stopped, "the agent #{inspect(id)} was stopped")
    settle_all(state, error)
    Mailbox.delete(instance, id, stop)

    with {_no, worker} <- state.worker,
         true <- state.active?,
         do: Worker.drop(worker, self(), handle, state.epoch)

    leave(state)
    forget(instance, id, handle, stop.args)
    Mailbox.reply(stop.reply_to, 0, <<0xC0>>)
    exit(:normal)
  end

  @doc "Forgets an agent: its timers, its budget, its address, and its state unless that is to be kept."
  @spec forget(Instance.t(), Address.id(), pos_integer(), :keep | :delete) :: true
  def forget(instance, id, handle, keep) do
    give_up_rest(instance, id, handle)
    if keep == :keep, do: Commits.keep(instance, handle, id)
    Timers.delete(instance, handle)
    Limits.delete(instance, id, handle)
    Subscriptions.delete(instance, handle)
    Escalations.Table.close_all(instance, handle)
    Monitors.forget(instance, handle)
    Member.forget(instance, id)
    Commits.delete(instance, handle)
    :ets.delete(instance.restarts, handle)
    History.forget(instance, handle)
    Quarantine.forget(instance, handle)
    Address.delete(instance, id)
    # Last, so that a pause of an agent that ends finds its address gone, or is found here.
    Pause.forget(instance, id, handle)
  end

  # Whoever should have settled these was killed over it.
  defp give_up_rest(instance, id, handle) do
    with true <- Mailbox.any?(instance, handle), {:ok, %{class: class}} <- Address.fetch(instance, id) do
      owner = %{instance: instance, id: id, handle: handle, class: class, stop: nil}
      settle_all(owner, Error.new(:stopped, "the agent #{inspect(id)} was stopped"))
    end
  end

  @doc "A handler that runs beside others has read nothing wrong; but its agent is about to restart."
  @spec restart_beside(Pyre.Agent.t(), Mailbox.t()) :: term()
  def restart_beside(state, message) do
    with {_no, worker} <- state.worker, do: Worker.cancel(worker, message.key, self())
    restarted(state, message)
  end

  @doc "A message that ran when its agent was restarted for no fault of its own."
  @spec restarted(Pyre.Agent.t(), Mailbox.t()) :: term()
  def restarted(state, message) do
    error =
      Error.new(:restarted, "the agent #{inspect(state.id)} restarted while the message ran", %{begun: true})

    History.ended(state.instance, state.handle, message, :interrupted, error)

    if rerun?(state, message),
      do: Mailbox.unclaim(state.instance, message.key, message.attempt),
      else: settle(state, [message], error)
  end

  @doc "The process is about to end: it takes no place at its worker any more, and waits for nobody."
  @spec leave(Pyre.Agent.t()) :: true
  def leave(state) do
    Pool.leave(state.instance, state.worker)
    Waits.clear(state.instance, state.id)
  end

  defp log(state, message, error) do
    Logger.error("agent #{inspect(state.id)} (#{state.class}) failed#{where(message)}: #{describe(error)}",
      agent_id: state.id,
      class: state.class,
      handler: message && message.handler,
      pyre: state.instance.name
    )
  end

  defp where(nil), do: ""
  defp where(%{kind: hook}) when hook in [:on_start, :on_stop], do: " in #{hook}"
  defp where(%{handler: handler}), do: " in #{handler}"

  defp describe(%PythonError{traceback: traceback} = error) when is_binary(traceback) and traceback != "",
    do: "#{Exception.message(error)}\n#{traceback}"

  defp describe(error), do: Exception.message(error)
end
