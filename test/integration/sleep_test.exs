defmodule Pyre.Integration.SleepTest do
  # An agent that is asleep is rows and no process, and nobody who sends it something can tell.
  use Pyre.Case, async: true

  describe "an agent that had nothing to do for its idle_timeout" do
    test "has no process, and goes on with the next message where it was" do
      pyre = start_pyre!(idle_timeout: 50)
      start_agent!(pyre, "Journal", id: "j")
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      await_sleep(pyre, "j")
      assert Pyre.whereis(pyre, "j") == nil
      assert {:ok, %{status: :asleep, pid: nil, revision: 1, worker: nil, restarts: 0}} = Pyre.info(pyre, "j")
      assert [%{id: "j", status: :asleep}] = Pyre.agents(pyre, status: :asleep)
      assert %{agents: %{asleep: 1, running: 0}, counters: %{sleeps: 1, wakes: 0}} = Pyre.info(pyre)
      assert {:pyre_agents, [status: :asleep], 1} in Pyre.metrics(pyre)
      assert {:ok, %{"entries" => [1]}, 1} = Pyre.state(pyre, "j")
      assert %{children: [%{name: "j", status: :asleep, restarts: 0}]} = Pyre.tree(pyre)
      # Looking did not wake it.
      assert Pyre.info(pyre).counters.wakes == 0
      assert {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 2})
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "j")
      assert Pyre.info(pyre).counters.wakes == 1
    end
  end

  defp await_sleep(pyre, id), do: eventually(fn -> match?({:ok, %{status: :asleep}}, Pyre.info(pyre, id)) end)
end
