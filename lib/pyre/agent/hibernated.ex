defmodule Pyre.Agent.Hibernated do
  @moduledoc false

  # What an agent's process holds while it hibernates: one flat tuple, of what its address doesn't tell. Most agents have nothing to do
  # most of the time, so this is what a machine full of them costs.

  import Bitwise

  alias Pyre.Address

  # What it knows of itself, and the number of its worker, as one small integer.
  @active 1
  @interleaves 2
  @paused 4
  @flag_bits 3

  @type t :: tuple()

  @doc "Folds a state up."
  @spec fold(Pyre.Agent.t()) :: t()
  def fold(%{worker: nil} = state), do: {state.instance, state.id, state.parent, nil, flags(state)}

  def fold(%{worker: {no, pid}} = state),
    do: {state.instance, state.id, state.parent, pid, no <<< @flag_bits ||| flags(state)}

  defp flags(state) do
    if(state.active?, do: @active, else: 0) ||| if(state.interleaves?, do: @interleaves, else: 0) |||
      if(state.phase == :paused, do: @paused, else: 0)
  end

  @doc "What stands in a state, folded out again; nil where the agent's address is gone."
  @spec fields(t()) :: map() | nil
  def fields({instance, id, parent, worker, flags}) do
    case Address.fetch(instance, id) do
      {:ok, row} ->
        %{
          instance: instance,
          id: id,
          handle: row.handle,
          class: row.class,
          parent: parent,
          worker: worker && {flags >>> @flag_bits, worker},
          epoch: row.epoch,
          active?: (flags &&& @active) != 0,
          interleaves?: (flags &&& @interleaves) != 0,
          phase: if((flags &&& @paused) != 0, do: :paused, else: :idle)
        }

      :error ->
        nil
    end
  end
end
