defmodule Pyre.Integration.WatchTest do
  # Promise: the lines of a log can be followed live, through its rotation, while its watcher goes on watching.
  use Pyre.Case, async: true

  @watch Path.expand("../../priv/python/examples/watch", __DIR__)

  # Without the scout, which would watch this whole machine.
  setup do
    folder = workspace()

    for file <- ~w(logs.py _follow.py _reading.py),
        do: File.cp!(Path.join(@watch, file), Path.join(folder, file))

    path = Path.join(folder, "app.log")
    File.write!(path, "before the watch\n")
    pyre = start_pyre!(agents: folder)
    {:ok, pyre: pyre, path: path, id: start_agent!(pyre, "LogWatcher", id: "log", args: %{path: path})}
  end

  # The stream begins at the end of the file, at an instant that only it knows: so lines come until one is heard.
  defp say_until_heard(path, line) do
    eventually(fn ->
      File.write!(path, line <> "\n", [:append])

      receive do
        {:line, ^line} -> true
      after
        100 -> nil
      end
    end)
  end

  test "new lines come as they are written, and through a rotation", %{pyre: pyre, path: path, id: id} do
    test = self()

    reader =
      start_supervised!(
        {Task, fn -> for line <- Pyre.stream(pyre, id, :lines), do: send(test, {:line, line}) end}
      )

    say_until_heard(path, "one")
    File.rename!(path, path <> ".1")
    say_until_heard(path, "two")
    refute_received {:line, "before the watch"}
    assert {:ok, %{"kind" => "log"}} = Pyre.call(pyre, id, :look)
    assert Process.alive?(reader)
  end

  test "it ends by itself after its time", %{pyre: pyre, id: id} do
    assert pyre |> Pyre.stream(id, :lines, %{seconds: 0.1}) |> Enum.to_list() == []
  end
end
