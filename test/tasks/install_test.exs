defmodule Pyre.Tasks.InstallTest do
  # Installs for real. Without a network: `mix test --exclude pip`.
  use Pyre.Case, async: false

  alias Mix.Tasks.Pyre.Install

  @moduletag timeout: 180_000

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    {:ok, venv: Path.join(workspace(), "venv"), python: real_python()}
  end

  # What .venv of the tests was made with.
  defp real_python do
    {path, 0} =
      System.cmd(python(), ["-c", "import os, sys; print(os.path.realpath(sys.executable), end='')"])

    path
  end

  @tag :pip
  test "makes what interpreters run with; a second time what is missing is added", %{
    venv: venv,
    python: python
  } do
    Install.run(["--venv", venv, "--python", python])
    assert_received {:mix_shell, :info, ["making " <> _venv]}
    assert_received {:mix_shell, :info, ["installing packages into " <> _venv]}
    assert_received {:mix_shell, :info, [said]}
    assert said =~ ~r/has Python 3\.\d+\.\d+ and all that interpreters need/
    own = Path.join(venv, "bin/python")
    refute imports?(own, "pytest")
    pyre = start_pyre!(python: own)
    assert {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")

    Install.run(["--venv", venv, "--dev"])
    assert imports?(own, "pytest") and imports?(own, "pyre.fixtures")
    # In place: what is edited is what is imported.
    {file, 0} = System.cmd(own, ["-c", "import pyre; print(pyre.__file__, end='')"], cd: "/")
    assert file == Path.expand("priv/python/pyre/__init__.py")

    {fixtures, 0} =
      System.cmd(own, ["-m", "pytest", "--fixtures", "-q", "-p", "no:cacheprovider"], cd: Path.dirname(venv))

    assert fixtures =~ "run_agent"
  end

  @tag :pip
  test "without a package index it says so", %{venv: venv, python: python} do
    for {name, value} <- [
          {"PIP_INDEX_URL", "http://127.0.0.1:9/"},
          {"PIP_RETRIES", "0"},
          {"PIP_NO_CACHE_DIR", "1"}
        ] do
      before = System.get_env(name)
      System.put_env(name, value)
      on_exit(fn -> if before, do: System.put_env(name, before), else: System.delete_env(name) end)
    end

    assert_raise Mix.Error, ~r/^pip reached no package index|^pip could not install/, fn ->
      Install.run(["--venv", venv, "--python", python])
    end
  end

  test "a directory that is something else is left alone", %{venv: venv, python: python} do
    File.mkdir!(venv)
    File.write!(Path.join(venv, "note"), "mine")

    assert_raise Mix.Error, ~r/is there, but is no virtual environment/, fn ->
      Install.run(["--venv", venv, "--python", python])
    end

    assert File.ls!(venv) == ["note"]
  end

  test "what is no Python is refused", %{venv: venv} do
    for wrong <- ["/bin/true/x", "/etc/passwd", "/bin/false", "no_such_python"] do
      assert_raise Mix.Error, ~r/^#{wrong} is no Python 3.11 or newer with venv/, fn ->
        Install.run(["--venv", venv, "--python", wrong])
      end
    end

    refute File.exists?(venv)
  end

  test "the command line" do
    Install.run(["--help"])
    assert_received {:mix_shell, :info, [help]}
    assert help =~ "    mix pyre.install "
    assert_raise Mix.Error, ~r/unexpected argument "httpx"/, fn -> Install.run(["httpx"]) end

    assert_raise Mix.Error, ~r/unknown option --venvs, did you mean --venv/, fn ->
      Install.run(["--venvs", "x"])
    end
  end

  defp imports?(python, module),
    do: match?({_output, 0}, System.cmd(python, ["-c", "import #{module}"], cd: "/", stderr_to_stdout: true))
end
