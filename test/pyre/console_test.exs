defmodule Pyre.ConsoleTest do
  use ExUnit.Case, async: true

  alias Pyre.Console

  defp sample(overrides) do
    Map.merge(
      %{
        at_ms: 0,
        agents: 2,
        terminated: 0,
        parked: 0,
        messages: 0,
        restarts: 0,
        fleet: %{},
        workers: [%{worker: 1, status: :ready, lag_us: 300, deaths: 0}]
      },
      Map.new(overrides)
    )
  end

  test "the status says what a person wants to know on one line" do
    now = sample(at_ms: 61_000, messages: 500, restarts: 1, fleet: %{"mounts" => 3})
    line = Console.status(sample(at_ms: 60_000), now, 0)
    assert line == "01:01  2 agents  500 msg/s  3 mounts  1 restart  w1 lag <1 ms"
  end

  test "a replaced or missing interpreter and a terminated agent can be seen" do
    workers = [
      %{worker: 1, status: :ready, lag_us: 12_500, deaths: 2},
      %{worker: 2, status: :starting, lag_us: 0, deaths: 1}
    ]

    line = Console.status(sample([]), sample(workers: workers, terminated: 1), 0)
    assert line =~ "1 terminated"
    assert line =~ "w1 lag 12 ms (replaced 2×)"
    assert line =~ "w2 starting (replaced 1×)"
  end

  test "a line fits the terminal" do
    assert Console.cut(String.duplicate("x", 50), 20) |> String.length() == 19
    assert Console.cut("short", 20) == "short"
  end

  test "the totals count interpreters that were replaced" do
    now = sample(at_ms: 20_000, messages: 1, workers: [%{deaths: 1}, %{deaths: 0}])
    assert Console.totals(now, 0) == "00:20: 2 agents, 1 message, 0 restarts, 1 interpreter replaced"
  end
end
