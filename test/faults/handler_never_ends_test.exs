defmodule Pyre.Faults.HandlerNeverEndsTest do
  # Promise: a handler that goes on after its cancellation, in a thread or on the loop, costs nobody else anything: the
  # others move to another worker between two messages, then its own is ended.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault

  defp start!(opts \\ []),
    do: start_pyre!([agents: fixture("agents/misbehaving"), spare: true, call_timeout: 20_000] ++ opts)

  defp neighbours(pyre, count) do
    for n <- 1..count do
      {:ok, id} = Pyre.start_agent(pyre, "Neighbour", id: "n#{n}")
      {:ok, 1} = Pyre.call(pyre, id, :add)
      id
    end
  end

  for {class, why} <- [{"BlockedThread", "a thread in C"}, {"CancelsSwallowed", "cancellations swallowed"}] do
    test "#{why}: its worker is drained and replaced, no neighbour sees an error" do
      pyre = start!()
      ids = neighbours(pyre, 10)
      {:ok, "bad"} = Pyre.start_agent(pyre, unquote(class), id: "bad")
      os_pid = os_pid(pyre, 1)

      eventually(
        fn -> Enum.any?(Pyre.workers(pyre), &match?(%{role: :spare, status: :ready}, &1)) end,
        20_000
      )

      assert {:error, %Error{kind: :timeout, details: %{committed: false}}} =
               Pyre.call(pyre, "bad", :go, %{}, timeout: 200)

      # Under load all the while.
      ends = fn -> Pyre.OSProcess.alive?(os_pid) end

      calls =
        Stream.repeatedly(fn -> Enum.map(ids, &Pyre.call(pyre, &1, :add)) end)
        |> Enum.take_while(fn _ -> ends.() end)

      assert_os_pid_exited(os_pid)
      rounds = length(calls)
      assert calls |> List.flatten() |> Enum.all?(&match?({:ok, _total}, &1))
      totals = for id <- ids, do: elem(Pyre.call(pyre, id, :total), 1)
      # The round that saw it gone ran too.
      assert Enum.all?(totals, &(&1 == rounds + 2))

      eventually(fn -> match?({:ok, %{quarantine: %{strikes: 1}}}, Pyre.info(pyre, "bad")) end)
      assert Pyre.call(pyre, "bad", :ok) == {:ok, "ok"}
      assert Pyre.info(pyre).counters.worker_recycles == 1
      assert Pyre.info(pyre).counters.worker_deaths == 0
    end
  end

  test "what still runs beside it has the drain's time, and is then told that its worker is gone" do
    pyre = start!(drain_timeout: 300)
    folder = workspace()
    {:ok, "bad"} = Pyre.start_agent(pyre, "BlockedThread", id: "bad")
    {:ok, "slow"} = Pyre.start_agent(pyre, "BlockedThread", id: "slow")
    os_pid = os_pid(pyre, 1)
    slow = Task.async(fn -> Pyre.call(pyre, "slow", :poll, %{sign: Path.join(folder, "slow")}) end)
    eventually(fn -> File.exists?(Path.join(folder, "slow")) end)
    assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, "bad", :go, %{}, timeout: 200)
    assert {:error, %Error{kind: :worker_down, details: %{begun: true}}} = Task.await(slow, 20_000)
    assert_os_pid_exited(os_pid)
    eventually(fn -> match?({:ok, %{quarantine: %{strikes: 1}}}, Pyre.info(pyre, "bad")) end)
    assert {:ok, %{quarantine: %{strikes: 0}}} = Pyre.info(pyre, "slow")
  end
end
