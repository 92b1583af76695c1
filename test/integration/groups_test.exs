defmodule Pyre.Integration.GroupsTest do
  # Groups, restarts on request, and the tree as data.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  setup do
    {:ok, pyre: start_pyre!(), folder: workspace()}
  end

  defp life(folder, id) do
    case File.read(Path.join(folder, "#{id}.life")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  defp mortal(folder, id, args \\ %{}), do: {"Mortal", id: id, args: Map.put(args, :folder, folder)}

  describe "start_group" do
    test "returns after on_start of all agents, in order", %{pyre: pyre, folder: folder} do
      slow = mortal(folder, "slow", %{slow_start: true})

      start = Task.async(fn -> Pyre.start_group(pyre, "g", agents: [slow, mortal(folder, "next")]) end)

      await_gate(folder, "start")
      assert Task.yield(start, 50) == nil
      assert life(folder, "next") == []
      open_gate(folder, "start")
      assert Task.await(start) == {:ok, "g"}
      assert life(folder, "next") == ["start"]
    end

    test "with an agent that can't begin: everything is stopped again", %{pyre: pyre, folder: folder} do
      {:ok, "outer"} = Pyre.start_group(pyre, "outer", max_restarts: 0, agents: [mortal(folder, "calm")])

      agents = [
        mortal(folder, "first"),
        mortal(folder, "second", %{fail_at_start: true}),
        mortal(folder, "third")
      ]

      assert {:error, %Error{kind: :terminated, message: message}} =
               Pyre.start_group(pyre, "g", group: "outer", agents: agents)

      assert message =~ "it can't begin"
      assert life(folder, "first") == ["start", "stop"]
      assert life(folder, "third") == []
      assert for(%{id: id} <- Pyre.agents(pyre), do: id) == ["calm"]
      assert life(folder, "calm") == ["start"]
      assert [%{name: "outer", status: :running, children: [%{name: "calm"}]}] = Pyre.tree(pyre).children
      assert {:ok, "g"} = Pyre.start_group(pyre, "g", group: "outer")
    end

    test "does not touch an agent that has the id already", %{pyre: pyre} do
      {:ok, "taken"} = Pyre.start_agent(pyre, "Journal", id: "taken")
      agents = [{"Journal", id: "new"}, {"Journal", id: "taken"}]
      assert {:error, %Error{kind: :already_started}} = Pyre.start_group(pyre, "g", agents: agents)
      assert [%{id: "taken"}] = Pyre.agents(pyre)
      assert Pyre.call(pyre, "taken", :append, %{entry: 1}) == {:ok, 1}
      agents = [{"Journal", id: "taken", if_exists: :return}]
      assert {:error, %Error{kind: :already_started}} = Pyre.start_group(pyre, "g", agents: agents)
    end

    test "tells what is wrong", %{pyre: pyre} do
      assert {:error, %Error{kind: :not_found}} = Pyre.start_group(pyre, "g", group: "nowhere")
      assert {:error, %Error{kind: :not_found}} = Pyre.start_agent(pyre, "Journal", id: "j", group: "nowhere")
      assert Pyre.agents(pyre) == []
      assert {:error, %Error{kind: :unknown_class}} = Pyre.start_group(pyre, "g", agents: [{"Nobody", []}])
      assert {:error, %Error{kind: :invalid_id}} = Pyre.start_group(pyre, "")
      assert {:ok, "g"} = Pyre.start_group(pyre, "g")
      assert {:error, %Error{kind: :already_started}} = Pyre.start_group(pyre, "g")
      assert {:error, %Error{kind: :not_found}} = Pyre.stop_group(pyre, "other")
      assert {:error, %Error{kind: :not_found}} = Pyre.restart_group(pyre, "other")

      for {opts, message} <- [
            {[strategy: :all], ~r/expected :strategy to be one of/},
            {[agents: ["Journal"]], ~r/expected :agents to be a list of {class, options}/},
            {[agents: [{"Journal", max_restarts: 3}]], ~r/expected no :max_restarts/},
            {[agents: [{"Journal", group: "g"}]], ~r/expected no :group/},
            {[max_restart: 1], ~r/unknown option :max_restart, did you mean :max_restarts/}
          ] do
        assert_raise ArgumentError, message, fn -> Pyre.start_group(pyre, "h", opts) end
      end
    end
  end

  test "stop_group stops what is in it, last to first", %{pyre: pyre, folder: folder} do
    {:ok, "g"} = Pyre.start_group(pyre, "g", agents: [mortal(folder, "a")])
    {:ok, "inner"} = Pyre.start_group(pyre, "inner", group: "g", agents: [mortal(folder, "b")])
    {:ok, "c"} = Pyre.start_agent(pyre, "Mortal", id: "c", group: "g", args: %{folder: folder})
    :ok = Pyre.cast(pyre, "b", :go, %{folder: folder, name: "x"})
    await_gate(folder, "x")
    stop = Task.async(fn -> Pyre.stop_group(pyre, "g") end)
    eventually(fn -> life(folder, "c") == ["start", "stop"] end)
    assert life(folder, "a") == ["start"]
    assert {:error, %Error{kind: :stopped}} = Pyre.start_agent(pyre, "Journal", group: "g")
    open_gate(folder, "x")
    assert Task.await(stop, 10_000) == :ok
    for id <- ["a", "b"], do: assert(life(folder, id) == ["start", "stop"])
    assert Pyre.agents(pyre) == []
    assert %{kind: :instance, children: []} = Pyre.tree(pyre)
    assert {:ok, "inner"} = Pyre.start_group(pyre, "inner")
  end

  test "tree gives everything as data", %{pyre: pyre} do
    {:ok, "g"} =
      Pyre.start_group(pyre, "g", strategy: :rest_for_one, max_restarts: 7, agents: [{"Journal", id: "z"}])

    {:ok, "inner"} = Pyre.start_group(pyre, "inner", group: "g", max_seconds: 9)
    {:ok, "y"} = Pyre.start_agent(pyre, "Echo", id: "y", group: "inner", restart: :temporary)
    {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
    {:error, %PythonError{}} = Pyre.call(pyre, "z", :fail)
    eventually(fn -> match?({:ok, %{status: :running}}, Pyre.info(pyre, "y")) end)
    {:ok, []} = Pyre.call(pyre, "z", :entries)

    agent = fn name, class, restarts ->
      %{kind: :agent, name: name, class: class, status: :running, restarts: restarts, children: []}
    end

    assert Pyre.tree(pyre) == %{
             kind: :instance,
             name: pyre,
             strategy: :one_for_one,
             status: :running,
             restarts: 0,
             children: [
               %{
                 kind: :group,
                 name: "g",
                 strategy: :rest_for_one,
                 max_restarts: 7,
                 max_seconds: 5,
                 status: :running,
                 restarts: 0,
                 children: [
                   agent.("z", "Journal", 1),
                   %{
                     kind: :group,
                     name: "inner",
                     strategy: :one_for_one,
                     max_restarts: 3,
                     max_seconds: 9,
                     status: :running,
                     restarts: 1,
                     # In a group that was restarted itself all are started, as in OTP.
                     children: [agent.("y", "Echo", 1)]
                   }
                 ]
               },
               agent.("a", "Journal", 0)
             ]
           }

    assert {:ok, %{group: "inner"}} = Pyre.info(pyre, "y")
    assert {:ok, %{group: nil}} = Pyre.info(pyre, "a")
  end

  describe "restart_agent" do
    test "runs a terminated agent again, with its state and a fresh budget", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", max_restarts: 1)
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})

      for _round <- 1..2 do
        for _time <- 1..2, do: {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
        assert {:error, %Error{kind: :terminated}} = Pyre.call(pyre, "j", :entries)
        assert Pyre.restart_agent(pyre, "j") == :ok
        assert Pyre.call(pyre, "j", :entries) == {:ok, [1]}
      end
    end

    test "in a group: at its place, and without the others", %{pyre: pyre} do
      agents = for id <- ["a", "b"], do: {"Journal", id: id}

      {:ok, "g"} =
        Pyre.start_group(pyre, "g",
          strategy: :rest_for_one,
          agents: [{"Journal", id: "t", restart: :temporary} | agents]
        )

      {:error, %PythonError{}} = Pyre.call(pyre, "t", :fail)
      eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "t")) end)
      before = for id <- ["a", "b"], do: Pyre.whereis(pyre, id)
      assert Pyre.restart_agent(pyre, "t") == :ok
      assert Pyre.call(pyre, "t", :entries) == {:ok, []}
      assert before == for(id <- ["a", "b"], do: Pyre.whereis(pyre, id))
    end

    test "in a group: as soon as it is terminated, again and again", %{pyre: pyre} do
      {:ok, "g"} = Pyre.start_group(pyre, "g", agents: [{"Journal", id: "t", restart: :temporary}])

      for entry <- 1..30 do
        assert Pyre.call(pyre, "t", :append, %{entry: entry}) == {:ok, entry}
        waiting = Task.async(fn -> Pyre.call(pyre, "t", :fail) end)
        assert {:error, %PythonError{}} = Task.await(waiting)
        eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "t")) end)
        assert Pyre.restart_agent(pyre, "t") == :ok
      end
    end

    test "restarts a running one between two messages", %{pyre: pyre, folder: folder} do
      {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
      :ok = Pyre.cast(pyre, "m", :go, %{folder: folder, name: "x"})
      await_gate(folder, "x")
      queued = Task.async(fn -> Pyre.call(pyre, "m", :starts) end)
      restart = Task.async(fn -> Pyre.restart_agent(pyre, "m") end)
      eventually(fn -> match?({:ok, %{mailbox: 3}}, Pyre.info(pyre, "m")) end)
      open_gate(folder, "x")
      assert Task.await(restart) == :ok
      assert Task.await(queued) == {:ok, 2}
      assert life(folder, "m") == ["start", "start"]
      assert {:ok, %{restarts: 0, status: :running}} = Pyre.info(pyre, "m")
    end

    test "tells where that is not possible", %{pyre: pyre, folder: folder} do
      assert {:error, %Error{kind: :not_found}} = Pyre.restart_agent(pyre, "nobody")

      {:error, %Error{kind: :terminated}} =
        Pyre.start_agent(pyre, "Mortal",
          id: "m",
          args: %{folder: folder, fail_at_start: true},
          max_restarts: 1
        )

      assert {:error, %Error{kind: :terminated, message: message}} = Pyre.restart_agent(pyre, "m")
      assert message =~ "it can't begin"
    end
  end

  describe "delete_agent" do
    test "forgets a terminated agent and its state", %{pyre: pyre} do
      {:ok, "g"} = Pyre.start_group(pyre, "g", agents: [{"Journal", id: "j", restart: :temporary}])
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      assert {:error, %Error{kind: :already_started}} = Pyre.delete_agent(pyre, "j")
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
      eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, "j")) end)
      assert Pyre.delete_agent(pyre, "j") == :ok
      assert {:error, %Error{kind: :not_found}} = Pyre.delete_agent(pyre, "j")
      assert [%{name: "g", children: []}] = Pyre.tree(pyre).children
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", group: "g")
      assert Pyre.call(pyre, "j", :entries) == {:ok, []}
    end
  end

  describe "on_restart: :initial" do
    test "makes the state anew after a crash, without timers", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", args: %{entries: [7]}, on_restart: :initial)
      {:ok, 2} = Pyre.call(pyre, "j", :append, %{entry: 1})
      {:ok, nil} = Pyre.call(pyre, "j", :later, %{entry: 2, seconds: 60})
      {:error, %PythonError{}} = Pyre.call(pyre, "j", :fail)
      assert Pyre.call(pyre, "j", :entries) == {:ok, [7]}
      assert {:ok, %{timers: 0}} = Pyre.info(pyre, "j")
    end

    test "also where its process was killed; a restart on request keeps it", %{pyre: pyre} do
      {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j", on_restart: :initial)
      {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
      :ok = Pyre.restart_agent(pyre, "j")
      assert Pyre.call(pyre, "j", :entries) == {:ok, [1]}
      Process.exit(Pyre.whereis(pyre, "j"), :kill)
      assert Pyre.call(pyre, "j", :append, %{entry: 2}) == {:ok, 1}
    end

    test "not for a sibling's crash", %{pyre: pyre} do
      agents = for id <- ["a", "b"], do: {"Journal", id: id, on_restart: :initial}
      {:ok, "g"} = Pyre.start_group(pyre, "g", strategy: :one_for_all, agents: agents)
      for id <- ["a", "b"], do: {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      before = Pyre.whereis(pyre, "b")
      {:error, %PythonError{}} = Pyre.call(pyre, "a", :fail)
      eventually(fn -> Pyre.whereis(pyre, "b") not in [before, nil] end)
      assert Pyre.call(pyre, "a", :entries) == {:ok, []}
      assert Pyre.call(pyre, "b", :entries) == {:ok, [1]}
    end
  end

  describe "from Python" do
    setup %{pyre: pyre} do
      {:ok, "boss"} = Pyre.start_agent(pyre, "Foreman", id: "boss")

      {:ok,
       team: fn name, members, options ->
         Pyre.call(pyre, "boss", :team, %{name: name, members: members, options: options})
       end}
    end

    test "ctx.group and ctx.spawn build a tree", %{pyre: pyre, team: team} do
      assert team.("crew", ["a", "b"], %{strategy: "one_for_all", max_restarts: 9}) == {:ok, ["crew"]}
      assert team.("night", [], %{group: "crew"}) == {:ok, ["night"]}
      assert Pyre.call(pyre, "boss", :hire, %{id: "c", group: "night"}) == {:ok, "c"}
      assert Pyre.call(pyre, "c", :entries) == {:ok, [1]}

      assert [%{name: "crew", strategy: :one_for_all, max_restarts: 9, children: children}, %{name: "boss"}] =
               Pyre.tree(pyre).children

      assert [%{name: "a"}, %{name: "b"}, %{name: "night", strategy: :one_for_one, children: [%{name: "c"}]}] =
               children
    end

    test "errors are the caller's to catch", %{pyre: pyre, team: team} do
      assert {:ok, ["error", "not_found", _message]} = team.("crew", [], %{group: "nowhere"})
      assert {:ok, ["error", "invalid_args", message]} = team.("crew", [], %{strategy: "some_for_some"})
      assert message =~ "expected :strategy to be one of :one_for_one"
      assert {:ok, ["error", "invalid_args", _message]} = team.("crew", [], %{max_restarts: -1})
      assert {:ok, ["error", "already_started", _message]} = team.("crew", ["boss2", "boss2"], %{})
      assert Pyre.call(pyre, "boss", :hire, %{id: "c", group: "nowhere"}) == {:ok, "not_found"}
      assert [%{id: "boss"}] = Pyre.agents(pyre)
      assert {:ok, %{restarts: 0}} = Pyre.info(pyre, "boss")
    end

    test "an on_start that waits for who waits for it is a deadlock, not a timeout", %{pyre: pyre} do
      assert {:ok, message} = Pyre.call(pyre, "boss", :cling)
      assert message =~ ~s("clinger" -> "boss" -> "clinger")
      assert [%{id: "boss"}] = Pyre.agents(pyre)
    end
  end
end
