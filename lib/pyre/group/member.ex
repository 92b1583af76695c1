defmodule Pyre.Group.Member do
  @moduledoc false

  # An agent's side of being in a group. Runs in the agent's process.
  #
  # A group's supervisor ends agents that did nothing wrong: siblings of one that crashed. Such an agent leaves a note before it goes, so that its
  # successor knows that this was no crash, and treats what was running accordingly. So it has to trap exits.

  alias Pyre.Agent.Ending
  alias Pyre.Group.Table
  alias Pyre.{Address, Instance, Patience, Worker}

  # How long a predecessor whose supervisor was killed may take to leave.
  @leave_ms 5_000

  @doc "A new process of an agent; does nothing where that is in no group."
  @spec join(Instance.t(), Address.id()) :: :ok
  def join(instance, id) do
    with group when group != nil <- Table.parent(instance, {:agent, id}),
         _trapped_before = Process.flag(:trap_exit, true),
         {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, id) do
      await_end(pid)
    else
      _alone_or_first -> :ok
    end
  end

  # A supervisor that was killed has a successor at once, while the processes that it had are still leaving.
  defp await_end(pid) do
    unless Patience.await_end(pid, @leave_ms) do
      Process.exit(pid, :kill)
      Patience.await_end(pid)
    end

    :ok
  end

  @doc "How the last process of this agent ended: by itself, or by its supervisor, after which one that is :temporary stays down."
  @spec last_end(Pyre.Agent.t(), keyword()) :: :by_itself | :restarted | :over
  def last_end(state, opts) do
    case Table.left(state.instance, state.id) do
      nil ->
        :by_itself

      # By a strategy. Where the group itself was restarted, all are started, as OTP does it.
      supervisor when supervisor == state.parent ->
        if opts[:restart] == :temporary, do: :over, else: :restarted

      _another ->
        :restarted
    end
  end

  @doc "The supervisor asks the agent to go. What runs is cancelled, and left to the successor."
  @spec leave(Pyre.Agent.t(), term()) :: no_return()
  def leave(%{instance: instance, id: id} = state, reason) do
    # At the end of everything there is no successor.
    if Instance.there?(instance) and not Instance.closed?(instance),
      do: leave_note(state, Address.fetch(instance, id))

    exit(reason)
  end

  # Nobody would take its end up again.
  defp leave_note(%{stop: stop} = state, {:ok, %{status: :stopping}}) when stop != nil,
    do: Ending.stopped(state)

  defp leave_note(_state, {:ok, %{status: status}}) when status in [:parked, :terminated, :stopping], do: :ok

  defp leave_note(state, {:ok, %{status: status}}) do
    Table.leave(state.instance, state.id, state.parent)
    # One that never ran is still to begin.
    if status == :running, do: Address.put_status(state.instance, state.id, :restarting)
    :ok = cancel(state)
    Ending.leave(state)
  end

  defp leave_note(_state, :error), do: :ok

  defp cancel(%{worker: nil}), do: :ok

  defp cancel(%{worker: {_no, worker}} = state) do
    [state.running | state.beside]
    |> Enum.reject(&is_nil/1)
    |> Enum.each(&Worker.cancel(worker, &1.key, self()))
  end

  @doc "The options by which a crash is judged. In a group only the group's intensity counts, for one that has begun at all."
  @spec judged_by(Instance.t(), map(), Pyre.error()) :: keyword()
  def judged_by(instance, %{id: id, opts: opts, status: status}, error) do
    case Table.parent(instance, {:agent, id}) do
      nil ->
        opts

      # As in OTP a child that can't even begin is not started again, and its start fails.
      _group when status == :starting ->
        Keyword.put(opts, :restart, :temporary)

      group ->
        Table.blame(instance, group, id, error)
        Keyword.put(opts, :max_restarts, :infinity)
    end
  end

  @doc "An agent's address is about to be forgotten."
  @spec forget(Instance.t(), Address.id()) :: :ok
  def forget(instance, id) do
    _note = Table.left(instance, id)

    with group when group != nil <- Table.remove(instance, {:agent, id}),
         do: Instance.notify(instance, :groups, {:forgotten, group, {:agent, id}})

    :ok
  end
end
