defmodule Pyre.Faults.RestartIntensityTest do
  # Promise: restarts are counted per agent; one that uses its budget up is terminated, and hurts nobody else.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :fault

  test "the fourth failure within five seconds terminates, keeps the state, and tells all who wait" do
    pyre = start_pyre!()
    for id <- ["a", "b"], do: {:ok, ^id} = Pyre.start_agent(pyre, "Journal", id: id)
    {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
    for _time <- 1..3, do: {:error, %PythonError{}} = Pyre.call(pyre, "a", :fail)
    assert Pyre.call(pyre, "a", :entries) == {:ok, [1]}

    :ok = Pyre.cast(pyre, "a", :append_slowly, %{entry: 2, seconds: 0.1})
    :ok = Pyre.cast(pyre, "a", :fail, %{entry: 3})
    waiting = for _n <- 1..5, do: Task.async(fn -> Pyre.call(pyre, "a", :entries) end)

    for task <- waiting do
      assert {:error, %Error{kind: :terminated, message: message}} = Task.await(task)
      assert message =~ "ValueError: entry 3 is wrong"
    end

    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "a", :entries)
    assert {:error, %Error{kind: :terminated}} = Pyre.cast(pyre, "a", :append, %{entry: 1})
    assert {:error, %Error{kind: :already_started}} = Pyre.start_agent(pyre, "Journal", id: "a")
    assert Pyre.state(pyre, "a") == {:ok, %{"entries" => [1, 2]}, 2}
    assert {:ok, %{status: :terminated, pid: _pid, mailbox: 0, restarts: 4}} = Pyre.info(pyre, "a")
    # Who waited is told before the process ends.
    eventually(fn -> Pyre.whereis(pyre, "a") == nil end)
    assert Pyre.call(pyre, "b", :append, %{entry: 1}) == {:ok, 1}

    assert Pyre.stop_agent(pyre, "a") == :ok
    assert {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
    assert Pyre.call(pyre, "a", :entries) == {:ok, []}
  end

  test "many agents that fail at once are each restarted" do
    pyre = start_pyre!()
    ids = for n <- 1..50, do: start_agent!(pyre, "Journal", id: "j#{n}")
    for id <- ids, do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})

    ids
    |> Task.async_stream(fn id -> {:error, %PythonError{}} = Pyre.call(pyre, id, :fail) end,
      max_concurrency: 50
    )
    |> Stream.run()

    for id <- ids, do: assert(Pyre.call(pyre, id, :entries) == {:ok, [1]})
  end

  test "each agent may have a budget of its own" do
    pyre = start_pyre!(max_restarts: 0)
    {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
    {:ok, "b"} = Pyre.start_agent(pyre, "Journal", id: "b", max_restarts: 1)
    {:ok, "c"} = Pyre.start_agent(pyre, "Journal", id: "c", max_restarts: 9, restart: :temporary)
    for id <- ["a", "b", "c"], do: {:error, %PythonError{}} = Pyre.call(pyre, id, :fail)
    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "a", :entries)
    assert {:ok, []} = Pyre.call(pyre, "b", :entries)
    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "c", :entries)
    {:error, %PythonError{}} = Pyre.call(pyre, "b", :fail)
    assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "b", :entries)
  end

  test "refusals and wrong arguments cost no budget" do
    pyre = start_pyre!(max_restarts: 0)
    {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")

    for _time <- 1..10 do
      {:error, %PythonError{expected: true}} = Pyre.call(pyre, "a", :refuse, %{entry: 1})
      {:error, %Error{kind: :invalid_args}} = Pyre.call(pyre, "a", :append, %{entry: "x"})
      {:error, %Error{kind: :unknown_handler}} = Pyre.call(pyre, "a", :nonsense)
    end

    assert Pyre.call(pyre, "a", :entries) == {:ok, []}
    assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "a")
  end

  test "a process that is killed by force uses the same budget" do
    pyre = start_pyre!(max_restarts: 1)
    {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
    Process.exit(Pyre.whereis(pyre, "a"), :kill)
    assert Pyre.call(pyre, "a", :append, %{entry: 1}) == {:ok, 1}
    Process.exit(Pyre.whereis(pyre, "a"), :kill)
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "a")) end)
    assert Pyre.state(pyre, "a") == {:ok, %{"entries" => [1]}, 1}
  end
end
