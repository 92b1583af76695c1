defmodule Pyre.Integration.SnapshotTest do
  # Two lives of an instance, with a file between them.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  setup do
    folder = workspace()
    {:ok, folder: folder, path: Path.join(folder, "state.snapshot")}
  end

  # Stops one life; what its casts were told to do must not depend on the time that this takes.
  defp stop(pyre), do: :ok = stop_supervised(pyre)

  test "states, queued casts, timers and dead letters go on", %{path: path, folder: folder} do
    one = start_pyre!(snapshot: path)
    for id <- ["a", "b"], do: {:ok, ^id} = Pyre.start_agent(one, "Journal", id: id, meta: %{team: "ops"})
    {:ok, 1} = Pyre.call(one, "a", :append, %{entry: 1})
    :ok = Pyre.cast(one, "b", :no_such_handler)
    eventually(fn -> length(Pyre.dead_letters(one)) == 1 end)
    {:ok, "c"} = Pyre.start_agent(one, "Clockwork", id: "c")
    {:ok, nil} = Pyre.call(one, "c", :set_after, %{seconds: 0.3, key: "soon"})
    {:ok, nil} = Pyre.call(one, "c", :set_every, %{period: 3600, options: %{key: "hourly"}})
    :ok = Pyre.pause(one, {:agent, "a"})
    for entry <- 2..4, do: :ok = Pyre.cast(one, "a", :append, %{entry: entry})
    waiting = Task.async(fn -> Pyre.call(one, "a", :append, %{entry: 99}) end)
    eventually(fn -> match?({:ok, %{mailbox: 4}}, Pyre.info(one, "a")) end)
    stop(one)
    assert {:error, %Error{kind: :stopping}} = Task.await(waiting)

    assert <<"PYRESNAP", _rest::binary>> = File.read!(path)
    two = start_pyre!(snapshot: path)
    refute File.exists?(path)
    assert File.exists?(path <> ".restored")
    assert {:ok, %{mailbox: 3, paused: true, meta: %{team: "ops"}}} = Pyre.info(two, "a")
    :ok = Pyre.resume(two, {:agent, "a"})
    eventually(fn -> match?({:ok, %{"entries" => [1, 2, 3, 4]}, 4}, Pyre.state(two, "a")) end)
    assert {:ok, 5} = Pyre.call(two, "a", :append, %{entry: 5})
    assert [%{agent: "b", handler: "no_such_handler"}] = Pyre.dead_letters(two)
    eventually(fn -> match?({:ok, %{"ticks" => ["after"]}, _revision}, Pyre.state(two, "c")) end)
    assert {:ok, [["hourly", "tick", "every"]]} = Pyre.call(two, "c", :timers)
    assert {:ok, %{mailbox: 0, mailbox_bytes: 0}} = Pyre.info(two, "a")
    assert {:ok, fresh} = Pyre.start_agent(two, "Journal")
    assert fresh not in ["a", "b", "c"]
    _unused = folder
  end

  test "a cast that the shutdown cut is run again, as the next attempt", %{path: path, folder: folder} do
    one = start_pyre!(snapshot: path, drain_timeout: 100)
    {:ok, "c"} = Pyre.start_agent(one, "Clockwork", id: "c")
    :ok = Pyre.cast(one, "c", :stand, %{folder: folder, name: "gate"})
    assert ["1"] = await_gate(folder, "gate")
    stop(one)
    two = start_pyre!(snapshot: path)
    assert ["1", "2"] = await_gate(folder, "gate", 2)
    open_gate(folder, "gate")
    eventually(fn -> match?({:ok, %{"ticks" => ["gate"]}, 1}, Pyre.state(two, "c")) end)
  end

  test "groups are supervised as before, on_start runs, on_stop does not", %{path: path, folder: folder} do
    one = start_pyre!(snapshot: path)
    args = %{folder: folder}

    {:ok, "outer"} =
      Pyre.start_group(one, "outer",
        strategy: :rest_for_one,
        agents: [{"Mortal", id: "m", args: args}, {"Journal", id: "j"}]
      )

    {:ok, "inner"} = Pyre.start_group(one, "inner", group: "outer", agents: [{"Journal", id: "k"}])
    {:ok, 1} = Pyre.call(one, "k", :append, %{entry: 7})
    shape = one |> Pyre.tree() |> shape()
    stop(one)

    two = start_pyre!(snapshot: path)
    assert {:ok, 2} = Pyre.call(two, "k", :append, %{entry: 8})
    assert two |> Pyre.tree() |> shape() == shape
    assert File.read!(Path.join(folder, "m.life")) == "start\nstart\n"
    before = Pyre.whereis(two, "k")
    {:ok, %{revision: 0}} = Pyre.info(two, "j")
    Process.exit(Pyre.whereis(two, "m"), :kill)
    eventually(fn -> Pyre.whereis(two, "k") not in [nil, before] end)
    assert {:ok, 3} = Pyre.call(two, "k", :append, %{entry: 9})
  end

  defp shape(%{children: children} = node),
    do: {node.name == nil or node.kind, node[:strategy], Enum.map(children, &shape/1)}

  test "what people were asked is still asked, and the answer arrives once", %{path: path} do
    one = start_pyre!(snapshot: path)
    {:ok, "c"} = Pyre.start_agent(one, "Clerk", id: "c")
    {:ok, 1} = Pyre.call(one, "c", :file, %{amount: 900})
    waiting = Task.async(fn -> Pyre.call(one, "c", :insist, %{}, timeout: 60_000) end)
    eventually(fn -> length(Pyre.inbox(one)) == 2 end)
    stop(one)
    assert {:error, %Error{}} = Task.await(waiting)

    two = start_pyre!(snapshot: path)
    # Nobody is left who could be told what the call asked for.
    eventually(fn -> match?([%{question: "Refund 900 EUR?"}], Pyre.inbox(two)) end)
    [%{id: escalation}] = Pyre.inbox(two)
    :ok = Pyre.answer(two, escalation, "approve", by: "ada")
    eventually(fn -> match?({:ok, %{"decided" => [_one]}, _revision}, Pyre.state(two, "c")) end)
    assert {:ok, "pong"} = Pyre.call(two, "c", :ping)
    assert {:ok, %{escalations: 0}} = Pyre.info(two, "c")
  end

  test "what agents listen to they still hear", %{path: path} do
    one = start_pyre!(snapshot: path)
    {:ok, "d"} = Pyre.start_agent(one, "Deaf", id: "d")
    {:ok, nil} = Pyre.call(one, "d", :listen, %{pattern: "a.*"})
    :ok = Pyre.subscribe(one, "a.*")
    stop(one)
    two = start_pyre!(snapshot: path)
    :ok = Pyre.publish(two, "a.b", 1)
    eventually(fn -> match?({:ok, %{"heard" => [["a.b"]]}, _revision}, Pyre.state(two, "d")) end)
    refute_received {:pyre_event, _pyre, _topic, _event}
  end

  test "parked and terminated agents stay so", %{path: path} do
    one = start_pyre!(snapshot: path)
    {:ok, "p"} = Pyre.start_agent(one, "Journal", id: "p")
    {:ok, "t"} = Pyre.start_agent(one, "Clockwork", id: "t", max_restarts: 0)
    :ok = Pyre.park(one, "p", reason: "audit")
    {:error, %Pyre.PythonError{}} = Pyre.call(one, "t", :fail)
    eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(one, "t")) end)
    stop(one)

    two = start_pyre!(snapshot: path)
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.call(two, "p", :entries)
    assert message =~ "audit"
    assert {:error, %Error{kind: :terminated, message: message}} = Pyre.call(two, "t", :tick)
    assert message =~ "ValueError: no"
    :ok = Pyre.unpark(two, "p")
    :ok = Pyre.restart_agent(two, "t")
    assert {:ok, []} = Pyre.call(two, "p", :entries)
    assert {:ok, nil} = Pyre.call(two, "t", :tick)
  end

  describe "a snapshot that can't be used is refused and left as it is" do
    setup %{path: path} do
      one = start_pyre!(snapshot: path)
      {:ok, "a"} = Pyre.start_agent(one, "Journal", id: "a")
      {:ok, 1} = Pyre.call(one, "a", :append, %{entry: 1})
      stop(one)
      {:ok, bytes: File.read!(path)}
    end

    defp refused(path, bytes) do
      File.write!(path, bytes)

      assert {:error, %Error{kind: :decode, message: message}} =
               Pyre.start_link(
                 name: :"refused_#{System.unique_integer([:positive])}",
                 agents: fixture("agents"),
                 snapshot: path
               )

      assert message =~ path
      assert File.read!(path) == bytes
      message
    end

    test("another file", %{path: path}, do: assert(refused(path, "hello, world") =~ "no snapshot"))

    test("another version", %{path: path, bytes: <<"PYRESNAP", _version::16, rest::binary>>},
      do: assert(refused(path, <<"PYRESNAP", 99::16, rest::binary>>) =~ "it has version 99")
    )

    test "cut anywhere", %{path: path, bytes: bytes} do
      for _time <- 1..20, do: refused(path, binary_part(bytes, 0, :rand.uniform(byte_size(bytes)) - 1))
    end

    test "with any byte changed", %{path: path, bytes: bytes} do
      for _time <- 1..20 do
        at = :rand.uniform(byte_size(bytes)) - 1
        <<before::binary-size(at), byte, rest::binary>> = bytes
        refused(path, <<before::binary, Bitwise.bxor(byte, :rand.uniform(255)), rest::binary>>)
      end
    end
  end

  test "a crash of the tables leaves none, and an older one is not read twice", %{path: path} do
    one = start_pyre!(snapshot: path)
    {:ok, "a"} = Pyre.start_agent(one, "Journal", id: "a")
    {:ok, 1} = Pyre.call(one, "a", :append, %{entry: 1})
    stop(one)
    two = start_pyre!(snapshot: path)
    {:ok, %{"entries" => [1]}, 1} = Pyre.state(two, "a")
    before = os_pid(two)

    [{_id, state, _type, _modules}] =
      for {Pyre.InstanceSupervisor, pid, _t, _m} <- Supervisor.which_children(two),
          {Pyre.State, _pid, _type, _modules} = child <- Supervisor.which_children(pid),
          do: child

    Process.exit(state, :kill)
    assert_os_pid_exited(before)
    eventually(fn -> Instance.get(two) != nil and Instance.there?(Instance.get(two)) end, 10_000)
    :ok = Pyre.await_ready(two, 20_000)
    refute File.exists?(path)
    assert {:error, %Error{kind: :not_found}} = Pyre.state(two, "a")
  end

  test "is its user's alone, also where an earlier attempt left a file that was not", %{path: path} do
    File.write!(path <> ".new", "left over")
    File.chmod!(path <> ".new", 0o644)
    one = start_pyre!(snapshot: path)
    {:ok, "a"} = Pyre.start_agent(one, "Journal", id: "a")
    stop(one)
    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
    refute File.exists?(path <> ".new")
  end

  test "where it can't be written the log says so", %{folder: folder} do
    File.write!(Path.join(folder, "file"), "")
    one = start_pyre!(snapshot: Path.join(folder, "file/below"), log: true)
    stop(one)
    assert_receive {:logged, :critical, text, _meta}, 5_000
    assert text =~ "could not be written"
  end
end
