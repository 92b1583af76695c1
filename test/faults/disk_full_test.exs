defmodule Pyre.Faults.DiskFullTest do
  # Promise: what can't be written is named, and costs nothing that has been written: neither the next life, where there was no room for a
  # snapshot, nor the agents, where there is none for the files of an interpreter.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  @moduletag :fault

  test "while the snapshot is written" do
    path = Path.join(workspace(), "snapshot")
    # What is written to it goes to a disk that is full.
    File.ln_s!("/dev/full", path <> ".new")
    one = start_pyre!(snapshot: path, log: true)
    {:ok, "j"} = Pyre.start_agent(one, "Journal", id: "j")
    {:ok, 1} = Pyre.call(one, "j", :append, %{entry: 1})
    :ok = stop_supervised(one)

    assert_receive {:logged, :critical, text, _meta}, 5_000
    assert text =~ "the snapshot #{path} could not be written: no space left on device"
    assert text =~ "what the instance held is lost"
    refute File.exists?(path)

    two = start_pyre!(snapshot: path)
    assert Pyre.agents(two) == []
  end

  test "while an interpreter is started: it is tried again, and the agents go on once there is room" do
    pyre = start_pyre!()
    id = start_agent!(pyre, "Journal")
    {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
    %{directory: directory} = Instance.get(pyre)
    # To who wants to write a file a directory that is gone is as good as a disk that is full.
    File.rename!(directory, directory <> "-away")
    signal(os_pid(pyre), "KILL")

    assert %Error{kind: :worker_start, message: message} = eventually(fn -> start_error(pyre) end)
    assert message =~ "recorder-1"
    assert {:error, %Error{kind: :worker_start}} = Pyre.call(pyre, id, :append, %{entry: 2})

    File.rename!(directory <> "-away", directory)
    eventually(fn -> match?({:ok, 2}, Pyre.call(pyre, id, :append, %{entry: 3})) end, 20_000)
    assert {:ok, %{"entries" => [1, 3]}, 2} = Pyre.state(pyre, id)
  end

  # The first one is that of the kill.
  defp start_error(pyre) do
    with %{last_error: %Error{kind: :worker_start} = error} <- hd(Pyre.workers(pyre)),
         do: error,
         else: (_other -> nil)
  end
end
