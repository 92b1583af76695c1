defmodule Pyre.Agent.Sleep do
  @moduledoc false

  # How an agent's process ends without its agent's end: what is left is rows, and the next message has it started again
  # (`Pyre.Agent.Waker`). Runs in the agent's process, where that is idle.
  #
  # Before a message is put into a mailbox it is counted in, in the agent's row; and the row is turned to `:asleep` in one step, only
  # where nothing is counted in. So a message either keeps its agent awake, or finds it asleep.

  alias Pyre.{Address, Classes, Instance, Telemetry, Worker}
  alias Pyre.Generations.Trial
  alias Pyre.Group.Table
  alias Pyre.Worker.Pool

  @doc "Notes in the address when the agent, which has nothing to do from now on, is to fall asleep."
  @spec mark(Pyre.Agent.t()) :: boolean()
  def mark(%{phase: :idle, instance: instance} = state) do
    with true <- Instance.idle_timeout(instance) != nil,
         {:ok, %{opts: opts}} <- Address.fetch(instance, state.id),
         ms when is_integer(ms) <- timeout(instance, state, opts[:idle_timeout]),
         do: Address.put_sleep_at(instance, state.id, Instance.now_ms() + ms),
         else: (_never -> false)
  end

  def mark(_paused), do: false

  # A group's supervisor restarts processes that it has, in their order: those in a group have one.
  defp timeout(instance, %{id: id, class: class}, own) do
    case own || Classes.idle_timeout(instance, class) || instance.config.idle_timeout do
      :infinity -> :infinity
      ms -> if Table.parent(instance, {:agent, id}) == nil, do: ms, else: :infinity
    end
  end

  @doc "It was told to fall asleep. Returns where it may not, or something has come."
  @spec fall_asleep(Pyre.Agent.t()) :: Pyre.Agent.t()
  def fall_asleep(state), do: if(may?(state), do: state |> let_go() |> leave(), else: state)

  defp may?(%{phase: :idle, instance: instance} = state) do
    at = Address.sleep_at(instance, state.id)
    is_integer(at) and at <= Instance.now_ms() and not held?(state) and not Trial.bound?(instance, state)
  end

  defp may?(_paused), do: false

  # Somebody counts on this very process.
  defp held?(%{instance: instance, parent: parent}) do
    [links: links, monitored_by: watchers] = Process.info(self(), [:links, :monitored_by])
    links != [parent] or Enum.any?(watchers, &(not Instance.own?(instance, &1)))
  end

  # What the next process of this agent would not know of.
  defp let_go(%{worker: nil} = state), do: state

  defp let_go(%{instance: instance, worker: {_no, pid} = worker} = state) do
    if state.active?, do: Worker.drop(pid, self(), state.handle, state.epoch)
    Pool.leave(instance, worker)
    %{state | worker: nil, active?: false}
  end

  defp leave(%{instance: instance} = state) do
    if Address.fall_asleep(instance, state.id, self()) do
      Instance.count(instance, :sleeps)
      tell(:asleep, state)
      exit(:normal)
    end

    state
  end

  @doc "A process of an agent that was asleep has taken over."
  @spec woken(Pyre.Agent.t()) :: Pyre.Agent.t()
  def woken(%{instance: instance} = state) do
    Instance.count(instance, :wakes)
    tell(:woken, state)
    %{state | interleaves?: Classes.interleaves?(instance, state.class), mail?: true}
  end

  defp tell(event, state) do
    Telemetry.event([:agent, event], %{count: 1}, %{
      name: state.instance.name,
      id: state.id,
      class: state.class
    })
  end
end
