defmodule Pyre.Faults.HostileWorkerTest do
  # Promise: an interpreter can't take the BEAM down, whatever it writes or leaves undone; its error says what was wrong.
  use Pyre.Case, async: true

  alias Pyre.Error

  @moduletag :fault
  @retried 3

  defp boot(worker, opts \\ []) do
    env = [{"TEST_PYTHON", python()}, {"TEST_WORKER", fixture("workers/#{worker}.py")}]
    boot_pyre!([python: fixture("workers/impostor"), env: env, log: true] ++ opts)
  end

  defp last_error(pyre), do: eventually(fn -> hd(Pyre.workers(pyre)).last_error end)

  # What a healthy neighbour on the same node says.
  defp assert_node_is_well do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Echo")
    assert Pyre.call(pyre, id, :echo, %{value: 1}) == {:ok, 1}
  end

  describe "on the pipe," do
    for {fixture, reason} <- [
          garbage: "bytes",
          huge_length: "bytes",
          compressed: "80",
          makes_an_atom: "119",
          half_frame: "exited with status 0",
          other_version: "speaks version 99"
        ] do
      test "#{fixture}: the interpreter is replaced, and the BEAM's memory and atoms stay as they were" do
        {atoms, memory} = {:erlang.system_info(:atom_count), :erlang.memory(:total)}
        pyre = boot_pyre!(python: fixture("workers/#{unquote(fixture)}.sh"))
        eventually(fn -> hd(Pyre.workers(pyre)).deaths >= @retried end)
        assert last_error(pyre).message =~ unquote(reason)
        # Other tests run at the same time; the announced sizes are gigabytes.
        assert :erlang.memory(:total) - memory < 500_000_000
        assert :erlang.system_info(:atom_count) - atoms < 1_000
        assert_raise ArgumentError, fn -> String.to_existing_atom("never_used_" <> "atom") end
      end
    end

    test "garbage in frames of the right size is a protocol error" do
      assert last_error(boot("sends_garbage_in_frames")).message =~ "broke the protocol"
    end
  end

  test "one that floods standard error is bounded, and its last words are kept" do
    error = last_error(boot("floods_stderr"))
    assert error.message =~ "status 5"
    assert error.message =~ "the last word"
    assert byte_size(error.message) < 100_000
    assert byte_size(error.details.output) < 300_000
  end

  describe "with a message," do
    defp call_fake(worker, timeout \\ 10_000) do
      pyre = boot(worker)
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      {pyre, id, Pyre.call(pyre, id, :go, %{}, timeout: timeout)}
    end

    test "an answer to an unknown one replaces the worker" do
      pyre = boot("answers_unknown")
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      # Never begun, as the recorder tells: so it is sent again, to one impostor after the other.
      assert {:error, %Error{kind: kind}} = Pyre.call(pyre, id, :go, %{}, timeout: 1_000)
      assert kind in [:deadline, :timeout]
      assert_receive {:logged, :error, text, _meta}
      assert text =~ "DONE for the unknown message 4711"
      assert hd(Pyre.workers(pyre)).deaths >= 2
    end

    test "an answer to an unknown burst replaces the worker" do
      pyre = boot("answers_unknown_burst")
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      for _cast <- 1..50, do: :ok = Pyre.cast(pyre, id, :go)
      assert last_error(pyre).message =~ "BURST_DONE for the unknown message 1"
    end

    test "more progress than there can be is a protocol error" do
      pyre = boot("overdoes_progress")
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      :ok = Pyre.cast(pyre, id, :go)
      assert last_error(pyre).message =~ "an envelope that nobody understands: {70, 1, 1000001"
      assert {:ok, %{progress: nil}} = Pyre.info(pyre, id)
    end

    test "a reply that is no MessagePack is a decode error of the caller alone" do
      {pyre, _id, result} = call_fake("answers_nonsense")
      assert {:error, %Error{kind: :decode}} = result
      assert [%{status: :ready, deaths: 0}] = Pyre.workers(pyre)
    end

    test "an unknown status does not leave the caller waiting" do
      {pyre, id, result} = call_fake("answers_unknown_status", 2_000)
      assert {:error, _error} = result
      assert {:ok, %{status: _known}} = Pyre.info(pyre, id)
    end

    test "one that reads no more does not block anybody but its callers" do
      pyre = boot("reads_nothing")
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      big = %{value: String.duplicate("x", 4_000_000)}
      others = for n <- 1..8, do: Pyre.start_agent(pyre, "Fake", id: "f#{n}")
      assert Enum.all?(others, &match?({:ok, _id}, &1))
      for n <- 1..8, do: assert(:ok = Pyre.cast(pyre, "f#{n}", :go, big))
      assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, id, :go, %{}, timeout: 200)
      assert_node_is_well()
      :ok = stop_supervised(pyre)
    end

    test "one that dies while a child holds its pipe is found dead at once" do
      pyre = boot("forks_children")
      {:ok, id} = Pyre.start_agent(pyre, "Fake")
      started = System.monotonic_time(:millisecond)
      Task.start(fn -> Pyre.call(pyre, id, :go) end)
      error = last_error(pyre)
      assert System.monotonic_time(:millisecond) - started < 3_000
      assert [_all, child] = Regex.run(~r/child (\d+)/, error.message)
      assert_os_pid_exited(String.to_integer(child))
    end
  end
end
