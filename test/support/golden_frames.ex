defmodule Pyre.GoldenFrames do
  @moduledoc false

  # The golden frames of test/fixtures/wire: what they mean, in Elixir terms. scripts/golden_frames.exs writes them
  # (NAME.bin, and NAME.json for Python's tests); the tests of both sides decode and encode them.
  #
  # Frames come from :erlang.term_to_binary/2 and bodies are written by hand, so that no codec of ours is its own judge.

  import Bitwise

  @type golden :: %{
          name: String.t(),
          kind: :frame | :body | :bad_frame | :bad_body,
          bytes: binary(),
          term: term(),
          canonical: boolean()
        }

  @spec all() :: [golden()]
  def all, do: frames() ++ bad_frames() ++ bodies() ++ bad_bodies()

  @spec directory() :: Path.t()
  def directory, do: Path.expand("../fixtures/wire", __DIR__)

  @doc "The JSON that stands beside the bytes."
  @spec json(golden()) :: iodata()
  def json(golden) do
    fields = [{"kind", golden.kind}, {"canonical", golden.canonical}, {"term", golden.term}]
    [object(fields, &json(golden.kind, &1)), ?\n]
  end

  defp frames do
    for {name, envelopes} <- [
          hello: [{1, 1, 3, 123_456, <<0x80>>}],
          activate: [{2, 70_000, 2, "Watcher", "root", "", <<0x81, 0xA4, "path", 0xA1, "/">>, 0}],
          deliver: [{3, 70_001, 70_000, 2, 0, "check", <<0x80>>, 123_456_789, 9_000}],
          deliver_small: [{3, 1, 1, 1, 1, "check", <<0x80>>, 0, 1}],
          deliver_small_handle: [{3, 300, 1, 1, 1, "", "", 0, 1 <<< 40}],
          deliver_extra: [{3, 2, 1, 1, 0, "check", <<0x80>>, 0, {1, 3, 0, ["desk", "root"], 0, "", "trace"}}],
          burst: [
            {12, 70_001, 70_000, 2, <<0x91, 0x94, 0xC4, 5, "check", 0xC4, 1, 0x80, 0xCD, 9_000::16, 1>>}
          ],
          burst_done: [{72, 70_001, 2, 1, <<0x80>>, 0}],
          burst_done_unchanged: [{72, 1, 3, 0, [], 60}],
          cancel: [{4, 70_001}],
          drop: [{5, 70_000, 2}],
          result: [{6, 17, 0, <<0xC0>>}],
          run: [{7, 256, "math", "sqrt", <<0x91, 9>>, 0}],
          clock: [{8, 4_294_967_296}],
          stop: [{9, 5_000}],
          ready: [{64, 1, "3.11.2", 4_711, <<0x80>>}],
          done: [{65, 70_001, 0, <<0xCB, 0.5::float>>, <<0x80>>, []}],
          done_unchanged: [{65, 256, 0, <<0xC0>>, [], []}],
          done_small: [{65, 255, 1, <<0x80>>, [], []}],
          done_timer: [{65, 70_001, 0, <<0xC0>>, [], [{1, "tick", 1_000, "check", <<0x80>>}]}],
          done_retry: [{65, 70_001, 7, <<0x80>>, [], [{200, 1}]}],
          done_schedules: [
            {65, 70_001, 0, <<0xC0>>, [],
             [
               {2, "tick"},
               {3, "poll", {1, 60_000, 500, 0, 1}, "check", <<0x80>>},
               {3, "once", {2, 1_900_000_000_123}, "check", <<0x80>>},
               {3, "nightly", {3, (1 <<< 60) - 1, 1, 0xFFFFFFFE, 0x1FFE, 0x7F, 0, <<-1::64, 0::32>>, 0, 1, 0},
                "check", <<0x80>>}
             ]}
          ],
          done_escalate: [
            {65, 70_001, 0, <<0xC0>>, [], [{6, "1:Refund?", "decided", <<0x80>>, 3_600_000}]}
          ],
          done_failure: [{65, 70_001, 7, <<0x80>>, [], [{7}]}],
          request_escalate: [{66, 70_001, 18, 19, "", "1:Refund?", <<0x80>>, 3_600_000}],
          request: [{66, 70_001, 17, 1, "desk", "report", <<0x80>>, 5_000}],
          request_tool: [{66, 70_001, 18, 22, "", "crm.lookup", <<0x81, 0xA2, "id", 3>>, 2_000}],
          request_tools: [{66, 70_001, 19, 23, "", "", "", 0}],
          dropped: [{67, 70_000, 2}],
          stream: [
            {10, 70_001, 8},
            {11, 17, <<0xC0>>},
            {68, 70_001, <<0xA1, "x">>},
            {69, 70_001, 17},
            {71, 70_001, 17, 8}
          ],
          progress: [{70, 70_001, 400_000, "reading contracts"}],
          progress_of_unknown_extent: [{70, 70_001, [], ""}],
          batch: [{65, 1, 0, <<0xC0>>, [], []}, {66, 2, 1, 4, "desk", "", "", 0}, {67, 1, 1}],
          integers: [
            {4, 0, 255, 256, -1, 0x7FFFFFFF, -0x80000000, 0x80000000, -0x80000001, 1 <<< 63, (1 <<< 64) - 1,
             1 - (1 <<< 64)}
          ],
          nested: [{4, {[{[{{}}]}]}}],
          long_binary: [{6, 1, 0, :binary.copy(<<0xFF>>, 70_000)}]
        ] do
      golden("frame_#{name}", :frame, frame(:erlang.term_to_binary(envelopes, minor_version: 2)), envelopes)
    end
  end

  defp bad_frames do
    done = :erlang.term_to_binary([{65, 1, 0, "", [], []}])

    for {name, payload} <- [
          # With this minor version every OTP writes atoms alike.
          atom: :erlang.term_to_binary([{65, :done}], minor_version: 1),
          float: :erlang.term_to_binary([{65, 1.5}]),
          map: :erlang.term_to_binary([{65, %{}}]),
          string: :erlang.term_to_binary([{65, [1, 2]}]),
          compressed: :erlang.term_to_binary([{65, :binary.copy("x", 10_000)}], compressed: 9),
          fun: :erlang.term_to_binary([{65, &:erlang.self/0}], minor_version: 1),
          large_tuple: :erlang.term_to_binary([List.to_tuple([65 | List.duplicate(0, 255)])]),
          large_integer: :erlang.term_to_binary([{65, 1 <<< 64}]),
          integer_sign: <<131, 108, 1::32, 104, 1, 110, 1, 2, 65, 106>>,
          improper_list: <<131, 108, 1::32, 104, 1, 97, 65, 97, 1>>,
          deep: :erlang.term_to_binary([{4, {[{[{{{}}}]}]}}]),
          no_list: :erlang.term_to_binary({65, 1}),
          empty_list: :erlang.term_to_binary([]),
          no_envelope: :erlang.term_to_binary([65, {65}]),
          no_opcode: :erlang.term_to_binary([{"65"}]),
          empty_tuple: :erlang.term_to_binary([{}]),
          cut: binary_part(done, 0, byte_size(done) - 1),
          followed: done <> <<106>>,
          many_elements: <<131, 108, 0xFFFFFFFF::32, 104, 1, 97, 65>>,
          long_binary: <<131, 108, 1::32, 104, 2, 97, 65, 109, 0xFFFFFFFF::32, 106>>,
          other_version: <<130, 106>>,
          version_alone: <<131>>
        ] do
      golden("bad_frame_#{name}", :bad_frame, frame(payload), nil)
    end
  end

  defp bodies do
    for {name, bytes, term} <- [
          {nil, <<0xC0>>, nil},
          {:booleans, <<0x92, 0xC2, 0xC3>>, [false, true]},
          {:small_integers, <<0x94, 0x00, 0x7F, 0xFF, 0xE0>>, [0, 127, -1, -32]},
          {:unsigned, <<0x94, 0xCC, 0x80, 0xCD, 256::16, 0xCE, 65_536::32, 0xCF, 4_294_967_296::64>>,
           [128, 256, 65_536, 4_294_967_296]},
          {:signed, <<0x94, 0xD0, -33, 0xD1, -129::16, 0xD2, -32_769::32, 0xD3, -2_147_483_649::64>>,
           [-33, -129, -32_769, -2_147_483_649]},
          {:extreme_integers, <<0x92, 0xCF, -1::64, 0xD3, 1 <<< 63::64>>, [(1 <<< 64) - 1, -(1 <<< 63)]},
          {:floats, <<0x93, 0xCB, 0.5::float, 0xCB, -1.0e300::float, 0xCB, 2.0::float>>,
           [0.5, -1.0e300, 2.0]},
          {:str, <<0x93, 0xA0, 0xA2, "é", 0xD9, 32, String.duplicate("x", 32)::binary>>,
           ["", "é", String.duplicate("x", 32)]},
          {:str16, <<0xDA, 256::16, String.duplicate("y", 256)::binary>>, String.duplicate("y", 256)},
          {:str32, <<0xDB, 65_536::32, String.duplicate("z", 65_536)::binary>>,
           String.duplicate("z", 65_536)},
          {:bin, <<0xC4, 2, 0xFF, 0x00>>, {:bin, <<0xFF, 0x00>>}},
          {:bin_of_text, <<0xC4, 3, "abc">>, {:bin, "abc"}},
          {:bin16, <<0xC5, 256::16, :binary.copy(<<0xFF>>, 256)::binary>>,
           {:bin, :binary.copy(<<0xFF>>, 256)}},
          {:array16, <<0xDC, 16::16, :binary.copy(<<1>>, 16)::binary>>, List.duplicate(1, 16)},
          {:map, <<0x82, 0xA1, "a", 0x01, 0xA1, "b", 0x90>>, %{"a" => 1, "b" => []}},
          {:map16, <<0xDE, 16::16, for(i <- 0..15, into: <<>>, do: <<i, i>>)::binary>>,
           Map.new(0..15, &{&1, &1})},
          {:map_keys, <<0x83, 0x01, 0xC0, 0xC0, 0x02, 0xA1, "k", 0x80>>, %{1 => nil, nil => 2, "k" => %{}}},
          {:timestamp32, <<0xD6, 0xFF, 1::32>>, ~U[1970-01-01 00:00:01Z]},
          {:timestamp64, <<0xD7, 0xFF, 500_000_000::30, 1::34>>, ~U[1970-01-01 00:00:01.500000Z]},
          {:timestamp96, <<0xC7, 12, 0xFF, 500_000_000::32, -1::64>>, ~U[1969-12-31 23:59:59.500000Z]},
          {:ext, <<0x92, 0xD4, 5, 1, 0xC7, 3, -5, "abc">>,
           [%Pyre.Ext{type: 5, data: <<1>>}, %Pyre.Ext{type: -5, data: "abc"}]},
          {:fixext, <<0x92, 0xD5, 1, 0, 0, 0xD8, 1, 0::128>>,
           [%Pyre.Ext{type: 1, data: <<0::16>>}, %Pyre.Ext{type: 1, data: <<0::128>>}]},
          {:deep, <<:binary.copy(<<0x91>>, 63)::binary, 0x90>>,
           Enum.reduce(1..63, [], fn _, list -> [list] end)}
        ] do
      golden("body_#{name}", :body, bytes, term)
    end ++ other_bodies()
  end

  # Bytes that are understood, but that nobody here would write.
  defp other_bodies do
    for {name, bytes, term} <- [
          {:float32, <<0xCA, 0.5::float-32>>, 0.5},
          {:wide_integer, <<0xD3, 1::64>>, 1},
          {:wide_str, <<0xDB, 1::32, "a">>, "a"},
          {:wide_array, <<0xDD, 1::32, 0xC0>>, [nil]},
          {:wide_map, <<0xDF, 1::32, 0x01, 0x02>>, %{1 => 2}},
          {:wide_timestamp, <<0xC7, 12, 0xFF, 0::32, 1::64>>, ~U[1970-01-01 00:00:01Z]},
          {:timestamp_nanoseconds, <<0xD7, 0xFF, 1_999::30, 1::34>>, ~U[1970-01-01 00:00:01.000001Z]}
        ] do
      %{golden("body_#{name}", :body, bytes, term) | canonical: false}
    end
  end

  defp bad_bodies do
    for {name, bytes} <- [
          empty: "",
          reserved: <<0x91, 0xC1>>,
          followed: <<0xC0, 0xC0>>,
          cut_array: <<0x92, 0x01>>,
          cut_map: <<0x81, 0xA1, "a">>,
          cut_str: <<0xD9, 5, "abc">>,
          cut_bin: <<0xC6, 0xFFFFFFFF::32, "abc">>,
          cut_integer: <<0xCF, 1::32>>,
          cut_float: <<0xCB, 0::56>>,
          cut_ext: <<0xC9, 0xFFFFFFFF::32, 1, 1>>,
          hostile_array: <<0xDD, 0xFFFFFFFF::32>>,
          hostile_map: <<0xDF, 0xFFFFFFFF::32>>,
          not_utf8: <<0xA2, 0xC3, 0x28>>,
          surrogate: <<0xA3, 0xED, 0xA0, 0x80>>,
          deep: <<:binary.copy(<<0x91>>, 64)::binary, 0x90>>,
          deep_map: <<:binary.copy(<<0x81, 0xC0>>, 64)::binary, 0x80>>,
          very_deep: <<:binary.copy(<<0x91>>, 100_000)::binary, 0xC0>>,
          timestamp_size: <<0xC7, 5, 0xFF, 0::40>>,
          timestamp_nanoseconds: <<0xD7, 0xFF, 1_000_000_000::30, 0::34>>,
          timestamp_past: <<0xC7, 12, 0xFF, 0::32, -62_167_219_201::64>>,
          timestamp_year: <<0xC7, 12, 0xFF, 0::32, 1 <<< 62::64>>
        ] do
      golden("bad_body_#{name}", :bad_body, bytes, nil)
    end
  end

  defp golden(name, kind, bytes, term),
    do: %{name: name, kind: kind, bytes: bytes, term: term, canonical: kind in [:frame, :body]}

  defp frame(payload), do: <<byte_size(payload)::32, payload::binary>>

  defp json(_kind, value) when is_boolean(value) or is_number(value), do: to_string(value)
  defp json(_kind, nil), do: "null"
  defp json(_kind, atom) when is_atom(atom), do: string(Atom.to_string(atom))
  defp json(kind, list) when is_list(list), do: array(list, &json(kind, &1))
  defp json(kind, {:bin, data}) when kind == :body, do: object([{"bin", Base.encode16(data)}], &string/1)
  defp json(:body, text) when is_binary(text), do: string(text)

  defp json(:body, %DateTime{} = datetime) do
    {microseconds, _precision} = datetime.microsecond
    object([{"timestamp", [DateTime.to_unix(datetime), microseconds]}], &json(:body, &1))
  end

  defp json(:body, %Pyre.Ext{type: type, data: data}),
    do: object([{"ext", [type, Base.encode16(data)]}], &json(:body, &1))

  defp json(:body, %{} = map) do
    pairs = Enum.map(map, &Tuple.to_list/1)
    object([{"map", pairs}], &json(:body, &1))
  end

  defp json(:frame, binary) when is_binary(binary), do: object([{"bin", Base.encode16(binary)}], &string/1)

  defp json(:frame, tuple) when is_tuple(tuple),
    do: object([{"tuple", Tuple.to_list(tuple)}], &json(:frame, &1))

  defp object(fields, value),
    do: [
      ?{,
      Enum.map_intersperse(fields, ", ", fn {name, term} -> [string(name), ": ", value.(term)] end),
      ?}
    ]

  defp array(list, value), do: [?[, Enum.map_intersperse(list, ", ", value), ?]]

  # No golden text needs an escape.
  defp string(text), do: [?", text, ?"]
end
