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
        at = entry.at <<< (@kind_bits + @attempt_bits) ||| code(kind) <<< @attempt_bits ||| attempt
        slot = slot(instance, handle)
        first = @head + 1 + slot * @width
        words = [{first, at}, {first + 1, number <<< @id_bits ||| id}, {first + 2, entry.took}]
        :ets.update_element(instance.history, handle, words)
        {:ok, slot}

      _too_many ->
        :error
    end
  end

  def put(_instance, _handle, _entry), do: :error

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
