defmodule Pyre.StallTest do
  use ExUnit.Case, async: true

  alias Pyre.Worker.Stall

  @timeout 1_000
  @seen %{begun: 7, on_loop: 0, on_loop_since: 5, beat: 1, lag_us: 0, excused_since: 0}

  # Looks every 50 ms at what `seen` gives for the instant; when it was found stuck first, and how.
  defp watch(seen, opts \\ []) do
    waited = Keyword.get(opts, :waited, fn _ms -> 0 end)

    Enum.reduce_while(0..5_000//50, nil, fn ms, watch ->
      look = %{seen: Map.merge(@seen, seen.(ms)), now_ms: ms, waited_ms: waited.(ms)}

      case Stall.look(watch, look, @timeout, 3_000) do
        {:moving, watch} -> {:cont, watch}
        {{:stuck, stuck}, _watch} -> {:halt, {ms, stuck}}
      end
    end)
  end

  defp beating(ms), do: %{beat: ms}

  test "an idle interpreter that beats is not stuck" do
    assert %Stall{} = watch(&beating/1)
  end

  test "one step that stays on the loop is" do
    assert watch(&Map.put(beating(&1), :on_loop, 3)) == {1_000, {:handler, 3, 1_000, :beating}}
  end

  test "steps that follow each other are not, however late the loop's tick is" do
    assert %Stall{} = watch(&Map.merge(beating(&1), %{on_loop: 3, on_loop_since: &1, lag_us: &1 * 1_000}))
    assert %Stall{} = watch(&Map.merge(beating(&1), %{begun: &1, lag_us: &1 * 1_000}))
  end

  test "a loop that does not get to its tick, with no handler on it" do
    assert {1_000, {:loop, 1_000}} = watch(&Map.put(beating(&1), :lag_us, &1 * 1_000))
    # The lag of an earlier tick, which was excused, stands still.
    assert %Stall{} = watch(&Map.put(beating(&1), :lag_us, 3_000_000))
  end

  test "a watchdog that is silent" do
    assert watch(fn _ms -> %{} end) == {1_000, {:loop, 1_000}}
    assert watch(fn _ms -> %{on_loop: 3} end) == {1_000, {:handler, 3, 1_000, :silent}}
  end

  test "an excuse begins the watch anew" do
    excused = fn ms -> %{on_loop: 3, excused_since: if(ms in 500..3_000, do: 1, else: 0)} end
    assert {4_000, {:handler, 3, 1_000, :silent}} = watch(excused)
  end

  test "an excuse ends at its limit" do
    assert {4_050, {:handler, 3, 1_000, :silent}} =
             watch(fn ms -> %{on_loop: 3, excused_since: if(ms > 0, do: 1, else: 0)} end)
  end

  test "the time of waiting for a processor is forgiven, up to once the timeout" do
    seen = fn ms -> Map.put(beating(ms), :on_loop, 3) end
    assert {1_500, _stuck} = watch(seen, waited: &min(&1, 500))
    assert {2_000, _stuck} = watch(seen, waited: & &1)
  end
end
