defmodule Pyre.Tasks.DoctorTest do
  # Not beside others: TMPDIR and the limits are looked at, and the environment belongs to all.
  use Pyre.Case, async: false

  alias Mix.Tasks.Pyre.Doctor

  @moduletag timeout: 120_000

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    {:ok, folder: workspace()}
  end

  defp doctor(argv) do
    status =
      try do
        Doctor.run(["--python", python() | argv])
        {:shutdown, 0}
      catch
        :exit, status -> status
      end

    assert_received {:mix_shell, :info, [text]}
    {text, status}
  end

  test "a sound directory of agents" do
    {text, status} = doctor(["--agents", fixture("agents")])

    assert text =~ ~r/^ok +Elixir /m and text =~ ~r/^ok +Python 3/m and
             text =~ ~r/^ok +agent classes: .*Journal/m

    assert status == {:shutdown, 0}
  end

  test "files that can't be imported, and a directory that is not there", %{folder: folder} do
    {text, status} = doctor(["--agents", fixture("broken_agents"), "--agents", folder <> "/none"])
    assert text =~ ~r/^WRONG .*missing.py: ModuleNotFoundError: .*\n +install the package/m
    assert text =~ ~r/^WRONG .*leaving.py: SystemExit: 3/m
    assert text =~ "no such directory"
    assert text =~ "\n3 wrong"
    assert status == {:shutdown, 1}
  end

  test "what agents print at their import is nobody's answer", %{folder: folder} do
    File.write!(Path.join(folder, "loud.py"), "import os\nprint('x' * 10000)\nos.write(1, b'\\x81')\n")
    {text, status} = doctor(["--agents", folder])
    refute text =~ "xxx"
    assert text =~ "no agent class was found in #{folder}"
    assert status == {:shutdown, 0}
  end

  test "an interpreter that dies at an import", %{folder: folder} do
    File.write!(Path.join(folder, "dying.py"), "import os\nos.kill(os.getpid(), 9)\n")
    {text, status} = doctor(["--agents", folder])
    assert text =~ ~r/^WRONG .*ended with status/m
    assert status == {:shutdown, 1}
  end

  test "a Python without the packages, and one that is none", %{folder: folder} do
    # The packages of a virtual environment are not those of the Python that it was made with.
    bare = Path.join(folder, "bare")

    {real, 0} =
      System.cmd(python(), ["-c", "import os, sys; print(os.path.realpath(sys.executable), end='')"])

    {_output, 0} = System.cmd(real, ["-m", "venv", "--without-pip", bare])
    {text, status} = doctor(["--python", Path.join(bare, "bin/python")])

    assert text =~
             ~r/^WRONG +the package msgpack can't be imported .*install it with: .*\n +mix pyre.install/m

    assert status == {:shutdown, 1}

    {text, {:shutdown, 1}} = doctor(["--python", Path.join(folder, "none")])
    assert text =~ "which is not there or can't be executed"
  end

  test "the path of the control socket, and who may write beside it", %{folder: folder} do
    {text, status} = doctor(["--control", Path.join(folder, String.duplicate("c", 101))])
    assert text =~ ~r/^WRONG +an operator's commands can't come in at .*: it is longer than 100 bytes/m
    assert status == {:shutdown, 1}

    assert {text, {:shutdown, 0}} = doctor(["--control", Path.join(folder, "run/control")])
    assert text =~ "would come in at"
    refute File.exists?(Path.join(folder, "run"))

    control = Path.join(folder, "control")
    start_pyre!(control: control)
    assert {text, {:shutdown, 0}} = doctor(["--control", control])
    assert text =~ "a node takes an operator's commands at"

    File.chmod!(folder, 0o777)
    assert {text, {:shutdown, 1}} = doctor(["--control", control, "--agents", folder])
    assert text =~ ": others may write to #{folder}\n"
    assert text =~ ~r/^warning +others may write to .*, and so run their code/m
  end

  test "the command line" do
    Doctor.run(["--help"])
    assert_received {:mix_shell, :info, [help]}
    assert help =~ "    mix pyre.doctor "
    assert_raise Mix.Error, ~r/--workers must be at least 1/, fn -> Doctor.run(["--workers", "0"]) end

    assert_raise Mix.Error, ~r/unknown option --agent, did you mean --agents/, fn ->
      Doctor.run(["--agent", "x"])
    end

    assert_raise Mix.Error, ~r/unexpected argument "x"/, fn -> Doctor.run(["x"]) end
  end
end
