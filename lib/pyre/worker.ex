defmodule Pyre.Worker do
  @moduledoc false

  # Owns one port, and through it one interpreter after another: when one dies, the next is started, with back-off, and this
  # process lives on. It numbers the messages that agents hand it, batches frames both ways, and tells each agent what became
  # of its message. It never waits for an agent or a caller, and never for the pipe: a full one makes its own
  # queue grow, not its mailbox.
  #
  # status:
  #   :waiting    a spare that lets the others start first
  #   :starting   the interpreter is being started, or will be after the back-off
  #   :ready      it takes messages
  #   :draining   it is to be replaced: what runs may end, nothing new is taken

  use GenServer, restart: :permanent, shutdown: 10_000

  require Logger

  alias Pyre.{Address, Backoff, Error, Generations, Instance, Mailbox, Reaper, Telemetry, Wire}
  alias Pyre.Wire.{Body, Frame, MsgPack}
  alias Pyre.Worker.{Launch, Log, Outbox, Pool, PostMortem, Recorder, Recycling, Run}

  require Wire

  # How soon a full pipe is tried again.
  @retry_ms 2
  # The clock of deadlines is told again, since the BEAM's and the system's monotonic clock may drift apart.
  @clock_ms 30_000
  # An interpreter that was ready this long starts the back-off anew.
  @steady_ms 10_000
  @stop_grace_ms 1_000
  # SIGUSR2, which asks for the stacks, where nobody handles it.
  @ended_by_dump 128 + 12
  # So long the exit status of a process that is gone may take.
  @exit_status_ms 100
  # So long the stacks that were asked for may take.
  @dump_ms 100
  # A frame within its limit may still decode to many times its size: then this process ends, and the interpreter with
  # it, not the BEAM. In words: 256 MB. What waits in the mailbox, and binaries, don't count.
  @max_heap_words 32 * 1_024 * 1_024
  # A report of progress: parts of the whole, and a text of 1,000 characters.
  @whole 1_000_000
  @max_progress_bytes 4_000
  @up [:ready, :draining]
  @spawn_opts [
    message_queue_data: :off_heap,
    fullsweep_after: 20,
    max_heap_size: %{size: @max_heap_words, kill: true, error_logger: true}
  ]

  defstruct [
    :instance,
    :no,
    :pool,
    :port,
    :os_pid,
    :framer,
    :log,
    :paths,
    :boot_timer,
    :ready_at,
    :drain,
    :stalling,
    status: :starting,
    number: 0,
    in_flight: %{},
    drops: %{},
    outbox: %Outbox{},
    failures: 0,
    attempted: false
  ]

  @type activation ::
          {class :: String.t(), id :: String.t(), state :: binary(), args :: binary(),
           version :: non_neg_integer()}

  @spec start_link({atom(), pos_integer()}) :: GenServer.on_start()
  def start_link({name, no}), do: GenServer.start_link(__MODULE__, {name, no}, spawn_opt: @spawn_opts)

  @spec child_spec({atom(), pos_integer()}) :: Supervisor.child_spec()
  def child_spec({_name, no} = argument),
    do: %{id: {__MODULE__, no}, start: {__MODULE__, :start_link, [argument]}, shutdown: 10_000}

  @doc "Hands a message over. The agent is told with `{:done, ...}` or `{:worker_down, ...}`."
  @spec deliver(pid(), pid(), term(), tuple(), activation() | nil) :: :ok
  def deliver(worker, agent, key, deliver, activation) do
    send(worker, {:deliver, agent, key, deliver, activation})
    :ok
  end

  @doc """
  Hands several casts of one agent over at once. The agent is told with `{:burst_done, ...}` how many of them have ended well and
  how many come back; what becomes of the one between, if any, is told as ever. Together they count as one that is under way.
  """
  @spec deliver_burst(
          pid(),
          pid(),
          [term(), ...],
          {pos_integer(), non_neg_integer(), binary()},
          activation() | nil
        ) ::
          :ok
  def deliver_burst(worker, agent, keys, burst, activation) do
    send(worker, {:deliver_burst, agent, keys, burst, activation})
    :ok
  end

  @doc "Cancels a message that was handed over."
  @spec cancel(pid(), term(), pid()) :: :ok
  def cancel(worker, key, agent) do
    send(worker, {:cancel, key, agent})
    :ok
  end

  @doc "Lets go of an activation. The agent gets `{:dropped, epoch}` once nothing of it runs."
  @spec drop(pid(), pid(), pos_integer(), non_neg_integer()) :: :ok
  def drop(worker, agent, handle, epoch) do
    send(worker, {:drop, agent, handle, epoch})
    :ok
  end

  @doc "Tells that an activation is not let go of although its message was cancelled: a thread or a handler doesn't end."
  @spec stuck(pid(), pid(), term(), {pos_integer(), non_neg_integer()}) :: :ok
  def stuck(worker, agent, key, activation) do
    send(worker, {:stuck, agent, key, activation})
    :ok
  end

  @doc "Lets a stream send so many chunks more."
  @spec credit(pid(), pos_integer(), pos_integer()) :: :ok
  def credit(worker, number, count) do
    send(worker, {:credit, number, count})
    :ok
  end

  @doc "Hands a chunk to the handler that reads a stream by this request."
  @spec item(pid(), non_neg_integer(), binary()) :: :ok
  def item(worker, ref, body) do
    send(worker, {:item, ref, body})
    :ok
  end

  @doc "Answers a request that a handler made."
  @spec result(pid(), non_neg_integer(), non_neg_integer(), binary()) :: :ok
  def result(worker, ref, status, body) do
    send(worker, {:result, ref, status, body})
    :ok
  end

  @doc "Has a worker that is ready replaced, after what runs in it has ended."
  @spec recycle(Instance.t(), pos_integer()) :: :ok | {:error, Error.t()}
  def recycle(instance, no) do
    case Enum.find(Pool.all(instance), &(&1.worker == no)) do
      %{status: :ready, pid: pid} ->
        send(pid, {:recycle, "an operator asked for it"})
        :ok

      nil ->
        {:error, Error.new(:not_found, "there is no worker #{no}")}

      %{status: status} ->
        {:error, Error.new(:not_found, "worker #{no} is #{status}, so there is nothing to replace")}
    end
  end

  @doc "Runs a function of a Python module. The caller gets `{ref, status, body}` at its alias."
  @spec run(pid(), {reference(), reference()}, binary(), binary(), binary(), non_neg_integer()) :: :ok
  def run(worker, reply_to, module, function, args, deadline) do
    send(worker, {:run, reply_to, module, function, args, deadline})
    :ok
  end

  ## Callbacks

  @impl GenServer
  def init({name, no}) do
    Process.flag(:trap_exit, true)
    instance = Instance.fetch!(name)
    predecessor = Enum.find(Pool.all(instance), &(&1.worker == no))

    # Enrolled first: an agent that finds the predecessor's pid still there has claimed its message before we look.
    role = Pool.enroll(instance, no, self())
    _told = predecessor && bury(instance, predecessor)
    paths = Launch.paths(instance, no)
    pool = Pool.pool(instance, no)
    {:ok, log} = Log.start_link(instance: instance, worker: no, pool: pool, path: paths.log)
    state = %__MODULE__{instance: instance, no: no, pool: pool, log: log, paths: paths}
    Process.send_after(self(), :tell_clock, @clock_ms)

    # The start of an interpreter takes a processor for a while: the others come first.
    if role == :spare and not Pool.all_shared_ready?(instance, pool),
      do: {:ok, %{state | status: :waiting}},
      else: {:ok, state, {:continue, :boot}}
  end

  # It was killed, not its interpreter alone: the port closed with it, and nobody told the agents.
  defp bury(instance, %{worker: no, pid: pid, os_pid: os_pid}) do
    if os_pid, do: Reaper.kill(instance, os_pid)
    Pool.down(instance, no, :starting, Error.new(:worker_down, "the process of worker #{no} ended"))
    ids = Mailbox.busy_agents(instance) ++ Address.in_transition(instance, no)
    for id <- Enum.uniq(ids), do: tell_worker_lost(instance, no, id, pid)
  end

  defp tell_worker_lost(instance, no, id, lost) do
    with {:ok, %{worker: ^no, pid: pid}} when is_pid(pid) <- Address.fetch(instance, id),
         do: send(pid, {:worker_lost, lost})
  end

  @impl GenServer
  def handle_continue(:boot, state), do: {:noreply, boot(state)}

  @impl GenServer
  def handle_info({:deliver, agent, key, deliver, activation}, state) do
    if state.status == :ready do
      state |> push_activation(deliver, activation) |> push_message(agent, key, deliver) |> continue()
    else
      Pool.finish(state.instance, state.no)
      send(agent, {:worker_down, key, false, not_ready(state), nil})
      {:noreply, state}
    end
  end

  def handle_info({:deliver_burst, agent, keys, burst, activation}, state) do
    if state.status == :ready do
      state |> push_activation(burst, activation) |> push_burst(agent, keys, burst) |> continue()
    else
      Pool.finish(state.instance, state.no)
      for key <- keys, do: send(agent, {:worker_down, key, false, not_ready(state), nil})
      {:noreply, state}
    end
  end

  def handle_info({port, {:data, chunk}}, %{port: port} = state) do
    case Frame.push(state.framer, chunk) do
      {:ok, payloads, framer} -> %{state | framer: framer} |> receive_payloads(payloads) |> continue()
      {:error, reason} -> {:noreply, protocol_error(state, reason)}
    end
  end

  def handle_info({:result, ref, status, body}, %{status: up} = state) when up in @up,
    do: state |> push({Wire.op_result(), ref, status, body}, byte_size(body)) |> continue()

  def handle_info({:result, _ref, _status, _body}, state), do: {:noreply, state}

  def handle_info({:run, reply_to, module, function, args, deadline}, %{status: :ready} = state) do
    number = state.number + 1

    %{
      state
      | number: number,
        in_flight: Map.put(state.in_flight, number, {:run, reply_to, {module, function}})
    }
    |> push({Wire.op_run(), number, module, function, args, deadline}, byte_size(args))
    |> continue()
  end

  def handle_info({:run, reply_to, _module, _function, _args, _deadline}, state) do
    reply_run(reply_to, 1, not_ready(state))
    {:noreply, state}
  end

  def handle_info({:credit, number, count}, %{status: up} = state) when up in @up,
    do: state |> push({Wire.op_credit(), number, count}, 0) |> continue()

  def handle_info({:item, ref, body}, %{status: up} = state) when up in @up,
    do: state |> push({Wire.op_item(), ref, body}, byte_size(body)) |> continue()

  def handle_info({about, _number, _rest}, state) when about in [:credit, :item], do: {:noreply, state}

  def handle_info({:cancel, key, agent}, state) do
    case Enum.find(state.in_flight, &match?({_number, {^agent, ^key}}, &1)) do
      {number, _entry} -> state |> push({Wire.op_cancel(), number}, 0) |> continue()
      nil -> continue(state)
    end
  end

  def handle_info({:cancel_run, ref}, state) do
    case Enum.find(state.in_flight, &match?({_number, {:run, {^ref, _alias}, _function}}, &1)) do
      {number, _entry} -> state |> push({Wire.op_cancel(), number}, 0) |> continue()
      nil -> continue(state)
    end
  end

  def handle_info({:drop, agent, handle, epoch}, %{status: up} = state) when up in @up do
    %{state | drops: Map.put(state.drops, {handle, epoch}, agent)}
    |> push({Wire.op_drop(), handle, epoch}, 0)
    |> continue()
  end

  def handle_info({:drop, agent, _handle, epoch}, state) do
    send(agent, {:dropped, epoch})
    {:noreply, state}
  end

  # Where others are under way the interpreter has something to do, and who is about to hand a message over may come along:
  # a frame of many costs both sides little more than a frame of one.
  def handle_info(:timeout, %{outbox: %{count: count, yielded?: false}, in_flight: in_flight} = state)
      when map_size(in_flight) > count do
    :erlang.yield()
    continue(%{state | outbox: %{state.outbox | yielded?: true}})
  end

  def handle_info(:timeout, state), do: {:noreply, flush(state)}
  def handle_info(:retry, state), do: state |> write() |> continue()

  def handle_info(:tell_clock, state) do
    Process.send_after(self(), :tell_clock, @clock_ms)

    # Who was killed between being counted in and handing its message over is counted in for ever.
    if state.in_flight == %{}, do: Pool.none_under_way(state.instance, state.no)

    if state.status in @up,
      do: state |> push({Wire.op_clock(), Instance.now_ms()}, 0) |> continue(),
      else: {:noreply, state}
  end

  def handle_info({port, {:exit_status, _status}}, %{port: port, boot_timer: :over} = state),
    do: {:noreply, died(state, :ours, too_late(state))}

  def handle_info(
        {port, {:exit_status, @ended_by_dump}},
        %{port: port, stalling: {:stall, _, _} = cause} = state
      ),
      do: {:noreply, died(state, cause)}

  def handle_info({port, {:exit_status, status}}, %{port: port} = state),
    do: {:noreply, died(state, {:exit, status})}

  def handle_info({:EXIT, port, _reason}, %{port: port} = state), do: {:noreply, died(state, :lost)}

  # From Pyre.Worker.Pulse: the process is gone. How it ended is on its way, unless something else holds its pipe open, ...
  def handle_info({:vanished, os_pid}, %{os_pid: os_pid} = state) do
    Pool.close(state.instance, state.no, :starting)
    Process.send_after(self(), {:lost, os_pid}, @exit_status_ms)
    continue(state)
  end

  def handle_info({:lost, os_pid}, %{os_pid: os_pid} = state), do: {:noreply, died(state, :lost)}

  def handle_info({:stalling, os_pid, stuck, stopped?}, %{os_pid: os_pid} = state),
    do: continue(%{state | stalling: {:stall, stuck, stopped?}})

  # ... or it is there and makes no progress, ...
  def handle_info({:stalled, os_pid, stuck, stopped?}, %{os_pid: os_pid} = state),
    do: {:noreply, died(state, {:stall, stuck, stopped?})}

  # ... or this is how large it is.
  def handle_info({:weighed, os_pid, rss, memory_errors}, %{os_pid: os_pid, status: :ready} = state) do
    case Recycling.verdict(state.instance.config, age(state), state.number, rss, memory_errors) do
      :keep -> continue(state)
      {:drain, reason} -> state |> drain(reason) |> continue()
      :kill -> {:noreply, died(state, {:memory, rss})}
    end
  end

  # ... or an operator wants it replaced, or a reload, which leaves what runs more time.
  def handle_info({:recycle, reason}, %{status: :ready} = state), do: state |> drain(reason) |> continue()

  def handle_info({:recycle, reason, timeout}, %{status: :ready} = state),
    do: state |> drain(reason, %{}, timeout) |> continue()

  def handle_info({:recycle, _reason}, state), do: continue(state)
  def handle_info({:recycle, _reason, _timeout}, state), do: continue(state)

  def handle_info({:stuck, agent, key, activation}, %{status: up} = state) when up in @up,
    do: state |> drain_from(agent, key, activation) |> continue()

  def handle_info({:drain_over, os_pid}, %{os_pid: os_pid, drain: %{}} = state),
    do: {:noreply, died(state, :ours)}

  def handle_info({:boot_timeout, os_pid}, %{os_pid: os_pid, status: :starting} = state) do
    # Its stacks tell which file it was importing.
    Reaper.dump(state.instance, os_pid)
    Process.send_after(self(), {:boot_over, os_pid}, @dump_ms)
    continue(%{state | boot_timer: :over})
  end

  def handle_info({:boot_over, os_pid}, %{os_pid: os_pid, status: :starting} = state),
    do: {:noreply, died(state, :ours, too_late(state))}

  def handle_info({about, _earlier}, state)
      when about in [:vanished, :lost, :boot_timeout, :boot_over, :drain_over],
      do: continue(state)

  def handle_info({about, _earlier, _stuck, _stopped}, state) when about in [:stalling, :stalled],
    do: continue(state)

  def handle_info({:weighed, _earlier, _rss, _memory_errors}, state), do: continue(state)

  def handle_info({:stuck, agent, _key, {_handle, epoch}}, state) do
    send(agent, {:dropped, epoch})
    {:noreply, state}
  end

  def handle_info(:boot, %{port: nil} = state), do: {:noreply, boot(%{state | status: :starting})}
  def handle_info(:boot, state), do: continue(state)
  def handle_info({:EXIT, log, reason}, %{log: log} = state), do: {:stop, {:log_died, reason}, state}
  # The reports of a port that was closed already.
  def handle_info({port, _late}, state) when is_port(port), do: continue(state)
  def handle_info({:EXIT, port, _late}, state) when is_port(port), do: continue(state)
  def handle_info({:EXIT, _parent, reason}, state), do: {:stop, reason, state}

  @impl GenServer
  def terminate(_reason, %{port: nil}), do: :ok

  def terminate(_reason, state) do
    if state.status in @up, do: stop_politely(state)
    if state.os_pid, do: Reaper.kill(state.instance, state.os_pid)
    Launch.close(state.port)
  end

  defp stop_politely(%{port: port} = state) do
    _state = state |> push({Wire.op_stop(), @stop_grace_ms}, 0) |> flush()

    receive do
      {^port, {:exit_status, _status}} -> :ok
      {:EXIT, ^port, _reason} -> :ok
    after
      2 * @stop_grace_ms -> :ok
    end
  end

  ## Helpers: start and end of an interpreter

  defp boot(%{instance: instance, no: no} = state) do
    case Launch.start(instance, no, state.paths) do
      {:ok, port, os_pid, pinned} -> greet(%{state | port: port, os_pid: os_pid}, pinned)
      {:error, error} -> failed(state, error)
    end
  end

  defp greet(%{instance: instance, os_pid: os_pid} = state, pinned) do
    timer = Process.send_after(self(), {:boot_timeout, os_pid}, instance.config.start_timeout)
    framer = Frame.new(Wire.max_frame_bytes())

    %{state | status: :starting, framer: framer, boot_timer: timer, number: 0, stalling: nil}
    |> push(Launch.hello(instance, state.no, pinned), 0)
    |> flush()
  end

  defp ready(%{instance: instance} = state, version, python, info) do
    with :ok <- check_version(version),
         {:ok, info} <- MsgPack.decode(info) do
      _left = is_reference(state.boot_timer) && Process.cancel_timer(state.boot_timer)
      Generations.imported(instance, state.no, info)
      Pool.ready(instance, state.no)
      Generations.ready(instance, state.no, info)
      Instance.notify(instance, :starter, :worker_ready)
      start_spare(instance, state.pool)
      Telemetry.event([:worker, :start], %{system_time: System.system_time()}, metadata(state))
      kind = "Python #{python}, #{info["loop"]}, the codec in #{info["codec"]}"
      Logger.debug("worker #{state.no} is ready: #{kind}, os pid #{state.os_pid}")

      # HELLO's clock is as old as the imports took.
      %{state | status: :ready, ready_at: Instance.now_ms()}
      |> push({Wire.op_clock(), Instance.now_ms()}, 0)
    else
      {:error, %Error{message: message}} -> protocol_error(state, message)
    end
  end

  defp start_spare(instance, pool) do
    with true <- Pool.all_shared_ready?(instance, pool),
         %{pid: pid} when is_pid(pid) <-
           Enum.find(Pool.all(instance), &(&1.role == :spare and &1.pool == pool and &1.os_pid == nil)),
         do: send(pid, :boot)
  end

  defp check_version(version) do
    if version == Wire.version(),
      do: :ok,
      else:
        {:error,
         Error.new(:protocol, "it speaks version #{inspect(version)} of the protocol, not #{Wire.version()}")}
  end

  defp protocol_error(state, reason) do
    Telemetry.event([:wire, :invalid], %{count: 1}, Map.put(metadata(state), :reason, reason))
    died(state, :ours, "it broke the protocol: #{reason}")
  end

  # Ends an interpreter, however it came to that: the whole group is killed, and everybody who waits is told.
  defp died(state, cause, reason \\ nil)
  defp died(%{port: nil} = state, _cause, _reason), do: state

  # It was asked to end, nothing ran any more, and it did.
  defp died(%{drain: %{stopping?: true} = drain} = state, _cause, nil),
    do: state |> buried(recycling(state, drain), %{}) |> recycled(drain)

  defp died(%{drain: %{} = drain} = state, :ours, nil),
    do: state |> buried(recycling(state, drain), PostMortem.certain(drain.stuck)) |> recycled(drain)

  defp died(state, cause, reason) do
    state = %{state | in_flight: under_way(state.in_flight)}
    stacks = PostMortem.stacks(state.paths.stacks)
    lines = PostMortem.early_lines(state.paths.stderr) ++ Log.take_tail(state.log)
    kind = if state.status in @up, do: :worker_down, else: :worker_start

    error =
      PostMortem.error(
        kind,
        %{worker: state.no, os_pid: state.os_pid, pool: state.pool},
        reason || PostMortem.words(cause),
        lines,
        stacks
      )

    unfinished = Map.keys(state.in_flight)
    blame = PostMortem.blame(cause, Recorder.left(state.paths.recorder), unfinished, stacks)
    state |> buried(error, blame) |> failed(error)
  end

  defp buried(%{instance: instance} = state, error, blame) do
    Launch.close(state.port)
    if state.os_pid, do: Reaper.kill(instance, state.os_pid)
    # First, so that whoever is told does not turn to this worker again.
    Pool.close(instance, state.no, :starting)
    Pool.none_under_way(instance, state.no)
    %{begun: begun} = Recorder.left(state.paths.recorder)
    evidence = PostMortem.evidence(state, error)

    for {number, entry} <- state.in_flight |> under_way() |> Enum.sort(),
        do: tell_down(instance, entry, number <= begun, error, PostMortem.charge(blame, number, evidence))

    for {{_handle, epoch} = activation, agent} <- state.drops do
      if stuck?(state, activation), do: send(agent, {:blamed, evidence})
      send(agent, {:dropped, epoch})
    end

    _left = is_reference(state.boot_timer) && Process.cancel_timer(state.boot_timer)
    %{state | port: nil, in_flight: %{}, drops: %{}, outbox: %Outbox{}}
  end

  defp failed(%{instance: instance, no: no} = state, error) do
    Instance.count(instance, :worker_deaths)
    steady? = state.status in @up and Instance.now_ms() - state.ready_at >= @steady_ms
    failures = if state.status in @up and (steady? or state.failures == 0), do: 0, else: state.failures + 1
    Pool.down(instance, no, if(state.status in @up, do: :starting, else: :failed), error)

    Telemetry.event(
      [:worker, :stop],
      %{system_time: System.system_time()},
      Map.put(metadata(state), :error, error)
    )

    Logger.error(Exception.message(error), worker: no, pyre: instance.name)
    Instance.notify(instance, :starter, :worker_failed)
    Generations.failed(instance, no, error)
    Process.send_after(self(), :boot, Backoff.delay_ms(failures, state.status in @up))
    %{state | status: :starting, os_pid: nil, failures: max(failures, 1), boot_timer: nil, drain: nil}
  end

  defp too_late(state), do: "it did not become ready within #{state.instance.config.start_timeout} ms"
  defp not_ready(state), do: Error.new(:worker_down, "worker #{state.no} is not ready", %{begun: false})

  defp metadata(state),
    do: %{name: state.instance.name, worker: state.no, pool: state.pool, os_pid: state.os_pid}

  ## Helpers: a replacement that loses nothing

  # What runs may end, what is new goes to others. Then the interpreter is asked to end, or killed where it can't.
  defp drain(state, reason, stuck \\ %{}, timeout \\ nil)
  defp drain(%{drain: %{}} = state, _reason, _stuck, _timeout), do: state

  defp drain(%{instance: instance, no: no} = state, reason, stuck, timeout) do
    Instance.count(instance, :worker_recycles)
    Logger.info("worker #{no} is replaced: #{reason}", worker: no, pyre: instance.name)
    Pool.close(instance, no, :draining)
    Process.send_after(self(), {:drain_over, state.os_pid}, timeout || instance.config.drain_timeout)
    drained(%{state | status: :draining, drain: %{reason: reason, stuck: stuck, stopping?: false}})
  end

  # The message was cancelled, but a thread or the handler itself goes on. Nobody else may suffer from it.
  defp drain_from(state, agent, key, activation) do
    number = Enum.find_value(state.in_flight, fn {number, entry} -> entry == {agent, key} && number end)

    if number != nil or Map.get(state.drops, activation) == agent do
      state = drain(state, "a handler goes on although it was cancelled", %{activation => number})
      also_stuck(state, activation, number)
    else
      state
    end
  end

  # Another one may have begun the drain.
  defp also_stuck(%{drain: %{stuck: stuck} = drain} = state, activation, number)
       when not is_map_key(stuck, activation),
       do: drained(%{state | drain: %{drain | stuck: Map.put(stuck, activation, number)}})

  defp also_stuck(state, _activation, _number), do: state

  # It has ended after all.
  defp unstick(%{drain: %{stuck: stuck} = drain} = state, activation),
    do: %{state | drain: %{drain | stuck: Map.delete(stuck, activation)}}

  defp unstick(state, _activation), do: state

  # Is only left what won't end?
  defp drained(%{drain: %{stopping?: false, stuck: stuck} = drain} = state) do
    numbers = Map.values(stuck)
    runs? = Enum.any?(state.in_flight, fn {number, _entry} -> number not in numbers end)

    cond do
      runs? -> state
      stuck != %{} -> died(state, :ours)
      true -> stop(%{state | drain: %{drain | stopping?: true}})
    end
  end

  defp drained(state), do: state

  defp stop(state) do
    Process.send_after(self(), {:drain_over, state.os_pid}, 2 * @stop_grace_ms)
    state |> push({Wire.op_stop(), @stop_grace_ms}, 0) |> flush()
  end

  defp stuck?(%{drain: %{stuck: stuck}}, activation), do: is_map_key(stuck, activation)
  defp stuck?(_state, _activation), do: false

  defp recycling(state, drain),
    do: Error.new(:worker_down, "worker #{state.no} was replaced: #{drain.reason}", %{worker: state.no})

  defp recycled(state, _drain) do
    Pool.recycled(state.instance, state.no)
    send(self(), :boot)
    %{state | status: :starting, os_pid: nil, boot_timer: nil, drain: nil}
  end

  defp age(%{ready_at: nil}), do: 0
  defp age(state), do: Instance.now_ms() - state.ready_at

  ## Helpers: what comes from the interpreter

  defp receive_payloads(state, []), do: state
  defp receive_payloads(%{port: nil} = state, _rest), do: state

  defp receive_payloads(state, [payload | rest]) do
    case Frame.decode(payload) do
      {:ok, envelopes} -> state |> receive_envelopes(envelopes) |> receive_payloads(rest)
      {:error, reason} -> protocol_error(state, reason)
    end
  end

  # The port is nil once an envelope of this batch was refused.
  defp receive_envelopes(state, envelopes) do
    Enum.reduce(envelopes, state, fn
      _envelope, %{port: nil} = state -> state
      envelope, state -> receive_envelope(envelope, state)
    end)
  end

  defp receive_envelope({Wire.op_done(), number, status, body, new_state, effects}, state)
       when is_integer(number) and is_integer(status) and is_binary(body) and
              (is_binary(new_state) or new_state == []) and
              is_list(effects) do
    case Map.pop(state.in_flight, number) do
      {nil, _in_flight} ->
        protocol_error(state, "DONE for the unknown message #{number}")

      {{:run, reply_to, _function}, in_flight} ->
        reply_run(reply_to, status, body)
        drained(%{state | in_flight: in_flight})

      {{agent, key}, in_flight} ->
        send(agent, {:done, key, status, body, new_state, effects})
        Pool.finish(state.instance, state.no)
        drained(%{state | in_flight: in_flight})
    end
  end

  defp receive_envelope({Wire.op_burst_done(), first, ended, changes, new_state, back}, state)
       when is_integer(first) and is_integer(ended) and is_integer(changes) and is_integer(back) and
              ended >= 0 and back >= 0 and
              changes in 0..ended//1 and (is_binary(new_state) or new_state == []) do
    with {{:burst, agent, keys}, in_flight} <- Map.pop(state.in_flight, first),
         {:ok, left} <- left(keys, ended, back) do
      send(agent, {:burst_done, hd(keys), ended, changes, new_state, back})
      burst_done(%{state | in_flight: in_flight}, first + ended, agent, left)
    else
      _unknown -> protocol_error(state, "BURST_DONE for the unknown message #{first}")
    end
  end

  defp receive_envelope({Wire.op_request(), number, ref, verb, target, name, body, timeout_ms}, state)
       when is_integer(number) and is_integer(ref) and is_integer(verb) and is_binary(target) and
              is_binary(name) and
              is_binary(body) and is_integer(timeout_ms) do
    case state.in_flight do
      %{^number => {agent, key}} when is_pid(agent) ->
        send(agent, {:request, key, self(), ref, verb, target, name, body, timeout_ms})
        state

      _ended ->
        push(state, {Wire.op_result(), ref, Wire.result_error(), stale_activation()}, 0)
    end
  end

  # A chunk of a message that has ended meanwhile concerns nobody.
  defp receive_envelope({Wire.op_chunk(), number, body}, state) when is_integer(number) and is_binary(body) do
    tell_agent(state, number, &{:chunk, &1, self(), number, body})
  end

  defp receive_envelope({Wire.op_read(), number, ref, count}, state)
       when is_integer(number) and is_integer(ref) and is_integer(count) and count > 0 do
    tell_agent(state, number, &{:read, &1, ref, count})
  end

  defp receive_envelope({Wire.op_withdraw(), number, ref}, state) when is_integer(number) and is_integer(ref),
    do: tell_agent(state, number, &{:withdraw, &1, ref})

  defp receive_envelope({Wire.op_dropped(), handle, epoch}, state) do
    {agent, drops} = Map.pop(state.drops, {handle, epoch})
    if agent, do: send(agent, {:dropped, epoch})
    drained(unstick(%{state | drops: drops}, {handle, epoch}))
  end

  defp receive_envelope({Wire.op_progress(), number, fraction, text}, state)
       when is_integer(number) and (fraction == [] or fraction in 0..@whole) and is_binary(text) and
              byte_size(text) <= @max_progress_bytes do
    with %{^number => {agent, key}} when is_pid(agent) <- state.in_flight,
         do: send(agent, {:progress, key, self(), fraction, text})

    state
  end

  defp receive_envelope({Wire.op_ready(), version, python, _os_pid, info}, %{status: :starting} = state)
       when is_binary(python) and is_binary(info),
       do: ready(state, version, python, info)

  defp receive_envelope(envelope, state),
    do:
      protocol_error(
        state,
        "an envelope that nobody understands: #{inspect(envelope, limit: 8, printable_limit: 100)}"
      )

  defp left(keys, ended, back) do
    case length(keys) - ended - back do
      0 -> {:ok, nil}
      1 -> {:ok, Enum.at(keys, ended)}
      _too_many_or_few -> :error
    end
  end

  defp burst_done(state, _number, _agent, nil) do
    Pool.finish(state.instance, state.no)
    drained(state)
  end

  # One goes on alone.
  defp burst_done(state, number, agent, key),
    do: %{state | in_flight: Map.put(state.in_flight, number, {agent, key})}

  # The messages under way, each by its number: a burst has one entry as long as it runs.
  defp under_way(in_flight) do
    Enum.reduce(in_flight, in_flight, fn
      {first, {:burst, agent, keys}}, in_flight ->
        for {key, number} <- Enum.with_index(keys, first), into: in_flight, do: {number, {agent, key}}

      _one, in_flight ->
        in_flight
    end)
  end

  defp tell_agent(state, number, message) do
    with %{^number => {agent, key}} when is_pid(agent) <- state.in_flight, do: send(agent, message.(key))
    state
  end

  defp stale_activation,
    do: Body.error(Error.new(:stale_activation, "the message that made this request has ended"))

  defp tell_down(instance, {:run, reply_to, function}, begun?, error, charge) do
    Run.blame(instance, function, charge)
    reply_run(reply_to, 1, with_begun(error, begun?))
  end

  defp tell_down(_instance, {agent, key}, begun?, error, charge),
    do: send(agent, {:worker_down, key, begun?, with_begun(error, begun?), charge})

  defp with_begun(error, begun?), do: %{error | details: Map.put(error.details, :begun, begun?)}

  defp reply_run({ref, alias}, status, body), do: send(alias, {ref, status, body})

  ## Helpers: what goes to the interpreter

  defp push_activation(state, _deliver, nil), do: state

  defp push_activation(state, deliver_or_burst, {class, id, committed, args, version}) do
    push(
      state,
      {Wire.op_activate(), elem(deliver_or_burst, 0), elem(deliver_or_burst, 1), class, id, committed, args,
       version},
      byte_size(committed) + byte_size(args)
    )
  end

  defp push_message(state, agent, key, {handle, epoch, kind, handler, args, deadline, extra}) do
    number = state.number + 1

    push(
      %{state | number: number, in_flight: Map.put(state.in_flight, number, {agent, key})},
      {Wire.op_deliver(), number, handle, epoch, kind, handler, args, deadline, extra},
      byte_size(args)
    )
  end

  defp push_burst(state, agent, keys, {handle, epoch, deliveries}) do
    first = state.number + 1
    last = state.number + length(keys)
    in_flight = Map.put(state.in_flight, first, {:burst, agent, keys})

    push(
      %{state | number: last, in_flight: in_flight},
      {Wire.op_burst(), first, handle, epoch, deliveries},
      byte_size(deliveries)
    )
  end

  defp push(state, envelope, bytes), do: %{state | outbox: Outbox.push(state.outbox, envelope, bytes)}

  # With something to write: when the mailbox is empty (a timeout of 0), or at once when the batch is large.
  defp continue(%{outbox: outbox} = state) do
    case Outbox.urgency(outbox) do
      :none -> {:noreply, state}
      :idle -> {:noreply, state, 0}
      :now -> {:noreply, flush(state)}
    end
  end

  defp flush(%{port: nil} = state), do: %{state | outbox: %Outbox{}}
  defp flush(state), do: state.outbox |> Outbox.flush(state.port) |> written(state)

  defp write(%{port: nil} = state), do: state
  defp write(state), do: state.outbox |> Outbox.write(state.port) |> written(state)

  defp written({:ok, outbox}, state), do: %{state | outbox: outbox}

  defp written({:full, outbox}, state) do
    Process.send_after(self(), :retry, @retry_ms)
    %{state | outbox: outbox}
  end
end
