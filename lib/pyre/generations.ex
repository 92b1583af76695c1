defmodule Pyre.Generations do
  @moduledoc false

  # Generations of agents' code. The first begins with the instance; a reload begins the next: in each pool one interpreter more, the canary,
  # imports it; a share of the agents tries it there; then all interpreters change over, in each pool one after the other. The rows are
  # Pyre.Generations.Table's, who tries it and how that is judged is Pyre.Generations.Trial's.
  #
  # This process leads a reload and decides; what it decided is in the table and in the instance's flags, from which a successor
  # goes on. Nobody waits for it but who asked for the reload: an interpreter that starts reads its generation from the table.

  use GenServer

  require Logger

  alias Pyre.Agent.{Restarting, Restarts, Starter}
  alias Pyre.{Address, Classes, Error, Instance, Pools}
  alias Pyre.Generations.{Declarations, Sources, Table, Trial}
  alias Pyre.Worker.{Isolation, Numbers, Pool}

  @sweep_ms 200

  # roll: the reload under way. number; canaries, infos: by pool, the canary and what it told; from: who waits; trial?, trial: the trial;
  # leaving, last: the ends of the canaries' processes are awaited.
  defstruct [:instance, :roll]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Begins a generation with what the directories hold now. Returns when all interpreters run it, or when it is rejected."
  @spec reload(Instance.t(), keyword()) :: {:ok, map()} | {:error, Error.t()}
  def reload(instance, opts) do
    with pid when is_pid(pid) <- Instance.whereis(instance, :generations) do
      GenServer.call(pid, {:reload, Map.new(opts)}, opts[:timeout])
    else
      nil -> {:error, Error.new(:not_ready, "who leads reloads is being restarted; try again")}
    end
  catch
    :exit, {:timeout, _call} ->
      {:error,
       Error.new(:timeout, "the reload goes on: not all interpreters run it within #{opts[:timeout]} ms")}

    :exit, _down ->
      {:error, Error.new(:not_ready, "who leads reloads was restarted; look whether the reload goes on")}
  end

  @doc "The generations, the newest first, as maps."
  @spec all(Instance.t()) :: [map()]
  def all(instance) do
    for {number, status, at, _pinned, reason} <- Table.all(instance) do
      workers =
        for %{generation: ^number, worker: no, os_pid: pid, role: role} when is_integer(pid) <-
              Pool.all(instance),
            role != :leaving,
            do: no

      %{
        generation: number,
        status: status,
        at: DateTime.from_unix!(at, :millisecond),
        reason: reason,
        workers: Enum.sort(workers)
      }
    end
  end

  @doc "What an interpreter that is started now is to run: the candidate in the canary, what it was kept for in one that was kept, the current one elsewhere."
  @spec for_worker(Instance.t(), pos_integer()) :: {pos_integer(), Table.pinned()}
  def for_worker(instance, no) do
    number =
      case {Pool.role(instance, no), Table.numbers(instance, [:importing, :trial])} do
        {:canary, [candidate]} -> candidate
        {{:kept, rejected}, _any} -> rejected
        _other -> Instance.generation(instance)
      end

    {number, Table.pinned(instance, number)}
  end

  @doc "An interpreter is about to be ready. Its classes are the instance's where it runs the current generation."
  @spec imported(Instance.t(), pos_integer(), map()) :: :ok
  def imported(instance, no, info) do
    if Pool.generation(instance, no) == Instance.generation(instance),
      do: Classes.put(instance, Pool.pool(instance, no), Pool.generation(instance, no), info),
      else: :ok
  end

  @doc "An interpreter is ready."
  @spec ready(Instance.t(), pos_integer(), map()) :: :ok
  def ready(instance, no, info),
    do: Instance.notify(instance, :generations, {:ready, no, Pool.generation(instance, no), info})

  @doc "An interpreter died, or could not be started."
  @spec failed(Instance.t(), pos_integer(), Error.t()) :: :ok
  def failed(instance, no, error), do: Instance.notify(instance, :generations, {:failed, no, error})

  @doc """
  An agent crashed, or can't run with the code of its worker, and that is written down. Counts against a generation that is being tried;
  `weight` is 2 for what will happen to every agent of the class alike.
  """
  @spec crashed(Instance.t(), Pyre.Agent.t(), Pyre.error(), 1..2) :: :ok
  def crashed(_instance, %{worker: nil}, _error, _weight), do: :ok

  def crashed(instance, %{id: id, worker: {no, _pid}}, error, weight) do
    if Instance.trial(instance) || Numbers.canary?(instance.config, no),
      do: Instance.notify(instance, :generations, {:crashed, no, id, error, weight}),
      else: :ok
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :generations)

    if Table.all(instance) == [],
      do: {:ok, %__MODULE__{instance: begin_first(instance)}},
      else: {:ok, %__MODULE__{instance: instance}, {:continue, :resume}}
  end

  # A predecessor died. What was not decided yet is not: the canary ends. What was, is carried on.
  @impl GenServer
  def handle_continue(:resume, %{instance: instance} = state) do
    sweep_later(instance)
    roll = %{canaries: canaries(instance), infos: %{}, from: nil, trial: nil}

    case {Table.numbers(instance, [:importing]), Table.numbers(instance, [:trial]),
          Table.numbers(instance, [:rolling])} do
      {[number], [], _rolling} ->
        {:noreply, give_up(%{state | roll: Map.put(roll, :number, number)}, "who led the reload died", [])}

      {[], [number], _rolling} ->
        {:noreply, take_back(%{state | roll: Map.put(roll, :number, number)}, "who led the reload died")}

      {[], [], [number]} ->
        {:noreply, advance(%{state | roll: Map.put(roll, :number, number)})}

      {[], [], []} ->
        {:noreply, state}
    end
  end

  # Their role may be that of a spare by now.
  defp canaries(instance) do
    for %{worker: no, role: role, pool: pool} <- Pool.all(instance),
        Numbers.canary?(instance.config, no) and not match?({:kept, _number}, role),
        into: %{},
        do: {pool, no}
  end

  @impl GenServer
  def handle_call({:reload, opts}, from, %{roll: nil} = state) do
    case prepare(state.instance, opts.force) do
      {:begun, number, canaries} ->
        roll = %{number: number, canaries: canaries, infos: %{}, from: from, trial?: opts.trial, trial: nil}
        {:noreply, %{state | roll: roll}}

      unchanged_or_error ->
        {:reply, unchanged_or_error, state}
    end
  end

  def handle_call({:reload, _opts}, _from, state) do
    {:reply, {:error, Error.new(:not_ready, "another reload is under way; try again when it is over")}, state}
  end

  # It is over; canaries that are being ended may still have become ready, or have failed.
  @impl GenServer
  def handle_info({:ready, _no, _number, _info}, %{roll: %{leaving: _monitors}} = state),
    do: {:noreply, state}

  def handle_info({:failed, _no, _error}, %{roll: %{leaving: _monitors}} = state), do: {:noreply, state}

  def handle_info({:ready, no, number, info}, %{roll: %{number: number, trial: nil} = roll} = state) do
    pool = canary_of(roll, no)

    if pool != nil and Instance.generation(state.instance) != number,
      do: {:noreply, judge(%{state | roll: put_in(roll.infos[pool], info)})},
      else: {:noreply, advance(state)}
  end

  # Others may have begun to start before the current generation was decided on.
  def handle_info({:ready, _no, _number, _info}, state), do: {:noreply, advance(state)}

  def handle_info({:failed, no, error}, %{instance: instance, roll: %{number: number} = roll} = state) do
    pool = canary_of(roll, no)

    cond do
      # What can't be started now runs nothing older.
      Instance.generation(instance) == number -> {:noreply, advance(state)}
      pool == nil -> {:noreply, state}
      roll.trial == nil -> {:noreply, without(state, pool, error)}
      true -> {:noreply, take_back(state, "its interpreter died: #{Exception.message(error)}")}
    end
  end

  def handle_info({:failed, _no, _error}, state), do: {:noreply, state}

  def handle_info({:crashed, no, id, error, weight}, %{roll: %{trial: %Trial{} = trial} = roll} = state) do
    canary? = canary_of(roll, no) != nil
    trial = Trial.crashed(trial, id, canary?, weight)
    state = %{state | roll: %{roll | trial: trial}}

    if canary? and Trial.worse?(trial),
      do:
        {:noreply,
         take_back(state, "its agents crash more than before, the last one #{id}: #{in_short(error)}")},
      else: {:noreply, state}
  end

  # It had begun before its code was rejected.
  def handle_info({:crashed, no, id, _error, _weight}, %{instance: instance} = state) do
    _forgiven = Enum.any?(kept(instance), &(&1.worker == no)) and forgive(instance, id)
    {:noreply, state}
  end

  def handle_info({:trial_over, number}, %{roll: %{number: number, trial: %Trial{}} = roll} = state),
    do: {:noreply, %{state | roll: %{roll | trial: nil}} |> accept() |> advance()}

  def handle_info({:trial_over, _number}, state), do: {:noreply, state}
  def handle_info(:sweep, state), do: {:noreply, sweep(state)}

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{roll: %{leaving: leaving} = roll} = state),
    do: {:noreply, gone(%{state | roll: %{roll | leaving: List.delete(leaving, monitor)}})}

  def handle_info({:DOWN, _monitor, :process, _pid, _reason}, state), do: {:noreply, state}

  defp canary_of(%{canaries: canaries}, no),
    do: Enum.find_value(canaries, fn {pool, canary} -> canary == no && pool end)

  ## The beginning of a generation

  defp begin_first(instance) do
    pinned =
      with {:ok, listing} <- Sources.scan(instance.config.agents),
           {:ok, pinned} <- Sources.copy(listing, Table.folder(instance, 1)) do
        pinned
      else
        {:error, reason} ->
          Logger.warning("an interpreter that is replaced will run what its directory holds then: #{reason}",
            pyre: instance.name
          )

          []
      end

    Table.put(instance, 1, :current, pinned)
    Instance.put_generation(instance, 1)
    instance
  end

  defp prepare(instance, force?) do
    number = Table.next(instance)

    with {:ok, canaries} <- free_numbers(instance),
         {:ok, listing} <- scan(instance),
         {:ok, pinned} <- copy(listing, Table.folder(instance, number)) do
      if force? or changed?(instance, pinned) do
        Table.put(instance, number, :importing, pinned)
        for {pool, no} <- canaries, do: Pool.reserve(instance, no, :canary, pool)
        for {_pool, no} <- canaries, do: Isolation.start(instance, no)
        {:begun, number, canaries}
      else
        Table.remove(instance, number)
        {:ok, %{generation: Instance.generation(instance), status: :unchanged}}
      end
    end
  end

  # There are few: each that was kept costs an interpreter.
  defp free_numbers(%{config: config} = instance) do
    taken = for %{worker: no} <- Pool.all(instance), do: no
    canaries = Enum.zip(Pools.names(config), Enum.reject(Numbers.canaries(config), &(&1 in taken)))

    case length(canaries) == length(Pools.names(config)) do
      false ->
        numbers = for %{role: {:kept, number}} <- Pool.all(instance), uniq: true, do: number

        {:error,
         Error.new(
           :not_ready,
           "agents still need the rejected generations #{Enum.join(Enum.sort(numbers), ", ")}: stop these agents, give them an older state (Pyre.put_state), or, where one such generation is right after all, reload it without a trial"
         )}

      true ->
        {:ok, Map.new(canaries)}
    end
  end

  defp scan(instance), do: with({:error, reason} <- Sources.scan(instance.config.agents), do: failed(reason))
  defp copy(listing, target), do: with({:error, reason} <- Sources.copy(listing, target), do: failed(reason))
  defp failed(reason), do: {:error, Error.new(:worker_start, reason)}

  defp changed?(instance, pinned) do
    current = Table.pinned(instance, Instance.generation(instance))
    Sources.fingerprint(pinned) != Sources.fingerprint(current)
  end

  ## The canaries have imported it

  # A pool none of whose interpreters could be started before either takes no part: it runs nothing, and holds nobody up.
  defp without(%{instance: instance, roll: roll} = state, pool, error) do
    {no, canaries} = Map.pop!(roll.canaries, pool)

    if canaries != %{} and Enum.all?(Pool.shared(instance, pool), &unable?/1) do
      _pid = Isolation.stop(instance, no)
      judge(%{state | roll: %{roll | canaries: canaries}})
    else
      give_up(state, Exception.message(error), [])
    end
  end

  defp unable?(worker), do: match?(%{last_error: %Error{kind: :worker_start}}, worker)

  defp judge(%{instance: instance, roll: %{canaries: canaries, infos: infos}} = state) do
    if Enum.all?(Map.keys(canaries), &is_map_key(infos, &1)) do
      %{problems: problems} = Classes.foresee(instance, infos)
      before = for %{"file" => file, "pool" => pool} <- Classes.problems(instance), do: {file, pool}

      case Enum.reject(problems, &({&1["file"], &1["pool"]} in before)) do
        [] -> begin_trial(state)
        worse -> give_up(state, Enum.map_join(worse, "; ", &"#{&1["file"]}: #{&1["error"]}"), worse)
      end
    else
      state
    end
  end

  defp begin_trial(%{instance: instance, roll: %{number: number} = roll} = state) do
    %{canary_share: share, canary_period: period_ms, watch: watch?} = instance.config

    with true <- roll.trial? and period_ms > 0 and not watch?,
         {trial, highest} <- Trial.choose(instance, share) do
      Classes.put_tried(instance, roll.infos)
      Table.update(instance, number, :trial)
      Instance.put_trial(instance, {number, highest})
      _moving = move(Trial.pids(instance))
      Process.send_after(self(), {:trial_over, number}, period_ms)
      %{state | roll: %{roll | trial: trial}}
    else
      _nobody_to_try_it -> state |> accept() |> advance()
    end
  end

  # They go when nothing of them runs.
  defp move(pids), do: for(pid <- pids, do: send(pid, :move))

  defp accept(%{instance: instance, roll: %{number: number, canaries: canaries, infos: infos}} = state) do
    before = autostart(instance)
    pools = pools(instance)
    declared = Declarations.read(instance)
    Instance.put_generation(instance, number)
    Classes.replace(instance, number, infos)
    Declarations.withdraw(instance, declared)
    Table.update(instance, number, :rolling)

    # From now on each is a spare like others, of which its pool has one more than usual until the roll is over.
    for {_pool, no} <- canaries, do: Pool.turn(instance, no, :canary, :spare)
    Instance.put_trial(instance, nil)
    Pool.wake(instance)
    changed = pools(instance) -- pools
    _moving = changed != [] and move(for {class, _pool} <- changed, pid <- pids(instance, class), do: pid)
    added = autostart(instance) -- before
    _started = added != [] and spawn(fn -> Starter.autostart(instance, added) end)
    put_in(state.roll[:declared], declared)
  end

  # The interpreter that an agent has come to runs on, with code that has its class no more.
  defp pools(instance), do: for(class <- Classes.all(instance), do: {class["name"], class["pool"]})

  defp pids(instance, class),
    do: for(%{class: ^class, pid: pid} when is_pid(pid) <- Address.all(instance), do: pid)

  defp autostart(instance),
    do: for(class <- Classes.all(instance), [id, args] <- class["autostart"], do: {class["name"], id, args})

  # Nobody has used it yet.
  defp give_up(%{instance: instance, roll: %{number: number, from: from}} = state, reason, problems) do
    Table.update(instance, number, :rejected, reason)
    Table.remove(instance, number)
    error = rejection(instance, number, reason, problems)
    end_canaries(state, fn -> from && GenServer.reply(from, {:error, error}) end)
  end

  # Agents have used it. They go back, each as soon as nothing of it runs; those with a newer state than the current code can take stay,
  # and the interpreter with them; so does each pool's canary until then.
  defp take_back(%{instance: instance, roll: %{number: number} = roll} = state, reason) do
    Table.update(instance, number, :rejected, reason)
    Instance.keep_generation(instance, true)
    for {_pool, no} <- roll.canaries, do: Pool.turn(instance, no, :canary, {:kept, number})
    pids = Trial.pids(instance)
    Instance.put_trial(instance, nil)
    _moving = move(pids)
    Pool.wake(instance)
    _forgiven = roll.trial && Enum.each(roll.trial.crashed, &forgive(instance, &1))
    error = rejection(instance, number, reason, [])
    _told = roll.from && GenServer.reply(roll.from, {:error, error})
    sweep_later(instance)
    %{state | roll: nil}
  end

  # What the rejected code did to it doesn't count.
  defp forgive(instance, id) do
    case Address.fetch(instance, id) do
      {:ok, %{status: :parked} = agent} -> Restarting.unpark(instance, agent)
      {:ok, %{status: :terminated}} -> spawn(fn -> Restarting.restart(instance, id, []) end)
      {:ok, %{handle: handle}} -> Restarts.forgive(instance, handle)
      :error -> :gone
    end
  end

  defp rejection(instance, number, reason, problems) do
    error =
      Error.new(
        :worker_start,
        "generation #{number} is rejected, and generation #{Instance.generation(instance)} runs on: #{reason}",
        %{generation: number, problems: problems}
      )

    Logger.error(Exception.message(error) <> tracebacks(problems), pyre: instance.name)
    error
  end

  defp tracebacks(problems), do: Enum.map_join(problems, &"\n#{&1["traceback"]}")

  # Of a traceback the last line says what it was.
  defp in_short(error) do
    case error |> Exception.message() |> String.split("\n", trim: true) do
      [line] -> line
      [first | lines] -> "#{first} ... #{List.last(lines)}"
    end
  end

  # Their numbers are free for the next reload when they are gone, and only then is this one over.
  defp end_canaries(%{instance: instance, roll: roll} = state, last) do
    monitors = for {_pool, no} <- roll.canaries, do: Process.monitor(Isolation.stop(instance, no))
    gone(%{state | roll: Map.merge(roll, %{leaving: monitors, last: last})})
  end

  defp gone(%{roll: %{leaving: [], last: last}} = state) do
    _told = last.()
    %{state | roll: nil}
  end

  defp gone(state), do: state

  ## Rejected code that is kept

  defp kept(instance), do: for(%{role: {:kept, _number}} = worker <- Pool.all(instance), do: worker)

  defp sweep_later(instance) do
    if kept(instance) == [] do
      Instance.keep_generation(instance, false)
    else
      _timer = Process.send_after(self(), :sweep, @sweep_ms)
      :ok
    end
  end

  # It ends when no agent needs it any more, and what runs in it has ended.
  defp sweep(%{instance: instance} = state) do
    for %{worker: no} = worker <- kept(instance),
        Trial.needed(instance, no) == 0,
        do: end_kept(instance, worker)

    sweep_later(instance)
    state
  end

  defp end_kept(instance, %{worker: no, role: {:kept, number}, status: status}) do
    if status == :ready, do: Pool.close(instance, no, :draining)

    if Pool.under_way(instance, no) <= 0 do
      _pid = Isolation.stop(instance, no)
      # Another pool's may need it still.
      others? = Enum.any?(kept(instance), &(&1.worker != no and &1.role == {:kept, number}))
      unless others?, do: Table.remove(instance, number)
    end
  end

  ## The roll

  # Called whenever a worker became ready, or can't be started. Interpreters of older code end after what runs in them: at once those that
  # have no place to fill, and each shared one as soon as a warm spare of its pool, with the new code, can take its place.
  defp advance(%{roll: %{number: _number}, instance: instance} = state) do
    current = Instance.generation(instance)

    older =
      for worker <- Pool.all(instance),
          worker.generation not in [0, current],
          worker.status != :failed,
          not new_or_kept?(worker.role),
          do: worker

    ready = Enum.filter(older, &(&1.status == :ready))
    {shared, others} = Enum.split_with(ready, &(&1.role == :shared))
    for worker <- others, do: replace(instance, worker)

    cond do
      # Their places are taken by now; the next ones may find other spares.
      shared |> Enum.uniq_by(& &1.pool) |> Enum.filter(&replace_one(instance, &1)) != [] -> advance(state)
      older == [] -> retire_canaries(state)
      true -> state
    end
  end

  # A worker that had begun to start with what has been older code since.
  defp advance(state), do: state

  defp new_or_kept?(role), do: role == :canary or match?({:kept, _number}, role)

  defp replace_one(instance, worker) do
    spare? = Pool.spare?(instance, worker.pool)
    if spare?, do: replace(instance, worker)
    spare?
  end

  defp replace(instance, %{worker: no, pid: pid}) do
    Pool.close(instance, no, :draining)
    send(pid, {:recycle, "its code is older", instance.config.generation_timeout})
  end

  # In each pool one more than usual: where it serves agents by now, another takes its place, and it comes back as a spare.
  defp retire_canaries(%{instance: instance, roll: %{canaries: canaries} = roll} = state) do
    numbers = Map.values(canaries)
    left = for %{worker: no} = worker <- Pool.all(instance), no in numbers, do: worker
    leaving = Enum.filter(left, &leaves?(instance, &1))

    if leaving == left do
      left = for %{pool: pool, worker: no} <- left, into: %{}, do: {pool, no}
      end_canaries(%{state | roll: %{roll | canaries: left}}, fn -> finish(state) end)
    else
      state
    end
  end

  defp leaves?(_instance, %{role: :leaving}), do: true
  defp leaves?(instance, %{role: :spare, worker: no}), do: Pool.turn(instance, no, :spare, :leaving)

  defp leaves?(instance, %{role: :shared, status: :ready, pool: pool} = canary) do
    _waits = Pool.spare?(instance, pool) and replace(instance, canary)
    false
  end

  defp leaves?(_instance, _imports_or_drains), do: false

  defp finish(%{instance: instance, roll: %{number: number, from: from} = roll}) do
    # Who took the roll over doesn't know what was declared before, and looks at every class.
    Declarations.add(instance, Map.get(roll, :declared, %{}))

    for older <- Table.numbers(instance, [:current, :rolling]), older < number do
      Table.remove(instance, older)
      Table.update(instance, older, :retired)
    end

    Table.update(instance, number, :current)
    Logger.info("all interpreters run generation #{number}", pyre: instance.name)
    from && GenServer.reply(from, {:ok, %{generation: number, status: :current}})
  end
end
