defmodule Pyre.Agent.Hibernated do
  @moduledoc false

  # What an agent's process holds while it hibernates. Most agents have nothing to do most of the time, so this is what a machine full of them
  # costs: one flat tuple.

  import Bitwise

  # What it knows of itself, as one small integer.
  @active 1
  @interleaves 2
  @paused 4

  @type t :: tuple()

  @doc "Folds a state up."
  @spec fold(Pyre.Agent.t()) :: t()
  def fold(state) do
    {worker_no, worker_pid} = state.worker || {nil, nil}

    {state.instance, state.id, state.handle, state.class, state.parent, worker_no, worker_pid, state.epoch,
     flags(state)}
  end

  defp flags(state) do
    if(state.active?, do: @active, else: 0) ||| if(state.interleaves?, do: @interleaves, else: 0) |||
      if(state.phase == :paused, do: @paused, else: 0)
  end

  @doc "What stands in a state, folded out again."
  @spec fields(t()) :: map()
  def fields({instance, id, handle, class, parent, worker_no, worker_pid, epoch, flags}) do
    %{
      instance: instance,
      id: id,
      handle: handle,
      class: class,
      parent: parent,
      worker: worker_no && {worker_no, worker_pid},
      epoch: epoch,
      active?: (flags &&& @active) != 0,
      interleaves?: (flags &&& @interleaves) != 0,
      phase: if((flags &&& @paused) != 0, do: :paused, else: :idle)
    }
  end
end
