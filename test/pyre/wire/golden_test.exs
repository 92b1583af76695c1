defmodule Pyre.Wire.GoldenTest do
  use ExUnit.Case, async: true

  alias Pyre.GoldenFrames
  alias Pyre.Wire.{ETF, Frame, MsgPack}

  for golden <- GoldenFrames.all() do
    @golden golden
    @path Path.join(GoldenFrames.directory(), golden.name)

    test "#{golden.name}: the files are what scripts/golden_frames.exs writes" do
      assert File.read!(@path <> ".bin") == @golden.bytes
      assert File.read!(@path <> ".json") == IO.iodata_to_binary(GoldenFrames.json(@golden))
    end
  end

  test "no file is left from a golden frame that is gone" do
    names = for %{name: name} <- GoldenFrames.all(), suffix <- [".bin", ".json"], do: name <> suffix
    assert Enum.sort(File.ls!(GoldenFrames.directory())) == Enum.sort(names)
  end

  for %{kind: :frame} = golden <- GoldenFrames.all() do
    @golden golden

    test "#{golden.name} is decoded, and encoded to the same bytes" do
      assert {:ok, [payload], _framer} = Frame.push(Frame.new(), @golden.bytes)
      assert Frame.decode(payload) == {:ok, @golden.term}
      assert IO.iodata_to_binary(Frame.encode(@golden.term)) == @golden.bytes
    end
  end

  for %{kind: :bad_frame} = golden <- GoldenFrames.all() do
    @golden golden

    test "#{golden.name} is refused" do
      assert {:ok, [payload], _framer} = Frame.push(Frame.new(), @golden.bytes)
      assert {:error, reason} = Frame.decode(payload)
      assert is_binary(reason)
    end
  end

  for %{kind: :body} = golden <- GoldenFrames.all() do
    @golden golden

    test "#{golden.name} is decoded#{if golden.canonical, do: ", and encoded to the same bytes"}" do
      assert MsgPack.decode(@golden.bytes) == {:ok, plain(@golden.term)}
      if @golden.canonical, do: assert(MsgPack.encode(wrapped(@golden.term)) == {:ok, @golden.bytes})
    end
  end

  for %{kind: :bad_body} = golden <- GoldenFrames.all() do
    @golden golden

    test "#{golden.name} is refused" do
      assert {:error, %Pyre.Error{kind: :decode}} = MsgPack.decode(@golden.bytes)
    end
  end

  test "the batch's payload is decoded by ETF alone, too" do
    <<_size::32, payload::binary>> = File.read!(Path.join(GoldenFrames.directory(), "frame_batch.bin"))
    assert ETF.decode(payload) == {:ok, :erlang.binary_to_term(payload)}
  end

  defp plain({:bin, data}), do: data
  defp plain(term), do: term

  defp wrapped({:bin, data}), do: Pyre.Bin.new(data)
  defp wrapped(term), do: term
end
