defmodule Pyre.Faults.RecyclingTest do
  # Promise: an interpreter that grew, aged or worked too long is replaced without losing anything; one that takes all memory
  # dies alone.
  use Pyre.Case, async: true

  @moduletag :fault

  defp start!(opts), do: start_pyre!([agents: fixture("agents/misbehaving"), call_timeout: 20_000] ++ opts)

  test "after :max_worker_messages, under load, no call is lost and each runs once" do
    pyre = start!(max_worker_messages: 50, spare: true)
    {:ok, "n"} = Pyre.start_agent(pyre, "Neighbour", id: "n")
    first = os_pid(pyre, 1)

    last =
      Stream.repeatedly(fn -> Pyre.call(pyre, "n", :add) end)
      |> Enum.reduce_while(0, fn {:ok, total}, before ->
        assert total == before + 1
        if Pyre.info(pyre).counters.worker_recycles >= 3, do: {:halt, total}, else: {:cont, total}
      end)

    assert Pyre.call(pyre, "n", :total) == {:ok, last}
    assert_os_pid_exited(first)
    assert Pyre.info(pyre).counters.worker_deaths == 0
  end

  test "after :max_worker_age, an idle one too" do
    pyre = start!(max_worker_age: 200)
    first = os_pid(pyre)
    assert_os_pid_exited(first)
    assert os_pid(pyre) != first
  end

  test "above :max_worker_rss it is drained; its agents keep their state" do
    pyre = start!(max_worker_rss: 80 * 1_048_576)
    {:ok, "n"} = Pyre.start_agent(pyre, "Neighbour", id: "n")
    {:ok, 1} = Pyre.call(pyre, "n", :add)
    first = os_pid(pyre)
    {:ok, _hoard} = Pyre.run(pyre, "recycling_hoard", "hoard", [100 * 1_048_576])
    assert_os_pid_exited(first)
    assert Pyre.call(pyre, "n", :add) == {:ok, 2}
    assert Pyre.info(pyre).counters.worker_recycles == 1
    assert Pyre.info(pyre).counters.worker_deaths == 0
  end
end
