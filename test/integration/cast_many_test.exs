defmodule Pyre.Integration.CastManyTest do
  use Pyre.Case, async: true

  alias Pyre.Error

  setup context do
    pyre = start_pyre!(Map.get(context, :options, []))
    for id <- ["a", "b"], do: {:ok, ^id} = Pyre.start_agent(pyre, "Batcher", id: id)
    {:ok, pyre: pyre}
  end

  defp adds(id, range), do: for(n <- range, do: {id, :add, %{entry: n}})

  defp assert_entries(pyre, id, wanted) do
    eventually(fn -> match?({:ok, %{mailbox: 0, mailbox_bytes: 0}}, Pyre.info(pyre, id)) end)
    assert {:ok, %{"entries" => entries}, _revision} = Pyre.state(pyre, id)
    assert entries == Enum.to_list(wanted)
  end

  test "those to one agent run in order, among those to others", %{pyre: pyre} do
    casts = adds("a", 1..500) |> Enum.zip(adds("b", 501..1000)) |> Enum.flat_map(&Tuple.to_list/1)
    assert Pyre.cast_many(pyre, casts) == List.duplicate(:ok, 1000)
    assert_entries(pyre, "a", 1..500)
    assert_entries(pyre, "b", 501..1000)
    assert Pyre.info(pyre).counters.casts == 1000
  end

  test "and after what was there before", %{pyre: pyre} do
    :ok = Pyre.pause(pyre, {:agent, "a"})
    :ok = Pyre.cast(pyre, "a", :add, %{entry: 1})
    [:ok, :ok] = Pyre.cast_many(pyre, adds("a", 2..3))
    :ok = Pyre.cast(pyre, "a", :add, %{entry: 4})
    assert {:ok, %{mailbox: 4}} = Pyre.info(pyre, "a")
    :ok = Pyre.resume(pyre, {:agent, "a"})
    assert_entries(pyre, "a", 1..4)
  end

  test "one agent that does nothing is woken by one of them, and by none", %{pyre: pyre} do
    for n <- 1..50 do
      # Whether it hibernates by now, or not, or not yet.
      if rem(n, 5) == 0, do: Pyre.Lull.await_hibernation(pyre, "a")
      [:ok, :ok, :ok] = Pyre.cast_many(pyre, adds("a", (3 * n)..(3 * n + 2)))
    end

    assert Pyre.cast_many(pyre, []) == []
    assert_entries(pyre, "a", 3..152)
  end

  test "each has its own answer", %{pyre: pyre} do
    casts = [
      {"a", :add, %{entry: 1}},
      {"nobody", :add, %{}},
      {"b", :add, %{entry: self()}},
      {"a", :add, %{entry: 2}}
    ]

    assert [:ok, {:error, %Error{kind: :not_found}}, {:error, %Error{kind: :encode}}, :ok] =
             Pyre.cast_many(pyre, casts)

    assert_entries(pyre, "a", 1..2)
    {:ok, "z"} = Pyre.start_agent(pyre, "Batcher", id: "z", max_mailbox: 5)
    :ok = Pyre.pause(pyre, {:agent, "z"})
    results = Pyre.cast_many(pyre, adds("z", 1..8))
    assert [:ok, :ok, :ok, :ok, :ok | refused] = results
    assert [%Error{kind: :overloaded} | _others] = for({:error, error} <- refused, do: error)
    assert length(refused) == 3
    :ok = Pyre.resume(pyre, {:agent, "z"})
    assert_entries(pyre, "z", 1..5)
    assert Pyre.info(pyre).counters.casts == 7
  end

  @tag options: [limits: [{"Batcher", rate: {3, 60_000}}]]
  test "a rate counts each of them", %{pyre: pyre} do
    assert [:ok, :ok, :ok, {:error, %Error{kind: :rate_limited}}] = Pyre.cast_many(pyre, adds("a", 1..4))
    assert_entries(pyre, "a", 1..3)
  end

  test "an agent that is missing is started, one that sleeps is woken", %{pyre: pyre} do
    [:ok, :ok] = Pyre.cast_many(pyre, adds("new", 1..2), start: {"Batcher", [idle_timeout: 10]})
    assert_entries(pyre, "new", 1..2)
    Pyre.Lull.await_sleep(pyre, "new")
    [:ok, :ok] = Pyre.cast_many(pyre, adds("new", 3..4))
    assert_entries(pyre, "new", 1..4)
  end

  test "those with a high priority come first", %{pyre: pyre} do
    folder = workspace()
    :ok = Pyre.cast(pyre, "a", :hold, %{entry: 0, folder: folder, name: "gate"})
    await_gate(folder, "gate")
    [:ok, :ok] = Pyre.cast_many(pyre, adds("a", 3..4))
    [:ok, :ok] = Pyre.cast_many(pyre, adds("a", 1..2), priority: :high)
    open_gate(folder, "gate")
    assert_entries(pyre, "a", 0..4)
  end

  test "refuses what is no list of casts", %{pyre: pyre} do
    assert_raise ArgumentError, ~r/expected a list of/, fn -> Pyre.cast_many(pyre, :all) end

    assert_raise ArgumentError, ~r/expected {id, handler, args}/, fn ->
      Pyre.cast_many(pyre, [{"a", :add}])
    end

    assert_raise ArgumentError, ~r/unknown option/, fn -> Pyre.cast_many(pyre, [], wrong: 1) end
  end
end
