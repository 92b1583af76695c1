defmodule Pyre.Agent do
  @moduledoc false

  # One agent's process: takes its messages from the mailbox one at a time, hands them to a worker, commits, and answers.
  #
  # Everything durable is in State's tables; what is here can be lost at any instant. So it is a plain process that
  # obeys OTP's protocols (the start, :sys), hibernates when idle, and holds no more than it needs: a
  # machine has a hundred thousand of them.
  #
  # phase:
  #   :backoff   a new incarnation that waits before it begins
  #   :fencing   waits until the worker has let go of an older activation
  #   :starting  on_start runs
  #   :idle      nothing runs
  #   :busy      a message runs
  #   :waiting   there is work, but no worker; {:waiting, hook} where the work is on_start or on_stop
  #   :paused    there is work, but it may not begin; {:paused, :on_start} where the work is on_start
  #   :ending    on_stop runs
  #   :holding   the message at the head waits for its next attempt, and keeps its place
  #   :parked    hurt its workers too often: the mailbox fills, nothing runs

  require Logger
  require Pyre.Wire, as: Wire

  alias Pyre.Agent.{
    Burst,
    Commits,
    Delivery,
    Ending,
    Escalations,
    Hibernated,
    Placement,
    Progress,
    Quarantine,
    Requests,
    Restarts,
    Retries,
    Sleep,
    Streams,
    Waits,
    Watch
  }

  alias Pyre.{Address, Classes, Error, Generations, History, Instance, Limits, Mailbox}
  alias Pyre.{Monitors, Pause, Telemetry, Timers, Worker}
  alias Pyre.Escalations.Table
  alias Pyre.Events.Subscriptions
  alias Pyre.Group.Member
  alias Pyre.Limits.Slots
  alias Pyre.Wire.Body
  alias Pyre.Worker.Pool

  # After a message, this long without another before the process hibernates: hibernation costs a full collection.
  # Short, since a burst over many agents would else keep all their heaps at once.
  @idle_ms 20
  # As long as a burst takes, and a little more.
  @burst_ms 5
  @hooks [:on_start, :on_stop]

  defstruct [
    :instance,
    :id,
    :handle,
    :class,
    :parent,
    :worker,
    :running,
    :stop,
    :watch,
    :fence,
    phase: :idle,
    probation?: false,
    epoch: 0,
    active?: false,
    interleaves?: false,
    moves?: false,
    mail?: false,
    turn: 0,
    slot: nil,
    ahead: 1,
    burst: [],
    beside: [],
    requests: %{}
  ]

  @type t :: %__MODULE__{}

  @spec child_spec(String.t()) :: Supervisor.child_spec()
  # :transient: whether it is started again is decided in init, from the tables; a normal end is the end.
  # The modules are told, since the supervisor would else make the same list for each child.
  def child_spec(id),
    do: %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [id]},
      restart: :transient,
      shutdown: 5_000,
      modules: [__MODULE__]
    }

  @spec start_link(atom(), String.t()) :: {:ok, pid()} | :ignore
  # Not by :proc_lib: what that keeps in each process for crash reports is a sixth of a sleeping agent's memory, and its
  # supervisor knows its ancestors.
  def start_link(name, id) do
    {pid, monitor} = :erlang.spawn_opt(__MODULE__, :init, [self(), name, id], [:link, :monitor])

    receive do
      {^pid, :started, answer} -> Process.demonitor(monitor, [:flush]) && answer
      {:DOWN, ^monitor, :process, ^pid, reason} -> {:error, reason}
    end
  end

  ## Callbacks

  @doc false
  @spec init(pid(), atom(), String.t()) :: no_return()
  def init(parent, name, id) do
    instance = Instance.fetch!(name)
    Member.join(instance, id)

    case Address.take_over(instance, id, self()) do
      {:ok, row} ->
        state = %__MODULE__{instance: instance, id: id, handle: row.handle, class: row.class, parent: parent}
        if row.predecessor, do: take_up(state)
        Monitors.woken(instance, row.handle)
        begin(state, row)

      :error ->
        answer(parent, :ignore)
    end
  end

  # A predecessor that was killed could not say that it waits for nobody any more: whom it called could never call it.
  defp take_up(state) do
    Waits.clear(state.instance, state.id)
    Retries.await_all(state.instance, state.handle)
  end

  # The first incarnation has nothing to recover. A predecessor that left the status "running" was killed: that is a crash
  # like any other, only that nobody has written it down.
  defp begin(state, %{status: :parked}), do: %{state | phase: :parked} |> acknowledge() |> settle()
  # The same incarnation goes on: nothing is recovered, and no on_start runs.
  defp begin(state, %{status: :asleep}), do: state |> acknowledge() |> Sleep.woken() |> next() |> settle()
  # Whoever has started it may publish at once.
  defp begin(state, %{incarnation: 1}) do
    Subscriptions.declare(state.instance, {state.id, state.handle}, state.class)
    state |> acknowledge() |> start() |> settle()
  end

  # It was killed while it stopped, and whoever asked for that still waits.
  defp begin(state, %{status: :stopping}), do: state |> acknowledge() |> stop_again() |> settle()

  defp begin(state, row) do
    {:ok, %{opts: opts}} = Address.fetch(state.instance, state.id)

    case Member.last_end(state, opts) do
      :by_itself -> begin_after_crash(state, row)
      :restarted -> state |> acknowledge() |> succeed() |> settle()
      :over -> stay_down(state)
    end
  end

  defp begin_after_crash(state, %{status: :restarting}),
    do: state |> acknowledge() |> back_off() |> settle()

  defp begin_after_crash(state, _killed) do
    error = Error.new(:agent_down, "the process of agent #{inspect(state.id)} was killed", %{begun: true})

    case Ending.crashed(state, error) do
      :exhausted ->
        stay_down(state)

      {:restart, _delay} ->
        Ending.begin_anew(state)
        state |> acknowledge() |> back_off() |> settle()
    end
  end

  defp stay_down(state) do
    Ending.terminated(state)
    answer(state.parent, :ignore)
  end

  defp acknowledge(state) do
    answer(state.parent, {:ok, self()})
    state
  end

  defp answer(parent, answer), do: send(parent, {self(), :started, answer})

  defp stop_again(state) do
    stop = Mailbox.stop_request(state.instance, state.handle) || %{key: nil, args: :delete, reply_to: nil}
    Process.send_after(self(), :drain_over, state.instance.config.drain_timeout)
    {:ok, row} = Address.fetch(state.instance, state.id)
    state = %{state | stop: stop}

    # Its on_stop may still run there.
    case Pool.pid(state.instance, row.worker) do
      nil -> end_politely(state)
      worker -> fence(state, worker, row.epoch)
    end
  end

  defp back_off(state) do
    Instance.count(state.instance, :restarts)

    case Restarts.pending_delay(state.instance, state.handle) do
      0 ->
        recover(state)

      delay ->
        Process.send_after(self(), :backoff_over, delay)
        %{state | phase: :backoff}
    end
  end

  # Messages that were running when the predecessor was killed may still run in the worker: before anything new is begun,
  # the worker must have let go of that activation.
  defp recover(state) do
    claimed = Mailbox.claimed(state.instance, state.handle)
    error = Error.new(:agent_down, "the process of agent #{inspect(state.id)} was killed", %{begun: true})
    for message <- claimed, do: recover_message(state, message, &Ending.interrupted(state, &1, error))
    fence_if(claimed != [], state)
  end

  # The predecessor was ended by its supervisor. Its activation may still run anything, on_start too.
  defp succeed(state) do
    Instance.count(state.instance, :restarts)
    History.record(state.instance, state.handle, :restarted, %{reason: :supervisor})

    for message <- Mailbox.claimed(state.instance, state.handle),
        do: recover_message(state, message, &Ending.restarted(state, &1))

    fence_if(true, state)
  end

  defp fence_if(wanted?, state) do
    {:ok, row} = Address.fetch(state.instance, state.id)

    case wanted? && row.epoch > 0 && Pool.pid(state.instance, row.worker) do
      worker when is_pid(worker) -> fence(%{state | mail?: true}, worker, row.epoch)
      _nothing_ran -> start(%{state | mail?: true})
    end
  end

  defp recover_message(state, message, settle) do
    unless Ending.ended_before?(state, message), do: settle.(message)
  end

  defp fence(state, worker, epoch) do
    Worker.drop(worker, self(), state.handle, epoch)

    %{
      Watch.forget(state)
      | phase: :fencing,
        epoch: epoch,
        active?: false,
        watch: Process.monitor(worker),
        fence: {worker, Instance.now_ms()}
    }
  end

  # Its pool's workers may not have told yet whether its class has an on_start.
  defp start(%{instance: instance, class: class} = state) do
    # Looked at again after the pid is in the table.
    if Classes.awaited?(instance, class) and Pool.wait(instance, self()) and
         Classes.awaited?(instance, class),
       do: %{state | phase: {:waiting, :on_start}, mail?: true},
       else: begin_start(state)
  end

  defp begin_start(state) do
    case Classes.hooks(state.instance, state.class) do
      {true, _on_stop?} -> begin_on_start(state)
      {false, _on_stop?} -> started(state)
    end
  end

  defp begin_on_start(state) do
    if Pause.paused?(state.instance, state),
      do: %{state | phase: {:paused, :on_start}, mail?: true},
      else: run_hook(state, :on_start)
  end

  defp started(state) do
    Address.put_status(state.instance, state.id, :running)
    Timers.declare(state.instance, {state.id, state.handle}, state.class)
    Subscriptions.declare(state.instance, {state.id, state.handle}, state.class)
    interleaves? = Classes.interleaves?(state.instance, state.class)
    next(%{state | phase: :idle, running: nil, mail?: true, interleaves?: interleaves?})
  end

  ## The loop

  # A new process that has nothing to do gives its heap back at once: many are started that are not used soon.
  defp settle(%{phase: :idle} = state), do: hibernate(state)
  defp settle(state), do: loop(state)

  defp loop(state) do
    receive do
      message -> message |> handle(state) |> loop()
    after
      patience(state) -> idle(state)
    end
  end

  # Without an activation it did nothing that a next message would follow: it took a state, say, as many do in a row.
  defp patience(%{phase: :idle, beside: [], active?: false}), do: 0
  defp patience(%{phase: phase, beside: []}) when phase in [:idle, :paused], do: @idle_ms
  defp patience(state), do: Watch.patience(state)

  defp idle(%{phase: phase, beside: []} = state) when phase in [:idle, :paused] do
    Commits.forget_answer(state.instance, state.handle)
    hibernate(state)
  end

  defp idle(state), do: state |> Watch.look() |> loop()

  defp hibernate(state) do
    Sleep.mark(state)
    :erlang.hibernate(__MODULE__, :wake, [Hibernated.fold(state)])
  end

  @doc false
  @spec wake(Hibernated.t()) :: no_return()
  def wake(hibernated) do
    state = Map.merge(%__MODULE__{}, Hibernated.fields(hibernated) || exit(:normal))

    # To fall asleep only as the first that it hears: whatever comes before is something to do.
    receive do
      :sleep -> state |> Sleep.fall_asleep() |> settle()
      message -> message |> handle(state) |> loop()
    end
  end

  ## Messages

  defp handle({:mail, key}, state), do: mail(key, state)

  # Each of them may be one that runs beside others.
  defp handle({:mails, keys}, %{interleaves?: true} = state), do: Enum.reduce(keys, state, &mail/2)
  defp handle({:mails, [first | _more]}, state), do: mail(first, %{state | mail?: true})

  defp handle({:done, key, status, body, new_state, effects}, state),
    do: done(key, status, body, new_state, effects, state)

  defp handle({:burst_done, key, ended, changes, new_state, back}, %{running: %{key: key}} = state),
    do: burst_done(state, {ended, changes, new_state, back})

  defp handle({:request, key, worker, ref, verb, target, name, body, timeout_ms}, state) do
    if own?(key, state),
      do: Requests.make(state, key, {worker, ref}, {verb, target, name, body, timeout_ms}),
      else: Requests.refuse_stale(state, {worker, ref})
  end

  defp handle({:chunk, key, worker, number, body}, state) do
    Streams.chunk(state, key, {worker, number}, body)
    state
  end

  defp handle({:credit, key, number, count}, state) do
    with true <- own?(key, state), {_no, worker} <- state.worker, do: Worker.credit(worker, number, count)
    state
  end

  defp handle({:item, token, producer, body}, state), do: Requests.item(state, token, producer, body)

  defp handle({:read, _key, ref, count}, state) do
    Requests.read(state, ref, count)
    state
  end

  defp handle({:withdraw, _key, ref}, state), do: Requests.withdraw(state, ref)

  defp handle({:progress, key, worker, fraction, text}, state),
    do: Progress.report(state, key, worker, fraction, text)

  defp handle({:answer, token, status, body}, state), do: Requests.answered(state, token, status, body)
  defp handle({:request_timeout, token}, state), do: Requests.timed_out(state, token)
  defp handle({:decided, escalation}, state), do: Requests.decided(state, escalation)

  defp handle({:cancel, key}, state) do
    if Enum.any?(state.beside, &(&1.key == key)),
      do: Streams.cancel_beside(state, key),
      else: Watch.caller_gave_up(state, key)
  end

  # It did something since its time was noted. It must not wait anew each time that it is told: then it would be for ever.
  defp handle(:sleep, %{phase: :idle, beside: []} = state), do: idle(state)

  # Which of them it has come to is known in a moment.
  defp handle({:cancel, _key, {_from, _ref}} = cancel, %{burst: [_one | _more]} = state) do
    Process.send_after(self(), cancel, @burst_ms)
    state
  end

  # By whoever has the request, or knows the message's number.
  defp handle({:cancel, key, {from, ref}}, state) do
    {verdict, state} = cancel(key, state)
    send(from, {ref, verdict})
    state
  end

  defp handle({:worker_down, key, begun?, error, charge}, state),
    do: worker_down(key, begun?, error, charge, state)

  defp handle({:blamed, evidence}, %{phase: :fencing} = state),
    do: if(Ending.struck(state, nil, evidence) == :park, do: park(state, evidence), else: state)

  defp handle({:dropped, epoch}, %{phase: :fencing, epoch: epoch} = state), do: fenced(state)
  defp handle({:DOWN, _monitor, :process, _worker, _reason}, %{phase: :fencing} = state), do: fenced(state)
  defp handle({:worker_lost, pid}, %{worker: {_no, pid}} = state), do: worker_lost(state)

  defp handle({:DOWN, monitor, :process, _pid, _reason}, %{watch: monitor} = state),
    do: Watch.caller_down(state)

  defp handle({:DOWN, monitor, :process, _pid, _reason}, %{running: %{reader: monitor, key: key}} = state),
    do: Watch.caller_gave_up(state, key)

  defp handle({:DOWN, monitor, :process, _pid, _reason}, %{beside: [_one | _more] = beside} = state) do
    case Enum.find(beside, &match?(%{reader: ^monitor}, &1)) do
      nil -> state
      %{key: key} -> Streams.cancel_beside(state, key)
    end
  end

  defp handle(:workers_changed, %{phase: :waiting} = state), do: resume(state)
  defp handle({:admitted, worker}, state), do: admitted(worker, state)
  defp handle(:move, state), do: move(%{state | moves?: true})
  defp handle(:slot, state), do: slot_granted(%{state | slot: :fresh})
  defp handle(:unparked, %{phase: :parked} = state), do: resume(state)
  defp handle(:workers_changed, %{phase: {:waiting, :on_start}} = state), do: start(state)
  defp handle(:workers_changed, %{phase: {:waiting, hook}} = state), do: run_hook(state, hook)
  defp handle(:resumed, %{phase: :paused} = state), do: resume(state)
  defp handle(:resumed, %{phase: {:paused, :on_start}} = state), do: begin_on_start(state)
  defp handle(:backoff_over, %{phase: :backoff} = state), do: recover(state)

  defp handle({:retry, key}, state),
    do: if(Retries.release(state.instance, key), do: retry(key, state), else: state)

  defp handle(:drain_over, %{stop: stop} = state) when stop != nil, do: stop_by_force(state)

  defp handle({:system, from, request}, state),
    do: :sys.handle_system_msg(request, from, state.parent, __MODULE__, [], state)

  defp handle({:EXIT, parent, reason}, %{parent: parent} = state), do: Member.leave(state, reason)
  defp handle({:EXIT, _other, reason}, _state) when reason != :normal, do: exit(reason)

  # Late: an answer to a request of a message that has ended, a fence that is down, a timer that was overtaken.
  defp handle(_late, state), do: state

  defp cancel(key, %{running: %{key: key} = message} = state) when not is_map_key(message, :cancelled),
    do: {:cancelled, Watch.cancel(state, :requested)}

  defp cancel(key, state) do
    case Enum.find(state.beside, &(&1.key == key)) do
      nil ->
        {if(Mailbox.progress(state.instance, key) in [:queued, :retrying], do: :elsewhere, else: :already_done),
         state}

      _beside ->
        {:cancelled, Streams.cancel_beside(state, key)}
    end
  end

  defp own?(key, %{running: %{key: key}}), do: true
  defp own?(key, %{beside: beside}), do: Enum.any?(beside, &(&1.key == key))

  defp mail({_handle, 0, _seq} = key, %{stop: nil, phase: :parked} = state) do
    with %{kind: :stop} = message <- Mailbox.get(state.instance, key),
         do: Ending.stopped(%{state | stop: message})

    state
  end

  defp mail({_handle, 0, _seq} = key, %{stop: nil} = state), do: stop_requested(key, state)
  defp mail(key, %{phase: :idle} = state), do: key |> oldest(state) |> run_if_any(state)

  defp mail(key, %{phase: :busy, active?: true, interleaves?: true} = state) do
    message = Mailbox.get(state.instance, key)

    if message && message.kind in [:call, :cast, :stream] &&
         Classes.interleave?(state.instance, state.class, message.handler) &&
         not Pause.paused?(state.instance, state),
       do: run_beside(message, state),
       else: %{state | mail?: true}
  end

  defp mail(_key, %{phase: :waiting, probation?: false} = state), do: resume(state)
  # Older ones wait, also where the pause has just been lifted.
  defp mail(_key, %{phase: :paused} = state), do: resume(state)

  # A person may mend its state meanwhile.
  defp mail(key, %{phase: :parked} = state) do
    case Mailbox.get(state.instance, key) do
      %{kind: :put_state} = message -> %{take_aside(message, state) | phase: :parked}
      _waits -> state
    end
  end

  defp mail(_key, state), do: %{state | mail?: true}

  defp retry(_key, %{phase: :holding} = state), do: resume(state)
  defp retry(key, state), do: mail(key, state)

  # A key that is gone was taken by an earlier turn, or withdrawn.
  defp oldest(key, state), do: Mailbox.get(state.instance, key) || Mailbox.next(state.instance, state.handle)

  # What ran has ended: others have their turn.
  defp next(%{slot: :held} = state), do: state |> Slots.leave() |> next()
  defp next(%{stop: stop} = state) when stop != nil, do: end_politely(state)
  defp next(%{moves?: true, phase: :idle, beside: []} = state), do: move(state)
  defp next(%{mail?: false} = state), do: state

  defp next(%{turn: turn} = state),
    do: state.instance |> Mailbox.next(state.handle, turn) |> run_if_any(%{state | turn: turn + 1})

  defp run_if_any(nil, state), do: %{state | mail?: false}
  defp run_if_any(:held, state), do: %{state | phase: :holding, mail?: true}
  defp run_if_any(message, state), do: run(message, state)

  defp resume(state), do: next(%{state | phase: :idle, mail?: true})

  ## Running a message

  defp run(%{kind: :ping} = message, state),
    do: message |> take(state, fn -> Mailbox.reply(message.reply_to, 0, <<0xC0>>) end)

  defp run(%{kind: :put_state} = message, state),
    do: take(message, state, fn -> put_state(message, state) end) |> forget_activation()

  defp run(%{kind: :stop} = message, state), do: stop_requested(message.key, state)

  defp run(%{kind: :restart} = message, state) do
    if Mailbox.claim(state.instance, message.key) do
      Mailbox.delete(state.instance, state.id, message)
      Mailbox.reply(message.reply_to, 0, <<0xC0>>)
      restart(state)
    else
      next(%{state | mail?: true})
    end
  end

  # An operator's. It goes on when somebody unparks it.
  defp run(%{kind: :park} = message, state) do
    if Mailbox.claim(state.instance, message.key) do
      Mailbox.delete(state.instance, state.id, message)
      evidence = Ending.parked_by_hand(state, message.args)
      Mailbox.reply(message.reply_to, 0, <<0xC0>>)
      park(state, evidence)
    else
      next(%{state | mail?: true})
    end
  end

  defp run(message, state) do
    cond do
      expired?(message) or Mailbox.orphan?(message) ->
        take(message, state, fn -> Watch.expire(state, message) end)

      Pause.paused?(state.instance, state) ->
        %{state | phase: :paused, mail?: true}

      true ->
        affordable(Limits.exhausted(state.instance, state), message, state)
    end
  end

  defp affordable(nil, message, state), do: dispatch(message, state)

  defp affordable(error, message, state) do
    take(message, state, fn ->
      History.ended(state.instance, state.handle, message, :refused, error)
      answer_error(message, error, state)
    end)
  end

  # On request: the process stays, so that no supervisor takes it for a crash.
  defp restart(state) do
    Instance.count(state.instance, :restarts)
    Restarts.forgive(state.instance, state.handle)
    History.record(state.instance, state.handle, :restarted, %{reason: :requested})
    Address.put_status(state.instance, state.id, :restarting)
    for message <- state.beside, do: Ending.restart_beside(state, message)
    state = Enum.reduce(state.beside, state, &Requests.close(&2, &1.key))
    fence_if(true, %{state | beside: [], phase: :idle})
  end

  defp take_aside(message, state) do
    if Mailbox.claim(state.instance, message.key) do
      put_state(message, state)
      Mailbox.delete(state.instance, state.id, message)
    end

    state
  end

  # For what needs no interpreter: claimed, done, and on with the next.
  defp take(message, state, action) do
    if Mailbox.claim(state.instance, message.key) do
      action.()
      Mailbox.delete(state.instance, state.id, message)
    end

    next(%{state | mail?: true})
  end

  defp expired?(%{deadline: 0}), do: false
  defp expired?(%{deadline: deadline}), do: Instance.now_ms() >= deadline

  defp put_state(%{args: {new_state, expected}} = message, state) do
    case Commits.get(state.instance, state.handle) do
      {_state, revision} when expected != nil and expected != revision ->
        Mailbox.reply(
          message.reply_to,
          1,
          Error.new(:invalid_args, "the committed revision is #{revision}, not #{expected}", %{
            revision: revision
          })
        )

      _expected ->
        version = Classes.version(state.instance, state.class)
        revision = Commits.put(state.instance, state.handle, new_state, nil, nil, version)
        History.state_put(state.instance, state.handle, message, revision)
        {:ok, body} = Pyre.Wire.MsgPack.encode(revision)
        Mailbox.reply(message.reply_to, 0, body)
    end
  end

  defp dispatch(message, state) do
    case Slots.ask(state) do
      {:ok, state} -> place(message, state)
      {:wait, state} -> %{state | phase: :waiting, mail?: true}
    end
  end

  defp place(message, state) do
    case Placement.worker(state) do
      {:ok, state} -> hand_over(message, state)
      {:wait, state} -> wait_for_worker(state)
      {{:failed, error}, state} -> without_worker(error, state)
    end
  end

  # What another agent's handler waits for may go where it is crowded: else all that are under way might wait for what may not begin.
  defp hand_over(%{reply_to: {:agent, _pid, _token}} = message, %{instance: instance, worker: worker} = state) do
    Pool.force(instance, worker)
    claim_and_deliver(message, state)
  end

  defp hand_over(message, %{instance: instance, worker: worker} = state) do
    if Pool.begin(instance, worker) or begin_or_wait(instance, worker),
      do: claim_and_deliver(message, state),
      else: %{state | phase: :waiting, mail?: true}
  end

  # Looked at again after the pid is in the table.
  defp begin_or_wait(instance, worker) do
    Pool.wait(instance, self(), worker)
    Pool.begin(instance, worker)
  end

  defp claim_and_deliver(message, state) do
    if Mailbox.claim(state.instance, message.key) do
      burst = Burst.gather(state, message)

      deliver(message, %{
        state
        | phase: :busy,
          slot: state.slot && :held,
          running: message |> History.begin() |> Watch.begin() |> Streams.attend(),
          burst: burst,
          turn: state.turn + length(burst)
      })
    else
      not_handed_over(state)
    end
  end

  defp not_handed_over(%{worker: {no, _pid}} = state) do
    Pool.finish(state.instance, no)
    next(%{state | mail?: true})
  end

  defp wait_for_worker(state) do
    case Placement.wait(state) do
      {:ok, state} -> next(%{state | phase: :idle, mail?: true})
      {:wait, state} -> %{state | phase: :waiting, mail?: true}
    end
  end

  defp without_worker(error, state) do
    Placement.refuse(state, error)
    %{state | phase: :waiting, mail?: true}
  end

  defp slot_granted(%{phase: :waiting} = state) do
    case resume(state) do
      %{slot: :fresh, phase: phase} = idle when phase != :waiting -> Slots.leave(idle)
      busy_or_without_worker -> busy_or_without_worker
    end
  end

  # What it was for is gone.
  defp slot_granted(state), do: Slots.leave(state)

  # On probation, the agent is alone in the worker for one message, and then makes room for the next.
  defp admitted(worker, %{phase: phase, probation?: true} = state) when phase in [:waiting, :idle] do
    case next(%{state | phase: :idle, worker: worker, mail?: true}) do
      %{phase: phase, probation?: true} = idle when phase in [:idle, :paused, :holding] ->
        Placement.leave(idle)

      busy ->
        busy
    end
  end

  defp admitted(worker, %{phase: {:waiting, hook}, probation?: true} = state),
    do: run_hook(%{state | worker: worker}, hook)

  defp admitted(worker, state), do: Placement.decline(state, worker)

  defp deliver(message, state) do
    case Delivery.deliver(state, message) do
      {:ok, state} ->
        state

      :closed ->
        {no, _pid} = state.worker
        Pool.finish(state.instance, no)
        error = Error.new(:worker_down, "the worker is being replaced", %{begun: false})
        worker_down(message.key, false, error, nil, Burst.take_back(state, :unseen))
    end
  end

  # Wherever it is crowded.
  defp redeliver(message, state) do
    Pool.force(state.instance, state.worker)
    deliver(message, state)
  end

  defp run_beside(message, state) do
    if Mailbox.claim(state.instance, message.key),
      do:
        redeliver(message, %{state | beside: [message |> History.begin() |> Streams.attend() | state.beside]}),
      else: state
  end

  defp run_hook(state, hook) do
    case Placement.worker(state) do
      {:ok, state} ->
        message = state |> Delivery.hook(hook) |> History.begin()
        redeliver(message, %{state | running: message, phase: phase(hook)})

      {_none, state} ->
        Pool.wait(state.instance, self())
        %{state | running: nil, mail?: true, phase: {:waiting, hook}}
    end
  end

  defp phase(:on_start), do: :starting
  defp phase(:on_stop), do: :ending

  ## The end of a message

  defp burst_done(state, told) do
    case Burst.done(state, told) do
      {:over, state} ->
        next(Watch.forget(%{state | phase: :idle, running: nil, mail?: true}))

      {:alone, %{running: message} = state} ->
        %{state | running: message |> History.begin() |> Watch.begin()}
    end
  end

  defp done(key, status, body, new_state, effects, %{running: %{key: key} = message} = state),
    do: finished(status, message, {body, new_state, effects}, Requests.close(state, key))

  defp done(key, status, body, _new_state, effects, state) do
    case Enum.split_with(state.beside, &(&1.key == key)) do
      {[message], beside} ->
        finished_beside(status, message, {body, effects}, Requests.close(%{state | beside: beside}, key))

      {[], _beside} ->
        state
    end
  end

  defp finished_beside(Wire.status_evicted(), message, _done, state) do
    Mailbox.unclaim(state.instance, message.key, message.attempt)
    next_if_idle(%{state | active?: false})
  end

  defp finished_beside(Wire.status_retry(), message, {body, plan}, state) do
    if Retries.defer(state, message, body, plan),
      do: next_if_idle(state),
      else: finished_beside(Wire.status_failed(), message, {body, []}, state)
  end

  defp finished_beside(status, message, {body, _effects}, state) do
    if status == Wire.status_done() do
      History.done(state.instance, state.handle, message, body)
      Mailbox.reply(message.reply_to, 0, body)
    else
      note(state, message, outcome(status), body)
      answer_error(message, body, state)
    end

    Streams.leave(message)
    Mailbox.delete(state.instance, state.id, message)
    state
  end

  defp outcome(status) do
    cond do
      status in [Wire.status_refused(), Wire.status_rejected()] -> :refused
      status == Wire.status_cancelled() -> :cancelled
      true -> :failed
    end
  end

  # Its caller was told that it is cancelled. Whatever it did to its state is not committed; the next message waits until
  # nothing of it runs any more.
  defp finished(_status, %{cancelled: true} = message, _done, %{worker: {_no, worker}} = state) do
    delete_row(message, state)
    fence(%{state | running: nil}, worker, state.epoch)
  end

  defp finished(Wire.status_done(), %{kind: kind}, _done, state) when kind == :on_stop,
    do: Ending.stopped(state)

  defp finished(Wire.status_done(), message, {body, new_state, effects}, state) do
    case Escalations.open(state, message, effects) do
      {:ok, effects} -> committed(message, {body, new_state, effects}, state)
      {:error, error} -> finished(Wire.status_rejected(), message, {Body.error(error), [], []}, state)
    end
  end

  defp finished(Wire.status_refused(), message, {body, _new_state, _effects}, state) do
    Instance.count(state.instance, :refusals)
    note(state, message, :refused, body)
    answer_error(message, body, state)
    ended(message, state)
  end

  defp finished(Wire.status_evicted(), %{kind: kind}, _done, state) when kind in [:on_start, :on_stop],
    do: run_hook(%{state | active?: false}, kind)

  defp finished(Wire.status_evicted(), message, _done, state),
    do: redeliver(message, %{state | active?: false})

  defp finished(Wire.status_rejected(), message, {body, _new_state, _effects}, state) do
    Instance.count(state.instance, :refusals)
    note(state, message, :refused, body)
    answer_error(message, body, state)
    ended(message, %{state | active?: false})
  end

  defp finished(Wire.status_unusable(), message, {body, _new_state, _effects}, state) do
    case Body.to_error(body) do
      %Error{kind: kind} = error when kind in [:parked, :unknown_class] ->
        not_runnable(message, error, state)

      error ->
        note(state, message, :failed, error)
        answer_error(message, body, state)
        delete_row(message, state)
        Ending.unusable(state, error)
    end
  end

  # Its activation is gone, so the next attempt begins with the committed state. To its supervisor nothing has happened.
  defp finished(Wire.status_retry(), message, {body, _new_state, plan}, state) do
    if Retries.defer(state, message, body, plan),
      do: deferred(message, %{state | active?: false}),
      else: finished(Wire.status_failed(), message, {body, [], []}, state)
  end

  defp finished(_failed_or_cancelled, message, {body, _new_state, _effects}, state) do
    error = Body.to_error(body)
    note(state, message, :failed, error)
    answer_error(message, body, state)
    delete_row(message, state)
    if message.kind == :on_stop, do: Ending.stopped(state), else: Ending.failed(state, message, error)
  end

  # The code doesn't fit the agent's state, or has no class of that name any more: nothing has run, the state is as it was, and
  # what has no caller waits until other code is there, and a person unparks the agent.
  defp not_runnable(message, error, state) do
    _back = message.kind in @hooks or Mailbox.unclaim(state.instance, message.key, message.attempt)
    parked = park(state, Ending.parked_by_hand(state, error.message))
    Generations.crashed(state.instance, state, error, 2)
    parked
  end

  defp note(state, message, outcome, error),
    do: History.ended(state.instance, state.handle, message, outcome, Body.to_error(error))

  defp committed(message, {body, new_state, effects}, state) do
    _revision =
      is_binary(new_state) &&
        Commits.put(state.instance, state.handle, new_state, message.key, body, version(effects))

    Enum.each(effects, &take_effect(&1, state))
    # First, so that whoever has the answer finds it there.
    History.done(state.instance, state.handle, message, body)
    Mailbox.reply(message.reply_to, 0, body)
    ended(message, state)
  end

  # What the class's version is, where a state is the first that it has written.
  defp version([]), do: nil

  defp version(effects) do
    Enum.find_value(effects, fn
      {Wire.effect_version(), version} when is_integer(version) and version > 0 -> version
      _another -> nil
    end)
  end

  defp answer_error(%{reply_to: nil} = message, body, state),
    do: Ending.dropped(state, message, Body.to_error(body))

  defp answer_error(message, body, _state), do: Mailbox.reply(message.reply_to, 1, body)

  defp ended(message, %{probation?: true} = state) do
    Quarantine.cleared(state.instance, state.handle)
    ended(message, Placement.leave(state))
  end

  defp ended(%{kind: :on_start}, state), do: started(state)

  defp ended(message, state) do
    Mailbox.delete(state.instance, state.id, message)

    Telemetry.event([:agent, :message], %{count: 1}, %{
      name: state.instance.name,
      class: state.class,
      handler: message.handler
    })

    Streams.leave(message)
    next(Watch.forget(grow(message, %{state | phase: :idle, running: nil})))
  end

  defp grow(%{kind: :cast}, state), do: Burst.grow(state)
  defp grow(_message, state), do: state

  defp deferred(message, %{probation?: true} = state) do
    Quarantine.cleared(state.instance, state.handle)
    deferred(message, Placement.leave(state))
  end

  defp deferred(message, state) do
    Streams.leave(message)
    next(Watch.forget(%{state | phase: :idle, running: nil, mail?: true}))
  end

  defp delete_row(%{kind: hook}, _state) when hook in [:on_start, :on_stop], do: :ok

  defp delete_row(message, state) do
    Streams.leave(message)
    Mailbox.delete(state.instance, state.id, message)
  end

  defp take_effect({Wire.effect_timer(), key, delay_ms, handler, args}, state)
       when is_binary(key) and is_integer(delay_ms) and delay_ms > 0 and is_binary(handler) and
              is_binary(args),
       do: Timers.set(state.instance, {state.id, state.handle}, key, delay_ms, handler, args)

  defp take_effect({Wire.effect_subscribe(), pattern, handler}, state)
       when is_binary(pattern) and is_binary(handler),
       do: Subscriptions.add(state.instance, {state.id, state.handle}, state.class, {pattern, handler})

  defp take_effect({Wire.effect_unsubscribe(), pattern}, state) when is_binary(pattern),
    do: Subscriptions.cancel(state.instance, {state.id, state.handle}, state.class, pattern)

  defp take_effect({Wire.effect_spend(), unit, millionths}, state)
       when is_binary(unit) and is_integer(millionths) and millionths >= 0,
       do: Limits.spend(state.instance, state, unit, millionths)

  # Committed with the state.
  defp take_effect({Wire.effect_version(), version}, _state) when is_integer(version), do: :ok

  defp take_effect({Wire.effect_cancel_timer(), key}, state) when is_binary(key),
    do: Timers.cancel(state.instance, {state.id, state.handle}, state.class, key)

  defp take_effect({Wire.effect_schedule(), key, schedule, handler, args} = effect, state)
       when is_binary(key) and key != <<>> and is_binary(handler) and is_binary(args) do
    case Timers.Schedule.parse(schedule) do
      {:ok, schedule} ->
        Timers.schedule(state.instance, {state.id, state.handle}, key, schedule, handler, args)

      :error ->
        not_understood(effect, state)
    end
  end

  defp take_effect(effect, state), do: not_understood(effect, state)

  defp not_understood(effect, state),
    do:
      Logger.error(
        "agent #{inspect(state.id)} asked for an effect that nobody understands: #{inspect(effect, limit: 5)}"
      )

  defp forget_activation(%{active?: false} = state), do: state
  defp forget_activation(state), do: %{state | active?: false}

  ## The loss of a worker

  defp worker_down(key, begun?, error, charge, %{running: %{key: key}, burst: [_one | _more]} = state) do
    {{begun?, error, charge}, state} = Burst.lost(state, {begun?, error, charge})
    worker_down(state.running.key, begun?, error, charge, state)
  end

  defp worker_down(key, begun?, error, charge, %{running: %{key: key} = message} = state) do
    Streams.leave(message)
    state |> Requests.close(key) |> Placement.leave() |> charged(charge, message, begun?, error)
  end

  defp worker_down(key, begun?, error, charge, state) do
    {mine, beside} = Enum.split_with(state.beside, &(&1.key == key))
    for message <- mine, do: interrupted_beside(state, message, begun?, error)
    state = Requests.close(%{state | beside: beside, active?: false}, key)
    if Enum.any?(mine, &(not Table.awaiting?(state.instance, &1.key))), do: suspect(charge, state)
    next_if_idle(state)
  end

  defp interrupted_beside(state, message, true, error), do: Ending.interrupted(state, message, error)

  defp interrupted_beside(state, message, false, _error),
    do: Mailbox.unclaim(state.instance, message.key, message.attempt)

  defp suspect(nil, _state), do: true
  defp suspect(_charge, state), do: Quarantine.suspect(state.instance, state.handle)

  # Its handler was on the loop, or alone: what killed the worker is not run again, whatever the handler promises.
  defp charged(state, {:certain, evidence}, message, _begun?, error) do
    verdict = Ending.struck(state, message, evidence)
    Ending.culprit(state, message, error)
    if verdict == :park, do: park(state, evidence), else: go_on(state, message)
  end

  # Who waits for a person ran nothing; and would wait on probation, where others then wait for it.
  defp charged(state, charge, message, begun?, error) do
    unless Table.awaiting?(state.instance, message.key), do: suspect(charge, state)
    interrupted(state, message, begun?, error)
  end

  defp go_on(state, %{kind: hook}) when hook in [:on_start, :on_stop], do: run_hook(state, hook)
  defp go_on(state, _message), do: resume(state)

  defp park(%{stop: stop} = state, _evidence) when stop != nil, do: Ending.stopped(state)

  defp park(state, evidence) do
    Ending.parked(state, evidence)
    %{(state |> Slots.leave() |> Watch.forget()) | phase: :parked, running: nil, fence: nil, mail?: false}
  end

  defp next_if_idle(%{phase: :idle} = state), do: resume(state)
  defp next_if_idle(state), do: %{state | mail?: true}

  defp worker_lost(state) do
    error = Error.new(:worker_down, "the process of the worker ended", %{begun: true})
    state = Burst.take_back(state, error)
    keys = for message <- [state.running | state.beside], message != nil, do: message.key
    Enum.reduce(keys, state, &worker_down(&1, true, error, nil, &2))
  end

  defp interrupted(state, %{kind: hook} = _message, _begun?, _error) when hook in [:on_start, :on_stop],
    do: run_hook(state, hook)

  defp interrupted(state, %{cancelled: true} = message, _begun?, _error) do
    delete_row(message, state)
    resume(state)
  end

  defp interrupted(state, message, false, _error) do
    Instance.count(state.instance, :resent)
    Mailbox.unclaim(state.instance, message.key, message.attempt)
    resume(state)
  end

  defp interrupted(state, message, true, error) do
    Ending.interrupted(state, message, error)
    resume(state)
  end

  ## Another worker

  # Other code is to run it: as soon as nothing of it runs, and when the worker has let go of it.
  defp move(%{worker: nil} = state), do: next(%{state | moves?: false})

  defp move(%{phase: phase, beside: [], running: nil, probation?: false} = state)
       when phase in [:idle, :paused, :holding, :parked] do
    state = %{state | moves?: false}
    if Placement.stays?(state), do: next_if_idle(state), else: move_out(state)
  end

  defp move(state), do: state

  defp move_out(%{active?: true, phase: phase, worker: {_no, worker}, epoch: epoch} = state)
       when phase != :parked,
       do: state |> Placement.leave() |> fence(worker, epoch)

  defp move_out(state), do: state |> Placement.leave() |> next_if_idle()

  defp fenced(state), do: %{state | fence: nil} |> Watch.forget() |> begin_again()

  defp begin_again(%{stop: stop} = state) when stop != nil, do: next(%{state | phase: :idle})

  defp begin_again(state) do
    case Address.fetch(state.instance, state.id) do
      {:ok, %{status: :running}} -> resume(state)
      _restarted -> start(state)
    end
  end

  ## Stopping

  defp stop_requested(key, state) do
    case Mailbox.get(state.instance, key) do
      nil ->
        state

      %{kind: kind} when kind in [:restart, :park] ->
        if state.phase in [:idle, :waiting, :holding] and not state.probation?,
          do: resume(state),
          else: %{state | mail?: true}

      message ->
        Process.send_after(self(), :drain_over, state.instance.config.drain_timeout)
        state = %{state | stop: message}
        if state.running == nil and state.phase != :fencing, do: end_politely(state), else: state
    end
  end

  defp end_politely(state) do
    Address.put_status(state.instance, state.id, :stopping)

    case Classes.hooks(state.instance, state.class) do
      {_on_start?, true} -> run_hook(state, :on_stop)
      {_on_start?, false} -> Ending.stopped(state)
    end
  end

  # What still runs after the drain's time is cancelled, once; what is left after that (on_stop that doesn't end, no
  # worker to run it) is not waited for.
  defp stop_by_force(%{running: %{kind: kind} = message, phase: :busy, burst: []} = state)
       when kind != :on_stop and not is_map_key(message, :cancelled) do
    Process.send_after(self(), :drain_over, state.instance.config.drain_timeout)
    Watch.cancel(state, :stopped)
  end

  defp stop_by_force(state), do: Ending.stopped(state)

  ## OTP

  @doc false
  @spec system_continue(pid(), [term()], t()) :: no_return()
  def system_continue(_parent, _debug, state), do: loop(state)

  @doc false
  @spec system_terminate(term(), pid(), [term()], t()) :: no_return()
  def system_terminate(reason, _parent, _debug, state), do: Member.leave(state, reason)

  @doc false
  @spec system_get_state(t()) :: {:ok, map()}
  def system_get_state(state), do: {:ok, Map.take(state, [:id, :class, :phase, :epoch, :active?])}

  @doc false
  @spec system_code_change(t(), module(), term(), term()) :: {:ok, t()}
  def system_code_change(state, _module, _old_version, _extra), do: {:ok, state}
end
