defmodule Pyre.Wire.MsgPackTest do
  use ExUnit.Case, async: true

  import Bitwise
  alias Pyre.{Bin, Ext}
  alias Pyre.Wire.MsgPack

  doctest Pyre.Bin
  doctest Pyre.Ext

  describe "encode" do
    test "tells text from bytes, and takes atoms for text" do
      assert encode!("é") == <<0xA2, "é">>
      assert encode!(<<255>>) == <<0xC4, 1, 255>>
      assert encode!(Bin.new("abc")) == <<0xC4, 3, "abc">>
      assert encode!(:ok) == <<0xA2, "ok">>
      assert encode!([nil, true, false]) == <<0x93, 0xC0, 0xC3, 0xC2>>
    end

    test "text is told from bytes at each position of a long binary" do
      for length <- 0..13, at <- 0..length do
        text = String.duplicate("x", at) <> "é" <> String.duplicate("x", length - at)
        assert {:ok, ^text} = text |> encode!() |> MsgPack.decode()
        assert <<0xC4, _size, _bytes::binary>> = encode!(String.replace(text, "é", <<0xC3>>))
      end
    end

    test "names what cannot travel and its place" do
      for {term, path, hint} <- [
            {%{"orders" => [1, 2, 3, %{price: self()}]}, ~s(["orders"][3]["price"]),
             "a pid has no counterpart"},
            {[make_ref()], "[0]", "a reference"},
            {%{nil => %{1 => fn -> :ok end}}, "[nil][1]", "a function"},
            {%{list: {1, 2}}, ~s(["list"]), "Tuple.to_list/1"},
            {[[a: 1]], "[0]", "Map.new/1"},
            {[1 | 2], "", "improper list"},
            {[<<1::3>>], "[0]", "whole bytes"},
            {[1 <<< 64], "[0]", "-2^63 to 2^64 - 1"},
            {-(1 <<< 63) - 1, "", "-2^63 to 2^64 - 1"},
            {~D[2020-01-01], "", "Date.to_iso8601/1"},
            {~T[00:00:00], "", "explicit conversion"},
            {~N[2020-01-01 00:00:00], "", "DateTime.from_naive!"},
            {MapSet.new(), "", "MapSet.to_list/1"},
            {1..3, "", "Enum.to_list/1"},
            {%URI{}, "", "the struct URI needs an explicit conversion"},
            {%Ext{type: -1, data: ""}, "", "extension type"},
            {%Ext{type: 128, data: ""}, "", "extension type"},
            {%Bin{data: 1}, "", "explicit conversion"},
            {%{"a" => %{{1} => 2}}, ~s(["a"]), "the key {1}: a tuple"}
          ] do
        assert {:error, %Pyre.Error{kind: :encode, details: %{path: ^path}} = error} = MsgPack.encode(term)
        assert error.message =~ hint
        assert path == "" or error.message =~ " at #{path}: "
      end
    end

    test "two keys that become the same are an error that names both" do
      for {map, keys} <- [
            {%{:a => 1, "a" => 2}, [":a", ~s("a")]},
            {%{%Bin{data: "a"} => 1, "a" => 2}, ["%Pyre.Bin", ~s("a")]}
          ] do
        assert {:error, %Pyre.Error{kind: :encode, message: message}} = MsgPack.encode([map])
        for key <- keys, do: assert(message =~ key)
        assert message =~ " at [0]: "
      end

      assert {:ok, _bytes} = MsgPack.encode(%{nil => 1, "nil" => 2})
      assert {:ok, _bytes} = MsgPack.encode(%{:a => 1, "b" => 2, 3 => 4})
    end

    test "64 levels travel, 65 do not" do
      assert {:ok, bytes} = MsgPack.encode(nested(64))
      assert MsgPack.decode(bytes) == {:ok, nested(64)}
      assert {:error, %Pyre.Error{kind: :encode, message: message}} = MsgPack.encode(nested(65))
      assert message =~ "nested more than 64 levels deep"
      assert {:error, %Pyre.Error{kind: :encode}} = MsgPack.encode(nested(1_000_000))
    end

    test "a value above the limit is too large, with the numbers" do
      large = String.duplicate("x", 16 * 1024 * 1024)
      assert {:error, %Pyre.Error{kind: :too_large} = error} = MsgPack.encode(large)
      assert error.details == %{size: 16_777_221, limit: 16_777_216}
      assert error.message == "the encoded value has 16777221 bytes, the limit is 16777216"

      assert {:error, %Pyre.Error{kind: :too_large}} = MsgPack.encode("abcd", max_bytes: 4)
      assert {:ok, <<0xA3, "abc">>} = MsgPack.encode("abc", max_bytes: 4)
    end

    test "an instant of any time zone travels as UTC" do
      datetime = %{
        ~U[2020-01-01 12:00:00.25Z]
        | utc_offset: 3_600,
          time_zone: "Europe/Berlin",
          zone_abbr: "CET"
      }

      assert MsgPack.decode(encode!(datetime)) == {:ok, ~U[2020-01-01 11:00:00.250000Z]}
      assert {:error, %Pyre.Error{kind: :encode}} = MsgPack.encode(%{datetime | year: -1})
    end
  end

  describe "decode" do
    test "names what is wrong and its place" do
      for {bytes, path, hint} <- [
            {<<0x81, 0xA1, "a", 0x92, 1, 0xCB, 0x7FF8::16, 0::48>>, ~s(["a"][1]), "NaN or infinite"},
            {<<0x91, 0xCA, 0xFF80::16, 0::16>>, "[0]", "NaN or infinite"},
            {<<0x92, 0xC0, 0xC1>>, "[1]", "0xc1 is reserved"},
            {<<0x91, 0xA1, 0xFF>>, "[0]", "not UTF-8"},
            {<<0x82, 0xA1, "a", 1, 0xC4, 1, "a", 2>>, "", ~s(the key "a" stands twice)},
            {<<0x91, 0x82, 1, 1, 1, 1>>, "[0]", "the key 1 stands twice"},
            {<<0xC0, 0xC0>>, "", "1 bytes follow it"},
            {<<0xDD, 0xFFFFFFFF::32>>, "[0]", "cut short"}
          ] do
        assert {:error, %Pyre.Error{kind: :decode, details: %{path: ^path}} = error} = MsgPack.decode(bytes)
        assert error.message =~ hint
      end
    end

    test "a body above the limit is not looked at" do
      assert {:error, %Pyre.Error{kind: :too_large}} = MsgPack.decode(<<0xC1, 0, 0>>, max_bytes: 2)
    end

    test "a hostile count costs no memory" do
      parent = self()

      for hostile <- [<<0xDD, 0xFFFFFFFF::32, 1>>, <<0xDF, 0xFFFFFFFF::32, 1>>, <<0xC6, 0xFFFFFFFF::32, 1>>] do
        {_pid, monitor} =
          :erlang.spawn_opt(fn -> send(parent, {:decoded, MsgPack.decode(hostile)}) end, [
            :monitor,
            max_heap_size: %{size: 10_000, kill: true, error_logger: false}
          ])

        assert_receive {:DOWN, ^monitor, :process, _pid, :normal}
        assert_received {:decoded, {:error, %Pyre.Error{kind: :decode}}}
      end
    end

    test "a text of a small body does not keep the large frame that it came in" do
      frame = :binary.copy(<<0>>, 100_000) <> encode!(%{"text" => String.duplicate("x", 100)})
      body = binary_part(frame, 100_000, byte_size(frame) - 100_000)
      assert {:ok, %{"text" => text}} = MsgPack.decode(body)
      assert :binary.referenced_byte_size(text) < 200
    end
  end

  defp encode!(term) do
    {:ok, bytes} = MsgPack.encode(term)
    bytes
  end

  defp nested(levels), do: Enum.reduce(2..levels, [], fn _level, list -> [list] end)
end
