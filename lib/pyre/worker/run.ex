defmodule Pyre.Worker.Run do
  @moduledoc false

  # The caller's side of `Pyre.run/5`: a plain function, in whichever worker of the default pool has the fewest agents.

  alias Pyre.{Error, Instance, Pools, Worker}
  alias Pyre.Agent.{Client, Quarantine}
  alias Pyre.Wire.Body
  alias Pyre.Worker.Pool

  @verdict_ms 250
  # A function has no mailbox that could wait: after so many strikes it is refused.
  @most_strikes 2

  @doc "Runs the function and waits for its reply."
  @spec call(Instance.t(), {binary(), binary(), binary()}, timeout()) ::
          {:ok, term()} | {:error, Pyre.error()}
  def call(instance, {module, name, _args} = function, timeout) do
    case Quarantine.fetch(instance, {module, name}) do
      %{strikes: strikes, evidence: [last | _earlier]} when strikes >= @most_strikes ->
        {:error, parked(instance, module, name, last)}

      _trusted ->
        attempt(instance, function, Client.deadline(timeout), timeout)
    end
  end

  defp parked(instance, module, name, last) do
    Error.new(
      :parked,
      "#{module}.#{name} hurt its worker #{@most_strikes} times (#{last.reason |> String.split("\n") |> hd()}); " <>
        "it is refused until #{div(instance.config.strike_decay, 1_000)} s after the last time",
      %{strikes: @most_strikes}
    )
  end

  @doc "Takes note of what a function did to its worker."
  @spec blame(Instance.t(), {binary(), binary()}, nil | {:certain | :suspect, map()}) :: term()
  def blame(instance, {module, name} = function, {:certain, evidence}) do
    Quarantine.strike(
      instance,
      function,
      Map.merge(evidence, %{class: module, handler: name, message_id: nil})
    )
  end

  def blame(_instance, _function, _nothing_certain), do: :ok

  # A function that had not begun when its worker died did nothing: it is sent to the next.
  defp attempt(instance, function, deadline, timeout) do
    with {:ok, worker} <- pick(instance, Client.left(deadline)),
         {:error, %Error{kind: :worker_down, details: %{begun: false}}} = lost <-
           run(instance, worker, function, deadline, timeout) do
      if Client.left(deadline) == 0, do: lost, else: attempt(instance, function, deadline, timeout)
    end
  end

  defp run(instance, {_no, pid} = worker, {module, function, args}, deadline, timeout) do
    # The load is counted for agents that stay; this is a guest.
    Pool.leave(instance, worker)
    ref = :erlang.monitor(:process, pid, alias: :reply_demonitor)
    Worker.run(pid, {ref, ref}, module, function, args, deadline)
    await(pid, ref, Client.left(deadline), timeout)
  end

  defp pick(instance, timeout) do
    cond do
      Instance.closed?(instance) ->
        {:error, Error.new(:stopping, "the instance #{inspect(instance.name)} is shutting down")}

      true ->
        pick_ready(instance, timeout)
    end
  end

  defp pick_ready(instance, timeout) do
    case Pool.pick(instance, :shared, Pools.default()) do
      {:ok, worker} -> {:ok, worker}
      {:failed, error} -> {:error, error}
      _not_yet -> wait(instance, timeout)
    end
  end

  defp wait(instance, timeout) do
    with :ok <- Pyre.Agent.Starter.await(instance, :worker, timeout), do: pick_ready(instance, timeout)
  end

  defp await(pid, ref, left, timeout) do
    receive do
      {^ref, status, body} ->
        Body.to_result(status, body)

      {:DOWN, ^ref, :process, _pid, _reason} ->
        {:error, Error.new(:worker_down, "the process of the worker ended", %{begun: :unknown})}
    after
      left ->
        send(pid, {:cancel_run, ref})
        verdict(ref, timeout)
    end
  end

  # Cancelled in the meantime, the function has no state that could have been committed.
  defp verdict(ref, timeout) do
    receive do
      {^ref, 0, body} -> Body.to_result(0, body)
      {^ref, _cancelled, _body} -> {:error, timed_out(timeout)}
      {:DOWN, ^ref, :process, _pid, _reason} -> {:error, timed_out(timeout)}
    after
      @verdict_ms ->
        Process.demonitor(ref, [:flush])
        {:error, timed_out(timeout)}
    end
  end

  defp timed_out(timeout),
    do:
      Error.new(:timeout, "the function did not end within #{timeout} ms and was cancelled", %{
        committed: false
      })
end
