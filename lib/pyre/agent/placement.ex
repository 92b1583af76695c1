defmodule Pyre.Agent.Placement do
  @moduledoc false

  # Where an agent runs: which worker it chooses, what it asks for where there is none, and how it leaves. Runs in the agent's
  # process, and never waits: what is not there yet is told by `:workers_changed` or `{:admitted, worker}`.

  alias Pyre.Agent.{Quarantine, Watch}
  alias Pyre.{Address, Classes, Error, Mailbox}
  alias Pyre.Generations.Trial
  alias Pyre.Worker.{Isolation, Pool}

  @type t :: Pyre.Agent.t()

  @doc "The agent's worker, or one for it."
  @spec worker(t()) :: {:ok, t()} | {:wait, t()} | {{:failed, Error.t()}, t()}
  def worker(%{worker: nil} = state), do: choose(state)
  def worker(state), do: {:ok, state}

  defp choose(%{instance: instance} = state) do
    case place(state) do
      {:probation, pool} ->
        Isolation.enter(instance, self(), pool)
        {:wait, %{state | probation?: true}}

      {role, pool} ->
        case Pool.pick(instance, role, pool) do
          {:ok, worker} -> {:ok, %{state | worker: worker}}
          :missing when role in [:shared, :canary] -> {:wait, state}
          :missing -> {want(instance, role, pool), state}
          other -> {other, state}
        end
    end
  end

  # Which workers it may run in, and of which pool.
  defp place(%{instance: instance} = state) do
    {:ok, %{opts: opts}} = Address.fetch(instance, state.id)

    case Quarantine.role(instance, state.handle, opts) do
      :shared -> Trial.place(instance, state)
      role -> {role, Classes.pool(instance, state.class)}
    end
  end

  @doc "Is the agent's worker still one that it may run in? What others are asked in a reload."
  @spec stays?(t()) :: boolean()
  def stays?(%{instance: instance, worker: {no, _pid}} = state),
    do: {Pool.role(instance, no), Pool.pool(instance, no)} == place(state)

  defp want(instance, role, pool) do
    if Isolation.room?(instance, role, pool) do
      Isolation.want(instance, role, pool)
      :wait
    else
      {:failed, Isolation.full(instance)}
    end
  end

  @doc "Waits for a worker, unless one has come in the meantime."
  @spec wait(t()) :: {:ok, t()} | {:wait, t()}
  def wait(%{probation?: true} = state), do: {:wait, state}

  # Looked at again after the pid is in the table, so that a worker that became ready in between is not missed.
  def wait(state) do
    Pool.wait(state.instance, self())

    case choose(state) do
      {:ok, state} -> {:ok, state}
      {_still_none, state} -> {:wait, state}
    end
  end

  @doc "Python can't be started. Callers are told; casts and timers wait until it can."
  @spec refuse(t(), Error.t()) :: true
  def refuse(state, error) do
    for %{reply_to: reply_to} = message <- Mailbox.waiting(state.instance, state.handle), reply_to != nil do
      if Mailbox.withdraw(state.instance, state.id, message.key), do: Mailbox.reply(reply_to, 1, error)
    end

    Pool.wait(state.instance, self())
  end

  @doc "Gives a place on probation back that came too late."
  @spec decline(t(), Pool.worker()) :: t()
  def decline(%{instance: instance} = state, worker) do
    Pool.leave(instance, worker)
    Isolation.leave(instance, self())
    state
  end

  @doc "Leaves the worker; nothing of the agent runs there any more."
  @spec leave(t()) :: t()
  def leave(state) do
    Pool.leave(state.instance, state.worker)
    if state.probation?, do: Isolation.leave(state.instance, self())
    Watch.forget(%{state | worker: nil, active?: false, running: nil, probation?: false})
  end
end
