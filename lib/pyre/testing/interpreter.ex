defmodule Pyre.Testing.Interpreter do
  @moduledoc false

  # Stands in for an interpreter: a process that speaks as a port does ({pid, {:data, bytes}}, {owner, {:command, bytes}}) of the same bytes
  # that Python would read and write (docs/wire.md). So everything up to the worker's pipe is the real thing.
  #
  # A scripted function runs in a process of its own, which is linked to this one; a manual message waits for the test.

  use GenServer

  require Pyre.Wire, as: Wire

  alias Pyre.{Error, Instance}
  alias Pyre.Testing.{Answer, Calls, Message, Script}
  alias Pyre.Wire.{Body, Frame, MsgPack}

  # As Python keeps it: chunks of a stream under way that nobody has read yet, and their bytes.
  @window 16
  @window_bytes 1_048_576
  # SIGKILL: as if somebody from outside had ended it, for which no message is blamed.
  @killed 128 + 9
  # The flight recorder's words that are written here: all of them once, then the number of the message begun last.
  @magic 0x0000000145525950
  @recorder_words 74
  @begun_at 8
  @gone [
    Wire.status_failed(),
    Wire.status_rejected(),
    Wire.status_cancelled(),
    Wire.status_unusable()
  ]
  @spoiled [Wire.status_failed(), Wire.status_unusable()]

  defstruct [
    :owner,
    :framer,
    :script,
    :calls,
    :callers,
    :recorder,
    activations: %{},
    running: %{},
    ended: %{},
    requests: %{},
    next_ref: 1
  ]

  @type argument :: %{script: Script.t(), calls: atom(), callers: [pid()]}

  @doc "Stands in for an interpreter of the calling worker."
  @spec open(argument(), Pyre.Worker.Launch.paths()) :: GenServer.on_start()
  def open(argument, paths), do: GenServer.start_link(__MODULE__, {argument, paths.recorder, self()})

  @doc "Answers a message that waits for the test."
  @spec answer(Message.t(), term()) :: :ok | {:error, Message.outcome() | :scripted | Error.t()}
  def answer(%Message{ref: {pid, number}} = message, result), do: ask(pid, {:answer, number, message, result})

  @doc "Sends a chunk of a stream. A scripted function waits for room, a test is told that there is none."
  @spec chunk(Message.t(), term(), :wait | :refuse) ::
          :ok | {:error, Message.outcome() | :full | :no_stream | Error.t()}
  def chunk(%Message{ref: {pid, number}}, value, when_full) do
    with {:ok, body} <- MsgPack.encode(value), do: ask(pid, {:chunk, number, body, when_full})
  end

  @doc "Asks Pyre for something in the name of a message, as `ctx` does in Python."
  @spec request(Message.t(), tuple()) :: {:ok, term()} | {:error, Pyre.error() | Message.outcome()}
  def request(%Message{ref: {pid, number}}, request), do: ask(pid, {:request, number, request})

  @doc "Tells how far a message is."
  @spec progress(Message.t(), non_neg_integer() | [], String.t()) :: :ok | {:error, Message.outcome()}
  def progress(%Message{ref: {pid, number}}, fraction, text),
    do: ask(pid, {:progress, number, fraction, text})

  @doc "Ends the interpreter that runs the message, as a kill from outside does."
  @spec crash(Message.t()) :: :ok | {:error, Message.outcome()}
  def crash(%Message{ref: {pid, number}}), do: ask(pid, {:crash, number})

  defp ask(pid, question) do
    GenServer.call(pid, question, :infinity)
  catch
    :exit, _gone -> {:error, :lost}
  end

  ## Callbacks

  @impl GenServer
  def init({argument, recorder, owner}) do
    {:ok, file} = :file.open(recorder, [:read, :write, :raw, :binary])
    :ok = :file.pwrite(file, 0, <<@magic::64-little, 0::size(@recorder_words - 1)-unit(64)>>)
    {:ok, struct!(%__MODULE__{owner: owner, framer: Frame.new(), recorder: file}, argument)}
  end

  @impl GenServer
  def handle_info({owner, {:command, bytes}}, %{owner: owner} = state) do
    {:ok, payloads, framer} = Frame.push(state.framer, IO.iodata_to_binary(bytes))

    Enum.reduce(payloads, %{state | framer: framer}, fn payload, state ->
      {:ok, envelopes} = Frame.decode(payload)
      Enum.reduce(envelopes, state, &apply_envelope/2)
    end)
    |> noreply()
  end

  def handle_info({:result, number, result}, state) do
    case state.running do
      %{^number => %{message: message, interleave: interleave?}} ->
        state |> finish(number, Answer.to_done(result, message, interleave?)) |> noreply()

      %{} ->
        noreply(state)
    end
  end

  @impl GenServer
  def handle_call({:answer, number, message, result}, _from, state) do
    with {:ok, %{pid: nil} = entry} <- running(state, number),
         {:ok, done} <- checked(result, message, entry.interleave) do
      {:reply, :ok, finish(state, number, done)}
    else
      {:ok, _a_function_answers} -> {:reply, {:error, :scripted}, state}
      {:error, why} -> {:reply, {:error, why}, state}
    end
  end

  def handle_call({:chunk, number, body, when_full}, from, state) do
    with {:ok, %{message: %{kind: :stream}} = entry} <- running(state, number),
         true <- when_full == :wait or room?(entry) do
      state = emit(state, {Wire.op_chunk(), number, body})
      entry = %{entry | unread: entry.unread ++ [byte_size(body)]}

      if when_full == :refuse or room?(entry),
        do: {:reply, :ok, put_in(state.running[number], entry)},
        else: {:noreply, put_in(state.running[number], %{entry | waiting: from})}
    else
      {:ok, _no_stream} -> {:reply, {:error, :no_stream}, state}
      false -> {:reply, {:error, :full}, state}
      {:error, why} -> {:reply, {:error, why}, state}
    end
  end

  def handle_call({:request, number, {verb, target, name, body, timeout_ms}}, from, state) do
    case running(state, number) do
      {:ok, _entry} ->
        state = emit(state, {Wire.op_request(), number, state.next_ref, verb, target, name, body, timeout_ms})
        requests = Map.put(state.requests, state.next_ref, from)
        {:noreply, %{state | requests: requests, next_ref: state.next_ref + 1}}

      {:error, why} ->
        {:reply, {:error, why}, state}
    end
  end

  def handle_call({:progress, number, fraction, text}, _from, state) do
    with {:ok, _entry} <- running(state, number) do
      state = emit(state, {Wire.op_progress(), number, fraction, text})
      {:reply, :ok, state}
    else
      {:error, why} -> {:reply, {:error, why}, state}
    end
  end

  def handle_call({:crash, number}, _from, state) do
    case running(state, number) do
      {:ok, _entry} ->
        for {_number, %{message: message}} <- state.running,
            do: Calls.ended(state.calls, %{message | outcome: :lost})

        send(state.owner, {self(), {:exit_status, @killed}})
        {:stop, :normal, :ok, state}

      {:error, why} ->
        {:reply, {:error, why}, state}
    end
  end

  ## What the BEAM says

  defp apply_envelope({Wire.op_hello(), version, _worker, _now_ms, _config}, state) do
    {:ok, info} = state.script |> Script.info() |> MsgPack.encode()
    emit(state, {Wire.op_ready(), version, "none", 0, info})
  end

  defp apply_envelope({Wire.op_activate(), handle, epoch, class, id, committed, args, _version}, state) do
    activation = %{epoch: epoch, class: class, id: id, committed: committed, args: args}
    put_in(state.activations[handle], activation)
  end

  defp apply_envelope({Wire.op_deliver(), number, handle, epoch, kind, name, args, deadline, extra}, state) do
    case state.activations do
      %{^handle => %{epoch: ^epoch} = activation} ->
        message = %Message{
          ref: {self(), number},
          id: activation.id,
          class: activation.class,
          handler: if(name == "", do: Atom.to_string(kind(kind)), else: name),
          args: decode(args),
          state: state_of(activation, state.script),
          kind: kind(kind),
          attempt: attempt(extra)
        }

        deliver(state, number, message, deadline, {handle, epoch})

      %{} ->
        emit(state, {Wire.op_done(), number, Wire.status_evicted(), "", [], []})
    end
  end

  # A script's functions run in processes of their own, so each waits: the others come again.
  defp apply_envelope({Wire.op_burst(), number, handle, epoch, deliveries}, state) do
    {:ok, [[name, args, id, attempt] | others]} = MsgPack.decode(deliveries)
    extra = {id, attempt, 0, [], 0, 0, ""}
    state = emit(state, {Wire.op_burst_done(), number, 0, 0, [], length(others)})

    apply_envelope(
      {Wire.op_deliver(), number, handle, epoch, Wire.kind_cast(), name, args, 0, extra},
      state
    )
  end

  defp apply_envelope({Wire.op_run(), number, module, function, args, deadline}, state) do
    name = "#{module}.#{function}"
    message = %Message{ref: {self(), number}, handler: name, args: decode(args), kind: :run}
    begin(state, number, message, deadline, nil, Script.function(state.script, name))
  end

  defp apply_envelope({Wire.op_cancel(), number}, state), do: cancel(state, number)

  defp apply_envelope({Wire.op_drop(), handle, epoch}, state) do
    numbers = for {number, %{activation: {^handle, ^epoch}}} <- state.running, do: number
    state = Enum.reduce(numbers, state, &cancel(&2, &1))
    state |> let_go({handle, epoch}) |> emit({Wire.op_dropped(), handle, epoch})
  end

  defp apply_envelope({Wire.op_result(), ref, status, body}, state) do
    {from, requests} = Map.pop(state.requests, ref)
    if from, do: GenServer.reply(from, Body.to_result(status, body))
    %{state | requests: requests}
  end

  defp apply_envelope({Wire.op_credit(), number, count}, state) do
    case state.running do
      %{^number => entry} ->
        entry = %{entry | unread: Enum.drop(entry.unread, count)}
        room? = entry.waiting != nil and room?(entry)
        if room?, do: GenServer.reply(entry.waiting, :ok)
        put_in(state.running[number], if(room?, do: %{entry | waiting: nil}, else: entry))

      %{} ->
        state
    end
  end

  defp apply_envelope({Wire.op_stop(), _grace_ms}, state) do
    send(state.owner, {self(), {:exit_status, 0}})
    state
  end

  defp apply_envelope({Wire.op_clock(), _now_ms}, state), do: state
  defp apply_envelope({Wire.op_item(), _ref, _body}, state), do: state

  ## A message from its beginning to its end

  defp deliver(state, number, %{class: class, kind: kind} = message, deadline, activation) do
    handler =
      cond do
        not Script.class?(state.script, class) ->
          {:error,
           Error.new(:unknown_class, "no class #{inspect(class)} is scripted in :agents of Pyre.Testing")}

        # Both are asked for after a state was made; where there is none, that is all.
        kind in [:on_start, :on_stop] ->
          with {:error, _no_hook} <- Script.handler(state.script, class, message.handler),
               do: {:ok, %{answer: fn _args -> {:reply, nil} end, interleave: false, idempotent: false}}

        true ->
          Script.handler(state.script, class, message.handler)
      end

    begin(state, number, message, deadline, activation, handler)
  end

  defp begin(state, number, message, deadline, activation, handler) do
    :ok = Calls.begun(state.calls, message)
    entry = %{message: message, activation: activation, interleave: false, pid: nil, unread: [], waiting: nil}

    handler =
      if late?(deadline),
        do: {:error, Error.new(:deadline, "its deadline passed before it began")},
        else: handler

    case handler do
      {:error, %Error{kind: kind} = error} ->
        status = if kind == :unknown_class, do: Wire.status_unusable(), else: Wire.status_refused()
        finish(put_in(state.running[number], entry), number, {status, Body.error(error), []})

      {:ok, %{answer: answer, interleave: interleave?}} ->
        :ok = :file.pwrite(state.recorder, @begun_at, <<number::64-little>>)
        pid = if answer != :manual, do: run(answer, message, state.callers)
        put_in(state.running[number], %{entry | pid: pid, interleave: interleave?})
    end
  end

  defp late?(deadline), do: deadline != 0 and deadline <= Instance.now_ms()

  # As a Task has it: who may use what the test owns (a connection, a mock) is found through $callers.
  defp run(function, %{ref: {_pid, number}} = message, callers) do
    interpreter = self()

    spawn_link(fn ->
      Process.put(:"$callers", callers)
      result = Answer.run(function, message, &emit_chunk(message, &1))
      send(interpreter, {:result, number, result})
    end)
  end

  defp emit_chunk(message, value) do
    case chunk(message, value, :wait) do
      :ok -> :ok
      {:error, %Error{} = error} -> raise error
      {:error, outcome} -> exit(outcome)
    end
  end

  defp checked(result, message, interleave?) do
    {status, body, _state} = done = Answer.to_done(result, message, interleave?)

    if elem(result, 0) == :reply and status != Wire.status_done(),
      do: {:error, Error.new(:encode, Exception.message(Body.to_error(body)))},
      else: {:ok, done}
  end

  defp cancel(state, number) do
    error = Error.new(:cancelled, "the message was cancelled")
    finish(state, number, {Wire.status_cancelled(), Body.error(error), []})
  end

  defp finish(state, number, {status, body, new_state}) do
    case Map.pop(state.running, number) do
      {nil, _running} ->
        state

      {entry, running} ->
        end_process(entry.pid)
        outcome = outcome(status)
        :ok = Calls.ended(state.calls, %{entry.message | outcome: outcome})

        %{state | running: running, ended: Map.put(state.ended, number, outcome)}
        |> answered(number, entry, {status, body, new_state})
    end
  end

  defp end_process(nil), do: :ok

  defp end_process(pid) do
    Process.unlink(pid)
    Process.exit(pid, :kill)
  end

  defp outcome(status) do
    cond do
      status == Wire.status_done() -> :replied
      status == Wire.status_cancelled() -> :cancelled
      true -> :failed
    end
  end

  # What the state was made from goes back with the first commit, also where the handler left it as it was.
  defp answered(state, number, %{activation: {handle, epoch}, interleave: false} = entry, {status, body, new})
       when status == Wire.status_done() do
    {:ok, made} = if new == [], do: Body.args(entry.message.state), else: {:ok, new}
    held = state.activations[handle]
    written = if match?(%{epoch: ^epoch, committed: ^made}, held), do: [], else: made
    state = emit(state, {Wire.op_done(), number, status, body, written, []})

    if match?(%{epoch: ^epoch}, held),
      do: put_in(state.activations[handle].committed, made),
      else: state
  end

  defp answered(state, number, entry, {status, body, _new}) do
    spoiled? = status in @gone and (status in @spoiled or not entry.interleave)
    state = if spoiled?, do: let_go(state, entry.activation), else: state
    emit(state, {Wire.op_done(), number, status, body, [], []})
  end

  defp let_go(state, nil), do: state

  defp let_go(state, {handle, epoch}) do
    case state.activations do
      %{^handle => %{epoch: ^epoch}} -> %{state | activations: Map.delete(state.activations, handle)}
      %{} -> state
    end
  end

  ## Helpers

  defp running(state, number) do
    case state do
      %{running: %{^number => entry}} -> {:ok, entry}
      %{ended: %{^number => outcome}} -> {:error, outcome}
    end
  end

  defp room?(%{unread: unread}), do: length(unread) < @window and Enum.sum(unread) < @window_bytes

  defp state_of(%{committed: "", class: class, args: args}, script) do
    if Script.class?(script, class), do: Script.initial_state(script, class, decode(args)), else: %{}
  end

  defp state_of(%{committed: committed}, _script), do: decode(committed)

  defp attempt(extra) when is_tuple(extra), do: elem(extra, 1)
  defp attempt(_message_id), do: 1

  defp kind(Wire.kind_call()), do: :call
  defp kind(Wire.kind_cast()), do: :cast
  defp kind(Wire.kind_timer()), do: :timer
  defp kind(Wire.kind_on_start()), do: :on_start
  defp kind(Wire.kind_on_stop()), do: :on_stop
  defp kind(Wire.kind_on_down()), do: :on_down
  defp kind(Wire.kind_stream()), do: :stream

  defp decode(body) do
    {:ok, term} = MsgPack.decode(body)
    term
  end

  defp emit(state, envelope) do
    _message = send(state.owner, {self(), {:data, IO.iodata_to_binary(Frame.encode([envelope]))}})
    state
  end

  defp noreply(state), do: {:noreply, state}
end
