defmodule Pyre.Integration.ValuesTest do
  # Values on their way to Python and back, through a real handler and through a state.
  use Pyre.Case, async: true

  alias Pyre.{Bin, Error, Ext}

  setup_all do
    [
      nil: nil,
      booleans: [true, false],
      small_integers: [0, 1, 127, 128, 255, 256, -1, -32, -33, -128, -129],
      wide_integers: [65_535, 65_536, 4_294_967_295, 4_294_967_296, -2_147_483_648, -2_147_483_649],
      extreme_integers: [-9_223_372_036_854_775_808, 18_446_744_073_709_551_615],
      floats: [0.0, -0.5, 1.0e300, 5.0e-324],
      texts: ["", "plain", "é", "漢字", "🐍", String.duplicate("x", 70_000), "a\0b"],
      bytes: [<<255>>, <<0, 255, 128>>, :binary.copy(<<254>>, 70_000)],
      lists: [[], [[]], Enum.to_list(1..20), Enum.to_list(1..70_000)],
      maps: [
        %{},
        %{"a" => 1},
        %{"nested" => %{"deep" => [1, %{"x" => nil}]}},
        Map.new(1..20, &{"k#{&1}", &1})
      ],
      other_keys: [%{1 => "one", -5 => "minus"}, %{nil => 1}, %{true => 2}],
      datetimes: [~U[2024-02-29 12:00:00Z], ~U[1969-12-31 23:59:59.500000Z], ~U[2024-01-01 00:00:00.000001Z]],
      extensions: [Ext.new(5, <<1, 2, 3>>)]
    ]
    |> then(&{:ok, values: &1})
  end

  test "every type comes back as it was, as a reply and as a state", %{values: values} do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")

    for {name, value} <- values do
      assert {name, Pyre.call(pyre, id, :echo, %{value: value})} == {name, {:ok, value}}
      assert {:ok, _type} = Pyre.call(pyre, id, :keep, %{value: value})
      assert {:ok, %{"kept" => ^value}, _revision} = Pyre.state(pyre, id)
    end

    # Once more from the committed bytes, in another interpreter.
    everything = Keyword.values(values)
    {:ok, _type} = Pyre.call(pyre, id, :keep, %{value: everything})
    kill_interpreter(pyre)
    assert Pyre.call(pyre, id, :kept) == {:ok, everything}
  end

  test "what Elixir alone tells apart arrives as Python's one type" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")

    for {value, type, back} <- [
          {"text", "str", "text"},
          {<<255, 0>>, "bytes", <<255, 0>>},
          {Bin.new("text"), "bytes", "text"},
          {:an_atom, "str", "an_atom"},
          {1, "int", 1},
          {1.0, "float", 1.0},
          {true, "bool", true},
          {nil, "NoneType", nil},
          {[1], "list", [1]},
          {%{a: 1}, "dict", %{"a" => 1}},
          {~U[2024-01-01 00:00:00Z], "datetime", ~U[2024-01-01 00:00:00Z]}
        ] do
      assert {value, Pyre.call(pyre, id, :kind, %{value: value})} == {value, {:ok, type}}
      assert Pyre.call(pyre, id, :echo, %{value: value}) == {:ok, back}
    end

    assert Pyre.call(pyre, id, :day_after, %{day: ~U[2024-02-28 10:00:00Z]}) ==
             {:ok, ~U[2024-02-29 10:00:00Z]}

    assert Pyre.call(pyre, id, :nothing) == {:ok, nil}
  end

  test "a reply and the state share no object" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    assert Pyre.call(pyre, id, :hand_out) == {:ok, [1]}
    assert Pyre.call(pyre, id, :hand_out) == {:ok, [1, 1]}
    {:ok, asker} = Pyre.start_agent(pyre, "Asker")
    args = %{of: id, handler: "hand_out", args: %{}}
    assert Pyre.call(pyre, asker, :ask_any, args) == {:ok, [1, 1, 1]}
    assert Pyre.call(pyre, asker, :ask_any, args) == {:ok, [1, 1, 1, 1]}
  end

  test "megabytes go both ways" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    big = :binary.copy(<<255, 1>>, 5_000_000)
    assert Pyre.call(pyre, id, :echo, %{value: big}, timeout: 20_000) == {:ok, big}

    results =
      1..8
      |> Task.async_stream(
        fn n ->
          {:ok, id} = Pyre.start_agent(pyre, "Echo")
          part = :binary.copy(<<n>>, 2_000_000)
          Pyre.call(pyre, id, :echo, %{value: [part, <<255>>]}, timeout: 20_000) == {:ok, [part, <<255>>]}
        end,
        timeout: 30_000
      )
      |> Enum.map(fn {:ok, result} -> result end)

    assert Enum.all?(results)
  end

  test "what is too large is refused at its sender, on both sides" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    big = :binary.copy(<<255>>, 16 * 1_024 * 1_024)
    assert {:error, %Error{kind: :too_large} = error} = Pyre.call(pyre, id, :echo, %{value: big})
    assert error.message =~ "16777216"
    assert {:error, %Error{kind: :too_large}} = Pyre.cast(pyre, id, :echo, %{value: big})

    assert {:error, %Error{kind: :too_large}} =
             Pyre.call(pyre, id, :long, %{bytes_: 17_000_000}, timeout: 20_000)

    assert Pyre.call(pyre, id, :echo, %{value: 1}) == {:ok, 1}
    assert [%{deaths: 0}] = Pyre.workers(pyre)
  end

  test "a state that grows beyond 1 MiB is warned about, once" do
    pyre = start_pyre!(log: true)
    id = start_agent!(pyre, "Echo")
    assert {:ok, _kind} = Pyre.call(pyre, id, :keep, %{value: String.duplicate("x", 1_000_000)})
    refute_received {:logged, :warning, "the state of agent" <> _rest, _meta}

    for bytes <- [1_100_000, 1_200_000],
        do: {:ok, _kind} = Pyre.call(pyre, id, :keep, %{value: String.duplicate("x", bytes)})

    assert_received {:logged, :warning, "the state of agent" <> rest, %{agent_id: ^id}}
    assert rest =~ "(Echo) has 1074 KiB" and rest =~ "16 MiB"
    refute_received {:logged, :warning, "the state of agent" <> _rest, _meta}
  end

  test "nesting is bounded, on both sides" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    nest = fn depth -> Enum.reduce(1..depth, [], fn _level, inner -> [inner] end) end
    assert Pyre.call(pyre, id, :echo, %{value: nest.(61)}) == {:ok, nest.(61)}
    assert {:error, %Error{kind: :encode, message: message}} = Pyre.call(pyre, id, :echo, %{value: nest.(70)})
    assert message =~ "64"
    assert {:error, %Error{kind: :encode}} = Pyre.call(pyre, id, :keep, %{value: nest.(100_000)})
  end

  test "types of arguments are checked and converted before user code runs" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    assert Pyre.call(pyre, id, :typed, %{name: "x", count: 1}) == {:ok, ["x", 1, 0.5, nil]}

    assert Pyre.call(pyre, id, :typed, %{name: :x, count: 1, ratio: 2, tags: ["a"]}) ==
             {:ok, ["x", 1, 2.0, ["a"]]}

    for {args, argument} <- [
          {%{name: "x"}, "count"},
          {%{name: "x", count: "1"}, "count"},
          {%{name: "x", count: true}, "count"},
          {%{name: "x", count: 1.5}, "count"},
          {%{name: 7, count: 1}, "name"},
          {%{name: "x", count: 1, ratio: "much"}, "ratio"},
          {%{name: "x", count: 1, tags: ["a", 2]}, "tags"},
          {%{name: "x", count: 1, colour: "red"}, "colour"},
          {%{1 => 2}, "name"}
        ] do
      assert {:error, %Error{kind: :invalid_args} = error} = Pyre.call(pyre, id, :typed, args)
      assert error.message =~ argument, "#{inspect(args)}: #{error.message}"
      refute Error.retryable?(error)
    end

    assert {:ok, %{restarts: 0}} = Pyre.info(pyre, id)
  end
end
