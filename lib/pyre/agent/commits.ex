defmodule Pyre.Agent.Commits do
  @moduledoc false

  # Committed states. One insert of one row {state, revision, answered message, its reply} is the instant in which a message has
  # happened: before it nothing did, after it the reply can be given again from the row.

  alias Pyre.{Instance, Mailbox}

  @answered 4

  @doc "The committed state and its revision; an empty binary and 0 where nothing is committed yet."
  @spec get(Instance.t(), pos_integer()) :: {binary(), non_neg_integer()}
  def get(instance, handle) do
    case :ets.lookup(instance.commits, handle) do
      [{_handle, state, revision, _answered, _reply}] -> {state, revision}
      [] -> {<<>>, 0}
    end
  end

  @doc "Commits a state, together with the reply to the message that made it."
  @spec put(Instance.t(), pos_integer(), binary(), Mailbox.key() | nil, binary() | nil) :: pos_integer()
  def put(instance, handle, state, answered, reply) do
    {_state, revision} = get(instance, handle)
    # What comes from the port is a part of a frame of up to 64 KB, which it would keep alive.
    :ets.insert(instance.commits, {handle, :binary.copy(state), revision + 1, answered, reply})
    Instance.count(instance, :commits)
    revision + 1
  end

  @doc "The reply that was committed with this message, if it was the last."
  @spec answer(Instance.t(), pos_integer(), Mailbox.key()) :: {:ok, binary()} | :error
  def answer(instance, handle, key) do
    case :ets.lookup(instance.commits, handle) do
      [{_handle, _state, _revision, ^key, reply}] -> {:ok, reply}
      _other -> :error
    end
  end

  @doc "Lets go of the last reply: whoever waited for it has it."
  @spec forget_answer(Instance.t(), pos_integer()) :: boolean()
  def forget_answer(instance, handle),
    do: :ets.update_element(instance.commits, handle, [{@answered, nil}, {@answered + 1, nil}])

  @doc "Keeps a state for an agent that is started again under this id."
  @spec keep(Instance.t(), pos_integer(), String.t()) :: true
  def keep(instance, handle, id) do
    case get(instance, handle) do
      {_state, 0} -> true
      {state, revision} -> :ets.insert(instance.commits, {{:kept, id}, state, revision, nil, nil})
    end
  end

  @doc "Takes over what was kept under this id."
  @spec adopt(Instance.t(), pos_integer(), String.t()) :: true
  def adopt(instance, handle, id) do
    case :ets.take(instance.commits, {:kept, id}) do
      [{_key, state, revision, nil, nil}] ->
        :ets.insert(instance.commits, {handle, state, revision, nil, nil})

      [] ->
        true
    end
  end

  @doc "What a snapshot carries over: whoever waited for the last reply is gone."
  @spec carry(tuple()) :: tuple()
  def carry({handle, state, revision, _answered, _reply}), do: {handle, state, revision, nil, nil}

  @doc "Forgets the state."
  @spec delete(Instance.t(), pos_integer()) :: true
  def delete(instance, handle), do: :ets.delete(instance.commits, handle)
end
