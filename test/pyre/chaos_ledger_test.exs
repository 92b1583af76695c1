defmodule Pyre.ChaosLedgerTest do
  use ExUnit.Case, async: true

  alias Pyre.Chaos.Ledger

  @state %{
    "total" => 2,
    "last" => %{"s" => 3},
    "gaps" => [],
    "repeated" => 0,
    "timers_set" => 1,
    "timers_fired" => 1
  }

  # Two additions were answered, three casts accepted.
  defp ledger do
    {:ok, ledger} = Ledger.start_link()
    for sum <- 1..2, do: Ledger.added(ledger, "a", sum)
    for number <- 1..3, do: Ledger.accepted(ledger, "a", "s", number)
    ledger
  end

  test "a state that keeps all promises" do
    assert Ledger.violations(ledger(), %{"a" => @state}) == []
  end

  for {what, state, found} <- [
        {"a commit that is gone", %{"total" => 1}, "a caller was told the sum 2, but 1 is committed"},
        {"an addition that nobody asked for", %{"total" => 3}, "only 2 additions were answered"},
        {"a cast that is gone", %{"last" => %{"s" => 2}}, "cast 3 of s was accepted"},
        {"a sender that is gone", %{"last" => %{}}, "the last that arrived is 0"},
        {"a gap", %{"gaps" => ["s: 3 after 1"]}, "lost or reordered"},
        {"a cast that ran after its commit", %{"repeated" => 1}, "run again"},
        {"a timer that did not fire", %{"timers_fired" => 0}, "1 timers were set, 0 fired"},
        {"a timer that fired twice", %{"timers_fired" => 2}, "1 timers were set, 2 fired"}
      ] do
    test what do
      state = Map.merge(@state, unquote(Macro.escape(state)))
      assert [violation] = Ledger.violations(ledger(), %{"a" => state}) |> Enum.take(1)
      assert violation =~ unquote(found)
    end
  end

  test "an addition in doubt may have happened or not" do
    ledger = ledger()
    Ledger.in_doubt(ledger, "a")
    for total <- 2..3, do: assert(Ledger.violations(ledger, %{"a" => %{@state | "total" => total}}) == [])
    assert [_violation] = Ledger.violations(ledger, %{"a" => %{@state | "total" => 4}})
  end

  test "the same sum for two callers" do
    ledger = ledger()
    Ledger.added(ledger, "a", 2)
    assert Enum.any?(Ledger.violations(ledger, %{"a" => @state}), &(&1 =~ "two callers were told the sum 2"))
  end
end
