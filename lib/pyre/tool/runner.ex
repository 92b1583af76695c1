defmodule Pyre.Tool.Runner do
  @moduledoc false

  # Decides which use of a tool runs when: so many of each tool at a time, the others in the order in which they asked, none past its
  # deadline, and none for which nobody waits any more. It starts the tasks and sees them end; the answers are theirs. What it must not
  # forget is in the table of Pyre.Tool.Runs, so that a successor goes on where it was killed.

  use GenServer

  require Logger

  alias Pyre.{Error, Instance}
  alias Pyre.Tool.{Chain, Job, Runs, Table, Tasks}

  # A task that doesn't end when it is asked to is killed this much later.
  @kill_ms 500

  # runs: token -> what is known of a use. refs: monitor -> whose end it tells. tools: name -> {how many run, tokens that wait}.
  defstruct [:instance, runs: %{}, refs: %{}, tools: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :tools)

    # Looked up after the registration: what is asked for from now on may be known already when its message comes.
    {:ok, instance |> Runs.all() |> Enum.reduce(%__MODULE__{instance: instance}, &take_up/2)}
  end

  @impl GenServer
  def handle_info({:run, token}, state) do
    with false <- is_map_key(state.runs, token), {:ok, row} <- Runs.fetch(state.instance, token) do
      {:noreply, take_up(row, state)}
    else
      _known_or_gone -> {:noreply, state}
    end
  end

  def handle_info({:give_up, token}, state), do: {:noreply, give_up(state, token, :cancelled)}
  def handle_info({:changed, tool}, state), do: {:noreply, next(state, tool)}

  def handle_info({:deadline, token}, state) do
    case state.runs do
      %{^token => %{ending: nil} = run} ->
        {kind, error} = late(run)
        answer(run, error)
        {:noreply, give_up(state, token, kind)}

      _ended ->
        {:noreply, state}
    end
  end

  def handle_info({:kill, task}, state) do
    Process.exit(task, :kill)
    {:noreply, state}
  end

  def handle_info({:DOWN, ref, :process, _pid, reason}, state) do
    case Map.pop(state.refs, ref) do
      {{:agent, token}, refs} -> {:noreply, give_up(%{state | refs: refs}, token, :cancelled)}
      {{:task, token}, refs} -> {:noreply, ended(%{state | refs: refs}, token, reason)}
      {nil, _refs} -> {:noreply, state}
    end
  end

  ## Beginning

  # A predecessor may have begun it.
  defp take_up({token, agent, task, request}, state) when is_pid(task) do
    {run, state} = watch(state, token, agent, request)
    running(state, run, task, System.monotonic_time())
  end

  defp take_up({token, agent, nil, request}, state) do
    with {:ok, spec} <- Table.fetch(state.instance, request.tool),
         :ok <- in_time(request),
         {:ok, place} <- place(state, spec) do
      {run, state} = watch(state, token, agent, request)
      if place == :free, do: begin(state, run, spec), else: wait(state, run)
    else
      {:error, error} ->
        Runs.delete(state.instance, token)
        answer(%{token: token, agent: agent}, error)
        state
    end
  end

  defp in_time(request) do
    if Instance.now_ms() < request.deadline,
      do: :ok,
      else: {:error, request |> unbegun() |> elem(1)}
  end

  defp place(state, spec) do
    {running, waiting} = Map.get(state.tools, spec.name, {0, :gb_sets.new()})

    cond do
      running < spec.max_concurrency -> {:ok, :free}
      :gb_sets.size(waiting) < spec.max_waiting -> {:ok, :taken}
      true -> {:error, overloaded(spec, :gb_sets.size(waiting))}
    end
  end

  defp overloaded(spec, waiting) do
    Error.new(
      :overloaded,
      "the tool #{inspect(spec.name)} runs #{spec.max_concurrency} times already, and #{waiting} wait for it: " <>
        "its :max_waiting is #{spec.max_waiting}",
      %{limit: spec.max_waiting}
    )
  end

  defp watch(state, token, agent, request) do
    ref = Process.monitor(agent)
    timer = Process.send_after(self(), {:deadline, token}, max(request.deadline - Instance.now_ms(), 0))

    run = %{
      token: token,
      agent: agent,
      request: request,
      agent_ref: ref,
      timer: timer,
      task: nil,
      started: nil,
      ending: nil
    }

    {run, put(%{state | refs: Map.put(state.refs, ref, {:agent, token})}, run)}
  end

  defp wait(state, run) do
    count(state, run.request.tool, fn {running, waiting} -> {running, :gb_sets.add(run.token, waiting)} end)
  end

  defp begin(state, run, spec) do
    Job.starting(state.instance, run.request)
    started = System.monotonic_time()
    task = Tasks.start_job(state.instance, spec, {run.token, run.agent, nil, run.request})
    Runs.began(state.instance, run.token, task)
    state = running(state, run, task, started)
    Job.begin(task, run.token)
    state
  end

  defp running(state, run, task, started) do
    ref = Process.monitor(task)

    %{state | refs: Map.put(state.refs, ref, {:task, run.token})}
    |> put(%{run | task: task, started: started})
    |> count(run.request.tool, fn {running, waiting} -> {running + 1, waiting} end)
  end

  # Also where the tool has been replaced or removed while they waited.
  defp next(state, tool) do
    with {running, waiting} <- state.tools[tool],
         false <- :gb_sets.is_empty(waiting),
         {token, waiting} = :gb_sets.take_smallest(waiting),
         run = Map.fetch!(state.runs, token),
         {:ok, spec} when running < spec.max_concurrency <- Table.fetch(state.instance, tool) do
      %{state | tools: Map.put(state.tools, tool, {running, waiting})} |> begin(run, spec) |> next(tool)
    else
      {:error, error} -> refuse_all(state, tool, error)
      _nothing_or_no_place -> state
    end
  end

  defp refuse_all(state, tool, error) do
    {_running, waiting} = state.tools[tool]

    Enum.reduce(:gb_sets.to_list(waiting), state, fn token, state ->
      answer(state.runs[token], error)
      give_up(state, token, error.kind)
    end)
  end

  ## Ending

  defp give_up(state, token, why) do
    case state.runs do
      %{^token => %{task: nil} = run} ->
        state
        |> count(run.request.tool, fn {running, waiting} -> {running, :gb_sets.delete_any(token, waiting)} end)
        |> forget(run)

      %{^token => %{ending: nil} = run} ->
        Process.exit(run.task, :shutdown)
        Process.send_after(self(), {:kill, run.task}, @kill_ms)
        put(state, %{run | ending: why})

      _ended ->
        state
    end
  end

  defp ended(state, token, reason) do
    run = Map.fetch!(state.runs, token)
    result = result(run, reason)

    if result == :exit do
      log(run, reason)
      answer(run, Job.exited(run.request.tool, reason))
    end

    if result != :answered, do: Job.stopped(state.instance, run.request, run.started, result)
    Chain.forget(state.instance, run.request.caller.agent, token)

    state
    |> forget(run)
    |> count(run.request.tool, fn {running, waiting} -> {running - 1, waiting} end)
    |> next(run.request.tool)
  end

  defp result(_run, :normal), do: :answered
  defp result(%{ending: nil}, _reason), do: :exit
  defp result(%{ending: why}, _reason), do: why

  defp forget(state, run) do
    _left = Process.cancel_timer(run.timer)
    Process.demonitor(run.agent_ref, [:flush])
    Runs.delete(state.instance, run.token)
    %{state | runs: Map.delete(state.runs, run.token), refs: Map.delete(state.refs, run.agent_ref)}
  end

  defp late(%{task: nil, request: request}), do: unbegun(request)

  defp late(%{request: %{tool: tool}}) do
    error =
      Error.new(:timeout, "the tool #{inspect(tool)} did not end in time; it is ended", %{committed: :unknown})

    {:timeout, error}
  end

  defp unbegun(%{tool: tool}) do
    {:deadline,
     Error.new(:deadline, "the tool #{inspect(tool)} was still waited for at the deadline; it did not run")}
  end

  # An answer that comes second is none: the agent's process has forgotten the token.
  defp answer(%{token: token, agent: agent}, error), do: send(agent, {:answer, token, 1, error})

  defp log(%{request: %{tool: tool, caller: caller}}, reason) do
    Logger.error(
      "the tool #{inspect(tool)} ended for agent #{inspect(caller.agent)} without an answer: #{inspect(reason, limit: 10)}",
      agent_id: caller.agent,
      class: caller.class,
      handler: caller.handler,
      pyre: caller.instance
    )
  end

  ## Helpers

  defp put(state, run), do: %{state | runs: Map.put(state.runs, run.token, run)}

  defp count(state, tool, change) do
    {running, waiting} = counts = change.(Map.get(state.tools, tool, {0, :gb_sets.new()}))

    if running == 0 and :gb_sets.is_empty(waiting),
      do: %{state | tools: Map.delete(state.tools, tool)},
      else: %{state | tools: Map.put(state.tools, tool, counts)}
  end
end
