defmodule Pyre.DeadLetters do
  @moduledoc false

  # Messages without a caller that were given up: what nobody can be told is kept here, with the reason, until a person decides. The
  # rows are State's. A letter is put before its message leaves the mailbox, so that no death in between loses it; the mailbox's key
  # in it tells a successor that the message is settled.
  #
  # Bounded by count and bytes: the oldest goes, and is counted.

  alias Pyre.{Address, Error, Instance, Mailbox, PythonError, Telemetry}
  alias Pyre.Wire.MsgPack

  @max_bytes 16 * 1024 * 1024
  # What a row takes beside its arguments and its error.
  @row_bytes 200
  # Agents and handlers that a summary names.
  @named 20

  @filters [:agent, :class, :handler, :kind, :reason]

  @typep told ::
           :failed
           | :refused
           | :timeout
           | :attempts
           | :parked
           | :restarted
           | :stopped
           | :terminated
           | :stopping
  @type reason :: told() | :blamed

  @type owner :: %{required(:id) => Address.id(), required(:class) => String.t(), optional(any()) => any()}

  @doc "Keeps a message that is given up."
  @spec put(Instance.t(), owner(), map(), reason(), Pyre.error()) :: :ok
  def put(instance, %{id: id, class: class}, message, reason, error) do
    # Encoded: it owns its bytes, which else keep a whole frame alive, and their number is known.
    error = :erlang.term_to_binary(error)

    bytes =
      @row_bytes + byte_size(id) + byte_size(message.handler) + byte_size(message.args) + byte_size(error)

    letter = %{
      key: message.key,
      agent: id,
      class: class,
      kind: message.kind,
      handler: message.handler,
      args: message.args,
      reason: reason,
      error: error,
      attempts: message.attempt,
      at: System.os_time(:millisecond),
      bytes: bytes
    }

    :ets.insert(instance.dead_letters, {Instance.unique(instance), nil, letter})
    Instance.add_letter_bytes(instance, bytes)
    Instance.count(instance, :dropped_casts)

    Telemetry.event([:dead_letter], %{count: 1}, %{
      name: instance.name,
      id: id,
      class: class,
      handler: message.handler,
      reason: reason
    })

    trim(instance)
  end

  # One alone may be as large as arguments may be.
  defp trim(%{dead_letters: table} = instance) do
    count = :ets.info(table, :size)

    if count > instance.config.max_dead_letters or
         (count > 1 and Instance.letter_bytes(instance) > @max_bytes) do
      if remove(instance, :ets.first(table)), do: Instance.count(instance, :dead_letters_dropped)
      trim(instance)
    else
      :ok
    end
  end

  defp remove(instance, id) do
    case :ets.take(instance.dead_letters, id) do
      [{_id, _claimant, letter}] -> Instance.add_letter_bytes(instance, -letter.bytes) == :ok
      [] -> false
    end
  end

  @doc "Why a message is given up whose sender would be told this error."
  @spec reason(Pyre.error()) :: told()
  def reason(%PythonError{expected: true}), do: :refused
  def reason(%PythonError{}), do: :failed
  def reason(%Error{kind: kind}) when kind in [:worker_down, :agent_down], do: :attempts
  def reason(%Error{kind: kind}) when kind in [:invalid_args, :unknown_handler, :deadline], do: :refused

  def reason(%Error{kind: kind})
      when kind in [:terminated, :stopped, :stopping, :timeout, :parked, :restarted],
      do: kind

  def reason(%Error{}), do: :failed

  @doc "Is this message a letter already? Then whoever finds it in a mailbox has only to take it out there."
  @spec settled?(Instance.t(), Mailbox.key()) :: boolean()
  def settled?(instance, key),
    do: :ets.match_object(instance.dead_letters, {:_, :_, %{key: key}}, 1) != :"$end_of_table"

  @doc "The letters that a filter lets through, the newest last."
  @spec list(Instance.t(), term()) :: [map()]
  def list(instance, filter) do
    filter = filter!(filter)

    for {id, _claimant, letter} <- :ets.tab2list(instance.dead_letters),
        Enum.all?(filter, fn {key, value} -> Map.fetch!(letter, key) == value end),
        do: public(id, letter)
  end

  defp public(id, letter) do
    letter
    |> Map.drop([:key, :bytes])
    |> Map.merge(%{
      id: id,
      args: decoded(letter.args),
      error: :erlang.binary_to_term(letter.error),
      at: DateTime.from_unix!(letter.at, :millisecond)
    })
  end

  defp decoded(args) do
    case MsgPack.decode(args) do
      {:ok, map} -> map
      {:error, _from_a_hostile_interpreter} -> args
    end
  end

  defp filter!(filter) do
    unless Keyword.keyword?(filter) and Enum.all?(Keyword.keys(filter), &(&1 in @filters)),
      do:
        raise(
          ArgumentError,
          "expected the filter to be a keyword list of #{Enum.map_join(@filters, ", ", &inspect/1)}, got: " <>
            inspect(filter, limit: 5)
        )

    for {key, value} <- filter, do: {key, wanted(key, value)}
  end

  defp wanted(:class, class), do: Pyre.Agent.Starter.to_name!(class)
  defp wanted(:handler, handler) when is_atom(handler), do: Atom.to_string(handler)
  defp wanted(_key, value), do: value

  @doc "Puts a letter's message into its agent's mailbox again. One that is refused there stays a letter."
  @spec retry(Instance.t(), pos_integer() | :all) :: :ok | {:ok, non_neg_integer()} | {:error, Pyre.error()}
  def retry(instance, :all), do: {:ok, Enum.count(ids(instance), &(retry(instance, &1) == :ok))}

  def retry(instance, id) do
    with [{^id, claimant, letter}] <- :ets.lookup(instance.dead_letters, id),
         true <- claim(instance, id, claimant) do
      put_again(instance, id, letter)
    else
      _taken_or_unknown -> {:error, not_found(id)}
    end
  end

  # Two who retry one letter are not to send it twice; one who died over it has not taken it along.
  defp claim(instance, id, claimant) do
    free? = claimant == nil or not Process.alive?(claimant)

    free? and
      :ets.select_replace(instance.dead_letters, [
        {{id, claimant, :"$1"}, [], [{{id, {:const, self()}, :"$1"}}]}
      ]) == 1
  end

  defp put_again(instance, id, letter) do
    case Mailbox.put(instance, letter.agent, letter.kind, letter.handler, letter.args, 0, nil) do
      {:ok, _key} ->
        remove(instance, id)
        :ok

      {:error, error} ->
        :ets.update_element(instance.dead_letters, id, {2, nil})
        {:error, error}
    end
  end

  @doc "Throws a letter away."
  @spec discard(Instance.t(), pos_integer() | :all) :: :ok | {:ok, non_neg_integer()} | {:error, Error.t()}
  def discard(instance, :all), do: {:ok, Enum.count(ids(instance), &remove(instance, &1))}
  def discard(instance, id), do: if(remove(instance, id), do: :ok, else: {:error, not_found(id)})

  defp ids(instance), do: :ets.select(instance.dead_letters, [{{:"$1", :_, :_}, [], [:"$1"]}])

  defp not_found(id),
    do: Error.new(:not_found, "there is no dead letter #{inspect(id, limit: 5, printable_limit: 50)}")

  @doc "What many messages are, in a line of a log."
  @spec summary([{Address.id(), String.t(), binary()}]) :: String.t()
  def summary(messages) do
    groups = messages |> Enum.frequencies() |> Enum.sort_by(fn {group, count} -> {-count, group} end)

    named =
      groups
      |> Enum.take(@named)
      |> Enum.map_join(", ", fn {{id, class, handler}, count} ->
        "#{count} #{class}.#{handler} to #{inspect(id, printable_limit: 50)}"
      end)

    case length(groups) - @named do
      more when more > 0 -> "#{named}, and #{more} more"
      _all_named -> named
    end
  end
end
