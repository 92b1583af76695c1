defmodule Pyre.Integration.ControlTest do
  # The real client against a running instance, as an operator has it.
  use Pyre.Case, async: true

  import Pyre.Lull

  alias Pyre.Instance

  setup do
    socket = Path.join(workspace(), "control")
    pyre = start_pyre!(control: socket)
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, pyre: pyre, socket: socket}
  end

  defp ctl(socket, argv) do
    System.cmd(python(), ["-m", "pyre.ctl" | argv],
      env: [{"PYTHONPATH", Pyre.Python.package_directory()}, {"PYRE_CONTROL", socket}],
      stderr_to_stdout: true
    )
  end

  defp word(text), do: Regex.scan(~r/[\w.-]+/, text) |> List.flatten()

  defp last_line(text), do: text |> String.split("\n", trim: true) |> List.last()

  test "an agent's life, from the outside", %{pyre: pyre, socket: socket} do
    assert {"k\n", 0} = ctl(socket, ["start", "Journal", "--id", "k"])
    assert {_nothing, 0} = ctl(socket, ["call", "k", "append", ~s({"entry": 1})])
    assert {:ok, %{"entries" => [1]}, 1} = Pyre.state(pyre, "k")
    assert {text, 0} = ctl(socket, ["inspect", "k"])
    assert text =~ ~r/^revision +1$/m
    assert {text, 0} = ctl(socket, ["agents", "--class", "Journal"])

    assert [
             "ID",
             "CLASS",
             "STATUS",
             "MAILBOX",
             "j",
             "Journal",
             "running",
             "0",
             "k",
             "Journal",
             "running",
             "0"
           ] = word(text)

    assert {_nothing, 0} = ctl(socket, ["stop-agent", "k"])
    assert {text, 1} = ctl(socket, ["inspect", "k"])
    assert text =~ "not_found"
  end

  test "a parked agent tells why, and runs again when it may", %{pyre: pyre, socket: socket} do
    assert {"", 0} = ctl(socket, ["park", "j", "--reason", "the ledger is audited"])
    assert {text, 1} = ctl(socket, ["call", "j", "append", ~s({"entry": 1})])
    assert text =~ "parked: " and text =~ "the ledger is audited"
    :ok = Pyre.cast(pyre, "j", :append, %{entry: 2})
    assert {text, 0} = ctl(socket, ["quarantine"])
    assert text =~ "the ledger is audited"
    assert {"", 0} = ctl(socket, ["unpark", "j"])
    eventually(fn -> match?({:ok, %{"entries" => [2]}, 1}, Pyre.state(pyre, "j")) end)
  end

  test "an interpreter is replaced on request, and its agents keep their state", %{pyre: pyre, socket: socket} do
    {:ok, _reply} = Pyre.call(pyre, "j", :append, %{entry: 1})
    before = os_pid(pyre)
    assert {"", 0} = ctl(socket, ["recycle", "1"])
    assert_os_pid_exited(before)
    {:ok, _reply} = Pyre.call(pyre, "j", :append, %{entry: 2}, timeout: 20_000)
    assert {:ok, %{"entries" => [1, 2]}, 2} = Pyre.state(pyre, "j")
    assert {text, 1} = ctl(socket, ["recycle", "77"])
    assert text =~ "there is no worker 77"
  end

  test "what is paused, what was given up, how it is", %{pyre: pyre, socket: socket} do
    assert {"ready\n", 0} = ctl(socket, ["health"])
    assert {"", 0} = ctl(socket, ["pause", "--agent", "j"])
    assert {text, 0} = ctl(socket, ["status"])
    assert text =~ "agent j"
    assert {"", 0} = ctl(socket, ["resume", "--agent", "j"])
    :ok = Pyre.cast(pyre, "j", :no_such_handler)
    eventually(fn -> Pyre.dead_letters(pyre) != [] end)
    assert {text, 0} = ctl(socket, ["dead-letters", "--json"])
    assert text =~ "no_such_handler"
    assert {text, 0} = ctl(socket, ["dead-letters", "--discard", "all"])
    assert text =~ "1"
    assert Pyre.dead_letters(pyre) == []
    assert {text, 0} = ctl(socket, ["metrics"])
    assert text =~ "\npyre_ready 1\n"
    assert {text, 0} = ctl(socket, ["tree"])
    assert text =~ "└── j  Journal running"
  end

  test "what is wrong is told with what mends it, and a script sees it by the exit status", %{
    pyre: pyre,
    socket: socket
  } do
    # The machine's own findings differ from one to the next: only what this instance adds is looked at.
    assert {text, _status} = ctl(socket, ["doctor"])
    assert text =~ ~r/^ok +the instance is ready$/m
    refute text =~ "parked"

    :ok = Pyre.park(pyre, "j", reason: "the ledger is audited")
    assert {text, 1} = ctl(socket, ["doctor"])
    assert text =~ ~r/^WRONG +the agent j is parked\n +ctl quarantine tells why; .*ctl unpark j$/m
    assert text =~ ~r/^1 wrong/m
    assert {json, 1} = ctl(socket, ["doctor", "--json"])
    assert json =~ ~s("status": "ok")
    assert json =~ ~s("what": "the agent j is parked")

    :ok = Pyre.unpark(pyre, "j")
    findings = Pyre.Doctor.instance(pyre)
    assert {text, status} = ctl(socket, ["doctor"])
    assert status == if(Pyre.Doctor.wrong?(findings), do: 1, else: 0)
    # Both clients word it alike.
    assert last_line(text) == last_line(Pyre.Doctor.text(findings))
  end

  test "what people are asked is listed, answered and dismissed", %{pyre: pyre, socket: socket} do
    {:ok, "c"} = Pyre.start_agent(pyre, "Clerk", id: "c")
    for amount <- [900, 70], do: {:ok, _pending} = Pyre.call(pyre, "c", :file, %{amount: amount})
    [%{id: first}, %{id: second}] = Pyre.inbox(pyre)
    assert {text, 0} = ctl(socket, ["inbox", "--agent", "c"])
    assert text =~ "#{first}  c (Clerk)  Refund 900 EUR?"
    assert text =~ "approve | reject"
    assert {text, 1} = ctl(socket, ["answer", "#{first}", "perhaps", "--by", "ada"])
    assert text =~ "approve"
    assert {"", 0} = ctl(socket, ["answer", "#{first}", "approve", "--by", "ada"])
    assert {"", 0} = ctl(socket, ["dismiss", "#{second}", "--by", "grace"])
    assert {"nobody is asked anything\n", 0} = ctl(socket, ["inbox"])
    assert {text, 0} = ctl(socket, ["inbox", "--status", "decided"])
    assert text =~ ~r/outcome +answered approve\n +by +ada/
    assert {_text, 1} = ctl(socket, ["inbox", "--status", "closed"])
  end

  test "what happens to an agent is told afterwards and live", %{pyre: pyre, socket: socket} do
    {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
    assert {text, 0} = ctl(socket, ["history", "j"])
    assert text =~ ~r/message +.*handler=append.*outcome=ok/
    trace = Task.async(fn -> ctl(socket, ["trace", "j", "--limit", "2"]) end)
    eventually(fn -> Instance.traces(Instance.get(pyre)) == 1 end)
    for entry <- [2, 3], do: {:ok, _count} = Pyre.call(pyre, "j", :append, %{entry: entry})
    assert {text, 0} = Task.await(trace, 10_000)
    assert [_first, _second] = String.split(text, "\n", trim: true)
    assert {text, 1} = ctl(socket, ["trace", "nobody"])
    assert text =~ "not_found"
  end

  test "code is loaded anew", %{socket: socket} do
    assert {text, 0} = ctl(socket, ["reload"])
    assert text =~ ~r/generation +1\nstatus +unchanged/
    assert {text, 0} = ctl(socket, ["reload", "--force"])
    assert text =~ ~r/generation +2\nstatus +current/
    assert {text, 0} = ctl(socket, ["generations"])
    assert text =~ ~r/^2 +current/m and text =~ ~r/^1 +retired/m
  end

  test "drained: nothing new is taken, and health says so", %{pyre: pyre, socket: socket} do
    assert {"", 0} = ctl(socket, ["drain"])
    assert {text, 1} = ctl(socket, ["health"])
    assert text =~ "draining"
    assert {:error, %Pyre.Error{kind: :stopping}} = Pyre.call(pyre, "j", :append, %{entry: 1})
  end

  test "who is asleep is told apart, and not woken", %{pyre: pyre, socket: socket} do
    {:ok, "k"} = Pyre.start_agent(pyre, "Journal", id: "k")
    lull(pyre, "k")
    assert {text, 0} = ctl(socket, ["agents", "--status", "asleep"])
    assert ["k", "Journal", "asleep", "0"] = text |> word() |> Enum.drop(4)
    assert {text, 0} = ctl(socket, ["inspect", "k"])
    assert text =~ ~r/^status +asleep$/m
    assert {"[]" <> _nothing, 0} = ctl(socket, ["call", "k", "entries"])
  end

  test "wrong usage, a wrong value and a missing node are told apart", %{socket: socket} do
    assert {text, 2} = ctl(socket, ["call", "j", "append", "{"])
    assert text =~ "is no JSON"
    assert {text, 1} = ctl(socket, ["agents", "--status", "dreaming"])
    assert text =~ "expected the status to be one of"
    assert {text, 69} = ctl(socket <> "-not", ["status"])
    assert text =~ "no node answers at"
  end

  test "what is no request is refused, and the next one is served", %{socket: socket} do
    for packet <- [<<>>, "garbage", <<0xC1>>, <<0x80>>, :crypto.strong_rand_bytes(100)] do
      {:ok, connection} = :gen_tcp.connect({:local, socket}, 0, [:binary, active: false, packet: 4])
      :ok = :gen_tcp.send(connection, packet)
      assert {:ok, answer} = :gen_tcp.recv(connection, 0, 5_000)
      assert {:ok, %{"error" => %{"kind" => "protocol"}}} = Pyre.Wire.MsgPack.decode(answer)
    end

    assert {"ready\n", 0} = ctl(socket, ["health"])
  end

  test "a second instance does not take the socket of the first", %{socket: socket, pyre: pyre} do
    other = start_pyre!(control: socket, log: true)
    assert_receive {:logged, :warning, "the control socket " <> rest, _meta}, 5_000
    assert rest =~ "another instance listens there"
    assert {text, 0} = ctl(socket, ["status"])
    assert text =~ inspect(pyre)
    refute text =~ inspect(other)
  end

  test "a directory that others may write to is not trusted" do
    folder = workspace()
    File.chmod!(folder, 0o777)
    start_pyre!(control: Path.join(folder, "control"), log: true)
    assert_receive {:logged, :warning, "the control socket " <> rest, _meta}, 5_000
    assert rest =~ "others may write to"
    refute File.exists?(Path.join(folder, "control"))
  end
end
