defmodule Pyre.Faults.ChaosTest do
  # Promise: whatever dies, no acknowledged commit and no accepted message is lost, and every call is answered once. A short
  # run; `mix pyre.chaos` is the long one.
  use ExUnit.Case

  alias Pyre.Chaos

  @moduletag :fault
  @moduletag :capture_log
  @moduletag timeout: 120_000

  test "nothing is lost" do
    report = Chaos.run(%{Chaos.defaults() | seconds: 6, pause_ms: 100, python: Pyre.Case.python()})
    assert report.violations == [], Mix.Tasks.Pyre.Chaos.text(report)
    # And there was trouble.
    assert report.acts |> Map.values() |> Enum.sum() > 20
    assert report.counters.worker_deaths > 0
    assert report.load.calls > 100
  end
end
