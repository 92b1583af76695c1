proper? = Code.ensure_loaded?(:proper)

unless proper? do
  IO.puts("PropEr is missing, its tests are skipped; to run them: apt-get install erlang-proper")
end

defmodule Pyre.Wire.PropertyTest do
  # Alone, since it counts the atoms of the whole node.
  use ExUnit.Case, async: false

  @compile {:no_warn_undefined, [:proper, :proper_gen, :proper_types]}
  @moduletag :property
  unless proper?, do: @moduletag(skip: "PropEr is missing")

  import Bitwise
  alias Pyre.Wire.{ETF, Frame, MsgPack}

  test "what was encoded as ETF is decoded, as binary_to_term does" do
    check(batch(), fn batch ->
      payload = ETF.encode(batch)
      ETF.decode(payload) == {:ok, batch} and :erlang.binary_to_term(payload) == batch
    end)
  end

  test "where both decode a payload, they agree" do
    check(:proper_types.tuple([batch(), byte_change()]), fn {batch, change} ->
      payload = change(ETF.encode(batch), change)

      case ETF.decode(payload) do
        {:ok, term} -> :erlang.binary_to_term(payload) === term
        {:error, reason} -> is_binary(reason)
      end
    end)
  end

  test "every cut of a frame awaits more, and then comes out whole" do
    check(batch(), fn batch ->
      frame = IO.iodata_to_binary(Frame.encode(batch))

      Enum.all?(0..(byte_size(frame) - 1), fn at ->
        <<head::binary-size(at), tail::binary>> = frame
        {:ok, [], framer} = Frame.push(Frame.new(), head)
        {:ok, [payload], _framer} = Frame.push(framer, tail)
        Frame.decode(payload) == {:ok, batch}
      end)
    end)
  end

  test "every cut of a payload is reported" do
    check(batch(), fn batch ->
      payload = ETF.encode(batch)

      Enum.all?(0..(byte_size(payload) - 1), fn size ->
        match?({:error, _reason}, ETF.decode(binary_part(payload, 0, size)))
      end)
    end)
  end

  test "garbage never raises and never makes an atom" do
    # The first run loads code, which makes atoms.
    decode_garbage()
    before = :erlang.system_info(:atom_count)
    decode_garbage()
    # PropEr and ExUnit make a few of their own while they run; the thousands of garbage names would be seen.
    assert :erlang.system_info(:atom_count) - before < 100
  end

  defp decode_garbage do
    check(:proper_types.tuple([:proper_types.binary(), batch(), byte_change()]), fn {garbage, batch, change} ->
      for bytes <- [
            garbage,
            <<131, garbage::binary>>,
            <<131, 108, 0, 0, 0, 1, 104, garbage::binary>>,
            <<131, 100, 0, byte_size(garbage), garbage::binary>>,
            change(ETF.encode(batch), change)
          ] do
        refuses_or_decodes(Frame.decode(bytes))
        refuses_or_decodes(MsgPack.decode(bytes))
        refuses_or_decodes(Frame.push(Frame.new(), bytes))
      end

      true
    end)
  end

  test "what was encoded as MessagePack is decoded" do
    check(value(), fn value ->
      {:ok, bytes} = MsgPack.encode(value)
      MsgPack.decode(bytes) == {:ok, value}
    end)
  end

  test "every cut and every changed byte of a body is an error or another value" do
    check(:proper_types.tuple([value(), byte_change()]), fn {value, change} ->
      {:ok, bytes} = MsgPack.encode(value)
      refuses_or_decodes(MsgPack.decode(change(bytes, change)))

      Enum.all?(0..(byte_size(bytes) - 1), fn size ->
        match?({:error, %Pyre.Error{kind: :decode}}, MsgPack.decode(binary_part(bytes, 0, size)))
      end)
    end)
  end

  ## Generators

  defp batch do
    mapped({envelope(), :proper_types.list(envelope())}, fn {first, rest} -> [first | rest] end)
  end

  defp envelope do
    mapped({:proper_types.byte(), :proper_types.list(term(3))}, fn {opcode, fields} ->
      List.to_tuple([opcode | Enum.take(fields, 20)])
    end)
  end

  # A list of small integers alone is a 107 string, so lists hold binaries and tuples.
  defp term(0), do: :proper_types.oneof([integer(), :proper_types.binary(), :proper_types.exactly([])])

  defp term(depth) do
    :proper_types.oneof([
      term(0),
      mapped({:proper_types.list(term(depth - 1))}, fn {fields} ->
        fields |> Enum.take(5) |> List.to_tuple()
      end),
      mapped({:proper_types.binary(), :proper_types.list(term(depth - 1))}, fn {first, rest} ->
        [first | Enum.take(rest, 5)]
      end)
    ])
  end

  defp integer do
    :proper_types.oneof([
      :proper_types.integer(),
      :proper_types.integer(-(1 <<< 31) - 2, (1 <<< 31) + 2),
      :proper_types.integer(1 - (1 <<< 64), (1 <<< 64) - 1)
    ])
  end

  defp value, do: value(3)

  defp value(0) do
    :proper_types.oneof([
      :proper_types.oneof([nil, true, false]),
      :proper_types.integer(),
      :proper_types.integer(-(1 <<< 63), (1 <<< 64) - 1),
      :proper_types.float(),
      :proper_types.binary(),
      mapped({:proper_types.list(:proper_types.integer(0, 0xD7FF))}, fn {points} -> List.to_string(points) end),
      mapped({:proper_types.integer(0, 127), :proper_types.binary()}, fn {type, data} ->
        Pyre.Ext.new(type, data)
      end),
      mapped({:proper_types.integer(-1_000_000_000_000_000, 1_000_000_000_000_000)}, &instant/1)
    ])
  end

  defp value(depth) do
    :proper_types.oneof([
      value(0),
      :proper_types.list(value(depth - 1)),
      mapped({:proper_types.list(:proper_types.tuple([value(0), value(depth - 1)]))}, fn {pairs} ->
        Map.new(pairs)
      end)
    ])
  end

  # As it comes back: without fraction where there is none.
  defp instant({microseconds}) do
    datetime = DateTime.from_unix!(microseconds, :microsecond)
    if rem(microseconds, 1_000_000) == 0, do: DateTime.truncate(datetime, :second), else: datetime
  end

  defp byte_change, do: :proper_types.tuple([:proper_types.non_neg_integer(), :proper_types.byte()])

  defp mapped(types, fun) do
    types = types |> Tuple.to_list() |> :proper_types.tuple()
    :proper_types.bind(types, fn values -> :proper_types.exactly(fun.(values)) end, false)
  end

  ## Helpers

  defp change(bytes, {position, byte}) do
    at = rem(position, byte_size(bytes))
    <<head::binary-size(at), _old, tail::binary>> = bytes
    <<head::binary, byte, tail::binary>>
  end

  defp refuses_or_decodes(result) do
    assert match?({:ok, _term}, result) or match?({:ok, _payloads, _framer}, result) or
             match?({:error, _reason}, result)
  end

  defp check(type, law) do
    result =
      :proper.quickcheck(:proper.forall(type, law), [:quiet, :long_result, numtests: 100, max_size: 10])

    assert result == true, "the law does not hold for #{inspect(result, limit: 50)}"
  end
end
