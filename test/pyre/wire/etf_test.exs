defmodule Pyre.Wire.ETFTest do
  use ExUnit.Case, async: true

  alias Pyre.Wire.ETF

  test "what is wrong is said with the tag" do
    assert ETF.decode(:erlang.term_to_binary([{65, :atom_on_the_wire}], minor_version: 1)) ==
             {:error, "tag 100 is not allowed"}

    assert ETF.decode(<<131, 107, 2::16, 1, 2>>) == {:error, "tag 107 is not allowed"}
    assert ETF.decode(<<131, 80, 0::64>>) == {:error, "tag 80 is not allowed"}
    assert ETF.decode(<<130, 106>>) == {:error, "expected version byte 131, got 130"}
    assert ETF.decode("") == {:error, "the term is empty"}
    assert ETF.decode(<<131, 106, 0>>) == {:error, "1 bytes follow the term"}

    assert ETF.decode(<<131, 108, 1::32, 97, 1, 97, 1>>) ==
             {:error, "expected a list to end with tag 106, got 97"}
  end

  test "eight levels are taken, nine are not" do
    deep = fn levels -> Enum.reduce(1..levels, 7, fn _level, term -> {term} end) end
    assert ETF.decode(ETF.encode(deep.(8))) == {:ok, deep.(8)}
    assert ETF.decode(ETF.encode(deep.(9))) == {:error, "the term is nested more than 8 levels deep"}
  end

  test "binaries are parts of the payload, not copies" do
    payload = ETF.encode([{65, 1, 0, :binary.copy("x", 10_000), [], []}])
    assert {:ok, [{65, 1, 0, body, [], []}]} = ETF.decode(payload)
    assert :binary.referenced_byte_size(body) >= byte_size(payload)
  end

  test "a hostile count costs no memory" do
    hostile = <<131, 108, 0xFFFFFFFF::32, 97, 1>>
    parent = self()

    # 10,000 words are 80 KB, a billionth of what the count announces.
    {_pid, monitor} =
      :erlang.spawn_opt(fn -> send(parent, {:decoded, ETF.decode(hostile)}) end, [
        :monitor,
        max_heap_size: %{size: 10_000, kill: true, error_logger: false}
      ])

    assert_receive {:DOWN, ^monitor, :process, _pid, :normal}
    assert_received {:decoded, {:error, "the term is cut short"}}
  end
end
