defmodule Pyre.Integration.HistoryTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, History, Instance}

  setup context do
    pyre = start_pyre!(Map.get(context, :options, []))
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, pyre: pyre, folder: workspace()}
  end

  # The reply comes before the entry is written; a ping goes through the same process.
  defp history(pyre, id, opts \\ []) do
    _state = pyre |> Pyre.whereis(id) |> :sys.get_state()
    {:ok, entries} = Pyre.history(pyre, id, opts)
    entries
  end

  defp events(pyre, id), do: for(entry <- history(pyre, id), do: entry.event)
  defp append(pyre, entry), do: {:ok, _count} = Pyre.call(pyre, "j", :append, %{entry: entry})

  defp rows(pyre, handle) do
    table = Instance.get(pyre).history

    for row <- :ets.tab2list(table), match?({^handle, _slot}, elem(row, 0)) or elem(row, 0) == handle, do: row
  end

  test "messages that ended well, the newest last", %{pyre: pyre} do
    before = DateTime.utc_now()
    append(pyre, 1)
    {:ok, [1]} = Pyre.call(pyre, "j", :entries)
    :ok = Pyre.cast(pyre, "j", :append_in_thread, %{entry: 2})
    eventually(fn -> match?({:ok, [1, 2]}, Pyre.call(pyre, "j", :entries)) end)
    assert [append, entries, in_thread | _asked] = history(pyre, "j")

    assert %{event: :message, handler: "append", kind: :call, outcome: :ok, attempt: 1, message_id: 1} =
             append

    assert %{handler: "entries", message_id: 2} = entries
    assert %{handler: "append_in_thread", kind: :cast, message_id: 3} = in_thread
    assert DateTime.compare(before, append.at) == :lt
    assert DateTime.compare(append.at, entries.at) == :lt
    assert append.duration_us in 1..10_000_000
    refute Map.has_key?(append, :args) or Map.has_key?(append, :reply)
  end

  test "what went wrong: with the error, without what it carried", %{pyre: pyre} do
    {:error, _} = Pyre.call(pyre, "j", :refuse, %{entry: 4_711})
    {:error, _} = Pyre.call(pyre, "j", :no_such)
    {:error, _} = Pyre.call(pyre, "j", :fail, %{entry: 7})
    append(pyre, 1)

    assert [refused, unknown, failed, crashed, appended] = history(pyre, "j")

    assert %{event: :message, outcome: :refused, handler: "refuse", error: "Reject"} = refused
    assert refused.message =~ "no such entry"
    refute inspect(refused) =~ "4711"
    assert %{outcome: :refused, error: :unknown_handler, handler: "no_such"} = unknown
    assert %{outcome: :failed, error: "ValueError", message: "ValueError: entry 7 is wrong"} = failed
    assert %{event: :crashed, verdict: :restart, error: "ValueError"} = crashed
    assert %{outcome: :ok, handler: "append"} = appended
  end

  test "an agent that used its restarts up tells why, until it is deleted", %{pyre: pyre} do
    {:ok, "k"} = Pyre.start_agent(pyre, "Journal", id: "k", max_restarts: 0)
    {:error, _} = Pyre.call(pyre, "k", :fail)
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "k")) end)
    eventually(fn -> Pyre.whereis(pyre, "k") == nil end)
    {:ok, entries} = Pyre.history(pyre, "k")
    assert [:message, :crashed, :terminated] = Enum.map(entries, & &1.event)
    assert %{message: message} = List.last(entries)
    assert message =~ "entry 0 is wrong"
    :ok = Pyre.restart_agent(pyre, "k")
    assert List.last(events(pyre, "k")) == :restarted

    {:error, _} = Pyre.call(pyre, "k", :fail)
    eventually(fn -> Pyre.delete_agent(pyre, "k") == :ok end)
    assert {:error, %Error{kind: :not_found}} = Pyre.history(pyre, "k")
  end

  test "pauses, states that were put, restarts on request", %{pyre: pyre} do
    :ok = Pyre.pause(pyre, {:agent, "j"})
    :ok = Pyre.pause(pyre, {:agent, "j"})
    :ok = Pyre.resume(pyre, {:agent, "j"})
    :ok = Pyre.resume(pyre, {:agent, "j"})
    {:ok, 1} = Pyre.put_state(pyre, "j", %{entries: [5]})
    :ok = Pyre.restart_agent(pyre, "j")
    assert [:paused, :resumed, :state_put, :restarted] = events(pyre, "j")
    assert [%{revision: 1, message_id: 1}, %{reason: :requested}] = history(pyre, "j", limit: 2)
    assert [%{event: :resumed}] = history(pyre, "j", events: [:resumed, :message])
  end

  test "attempts, an expired message and one that was cancelled", %{pyre: pyre, folder: folder} do
    {:ok, "t"} = Pyre.start_agent(pyre, "Trier", id: "t")
    {:ok, 2} = Pyre.call(pyre, "t", :attempt, %{failures: 1})
    assert [%{outcome: :retried, attempt: 1, error: "TimeoutError"}, again] = history(pyre, "t")
    assert %{outcome: :ok, attempt: 2, message_id: 1} = again

    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    {:error, %Error{kind: :timeout}} = Pyre.call(pyre, "g", :go, %{folder: folder, name: "a"}, timeout: 100)
    assert [%{outcome: :cancelled, error: :timeout, handler: "go", duration_us: took}] = history(pyre, "g")
    assert took > 10_000
  end

  @tag options: [history: 5]
  test "the newest of each kind are kept, and the row grows no further", %{pyre: pyre} do
    for entry <- 1..12, do: append(pyre, entry)
    for entry <- 1..12, do: {:error, _} = Pyre.call(pyre, "j", :refuse, %{entry: entry})
    assert entries = history(pyre, "j")

    assert for(entry <- entries, do: {entry.outcome, entry.message_id}) ==
             for(id <- 8..12, do: {:ok, id}) ++ for(id <- 20..24, do: {:refused, id})

    {:ok, %{handle: handle}} = Pyre.Address.fetch(Instance.get(pyre), "j")
    assert length(rows(pyre, handle)) == 1 + 1 + 5
  end

  @tag options: [payloads: true, history: 5]
  test "arguments and replies are kept where that is wanted", %{pyre: pyre} do
    for entry <- 1..7, do: append(pyre, entry)
    {:error, _} = Pyre.call(pyre, "j", :fail, %{entry: 9})
    append(pyre, 8)
    entries = history(pyre, "j", events: [:message])

    assert for(%{outcome: :ok} = entry <- entries, do: {entry.args, entry.reply}) ==
             for(n <- 4..8, do: {%{"entry" => n}, n})

    assert [%{args: %{"entry" => 9}}] = Enum.filter(entries, &(&1.outcome == :failed))

    {:ok, "e"} = Pyre.start_agent(pyre, "Echo", id: "e")
    large = String.duplicate("x", 20_000)
    {:ok, ^large} = Pyre.call(pyre, "e", :echo, %{value: large})
    assert [%{args: {:too_large, bytes}, reply: {:too_large, _}}] = history(pyre, "e")
    assert bytes in 20_000..20_020
  end

  @tag options: [payloads: true, history: 5]
  test "nothing of an agent that was stopped is left", %{pyre: pyre} do
    {:ok, "s"} = Pyre.start_agent(pyre, "Scanner", id: "s")
    for _n <- 1..7, do: {:ok, 2} = Pyre.call(pyre, "s", :scan, %{steps: 2})
    {:error, _} = Pyre.call(pyre, "s", :no_such)
    {:ok, %{handle: handle}} = Pyre.Address.fetch(Instance.get(pyre), "s")
    assert rows(pyre, handle) != []
    :ok = Pyre.stop_agent(pyre, "s")
    assert rows(pyre, handle) == []
    {:ok, "s"} = Pyre.start_agent(pyre, "Journal", id: "s")
    assert {:ok, []} = Pyre.history(pyre, "s")
  end

  test "an entry that somebody else makes stands among the others", %{pyre: pyre} do
    instance = Instance.get(pyre)
    append(pyre, 1)
    :ok = History.note(instance, "j", :decided, %{answer: "approve", by: "anna"})
    append(pyre, 2)
    assert [_first, %{event: :decided, by: "anna", at: %DateTime{}}, _last] = history(pyre, "j")
    :ok = History.note(instance, "nobody", :decided, %{})
  end

  test "many at once may write, and none is lost", %{pyre: pyre} do
    instance = Instance.get(pyre)

    1..8
    |> Task.async_stream(fn n -> for _m <- 1..5, do: History.note(instance, "j", :decided, %{by: n}) end)
    |> Stream.run()

    assert length(history(pyre, "j")) == 40
  end

  test "mistakes of the caller", %{pyre: pyre} do
    assert {:error, %Error{kind: :not_found}} = Pyre.history(pyre, "nobody")
    assert {:error, %Error{kind: :invalid_id}} = Pyre.history(pyre, "")

    assert_raise ArgumentError, ~r/expected :limit to be a positive integer/, fn ->
      Pyre.history(pyre, "j", limit: 0)
    end

    assert_raise ArgumentError, ~r/expected :events to be a list of atoms/, fn ->
      Pyre.history(pyre, "j", events: "all")
    end

    assert_raise ArgumentError, ~r/expected :history to be an integer from 2 to 10000, got: 1/, fn ->
      Pyre.start_link(name: :never, history: 1)
    end
  end
end
