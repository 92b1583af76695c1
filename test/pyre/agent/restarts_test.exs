defmodule Pyre.Agent.RestartsTest do
  use ExUnit.Case, async: true

  alias Pyre.Agent.Restarts

  test "the first restart comes at once, later ones wait longer and longer, up to a bound" do
    delays = for crashes <- 1..20, do: Restarts.delay_ms(crashes, 1.0)

    assert hd(delays) == 0
    assert delays == Enum.sort(delays)
    assert Enum.at(delays, 1) == 50
    assert List.last(delays) == 5_000
  end

  test "jitter takes off half at most" do
    assert Restarts.delay_ms(2, 0.0) == 25
    assert Restarts.delay_ms(2, 1.0) == 50
  end

  test "as many restarts as the budget says, and no more" do
    assert {:restart, _delay} = Restarts.decide(:permanent, 3, 3)
    assert :exhausted = Restarts.decide(:permanent, 4, 3)
    assert :exhausted = Restarts.decide(:permanent, 1, 0)
  end

  test "a temporary agent is never restarted" do
    assert :exhausted = Restarts.decide(:temporary, 1, 3)
  end
end
