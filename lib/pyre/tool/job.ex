defmodule Pyre.Tool.Job do
  @moduledoc false

  # What the task of one use of a tool does: checks the arguments, runs it, and tells the agent's process the answer, encoded. Whatever
  # the tool's code does ends here as an answer; only an exit from outside does not, and that the runner sees.

  require Logger

  alias Pyre.{Error, Instance, Telemetry}
  alias Pyre.Tool.{Chain, Runs, Schema, Spec}
  alias Pyre.Wire.{Body, MsgPack}

  @shown_characters 1_000

  @typep outcome :: {:ok, term()} | {:error, Error.t()} | {:failed, map()}

  @doc "Waits until its runner sees it, so that its end can't be missed; then runs a tool, and answers."
  @spec start(pid(), Instance.t(), Spec.t(), Runs.run()) :: term()
  def start(runner, instance, spec, {token, _agent, _task, _request} = run) do
    monitor = Process.monitor(runner)

    receive do
      {:begin, ^token} ->
        Process.demonitor(monitor, [:flush])
        run(instance, spec, run)

      {:DOWN, ^monitor, :process, ^runner, _reason} ->
        :unseen
    end
  end

  @doc "Lets a task begin."
  @spec begin(pid(), Runs.token()) :: term()
  def begin(task, token), do: send(task, {:begin, token})

  defp run(instance, spec, {token, agent, _task, %{caller: caller} = request}) do
    Chain.carry(instance, caller.agent, token)
    started = System.monotonic_time()
    {result, status, body} = spec |> outcome(request) |> answer(spec.name)
    stopped(instance, request, started, result)
    send(agent, {:answer, token, status, body})
  end

  @spec outcome(Spec.t(), Runs.request()) :: outcome()
  defp outcome(spec, request) do
    with {:ok, given} <- MsgPack.decode(request.body),
         {:ok, args} <- Schema.check(spec.schema, given, spec.name),
         do: attempt(spec, args, request.caller)
  end

  defp attempt(spec, args, caller) do
    case spec.run.(args, caller) do
      {:ok, value} ->
        {:ok, value}

      {:error, reason} ->
        {:failed, refusal(reason)}

      other ->
        {:failed,
         failure("ReturnError", "expected {:ok, value} or {:error, reason}, got: #{shown(other)}", "")}
    end
  rescue
    error ->
      crashed(spec, caller, :error, error, __STACKTRACE__)

      {:failed,
       failure(
         inspect(error.__struct__),
         Exception.message(error),
         Exception.format_stacktrace(__STACKTRACE__)
       )}
  catch
    kind, reason ->
      crashed(spec, caller, kind, reason, __STACKTRACE__)
      {:failed, failure(Atom.to_string(kind), shown(reason), Exception.format_stacktrace(__STACKTRACE__))}
  end

  @doc "The error body of a tool that failed by itself, where nobody is there to tell it."
  @spec exited(String.t(), term()) :: binary()
  def exited(tool, reason), do: encode_failure(failure("exit", shown(reason), ""), tool)

  defp answer({:ok, value}, _tool) do
    case MsgPack.encode(value) do
      {:ok, body} -> {:ok, 0, body}
      {:error, error} -> {error.kind, 1, Body.error(error)}
    end
  end

  defp answer({:error, error}, _tool), do: {error.kind, 1, Body.error(error)}
  defp answer({:failed, failure}, tool), do: {:tool_error, 1, encode_failure(failure, tool)}

  # As an error of Python's would be told, with the tool's name beside it.
  defp encode_failure(failure, tool) do
    body = Map.put(failure, "tool", tool)

    case MsgPack.encode(body) do
      {:ok, encoded} ->
        encoded

      {:error, _unencodable_data} ->
        {:ok, encoded} = MsgPack.encode(%{body | "data" => shown(body["data"])})
        encoded
    end
  end

  defp failure(type, message, traceback),
    do: %{
      "type" => type,
      "message" => text(message),
      "traceback" => text(traceback),
      "expected" => false,
      "data" => nil
    }

  # Returned, and so meant: it is a refusal, not a crash.
  defp refusal(error) when is_exception(error),
    do: %{failure(inspect(error.__struct__), Exception.message(error), "") | "expected" => true}

  defp refusal(reason) when is_binary(reason), do: %{failure("error", reason, "") | "expected" => true}
  defp refusal(reason), do: %{failure("error", shown(reason), "") | "expected" => true, "data" => reason}

  defp text(value), do: if(String.valid?(value), do: value, else: shown(value))

  defp shown(value),
    do: value |> inspect(limit: 20, printable_limit: @shown_characters) |> String.slice(0, @shown_characters)

  defp crashed(spec, caller, kind, reason, stacktrace) do
    Logger.error(
      "the tool #{inspect(spec.name)} failed for agent #{inspect(caller.agent)}: " <>
        Exception.format(kind, reason, stacktrace),
      agent_id: caller.agent,
      class: caller.class,
      handler: caller.handler,
      pyre: caller.instance
    )
  end

  @doc "A use of a tool has ended."
  @spec stopped(Instance.t(), Runs.request(), integer(), atom()) :: :ok
  def stopped(instance, request, started, result) do
    if result != :ok, do: Instance.count(instance, :tool_failures)
    duration = System.monotonic_time() - started
    Telemetry.event([:tool, :stop], %{duration: duration}, Map.put(about(request), :result, result))
  end

  @doc "A use of a tool begins."
  @spec starting(Instance.t(), Runs.request()) :: :ok
  def starting(instance, request) do
    Instance.count(instance, :tool_runs)
    Telemetry.event([:tool, :start], %{system_time: System.system_time()}, about(request))
  end

  defp about(%{tool: tool, caller: caller}),
    do: %{name: caller.instance, tool: tool, id: caller.agent, class: caller.class, handler: caller.handler}
end
