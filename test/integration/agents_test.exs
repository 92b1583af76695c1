defmodule Pyre.Integration.AgentsTest do
  # Starting, finding, listing and stopping agents.
  use Pyre.Case, async: true

  alias Pyre.Error

  test "start_agent gives an id, and takes one" do
    pyre = start_pyre!()
    assert {:ok, made} = Pyre.start_agent(pyre, "Echo")
    assert made =~ ~r/^Echo-/
    assert Pyre.start_agent(pyre, :Echo, id: "mine") == {:ok, "mine"}
    assert Pyre.start_agent(pyre, Echo, id: "ours") == {:ok, "ours"}
    assert {:error, %Error{kind: :already_started}} = Pyre.start_agent(pyre, "Echo", id: "mine")
    assert Pyre.start_agent(pyre, "Echo", id: "mine", if_exists: :return) == {:ok, "mine"}
    assert Enum.map(Pyre.agents(pyre), & &1.id) == Enum.sort([made, "mine", "ours"])
  end

  test "of many who start one id at once, one does" do
    pyre = start_pyre!()

    results =
      1..20
      |> Task.async_stream(fn _n -> Pyre.start_agent(pyre, "Echo", id: "one") end, max_concurrency: 20)
      |> Enum.map(fn {:ok, result} -> result end)

    assert Enum.count(results, &match?({:ok, "one"}, &1)) == 1
    assert Enum.count(results, &match?({:error, %Error{kind: :already_started}}, &1)) == 19
  end

  test "start_agents starts hundreds at a time: groups and equal ids in the order of the list, each with its own answer" do
    pyre = start_pyre!()
    {:ok, "g"} = Pyre.start_group(pyre, "g", strategy: :rest_for_one, agents: [])
    own = for n <- 1..300, do: {"Echo", id: "e#{n}"}
    grouped = for n <- 1..50, do: {"Echo", id: "g#{n}", group: "g"}
    unnamed = for _n <- 1..20, do: {"Echo", []}
    again = [{"Echo", id: "e7"}, {"Nobody", id: "x"}]
    results = Pyre.start_agents(pyre, Enum.concat([own, grouped, unnamed, again]))
    assert Enum.take(results, 350) == for({"Echo", opts} <- own ++ grouped, do: {:ok, opts[:id]})

    assert [{:error, %Error{kind: :already_started}}, {:error, %Error{kind: :unknown_class}}] =
             Enum.take(results, -2)

    assert length(Enum.uniq(results)) == 372
    assert %{children: children} = Enum.find(Pyre.tree(pyre).children, &(&1.name == "g"))
    assert Enum.map(children, & &1.name) == for(n <- 1..50, do: "g#{n}")

    wrong = for(n <- 1..40, do: {"Echo", id: "w#{n}"}) ++ [{"Echo", id: "w41", wrong: 1}]
    assert_raise ArgumentError, ~r/unknown option :wrong/, fn -> Pyre.start_agents(pyre, wrong) end
  end

  test "start_agents starts many, and says of each what came of it" do
    pyre = start_pyre!()

    assert [{:ok, "a"}, {:error, %Error{kind: :unknown_class}}, {:ok, "b"}] =
             Pyre.start_agents(pyre, [{"Echo", id: "a"}, {"Nobody", id: "x"}, {"Echo", id: "b"}])

    assert [%{id: "a", class: "Echo", status: :running, mailbox: 0}, %{id: "b"}] = Pyre.agents(pyre)
  end

  test "a call or cast with :start makes the agent that it needs, once" do
    pyre = start_pyre!()
    start = {"Journal", []}

    replies =
      1..20
      |> Task.async_stream(fn n -> Pyre.call(pyre, "anna", :append, %{entry: n}, start: start) end)
      |> Enum.map(fn {:ok, {:ok, count}} -> count end)

    assert Enum.sort(replies) == Enum.to_list(1..20)
    assert :ok = Pyre.cast(pyre, "bert", :append, %{entry: 1}, start: start)
    assert Pyre.call(pyre, "bert", :entries) == {:ok, [1]}

    assert {:error, %Error{kind: :unknown_class}} =
             Pyre.call(pyre, "carl", :append, %{entry: 1}, start: {"Nobody", []})
  end

  test "start arguments are the first state" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Strict", args: %{name: "x", size: 3})
    assert Pyre.state(pyre, id) == {:ok, %{"name" => "x", "size" => 3}, 0}
    assert Pyre.call(pyre, id, :describe) == {:ok, ["x", 3]}
  end

  test "no interpreter hears of an agent before its first message" do
    pyre = start_pyre!()
    for n <- 1..1_000, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}")
    assert Pyre.info(pyre).counters.delivered == 0
    kill_interpreter(pyre)
    assert Pyre.info(pyre).counters.delivered == 0
    assert Pyre.call(pyre, "j500", :append, %{entry: 1}) == {:ok, 1}
    assert Pyre.info(pyre).counters.delivered == 1
  end

  test "info and agents tell what is there" do
    pyre = start_pyre!()
    {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a", meta: %{team: 1}, restart: :temporary)
    {:ok, "b"} = Pyre.start_agent(pyre, "Echo", id: "b")
    {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
    # A message leaves the mailbox after it is answered.
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, "a")) end)

    assert {:ok, %{id: "a", class: "Journal", status: :running, revision: 1, restarts: 0, worker: 1} = info} =
             Pyre.info(pyre, "a")

    assert %{meta: %{team: 1}, restart: :temporary, mailbox: 0, last_error: nil, timers: 0} = info
    assert [%{id: "b"}] = Pyre.agents(pyre, class: "Echo")
    assert [%{id: "b"}] = Pyre.agents(pyre, class: Echo)
    assert [] = Pyre.agents(pyre, status: :terminated)

    assert %{agents: %{running: 2}, workers: 1, stopping: false, problems: [], messages_waiting: 0} =
             Pyre.info(pyre)

    assert "Journal" in Pyre.info(pyre).classes

    assert [%{worker: 1, status: :ready, os_pid: os_pid, deaths: 0, rss_bytes: rss}] = Pyre.workers(pyre)
    assert is_integer(os_pid) and rss > 1_000_000
  end

  test "a class given as an alias is found by both start_agent and agents" do
    pyre = start_pyre!()
    {:ok, "b"} = Pyre.start_agent(pyre, Echo, id: "b")
    assert [%{id: "b"}] = Pyre.agents(pyre, class: :Echo)
    assert_raise ArgumentError, ~r/expected the filter to hold/, fn -> Pyre.agents(pyre, status: :runing) end
    assert_raise ArgumentError, ~r/expected the filter to hold/, fn -> Pyre.agents(pyre, %{colour: 1}) end
  end

  describe "stop_agent" do
    test "frees the id, and forgets the state" do
      pyre = start_pyre!()
      {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
      {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
      monitor = Process.monitor(Pyre.whereis(pyre, "a"))
      assert Pyre.stop_agent(pyre, "a") == :ok
      assert_receive {:DOWN, ^monitor, :process, _pid, :normal}
      assert Pyre.whereis(pyre, "a") == nil
      assert {:error, %Error{kind: :not_found}} = Pyre.call(pyre, "a", :entries)
      assert {:error, %Error{kind: :not_found}} = Pyre.state(pyre, "a")
      assert {:error, %Error{kind: :not_found}} = Pyre.stop_agent(pyre, "a")
      assert {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
      assert Pyre.call(pyre, "a", :entries) == {:ok, []}
    end

    test "keeps the state where it is told to" do
      pyre = start_pyre!()
      {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
      {:ok, 1} = Pyre.call(pyre, "a", :append, %{entry: 1})
      :ok = Pyre.stop_agent(pyre, "a", keep: true)
      assert {:error, %Error{kind: :not_found}} = Pyre.call(pyre, "a", :entries)
      {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
      assert Pyre.call(pyre, "a", :append, %{entry: 2}) == {:ok, 2}
    end

    test "overtakes the backlog: what runs ends, what waits is told" do
      pyre = start_pyre!(drain_timeout: 10_000)
      folder = workspace()
      {:ok, "a"} = Pyre.start_agent(pyre, "Gatekeeper", id: "a")
      running = Task.async(fn -> Pyre.call(pyre, "a", :go, %{folder: folder, name: "g"}) end)
      await_gate(folder, "g")
      waiting = for _n <- 1..5, do: Task.async(fn -> Pyre.call(pyre, "a", :passed) end)
      eventually(fn -> match?({:ok, %{mailbox: 6}}, Pyre.info(pyre, "a")) end)
      stopping = Task.async(fn -> Pyre.stop_agent(pyre, "a") end)
      eventually(fn -> match?({:ok, %{mailbox: 7}}, Pyre.info(pyre, "a")) end)
      open_gate(folder, "g")
      assert Task.await(running) == {:ok, 1}
      for task <- waiting, do: assert({:error, %Error{kind: :stopped}} = Task.await(task))
      assert Task.await(stopping) == :ok
    end

    test "does not wait longer than the drain's time for what runs" do
      pyre = start_pyre!(drain_timeout: 50)
      folder = workspace()
      {:ok, "a"} = Pyre.start_agent(pyre, "Gatekeeper", id: "a")
      running = Task.async(fn -> Pyre.call(pyre, "a", :go, %{folder: folder, name: "g"}) end)
      await_gate(folder, "g")
      assert Pyre.stop_agent(pyre, "a") == :ok
      assert {:error, %Error{kind: :stopped}} = Task.await(running)
      assert {:ok, "a"} = Pyre.start_agent(pyre, "Gatekeeper", id: "a")
      assert Pyre.call(pyre, "a", :passed) == {:ok, []}
    end

    test "of many callers answers each" do
      pyre = start_pyre!()
      {:ok, "a"} = Pyre.start_agent(pyre, "Mortal", id: "a", args: %{folder: workspace()})

      results =
        1..10
        |> Task.async_stream(fn _n -> Pyre.stop_agent(pyre, "a") end, max_concurrency: 10)
        |> Enum.map(fn {:ok, result} -> result end)

      assert :ok in results

      for {:error, %Error{kind: kind}} <- results, do: assert(kind in [:not_found, :stopped])
    end
  end

  describe "on_start, on_stop and on_error" do
    test "run once each in a life, and on_start's state is committed" do
      pyre = start_pyre!()
      folder = workspace()
      {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
      assert {:ok, %{"starts" => 1}, 1} = Pyre.state(pyre, "m")
      kill_interpreter(pyre)
      assert Pyre.call(pyre, "m", :starts) == {:ok, 1}
      {:error, _error} = Pyre.call(pyre, "m", :fail)
      assert Pyre.call(pyre, "m", :starts) == {:ok, 2}
      :ok = Pyre.stop_agent(pyre, "m")
      assert File.read!(Path.join(folder, "m.life")) == "start\nerror RuntimeError\nstart\nstop\n"
    end

    test "of a shutdown: on_stop runs for those that were used" do
      folder = workspace()
      pyre = start_pyre!()
      {:ok, "m"} = Pyre.start_agent(pyre, "Mortal", id: "m", args: %{folder: folder})
      :ok = stop_supervised(pyre)
      assert File.read!(Path.join(folder, "m.life")) == "start\nstop\n"
    end

    test "an on_start that fails is tried again, then the agent is terminated" do
      pyre = start_pyre!()
      args = %{folder: workspace(), fail_at_start: true}

      assert {:error, %Error{kind: :terminated} = error} =
               Pyre.start_agent(pyre, "Mortal", id: "m", args: args)

      assert Exception.message(error) =~ "it can't begin"
      assert [%{id: "m", status: :terminated}] = Pyre.agents(pyre)
      assert length(File.read!(Path.join(args.folder, "m.life")) |> String.split("start", trim: true)) == 4
      assert :ok = Pyre.stop_agent(pyre, "m")
      assert [] = Pyre.agents(pyre)
    end

    test "an on_start is run again when its worker dies under it" do
      pyre = start_pyre!()
      folder = workspace()
      args = %{folder: folder, slow_start: true}
      starting = Task.async(fn -> Pyre.start_agent(pyre, "Mortal", id: "m", args: args, timeout: 20_000) end)
      await_gate(folder, "start")
      kill_interpreter(pyre)
      await_gate(folder, "start", 2)
      open_gate(folder, "start")
      assert Task.await(starting, 20_000) == {:ok, "m"}
      assert {:ok, %{"starts" => 1}, 1} = Pyre.state(pyre, "m")
    end

    test "start_agent waits for on_start no longer than it is told to" do
      pyre = start_pyre!()
      folder = workspace()

      assert {:error, %Error{kind: :deadline}} =
               Pyre.start_agent(pyre, "Mortal",
                 id: "m",
                 args: %{folder: folder, slow_start: true},
                 timeout: 50
               )

      open_gate(folder, "start")
      assert Pyre.call(pyre, "m", :starts) == {:ok, 1}
    end
  end

  describe "autostart" do
    test "starts agents with the node, once" do
      pyre = start_pyre!(agents: fixture("autostart_agents"), log: true)
      assert ["Porter", "back", "front" | _unlucky] = Enum.map(Pyre.agents(pyre), & &1.id)
      assert Pyre.call(pyre, "back", :room) == {:ok, 2}
      assert Pyre.call(pyre, "Porter", :ping) == {:ok, "pong"}
      assert [%{id: "unlucky"}] = Pyre.agents(pyre, status: :terminated)
      assert_receive {:logged, :error, "agent \"unlucky\" could not be started" <> _rest, _meta}

      :ok = Pyre.stop_agent(pyre, "front")
      kill_interpreter(pyre)
      assert {:error, %Error{kind: :not_found}} = Pyre.call(pyre, "front", :room)
      assert Pyre.call(pyre, "back", :room) == {:ok, 2}
    end
  end

  describe "files that can't be imported" do
    setup do
      directory = Path.join(workspace(), "agents")
      File.cp_r!(fixture("broken_agents"), directory)
      # Kept as text, so that no tool of this repository stumbles over it.
      File.rename!(Path.join(directory, "garbled.txt"), Path.join(directory, "garbled.py"))
      {:ok, pyre: start_pyre!(agents: directory, log: true)}
    end

    test "hurt no other file", %{pyre: pyre} do
      {:ok, id} = Pyre.start_agent(pyre, "Fine")
      assert Pyre.call(pyre, id, :ping) == {:ok, "pong"}
      assert Pyre.info(pyre).classes == ["Fine"]
      problems = for %{"file" => file} <- Pyre.info(pyre).problems, do: Path.basename(file)
      assert Enum.sort(problems) == ["garbled.py", "leaving.py", "missing.py"]
    end

    test "are the error of whoever starts one of their agents", %{pyre: pyre} do
      assert {:error, %Error{kind: :unknown_class, details: details} = error} =
               Pyre.start_agent(pyre, "Missing")

      assert error.message =~ "No module named 'there_is_no_such_module'"
      assert details.traceback =~ "missing.py\", line 3"
      assert {:error, %Error{message: message}} = Pyre.start_agent(pyre, "Leaving")
      assert message =~ "SystemExit"
      assert {:error, %Error{message: message}} = Pyre.start_agent(pyre, "Garbled")
      assert message =~ "SyntaxError"
    end

    test "are told in the log with their traceback", %{pyre: _pyre} do
      assert_receive {:logged, :error, text, _meta} when is_binary(text)
      texts = [text | received()]
      for file <- ["garbled.py", "leaving.py", "missing.py"], do: assert(Enum.any?(texts, &(&1 =~ file)))
      assert Enum.any?(texts, &(&1 =~ "Traceback"))
    end

    defp received do
      receive do
        {:logged, _level, text, _meta} -> [text | received()]
      after
        0 -> []
      end
    end
  end

  test "several instances live on one node, each with its own agents" do
    [one, two] = [start_pyre!(), start_pyre!()]
    for pyre <- [one, two], do: {:ok, "a"} = Pyre.start_agent(pyre, "Journal", id: "a")
    {:ok, 1} = Pyre.call(one, "a", :append, %{entry: 1})
    {:ok, 1} = Pyre.call(two, "a", :append, %{entry: 2})
    assert Pyre.call(one, "a", :entries) == {:ok, [1]}
    kill_interpreter(one)
    assert Pyre.call(two, "a", :entries) == {:ok, [2]}
    :ok = stop_supervised(one)
    assert Pyre.call(two, "a", :append, %{entry: 3}) == {:ok, 2}
    assert_raise ArgumentError, ~r/no Pyre instance named/, fn -> Pyre.call(one, "a", :entries) end
  end

  test "a name that is taken can't be started again" do
    pyre = start_pyre!()
    assert {:error, {:already_started, _pid}} = Pyre.start_link(name: pyre, agents: fixture("agents"))
    assert {:ok, _id} = Pyre.start_agent(pyre, "Echo")
  end
end
