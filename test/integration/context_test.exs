defmodule Pyre.Integration.ContextTest do
  # What a handler can ask for while it runs.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  @moduletag :python

  setup do
    pyre = start_pyre!()
    for id <- ["a", "b", "c", "d"], do: {:ok, ^id} = Pyre.start_agent(pyre, "Asker", id: id)
    {:ok, pyre: pyre}
  end

  defp assert_nobody_waits(pyre), do: assert(:ets.tab2list(Instance.get(pyre).waits) == [])

  describe "ctx.call" do
    test "asks others, along a chain", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :ask, %{path: ["b", "c", "d"]}) == {:ok, ["a", "b", "c", "d"]}
      assert_nobody_waits(pyre)
    end

    test "works from a thread", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :ask_in_thread, %{of: "b"}) == {:ok, "b"}
    end

    test "goes to two at once", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :ask_both, %{first: ["b"], second: ["c", "d"]}) ==
               {:ok, [["b"], ["c", "d"]]}
    end

    test "tells errors as exceptions of their kinds", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_mailbox: 1)
      ask = fn args -> Pyre.call(pyre, "a", :ask_any, args) end
      assert ask.(%{of: "nobody", handler: "x", args: %{}}) == {:ok, ["error", "not_found"]}
      assert ask.(%{of: "", handler: "x", args: %{}}) == {:ok, ["error", "invalid_id"]}

      assert ask.(%{of: String.duplicate("x", 300), handler: "x", args: %{}}) ==
               {:ok, ["error", "invalid_id"]}

      assert ask.(%{of: "b", handler: "nonsense", args: %{}}) == {:ok, ["error", "unknown_handler"]}
      assert ask.(%{of: "b", handler: "name", args: %{x: 1}}) == {:ok, ["error", "invalid_args"]}
      assert {:ok, ["remote", text]} = ask.(%{of: "j", handler: "fail", args: %{entry: 3}})
      assert text =~ "entry 3 is wrong"
      assert {:ok, ["remote", text]} = ask.(%{of: "j", handler: "refuse", args: %{entry: 3}})
      assert text =~ "no such entry"
    end

    test "gives up at its timeout, and the callee is rolled back", %{pyre: pyre} do
      folder = workspace()
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      args = %{of: "g", handler: "go_half", args: %{folder: folder, name: "x"}, timeout_seconds: 0.05}
      assert Pyre.call(pyre, "a", :ask_any, args) == {:ok, ["error", "timeout"]}
      assert Pyre.call(pyre, "g", :passed) == {:ok, []}
      assert_nobody_waits(pyre)
    end

    test "waits no longer than the handler's own caller", %{pyre: pyre} do
      folder = workspace()
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      args = %{of: "g", handler: "go", args: %{folder: folder, name: "x"}}

      # Both deadlines are the same instant: either the handler has been told and answers, or its caller has been.
      assert Pyre.call(pyre, "a", :ask_any, args, timeout: 100) |> timed_out?()
      assert Pyre.call(pyre, "g", :passed) == {:ok, []}
      {:ok, left} = Pyre.call(pyre, "a", :remaining, %{}, timeout: 1_000)
      # The interpreter's idea of the BEAM's clock is as late as that message was.
      assert_in_delta left, 1.0, 0.5
      assert_nobody_waits(pyre)
    end

    defp timed_out?({:error, %Error{kind: :timeout}}), do: true
    defp timed_out?(reply), do: reply == {:ok, ["error", "timeout"]}

    test "ends with the handler that made it: the callee may run, nobody waits", %{pyre: pyre} do
      folder = workspace()
      {:ok, "g"} = Pyre.start_agent(pyre, "Gatekeeper", id: "g")
      args = %{of: "g", handler: "go", args: %{folder: folder, name: "x"}}
      caller = Task.async(fn -> Pyre.call(pyre, "a", :ask_any, args) end)
      await_gate(folder, "x")
      kill_interpreter(pyre)
      assert {:error, %Error{kind: :worker_down}} = Task.await(caller)
      assert_nobody_waits(pyre)
      assert Pyre.call(pyre, "a", :name) == {:ok, "a"}
    end
  end

  describe "a deadlock" do
    test "of an agent with itself, of two, of three is refused at once, with the chain", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :circle, %{path: ["a"]}) == {:ok, ["a", "a"]}
      assert Pyre.call(pyre, "a", :circle, %{path: ["b", "a"]}) == {:ok, ["b", "a", "b"]}
      assert Pyre.call(pyre, "a", :circle, %{path: ["b", "c", "a"]}) == {:ok, ["c", "a", "b", "c"]}
      assert_nobody_waits(pyre)
    end

    test "that is not caught names the circle to the caller", %{pyre: pyre} do
      assert {:error, %PythonError{type: "Deadlock", message: message}} =
               Pyre.call(pyre, "a", :ask, %{path: ["a"]})

      assert message =~ ~s("a" -> "a")
      assert_nobody_waits(pyre)
    end

    test "of two calls from different roots is found, too", %{pyre: pyre} do
      for _time <- 1..20 do
        results =
          for [from, to] <- [["a", "b"], ["b", "a"]],
              do:
                Task.async(fn ->
                  Pyre.call(pyre, from, :ask_any, %{of: to, handler: "name_busily", args: %{}})
                end)

        for {:ok, result} <- Task.await_many(results),
            do: assert(result in ["a", "b", ["error", "deadlock"]])
      end

      assert_nobody_waits(pyre)
    end

    test "in one of two calls at once leaves the other alone", %{pyre: pyre} do
      assert {:ok, [_deadlock, ["c"]]} = Pyre.call(pyre, "a", :ask_both, %{first: ["b", "a"], second: ["c"]})
      assert Pyre.call(pyre, "a", :ask_both, %{first: ["a"], second: ["c"]}) == {:ok, ["deadlock", ["c"]]}
      assert_nobody_waits(pyre)
    end

    test "is none where the target interleaves", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :ask_back, %{via: "b"}) == {:ok, "a"}
      assert Pyre.call(pyre, "a", :ask_name, %{of: "a"}) == {:ok, "a"}
    end

    test "of a spawned agent that asks its spawner", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :hire, %{kind: "Clinger", id: "k", report: true}, timeout: 10_000) ==
               {:ok, "error: terminated"}

      assert {:ok, %{last_error: %PythonError{type: "Deadlock"}}} = Pyre.info(pyre, "k")
      assert_nobody_waits(pyre)
    end
  end

  describe "ctx.cast" do
    test "keeps the order in which a handler sent", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      {:ok, nil} = Pyre.call(pyre, "a", :tell_many, %{to: "j", count: 500})
      assert Pyre.call(pyre, "j", :entries) == {:ok, Enum.to_list(0..499)}
    end

    test "takes effect at once: it is not undone when the handler raises", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      assert {:error, %PythonError{}} = Pyre.call(pyre, "a", :tell_then_fail, %{to: "j", entry: 4})
      assert Pyre.call(pyre, "j", :entries) == {:ok, [4]}
    end

    test "to nobody is an error where it is awaited", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :cast_to, %{id: "nobody"}) == {:ok, "not_found"}
    end
  end

  describe "ctx.spawn and ctx.stop" do
    test "start an agent, which reports back, and stop it", %{pyre: pyre} do
      assert Pyre.call(pyre, "a", :hire, %{kind: "Reporter", id: "r", report: true}) == {:ok, "r"}
      eventually(fn -> match?({:ok, %{"learnt" => ["r"]}, _revision}, Pyre.state(pyre, "a")) end)
      assert [%{id: "r"}] = Pyre.agents(pyre, class: "Reporter")
      assert Pyre.call(pyre, "a", :dismiss, %{id: "r"}) == {:ok, "stopped"}
      assert [] = Pyre.agents(pyre, class: "Reporter")
    end

    test "give an id where none is asked for, and an agent that can be called", %{pyre: pyre} do
      {:ok, id} = Pyre.call(pyre, "a", :hire, %{kind: "Journal"})
      assert Pyre.call(pyre, id, :append, %{entry: 1}) == {:ok, 1}
    end

    test "tell their errors by kind", %{pyre: pyre} do
      hire = fn args -> Pyre.call(pyre, "a", :hire, args) end
      assert hire.(%{kind: "Nobody"}) == {:ok, "error: unknown_class"}
      assert hire.(%{kind: "Asker", id: "b"}) == {:ok, "error: already_started"}
      assert hire.(%{kind: "Strict"}) == {:ok, "error: invalid_args"}
      assert hire.(%{kind: "Asker", id: ""}) == {:ok, "error: invalid_id"}
      assert Pyre.call(pyre, "a", :dismiss, %{id: "nobody"}) == {:ok, "not_found"}
    end

    test "an agent may stop itself: what runs ends first", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      assert Pyre.call(pyre, "j", :end) == {:ok, "ending"}
      eventually(fn -> Pyre.agents(pyre, class: "Journal") == [] end)
    end
  end

  describe "ctx.after" do
    setup %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      :ok
    end

    defp entries(pyre) do
      with {:ok, %{"entries" => entries}, _revision} <- Pyre.state(pyre, "j"), do: entries
    end

    test "sends the agent a message, later", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 1, seconds: 0.05})
      assert {:ok, %{timers: 1}} = Pyre.info(pyre, "j")
      eventually(fn -> entries(pyre) == [1] end)
      assert {:ok, %{timers: 0}} = Pyre.info(pyre, "j")
    end

    test "in the order of their instants, and one with a key replaces", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 3, seconds: 0.15})
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 9, seconds: 0.01, key: "k"})
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 2, seconds: 0.1, key: "k"})
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 1, seconds: 0.05})
      eventually(fn -> length(entries(pyre)) >= 3 end)
      assert Enum.filter(entries(pyre), &(&1 != 9)) == [1, 2, 3]
      assert length(entries(pyre)) in 3..4
    end

    test "rides with the commit: a handler that raises has set none", %{pyre: pyre} do
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :later_then_fail, %{entry: 1})
      assert {:ok, %{timers: 0}} = Pyre.info(pyre, "j")
    end

    test "lives over a restart of its agent", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 1, seconds: 0.2})
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
      fn -> Pyre.whereis(pyre, "j") end |> eventually() |> Process.exit(:kill)
      eventually(fn -> entries(pyre) == [1] end)
    end

    test "ends with its agent", %{pyre: pyre} do
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 1, seconds: 0.05})
      :ok = Pyre.stop_agent(pyre, "j")
      assert Pyre.info(pyre).timers == 0
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 2, seconds: 0.1})
      eventually(fn -> entries(pyre) == [2] end)
    end
  end
end
