defmodule Pyre.Faults.WorkerStartTest do
  # Promise: where interpreters can't be started the instance stays up and says why, tries again with back-off, and heals by
  # itself when the cause is gone.
  use Pyre.Case, async: true

  alias Pyre.{Error, OSProcess}

  @moduletag :fault
  @retried 3

  defp boot(fixture, opts \\ []), do: boot_pyre!([python: fixture("workers/#{fixture}.sh")] ++ opts)

  defp start_error(pyre) do
    assert {:error, %Error{kind: :worker_start} = error} = Pyre.start_agent(pyre, "Counter", timeout: 10_000)
    error
  end

  test "one that ends at once: its exit status and its last lines are in the error" do
    error = "exits_at_once" |> boot() |> start_error()
    assert error.message =~ "it exited with status 17"
    assert error.message =~ "no luck today"
    assert Error.retryable?(error)
  end

  test "one that goes on ending is tried again and again, and the instance stays up" do
    pyre = boot("exits_at_once")
    eventually(fn -> hd(Pyre.workers(pyre)).deaths >= @retried end)
    assert [%{status: :failed}] = Pyre.workers(pyre)
    assert Process.alive?(Process.whereis(pyre))
  end

  test "one that never says that it is ready is ended, with what it started, and tried again" do
    pyre = boot("never_ready", start_timeout: 300)
    first = eventually(fn -> hd(Pyre.workers(pyre)).os_pid end)
    error = start_error(pyre)
    assert error.message =~ "did not become ready within 300 ms"
    assert error.message =~ "still thinking"
    assert_os_pid_exited(first)
    assert {:error, %Error{kind: :worker_start}} = Pyre.run(pyre, "math", "sqrt", [4])
    assert {:error, %Error{kind: :worker_start}} = Pyre.await_ready(pyre, 100)
  end

  test "callers are told, casts wait, and all goes on once the cause is gone" do
    folder = workspace()
    python = Path.join(folder, "python")
    File.write!(python, "#!/bin/sh\nexec #{python()} \"$@\"\n")
    File.chmod!(python, 0o755)
    pyre = boot_pyre!(python: python)
    :ok = Pyre.await_ready(pyre, 20_000)
    id = start_agent!(pyre, "Echo")

    File.write!(python, "#!/bin/sh\necho broken >&2\nexit 1\n")
    OSProcess.signal(os_pid(pyre), "KILL")
    eventually(fn -> hd(Pyre.workers(pyre)).status == :failed end)
    assert :ok = Pyre.cast(pyre, id, :keep, %{value: 7})
    assert {:error, %Error{kind: :worker_start, message: message}} = Pyre.call(pyre, id, :kept)
    assert message =~ "broken"

    File.write!(python, "#!/bin/sh\nexec #{python()} \"$@\"\n")
    eventually(fn -> hd(Pyre.workers(pyre)).status == :ready end, 20_000)
    assert {:ok, 7} = Pyre.call(pyre, id, :kept)
  end

  test "a Python that is missing is named" do
    error = [python: "/nowhere/python"] |> boot_pyre!() |> start_error()
    assert error.message =~ ~s(the option :python names "/nowhere/python", which is not there)
  end

  test "a package that is missing is named, with the command that installs it" do
    folder = workspace()
    File.write!(Path.join(folder, "msgpack.py"), "raise ImportError('not here')\n")
    python = Path.join(folder, "python")
    # First on the path, as a broken installation would be.
    File.write!(python, "#!/bin/sh\nPYTHONPATH=#{folder}:$PYTHONPATH exec #{python()} \"$@\"\n")
    File.chmod!(python, 0o755)
    error = [python: python] |> boot_pyre!() |> start_error()
    assert error.message =~ "it exited with status 69"
    assert error.message =~ "msgpack"
    assert error.message =~ "pip install"
  end

  old =
    Enum.find(Path.wildcard(Path.expand("~/.pyenv/versions/3.{6,7,8,9,10}.*/bin/python3")), &File.exists?/1)

  if old do
    test "a Python that is too old says which one it is, and what is wanted" do
      error = [python: unquote(old)] |> boot_pyre!() |> start_error()
      assert error.message =~ "it exited with status 69"
      assert error.message =~ "3.11"
    end
  else
    IO.puts("no Python older than 3.11 in ~/.pyenv/versions: the test of one that is too old is left out")
  end
end
