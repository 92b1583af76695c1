defmodule Pyre.Integration.DeadLettersTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, folder: workspace()}
  end

  # A call behind the casts: when it is answered, they have ended.
  defp settle(pyre, id), do: {:ok, _entries} = Pyre.call(pyre, id, :entries, %{}, timeout: 20_000)

  test "a cast whose handler raised is a letter that says what, whose and why", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    :ok = Pyre.cast(pyre, "j", :fail, %{entry: 3})
    settle(pyre, "j")

    assert [
             %{
               id: id,
               agent: "j",
               class: "Journal",
               kind: :cast,
               handler: "fail",
               args: %{"entry" => 3},
               reason: :failed,
               error: %PythonError{type: "ValueError", message: "entry 3 is wrong"},
               attempts: 1,
               at: %DateTime{}
             }
           ] = Pyre.dead_letters(pyre)

    assert is_integer(id)
    assert %{dead_letters: 1, counters: %{dropped_casts: 1}} = Pyre.info(pyre)
  end

  test "a call is no letter: its caller knows", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
    {:error, %PythonError{}} = Pyre.call(pyre, "j", :refuse, %{entry: 1})
    assert Pyre.dead_letters(pyre) == []
  end

  test "refused casts and failed timers are letters, in order; the filter chooses", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    :ok = Pyre.cast(pyre, "j", :refuse, %{entry: 1})
    :ok = Pyre.cast(pyre, "j", :nonsense)
    :ok = Pyre.cast(pyre, "j", :append, %{wrong: 1})
    {:ok, "a"} = Pyre.start_agent(pyre, "Alarm", id: "a")
    {:ok, nil} = Pyre.call(pyre, "a", :set, %{what: "tea", seconds: 0.02, handler: "jam"})
    eventually(fn -> length(Pyre.dead_letters(pyre)) == 4 end)

    assert ["refuse", "nonsense", "append", "jam"] ==
             for(letter <- Pyre.dead_letters(pyre), do: letter.handler)

    assert [%{args: %{"what" => "tea"}}] = Pyre.dead_letters(pyre, kind: :timer, reason: :refused)

    assert [%{error: %PythonError{expected: true}}] =
             Pyre.dead_letters(pyre, handler: :refuse, class: "Journal")

    assert [] = Pyre.dead_letters(pyre, agent: "other")
    assert_raise ArgumentError, ~r/:agent, :class/, fn -> Pyre.dead_letters(pyre, colour: :red) end
  end

  test "a cast to an interleaving handler that fails is one, too", %{pyre: pyre, folder: folder} do
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    await_gate(folder, "a")
    :ok = Pyre.cast(pyre, "g", :try_to_write)
    assert [%{handler: "try_to_write", reason: :failed}] = eventually(fn -> letters(pyre) end)
    open_gate(folder, "a")
  end

  test "a cast that runs longer than :max_runtime is one", %{folder: folder} do
    pyre = start_pyre!(max_runtime: 100)
    {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
    :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
    assert [%{reason: :timeout, handler: "go"}] = eventually(fn -> letters(pyre) end)
    assert {:ok, []} = Pyre.call(pyre, "g", :passed)
    assert gate(folder, "a") == ["1"]
  end

  defp letters(pyre), do: with([] <- Pyre.dead_letters(pyre), do: nil)

  describe "casts that wait" do
    setup %{pyre: pyre, folder: folder} do
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g", max_restarts: 0)
      :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "a"})
      await_gate(folder, "a")
      :ok = Pyre.cast(pyre, "g", :go, %{folder: folder, name: "b"})
      :ok
    end

    test "when their agent is stopped are letters", %{pyre: pyre, folder: folder} do
      stopping = Task.async(fn -> Pyre.stop_agent(pyre, "g") end)
      open_gate(folder, "a")
      :ok = Task.await(stopping, 10_000)
      assert [%{reason: :stopped, args: %{"name" => "b"}}] = Pyre.dead_letters(pyre)
      # Nobody is there to take it.
      [%{id: id}] = Pyre.dead_letters(pyre)
      assert {:error, %Error{kind: :not_found}} = Pyre.retry_dead_letter(pyre, id)
      assert {:ok, 0} = Pyre.retry_dead_letter(pyre, :all)
      assert [%{id: ^id}] = Pyre.dead_letters(pyre)

      # And now somebody is.
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      open_gate(folder, "b")
      assert :ok = Pyre.retry_dead_letter(pyre, id)
      assert {:ok, [["b", 1]]} = Pyre.call(pyre, "g", :passed)
      assert [] = Pyre.dead_letters(pyre)
    end

    test "when their agent is terminated are letters, and stay when it is forgotten", %{
      pyre: pyre,
      folder: folder
    } do
      :ok = Pyre.cast(pyre, "g", :go, %{folder: 1, name: "refused"})
      Process.exit(Pyre.whereis(pyre, "g"), :kill)
      eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "g")) end)
      eventually(fn -> length(Pyre.dead_letters(pyre, reason: :terminated)) == 3 end)
      assert {:ok, %{mailbox: 0}} = Pyre.info(pyre, "g")
      open_gate(folder, "a")
      :ok = Pyre.stop_agent(pyre, "g")
      assert [_a, _b, _refused] = Pyre.dead_letters(pyre)
    end
  end

  test "a timer that fires for a terminated agent is one", %{pyre: pyre} do
    {:ok, "a"} = Pyre.start_agent(pyre, "Alarm", id: "a", max_restarts: 0)
    {:ok, nil} = Pyre.call(pyre, "a", :set, %{what: "tea", seconds: 0.3})
    Process.exit(Pyre.whereis(pyre, "a"), :kill)

    assert [%{kind: :timer, reason: :terminated, class: "Alarm", args: %{"what" => "tea"}}] =
             eventually(fn -> letters(pyre) end)
  end

  test "letters are thrown away one by one, or all", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    for entry <- 1..3, do: :ok = Pyre.cast(pyre, "j", :refuse, %{entry: entry})
    settle(pyre, "j")
    [%{id: first} | _rest] = Pyre.dead_letters(pyre)
    assert :ok = Pyre.discard_dead_letter(pyre, first)
    assert {:error, %Error{kind: :not_found}} = Pyre.discard_dead_letter(pyre, first)
    assert {:error, %Error{kind: :not_found}} = Pyre.retry_dead_letter(pyre, first)
    assert {:ok, 2} = Pyre.discard_dead_letter(pyre, :all)
    assert [] = Pyre.dead_letters(pyre)
  end

  test "all are retried: what fails again is a new letter", %{pyre: pyre} do
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    for entry <- 1..3, do: :ok = Pyre.cast(pyre, "j", :refuse, %{entry: entry})
    settle(pyre, "j")
    old = for letter <- Pyre.dead_letters(pyre), do: letter.id
    assert {:ok, 3} = Pyre.retry_dead_letter(pyre, :all)
    settle(pyre, "j")
    letters = Pyre.dead_letters(pyre)
    assert [1, 2, 3] = for(letter <- letters, do: letter.args["entry"])
    assert [] = for(letter <- letters, letter.id in old, do: letter)
  end

  test "the oldest is dropped beyond :max_dead_letters, and counted" do
    pyre = start_pyre!(max_dead_letters: 2)
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    for entry <- 1..5, do: :ok = Pyre.cast(pyre, "j", :refuse, %{entry: entry})
    settle(pyre, "j")
    assert [4, 5] = for(letter <- Pyre.dead_letters(pyre), do: letter.args["entry"])
    assert %{dead_letters: 2, counters: %{dead_letters_dropped: 3}} = Pyre.info(pyre)
  end
end
