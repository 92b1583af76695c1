defmodule Pyre.Agent.Steps do
  @moduledoc false

  # The results of `ctx.step`: what a message has done already is not done again when it is run again, by a retry or after
  # the death of its worker. A row {{message, name}, result} lives as long as its message is in the mailbox.

  alias Pyre.{Instance, Mailbox}

  @none <<0x90>>
  # A MessagePack array of one element, which is the result as it came.
  @one <<0x91>>

  @doc "What was recorded, as an array: empty, or with the one result."
  @spec fetch(Instance.t(), Mailbox.key(), binary()) :: binary()
  def fetch(instance, key, name) do
    case :ets.lookup(instance.steps, {key, name}) do
      [{_step, result}] -> @one <> result
      [] -> @none
    end
  end

  @doc "Records a result. The first one stays."
  @spec record(Instance.t(), Mailbox.key(), binary(), binary()) :: boolean()
  # What comes from the port is a part of a frame, which it would keep alive.
  def record(instance, key, name, result) do
    new? = :ets.insert_new(instance.steps, {{key, :binary.copy(name)}, :binary.copy(result)})
    if new?, do: Instance.add_steps(instance, 1)
    new?
  end

  @doc "The message has ended: its steps are of no use to anybody."
  @spec forget(Instance.t(), Mailbox.key()) :: :ok
  # Few messages have any, and this is done for each: one look at a counter.
  def forget(instance, key) do
    if Instance.steps(instance) > 0 do
      gone = :ets.select_delete(instance.steps, [{{{key, :_}, :_}, [], [true]}])
      Instance.add_steps(instance, -gone)
    else
      :ok
    end
  end
end
