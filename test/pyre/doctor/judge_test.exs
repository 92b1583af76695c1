defmodule Pyre.Doctor.JudgeTest do
  use ExUnit.Case, async: true

  alias Pyre.{Doctor, Error}
  alias Pyre.Doctor.{Facts, Judge}

  @sound %{
    elixir: "1.14.0",
    otp: 25,
    utf8: true,
    root: false,
    open_files: 65_536,
    pipe_bytes: 1_048_576,
    user_pipe_pages: 16_384,
    available_bytes: 4_294_967_296,
    directory: "/dev/shm",
    setpriv: true,
    variables: :ok
  }

  defp machine(facts, workers \\ 2), do: @sound |> Map.merge(Map.new(facts)) |> Judge.machine(workers)

  test "nothing is said against a sound machine" do
    assert Enum.all?(machine([]), &(&1.status == :ok))
  end

  for {facts, status, what, mend} <- [
        {[elixir: "1.13.4"], :wrong, "Elixir 1.13.4 on OTP 25 is too old", "install Elixir 1.14.0 or newer"},
        {[otp: 24], :wrong, "Elixir 1.14.0 on OTP 24 is too old", "on OTP 25 or newer"},
        {[utf8: false], :warning, "not read as UTF-8", "LC_ALL=C.UTF-8"},
        {[open_files: 128], :wrong, "may open 128 files; at least 256", "ulimit -n 4096"},
        {[open_files: 1_024], :warning, "may open 1024 files", "ulimit -n 4096"},
        {[pipe_bytes: 65_536], :warning, "at most 65536 bytes", "sysctl -w fs.pipe-max-size=1048576"},
        {[user_pipe_pages: 1_024], :warning, "at most 1024 pages, and those of 3 interpreters have 1536",
         "sysctl -w fs.pipe-user-pages-soft=1536"},
        {[available_bytes: 104_857_600], :wrong,
         "100 MB of memory are free, and 2 workers and a spare begin with 160 MB", "fewer workers"},
        {[available_bytes: 209_715_200], :warning, "200 MB of memory are free", "fewer workers"},
        {[directory: nil], :wrong, "neither /dev/shm nor", "TMPDIR"},
        {[directory: "/" <> String.duplicate("d", 79)], :wrong, "is 80 bytes long", "TMPDIR"},
        {[setpriv: false], :warning, "there is no setpriv", "util-linux"},
        {[variables: {:error, "PYRE_WORKER is no variable of Pyre"}], :wrong, "PYRE_WORKER is no variable",
         "unset it"}
      ] do
    test "#{inspect(facts, limit: 3, printable_limit: 20)}: #{status}" do
      assert [%{status: unquote(status), what: what, mend: mend}] =
               Enum.reject(machine(unquote(facts)), &(&1.status == :ok))

      assert what =~ unquote(what)
      assert mend =~ unquote(mend)
    end
  end

  test "nothing is said of what can't be found out, nor of root's pipes" do
    unknown = [open_files: nil, pipe_bytes: nil, user_pipe_pages: nil, available_bytes: nil]
    assert Enum.all?(machine(unknown), &(&1.status == :ok))
    assert Enum.all?(machine(root: true, pipe_bytes: 4_096), &(&1.status == :ok))
    assert Enum.all?(machine(open_files: :infinity, user_pipe_pages: 0), &(&1.status == :ok))
  end

  test "the kernel's texts are read" do
    limits = "Limit                     Soft Limit           Hard Limit           Units\n"

    assert Facts.open_files(limits <> "Max open files            1024                 4096      files\n") ==
             1_024

    assert Facts.open_files(limits <> "Max open files            unlimited            unlimited files\n") ==
             :infinity

    assert Facts.open_files("") == nil
    assert Facts.available_bytes("MemTotal:  8 kB\nMemAvailable:    2048 kB\n") == 2_097_152
    assert Facts.available_bytes("") == nil
  end

  test "an interpreter without uvloop or the codec in C is slower, an import that fails names its file" do
    found = %{
      "python" => "3.11.2",
      "executable" => "/venv/bin/python",
      "loop" => "asyncio",
      "codec" => "python",
      "packages" => %{"msgpack" => "1.2.4", "uvloop" => nil},
      "problems" => [%{"file" => "desk.py", "error" => "ModuleNotFoundError: No module named 'httpx'"}],
      "classes" => []
    }

    assert [ok, loop, codec, problem, none] = Judge.python({:ok, found}, ["agents"])
    assert %{status: :ok, what: "Python 3.11.2 (/venv/bin/python) with msgpack 1.2.4"} = ok
    assert %{status: :warning, mend: "/venv/bin/python -m pip install uvloop"} = loop

    assert %{status: :warning, what: "the wire's codec" <> _, mend: "apt-get install gcc" <> _} = codec

    assert %{status: :wrong, what: "desk.py: ModuleNotFoundError" <> _, mend: "install the package" <> _} =
             problem

    assert %{status: :warning, what: "no agent class was found in agents"} = none
  end

  test "of an instance it is told what waits for a person" do
    facts = %{
      info: %{problems: [], classes: ["Desk"], paused: [:all, {:class, "Mailer"}]},
      health: %{status: :starting, reasons: ["no worker is ready"]},
      workers: [
        %{worker: 1, status: :ready, deaths: 0, last_error: nil},
        %{worker: 2, status: :failed, deaths: 1, last_error: Error.new(:worker_start, "no msgpack")},
        %{worker: 3, status: :ready, deaths: 2, last_error: nil}
      ],
      quarantine: [%{id: "a", status: :parked, strikes: 2}, %{id: "b", status: :running, strikes: 1}],
      terminated: [%{id: "c"}],
      dead_letters: 3
    }

    text = facts |> Judge.instance() |> Doctor.text()

    for said <- [
          "WRONG    the instance is starting: no worker is ready",
          "WRONG    worker 2 can't be started: no msgpack",
          "warning  worker 3 has lost 2 interpreters",
          "WRONG    the agent a is parked",
          "warning  the agent b is watched",
          "WRONG    the agent c failed too often",
          "ctl restart c",
          "warning  paused: all, class Mailer",
          "warning  3 messages were given up",
          "\n4 wrong, 4 warnings"
        ],
        do: assert(text =~ said)

    calm = %{facts | health: %{status: :ready, reasons: []}, workers: [], quarantine: [], terminated: []}
    calm = %{calm | dead_letters: 0, info: %{calm.info | paused: []}}
    refute calm |> Judge.instance() |> Doctor.wrong?()
    assert calm |> Judge.instance() |> Doctor.text() =~ ~r/\n\nnothing is wrong$/
  end
end
