defmodule Pyre.Generations do
  @moduledoc false

  # Generations of agents' code. The first begins with the instance; a reload begins the next. The rows are State's:
  #
  #   {number, status, at, pinned, reason}     `pinned`: pairs of a directory and the copy of its sources
  #
  # status:
  #   :importing   one interpreter, the canary, imports it; nobody uses it yet
  #   :rejected    it was worse than the current one; `reason` says how
  #   :rolling     it is the current one; interpreters of the one before end as soon as what runs in them has
  #   :current     all interpreters run it
  #   :retired     no interpreter runs it any more
  #
  # This process leads a reload and decides; what it decided is in the table and in the instance's flag, from which a successor
  # goes on. Nobody waits for it but who asked for the reload: an interpreter that starts reads its generation from the table.

  use GenServer

  require Logger

  alias Pyre.Agent.Starter
  alias Pyre.{Classes, Error, Instance, Telemetry}
  alias Pyre.Generations.Sources
  alias Pyre.Worker.{Isolation, Pool}

  @kept 20

  @type status :: :importing | :rejected | :rolling | :current | :retired
  @type pinned :: [{Path.t(), Path.t()}]

  defstruct [:instance, :roll]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Begins a generation with what the directories hold now. Returns when all interpreters run it, or when it is rejected."
  @spec reload(Instance.t(), keyword()) :: {:ok, map()} | {:error, Error.t()}
  def reload(instance, opts) do
    with pid when is_pid(pid) <- Instance.whereis(instance, :generations) do
      GenServer.call(pid, {:reload, opts[:force]}, opts[:timeout])
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
    for {number, status, at, _pinned, reason} <- instance.generations |> :ets.tab2list() |> Enum.sort(:desc) do
      workers =
        for %{generation: ^number, worker: no, os_pid: pid, role: role} when is_integer(pid) <-
              Pool.all(instance),
            role != :leaving,
            do: no

      %{generation: number, status: status, at: at, reason: reason, workers: Enum.sort(workers)}
    end
  end

  @doc "What an interpreter that is started now is to run: the candidate in the canary, the current one elsewhere."
  @spec for_worker(Instance.t(), pos_integer()) :: {pos_integer(), pinned()}
  def for_worker(instance, no) do
    candidate = :ets.match(instance.generations, {:"$1", :importing, :_, :_, :_})

    number =
      if Pool.role(instance, no) == :canary and candidate != [],
        do: hd(hd(candidate)),
        else: Instance.generation(instance)

    case :ets.lookup(instance.generations, number) do
      [{^number, _status, _at, pinned, _reason}] -> {number, pinned}
      [] -> {number, []}
    end
  end

  @doc "An interpreter is about to be ready. Its classes are the instance's where it runs the current generation."
  @spec imported(Instance.t(), pos_integer(), map()) :: :ok
  def imported(instance, no, info) do
    if Pool.generation(instance, no) == Instance.generation(instance),
      do: Classes.put(instance, info),
      else: :ok
  end

  @doc "An interpreter is ready."
  @spec ready(Instance.t(), pos_integer(), map()) :: :ok
  def ready(instance, no, info),
    do: Instance.notify(instance, :generations, {:ready, no, Pool.generation(instance, no), info})

  @doc "An interpreter died, or could not be started."
  @spec failed(Instance.t(), pos_integer(), Error.t()) :: :ok
  def failed(instance, no, error), do: Instance.notify(instance, :generations, {:failed, no, error})

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :generations)

    if :ets.info(instance.generations, :size) == 0,
      do: {:ok, %__MODULE__{instance: begin_first(instance)}},
      else: {:ok, %__MODULE__{instance: instance}, {:continue, :resume}}
  end

  # A predecessor died. What was not decided yet is not: the canary ends. What was, is carried on.
  @impl GenServer
  def handle_continue(:resume, %{instance: instance} = state) do
    current = Instance.generation(instance)

    undecided =
      for {number, :importing, _at, _pinned, _reason} <- :ets.tab2list(instance.generations), do: number

    rolling? =
      match?([{_number, :rolling, _at, _pinned, _reason}], :ets.lookup(instance.generations, current))

    case {undecided, rolling?} do
      {[number], _rolling?} ->
        {:noreply, give_up(%{state | roll: %{number: number, from: nil}}, "who led the reload died", [])}

      {[], true} ->
        {:noreply, advance(%{state | roll: %{number: current, from: nil}})}

      {[], false} ->
        {:noreply, state}
    end
  end

  @impl GenServer
  def handle_call({:reload, force?}, from, %{roll: nil} = state) do
    case prepare(state.instance, force?) do
      {:begun, number} -> {:noreply, %{state | roll: %{number: number, from: from}}}
      unchanged_or_error -> {:reply, unchanged_or_error, state}
    end
  end

  def handle_call({:reload, _force?}, _from, state) do
    {:reply, {:error, Error.new(:not_ready, "another reload is under way; try again when it is over")}, state}
  end

  @impl GenServer
  def handle_info({:ready, no, number, info}, %{instance: instance, roll: %{number: number} = roll} = state) do
    if no == Pool.canary(instance.config) and Instance.generation(instance) != number,
      do: {:noreply, judge(%{state | roll: roll}, info)},
      else: {:noreply, advance(state)}
  end

  # It had begun to start before the current generation was decided on.
  def handle_info({:ready, _no, _number, _info}, state), do: {:noreply, advance(state)}

  def handle_info({:failed, no, error}, %{instance: instance, roll: %{number: number}} = state) do
    if no == Pool.canary(instance.config) and Instance.generation(instance) != number,
      do: {:noreply, give_up(state, Exception.message(error), [])},
      else: {:noreply, state}
  end

  def handle_info({:failed, _no, _error}, state), do: {:noreply, state}

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{roll: %{leaving: monitor, last: last}} = state) do
    _told = last.()
    {:noreply, %{state | roll: nil}}
  end

  ## The beginning of a generation

  defp begin_first(instance) do
    pinned =
      with {:ok, listing} <- Sources.scan(instance.config.agents),
           {:ok, pinned} <- Sources.copy(listing, folder(instance, 1)) do
        pinned
      else
        {:error, reason} ->
          Logger.warning("an interpreter that is replaced will run what its directory holds then: #{reason}",
            pyre: instance.name
          )

          []
      end

    put(instance, 1, :current, pinned, nil)
    Instance.put_generation(instance, 1)
    instance
  end

  defp prepare(instance, force?) do
    number = (instance.generations |> :ets.tab2list() |> Enum.map(&elem(&1, 0)) |> Enum.max()) + 1

    with {:ok, listing} <- Sources.scan(instance.config.agents),
         {:ok, pinned} <- Sources.copy(listing, folder(instance, number)) do
      if force? or changed?(instance, pinned) do
        put(instance, number, :importing, pinned, nil)
        start_canary(instance)
        {:begun, number}
      else
        _removed = File.rm_rf(folder(instance, number))
        {:ok, %{generation: Instance.generation(instance), status: :unchanged}}
      end
    else
      {:error, reason} -> {:error, Error.new(:worker_start, reason)}
    end
  end

  defp changed?(instance, pinned) do
    [{_number, _status, _at, current, _reason}] =
      :ets.lookup(instance.generations, Instance.generation(instance))

    Sources.fingerprint(pinned) != Sources.fingerprint(current)
  end

  defp start_canary(instance) do
    no = Pool.canary(instance.config)
    _there = Pool.reserve(instance, no, :canary)
    Isolation.start(instance, no)
  end

  ## The canary has imported it

  defp judge(%{instance: instance} = state, %{"problems" => problems} = info) do
    before = for %{"file" => file} <- Classes.problems(instance), do: file

    case Enum.reject(problems, &(&1["file"] in before)) do
      [] -> state |> accept(info) |> advance()
      worse -> give_up(state, Enum.map_join(worse, "; ", &"#{&1["file"]}: #{&1["error"]}"), worse)
    end
  end

  defp accept(%{instance: instance, roll: %{number: number}} = state, info) do
    before = autostart(instance)
    Instance.put_generation(instance, number)
    Classes.replace(instance, info)
    update(instance, number, :rolling, nil)
    # From now on it is a spare like others, of which there is one more than usual until the roll is over.
    Pool.turn(instance, Pool.canary(instance.config), :canary, :spare)
    added = autostart(instance) -- before
    _started = added != [] and spawn(fn -> Starter.autostart(instance, added) end)
    state
  end

  defp autostart(instance),
    do: for(class <- Classes.all(instance), [id, args] <- class["autostart"], do: {class["name"], id, args})

  defp give_up(%{instance: instance, roll: %{number: number, from: from}} = state, reason, problems) do
    update(instance, number, :rejected, reason)
    _removed = File.rm_rf(folder(instance, number))

    error =
      Error.new(
        :worker_start,
        "generation #{number} is rejected, and generation #{Instance.generation(instance)} runs on: #{reason}",
        %{generation: number, problems: problems}
      )

    Logger.error(Exception.message(error) <> tracebacks(problems), pyre: instance.name)
    end_canary(state, fn -> from && GenServer.reply(from, {:error, error}) end)
  end

  defp tracebacks(problems), do: Enum.map_join(problems, &"\n#{&1["traceback"]}")

  # Its number is free for the next reload when it is gone, and only then is this one over.
  defp end_canary(%{instance: instance} = state, last) do
    pid = Isolation.stop(instance, Pool.canary(instance.config))
    %{state | roll: %{leaving: Process.monitor(pid), last: last}}
  end

  ## The roll

  # Called whenever a worker became ready. Interpreters of older code end after what runs in them: at once those that have no place to
  # fill, and each shared one as soon as a warm spare of the new code can take its place.
  defp advance(%{roll: %{number: _number}, instance: instance} = state) do
    current = Instance.generation(instance)

    older =
      for worker <- Pool.all(instance),
          worker.generation not in [0, current],
          worker.role != :canary,
          do: worker

    ready = Enum.filter(older, &(&1.status == :ready))
    {shared, others} = Enum.split_with(ready, &(&1.role == :shared))
    for worker <- others, do: replace(instance, worker)

    cond do
      shared != [] -> replace_one(state, hd(shared))
      older == [] -> retire_canary(state)
      true -> state
    end
  end

  # A worker that had begun to start with what has been older code since.
  defp advance(state), do: state

  defp replace_one(%{instance: instance} = state, worker) do
    if Pool.spare?(instance) do
      replace(instance, worker)
      # Its place is taken by now; the next one may find another spare.
      advance(state)
    else
      state
    end
  end

  defp replace(instance, %{worker: no, pid: pid}) do
    Pool.close(instance, no, :draining)
    send(pid, {:recycle, "its code is older", instance.config.generation_timeout})
  end

  # One more than usual: where it serves agents by now, another takes its place, and it comes back as a spare.
  defp retire_canary(%{instance: instance} = state) do
    no = Pool.canary(instance.config)

    case Enum.find(Pool.all(instance), &(&1.worker == no)) do
      nil ->
        _told = finish(state)
        %{state | roll: nil}

      %{role: :spare} ->
        if Pool.turn(instance, no, :spare, :leaving),
          do: end_canary(state, fn -> finish(state) end),
          else: state

      %{role: :shared, status: :ready} = canary ->
        _waits = Pool.spare?(instance) and replace(instance, canary)
        state

      _imports_or_drains ->
        state
    end
  end

  defp finish(%{instance: instance, roll: %{number: number, from: from}}) do
    for {older, status, _at, _pinned, _reason} <- :ets.tab2list(instance.generations),
        older < number and status in [:current, :rolling] do
      _removed = File.rm_rf(folder(instance, older))
      update(instance, older, :retired, nil)
    end

    update(instance, number, :current, nil)
    Logger.info("all interpreters run generation #{number}", pyre: instance.name)
    from && GenServer.reply(from, {:ok, %{generation: number, status: :current}})
  end

  ## The table

  defp folder(instance, number), do: Path.join(instance.directory, "code-#{number}")

  defp put(instance, number, status, pinned, reason) do
    :ets.insert(instance.generations, {number, status, DateTime.utc_now(), pinned, reason})

    :ets.select_delete(instance.generations, [
      {{:"$1", :_, :_, :_, :_}, [{:<, :"$1", number - @kept}], [true]}
    ])

    told(instance, number, status, reason)
  end

  defp update(instance, number, status, reason) do
    :ets.update_element(instance.generations, number, [{2, status}, {5, reason}])
    told(instance, number, status, reason)
  end

  defp told(instance, number, status, reason) do
    Telemetry.event([:generation], %{count: 1}, %{
      name: instance.name,
      generation: number,
      status: status,
      reason: reason
    })
  end
end
