defmodule Pyre.Agent.Commits do
  @moduledoc false

  # Committed states. One insert of one row {state, revision, answered message, its reply} is the instant in which a message has
  # happened: before it nothing did, after it the reply can be given again from the row.
  #
  #   {handle, state, revision, answered, reply}             written by version 1 of the agent's class
  #   {handle, state, revision, answered, reply, version}    by another one
  #   {handle, state, revision}, {handle, state, revision, version}   the same, where nobody waits for that reply any more
  #
  # `answered` is a list where several casts were committed together.

  require Logger

  alias Pyre.{Address, Instance, Mailbox}

  @answered 4
  # It travels, is compared and is copied as a whole with each message that changes it; 16 MiB is the end.
  @large_bytes 1_048_576

  @doc "The committed state and its revision; an empty binary and 0 where nothing is committed yet."
  @spec get(Instance.t(), pos_integer()) :: {binary(), non_neg_integer()}
  def get(instance, handle) do
    {state, revision, _version} = load(instance, handle)
    {state, revision}
  end

  @doc "The same, and the version of the class that wrote it; 0 where nothing is committed yet."
  @spec load(Instance.t(), pos_integer()) :: {binary(), non_neg_integer(), non_neg_integer()}
  def load(instance, handle) do
    case :ets.lookup(instance.commits, handle) do
      [{_handle, state, revision, _answered, _reply}] -> {state, revision, 1}
      [{_handle, state, revision}] -> {state, revision, 1}
      [{_handle, state, revision, _answered, _reply, version}] -> {state, revision, version}
      [{_handle, state, revision, version}] -> {state, revision, version}
      [] -> {<<>>, 0, 0}
    end
  end

  @doc """
  Commits a state, together with the reply to the message that made it.

  `version` is told where it may be another than that of the state before.
  """
  @spec put(Instance.t(), pos_integer(), binary(), Mailbox.key() | nil, binary() | nil, pos_integer() | nil) ::
          pos_integer()
  def put(instance, handle, state, answered, reply, version \\ nil),
    do: store(instance, handle, state, 1, {answered, reply}, version)

  @doc "Commits the state that the last of several casts has left, of which so many have changed it."
  @spec put_burst(Instance.t(), pos_integer(), binary(), pos_integer(), {[Mailbox.key()], binary()}) ::
          pos_integer()
  def put_burst(instance, handle, state, changes, answer),
    do: store(instance, handle, state, changes, answer, nil)

  defp store(instance, handle, state, changes, answer, version) do
    {last, revision, before} = load(instance, handle)
    if byte_size(state) > @large_bytes and byte_size(last) <= @large_bytes, do: warn(instance, handle, state)
    # What comes from the port is a part of a frame of up to 64 KB, which it would keep alive.
    row = row(handle, :binary.copy(state), revision + changes, answer, version || before)
    :ets.insert(instance.commits, row)
    Instance.count(instance, :commits, changes)
    revision + changes
  end

  # Once, as it grows beyond the bound.
  defp warn(instance, handle, state) do
    {id, class} = Address.name(instance, handle)

    Logger.warning(
      "the state of agent #{inspect(id)} (#{class}) has #{div(byte_size(state), 1024)} KiB; each message that changes it writes them " <>
        "all, and none may have more than 16 MiB. Keep large things elsewhere, or in agents of their own",
      agent_id: id,
      class: class,
      pyre: instance.name
    )
  end

  defp row(handle, state, revision, {nil, nil}, version) when version in [0, 1], do: {handle, state, revision}
  defp row(handle, state, revision, {nil, nil}, version), do: {handle, state, revision, version}

  defp row(handle, state, revision, {answered, reply}, version) when version in [0, 1],
    do: {handle, state, revision, answered, reply}

  defp row(handle, state, revision, {answered, reply}, version),
    do: {handle, state, revision, answered, reply, version}

  @doc "The reply that was committed with this message, if it was the last."
  @spec answer(Instance.t(), pos_integer(), Mailbox.key()) :: {:ok, binary()} | :error
  def answer(instance, handle, key) do
    case :ets.lookup(instance.commits, handle) do
      [row] when tuple_size(row) > @answered ->
        if answered?(elem(row, @answered - 1), key), do: {:ok, elem(row, @answered)}, else: :error

      _other ->
        :error
    end
  end

  defp answered?(keys, key) when is_list(keys), do: key in keys
  defp answered?(answered, key), do: answered == key

  @doc "Lets go of the last reply: whoever waited for it has it. Called by the agent's process."
  @spec forget_answer(Instance.t(), pos_integer()) :: boolean()
  def forget_answer(instance, handle) do
    case :ets.lookup(instance.commits, handle) do
      [row] when tuple_size(row) > @answered -> :ets.insert(instance.commits, carry(row))
      _none -> false
    end
  end

  @doc "Keeps a state for an agent that is started again under this id."
  @spec keep(Instance.t(), pos_integer(), String.t()) :: true
  def keep(instance, handle, id) do
    case load(instance, handle) do
      {_state, 0, _version} ->
        true

      {state, revision, version} ->
        :ets.insert(instance.commits, row({:kept, id}, state, revision, {nil, nil}, version))
    end
  end

  @doc "Takes over what was kept under this id."
  @spec adopt(Instance.t(), pos_integer(), String.t()) :: true
  def adopt(instance, handle, id) do
    case :ets.take(instance.commits, {:kept, id}) do
      [row] -> :ets.insert(instance.commits, put_elem(row, 0, handle))
      [] -> true
    end
  end

  @doc "What a snapshot carries over: whoever waited for the last reply is gone."
  @spec carry(tuple()) :: tuple()
  def carry({handle, state, revision, _answered, _reply}), do: {handle, state, revision}
  def carry({handle, state, revision, _answered, _reply, version}), do: {handle, state, revision, version}
  def carry(row), do: row

  @doc "Forgets the state."
  @spec delete(Instance.t(), pos_integer()) :: true
  def delete(instance, handle), do: :ets.delete(instance.commits, handle)
end
