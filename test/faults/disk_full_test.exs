defmodule Pyre.Faults.DiskFullTest do
  # Promise: a snapshot that has no room on the disk is named in the log, leaves no file that looks like one, and the next life starts.
  use Pyre.Case, async: true

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
end
