defmodule Pyre.Wire.FrameTest do
  use ExUnit.Case, async: true

  require Pyre.Wire, as: Wire
  alias Pyre.Wire.Frame

  @batch [{65, 70_001, 0, "body", [], []}]

  test "frames that come in byte by byte come out whole and in order" do
    stream = for number <- 1..3, into: <<>>, do: frame([{4, number}])
    {payloads, framer} = push_all(for <<byte <- stream>>, do: <<byte>>)

    assert Enum.map(payloads, &Frame.decode/1) == for(number <- 1..3, do: {:ok, [{4, number}]})
    assert framer == Frame.new()
  end

  test "several frames in one chunk come out at once, without a copy of the chunk" do
    stream = :binary.copy(frame([{6, 1, 0, :binary.copy("x", 1_000)}]), 100)
    assert {:ok, payloads, _framer} = Frame.push(Frame.new(), stream)
    assert length(payloads) == 100
    assert payloads |> Enum.map(&:binary.referenced_byte_size/1) |> Enum.uniq() == [byte_size(stream)]
  end

  test "a large frame is put together from its chunks" do
    batch = [{6, 1, 0, :crypto.strong_rand_bytes(1_000_000)}]
    {[payload], framer} = batch |> frame() |> chunks(65_536) |> push_all()
    assert Frame.decode(payload) == {:ok, batch}
    assert framer == Frame.new()
  end

  test "the start of the next frame in the chunk that ends one is kept" do
    <<head::binary-size(9), tail::binary>> = frame(@batch)
    {payloads, _framer} = push_all([head, tail <> head, tail <> frame(@batch)])
    assert Enum.map(payloads, &Frame.decode/1) == List.duplicate({:ok, @batch}, 3)
  end

  test "what is kept of a chunk does not keep the chunk" do
    chunk = :binary.copy(frame(@batch), 1_000) <> <<0, 0, 0>>
    assert {:ok, _payloads, %Frame{buffered: [kept]}} = Frame.push(Frame.new(), chunk)
    assert :binary.referenced_byte_size(kept) < 100
  end

  test "a length of 0 and one above the limit are refused before anything is kept" do
    for hostile <- [<<0::32>>, <<Wire.max_frame_bytes() + 1::32>>, <<0xFFFFFFFF::32, "start">>] do
      assert {:error, reason} = Frame.push(Frame.new(), hostile)
      assert reason =~ "allowed are 1 to 67108864"
      assert {:error, _reason} = Frame.push(Frame.new(), frame(@batch) <> hostile)
    end
  end

  test "a hostile length is refused as soon as its last byte is there" do
    assert {:ok, [], framer} = Frame.push(Frame.new(10), <<0, 0, 0>>)
    assert {:error, "a frame announces 11 bytes; allowed are 1 to 10"} = Frame.push(framer, <<11>>)
  end

  test "a batch above the limit is not sent" do
    assert_raise ArgumentError, ~r/a frame holds at most 67108864 bytes, got: /, fn ->
      Frame.encode([{6, 1, 0, :binary.copy(<<0>>, Wire.max_frame_bytes())}])
    end
  end

  defp frame(batch), do: IO.iodata_to_binary(Frame.encode(batch))

  defp chunks(binary, size) when byte_size(binary) <= size, do: [binary]
  defp chunks(binary, size), do: [binary_part(binary, 0, size) | chunks(rest(binary, size), size)]

  defp rest(binary, size), do: binary_part(binary, size, byte_size(binary) - size)

  defp push_all(chunks) do
    Enum.reduce(chunks, {[], Frame.new()}, fn chunk, {payloads, framer} ->
      {:ok, new, framer} = Frame.push(framer, chunk)
      {payloads ++ new, framer}
    end)
  end
end
