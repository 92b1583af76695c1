defmodule Pyre.History.Ring do
  @moduledoc false

  # The messages of an agent that ended well, in one row of integers:
  #
  #   {handle, size, at, what, took, at, what, took, ...}
  #
  # By far the most entries are such, and each message pays for its own: so it takes no memory of its own but three words, written
  # in place. The row begins with room for one, which is enough for many agents, then has two, and grows to the bound. Only the agent's
  # process writes it.
  #
  # `size` is how many were written so far, and in its lowest bits for how many there is room.
  # `at` is in microseconds and has the kind and the attempt in its lowest bits; `what` is the number of the handler's name and the
  # message's id; `took` is in microseconds, or the revision of a state that was put. What doesn't fit is no entry of the ring.

  import Bitwise

  alias Pyre.Instance

  @size 2
  @head 2
  @width 3
  @empty {0, 1, 0, 0, 0}
  @growth 4
  @room_bits 14
  @one 1 <<< @room_bits
  @room_mask @one - 1

  @kinds [:call, :cast, :timer, :on_start, :on_down, :event, :stream, :put_state]
  @codes @kinds |> Enum.with_index() |> Map.new()
  @names Map.new(@codes, fn {kind, code} -> {code, kind} end)

  # 59 bits are a small integer: 53 for the time, which is enough until 2255.
  @attempt_bits 3
  @kind_bits 3
  @most_attempts 7
  @id_bits 42
  @most_ids (1 <<< @id_bits) - 1
  @most_names 65_535

  @typedoc "What is kept of a message that ended well. The id is 0 for a hook."
  @type entry :: %{
          at: integer(),
          kind: atom(),
          handler: binary(),
          attempt: pos_integer(),
          id: non_neg_integer(),
          took: non_neg_integer()
        }

  @doc "Writes an entry over the oldest one; gives its slot, or `:error` where it doesn't fit into integers."
  @spec put(Instance.t(), pos_integer(), entry()) :: {:ok, non_neg_integer()} | :error
  def put(instance, handle, %{kind: kind, attempt: attempt, id: id} = entry)
      when is_map_key(@codes, kind) and attempt <= @most_attempts and id <= @most_ids do
    case number(instance.history, entry.handler) do
      number when number <= @most_names ->
        slot = slot(instance, handle)
        :ets.update_element(instance.history, handle, words(entry, number, slot))
        {:ok, slot}

      _too_many ->
        :error
    end
  end

  def put(_instance, _handle, _entry), do: :error

  @doc "Writes several entries, the oldest first; `:error`, and none is written, where one of them doesn't fit."
  @spec put_all(Instance.t(), pos_integer(), [entry(), ...]) :: :ok | :error
  def put_all(%{config: %{history: most}} = instance, handle, entries) do
    numbers =
      Map.new(Enum.uniq(for(%{handler: name} <- entries, do: name)), &{&1, number(instance.history, &1)})

    if Enum.all?(entries, &fits?(&1, numbers)) do
      # What would be overwritten at once is only counted.
      {skipped, kept} = Enum.split(entries, -most)
      slots = slots(instance, handle, length(skipped), length(kept))

      words =
        for {entry, slot} <- Enum.zip(kept, slots),
            word <- words(entry, numbers[entry.handler], slot),
            do: word

      :ets.update_element(instance.history, handle, words)
      :ok
    else
      :error
    end
  end

  defp fits?(%{kind: kind, attempt: attempt, id: id, handler: name}, numbers),
    do:
      is_map_key(@codes, kind) and attempt <= @most_attempts and id <= @most_ids and
        Map.fetch!(numbers, name) <= @most_names

  # Room is made one by one as long as the ring grows, which is soon over.
  defp slots(%{config: %{history: most}} = instance, handle, skipped, count) do
    size = :ets.update_counter(instance.history, handle, {@size, 0}, @empty)

    if (size &&& @room_mask) < most do
      for _skipped <- 1..skipped//1, do: slot(instance, handle)
      for _kept <- 1..count//1, do: slot(instance, handle)
    else
      size = :ets.update_counter(instance.history, handle, {@size, (skipped + count) * @one})
      written = size >>> @room_bits
      for number <- (written - count)..(written - 1)//1, do: rem(number, most)
    end
  end

  defp words(entry, number, slot) do
    at = entry.at <<< (@kind_bits + @attempt_bits) ||| code(entry.kind) <<< @attempt_bits ||| entry.attempt

    first = @head + 1 + slot * @width
    [{first, at}, {first + 1, number <<< @id_bits ||| entry.id}, {first + 2, entry.took}]
  end

  for {kind, code} <- @codes, do: defp(code(unquote(kind)), do: unquote(code))

  defp slot(instance, handle) do
    size = :ets.update_counter(instance.history, handle, {@size, @one}, @empty)
    written = size >>> @room_bits
    room = size &&& @room_mask
    if written <= room, do: written - 1, else: slot(instance, handle, written, room)
  end

  defp slot(%{config: %{history: most}} = instance, handle, written, room) when room < most do
    room = if room == 1, do: 2, else: min(room * @growth, most)
    [row] = :ets.lookup(instance.history, handle)
    columns = row |> Tuple.to_list() |> Enum.drop(@head)
    added = List.duplicate(0, @width * room - length(columns))
    size = written <<< @room_bits ||| room
    :ets.insert(instance.history, List.to_tuple([handle, size | columns] ++ added))
    rem(written - 1, room)
  end

  defp slot(_instance, _handle, written, room), do: rem(written - 1, room)

  # Names are few, and only those of handlers that exist come here: nothing ever takes one out.
  defp number(table, name) do
    case :ets.lookup(table, name) do
      [{_name, number}] -> number
      [] -> add_name(table, :binary.copy(name))
    end
  end

  defp add_name(table, name) do
    number = :ets.update_counter(table, :names, {2, 1}, {:names, 0})

    # Whoever reads a number finds its name.
    if number <= @most_names do
      :ets.insert(table, {{:name, number}, name})
      :ets.insert(table, {name, number})
    end

    number
  end

  @doc "The entries with their slots, in no order."
  @spec read(Instance.t(), pos_integer()) :: [{non_neg_integer(), entry()}]
  def read(instance, handle) do
    case :ets.lookup(instance.history, handle) do
      [row] ->
        for slot <- 0..(room(row) - 1), entry <- entry(instance, row, slot), do: {slot, entry}

      [] ->
        []
    end
  end

  defp room(row), do: elem(row, @size - 1) &&& @room_mask

  defp entry(instance, row, slot) do
    first = @head + slot * @width

    case elem(row, first) do
      # Not written yet, or its writer was killed over it.
      0 -> []
      at -> [unpack(instance, at, elem(row, first + 1), elem(row, first + 2))]
    end
  end

  defp unpack(instance, at, what, took) do
    %{
      at: at >>> (@kind_bits + @attempt_bits),
      kind: Map.fetch!(@names, at >>> @attempt_bits &&& (1 <<< @kind_bits) - 1),
      attempt: at &&& (1 <<< @attempt_bits) - 1,
      handler: :ets.lookup_element(instance.history, {:name, what >>> @id_bits}, 2),
      id: what &&& @most_ids,
      took: took
    }
  end

  @doc "Forgets the entries."
  @spec delete(Instance.t(), pos_integer()) :: true
  def delete(instance, handle), do: :ets.delete(instance.history, handle)
end
