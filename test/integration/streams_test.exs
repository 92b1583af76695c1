defmodule Pyre.Integration.StreamsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  setup do
    pyre = start_pyre!()
    {:ok, "s"} = Pyre.start_agent(pyre, "Streamer", id: "s")
    {:ok, pyre: pyre, folder: workspace()}
  end

  defp lines(folder, name) do
    case File.read(Path.join(folder, name)) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  # What the generator was waiting for has happened once an agent beside it, in the same interpreter, has answered.
  defp settled(pyre) do
    {:ok, other} = Pyre.start_agent(pyre, "Echo")
    for n <- 1..3, do: {:ok, ^n} = Pyre.call(pyre, other, :echo, %{value: n})
  end

  defp made(pyre), do: elem(Pyre.state(pyre, "s"), 1)["made"]
  defp empty?, do: Process.info(self(), :messages) == {:messages, []}

  for handler <- [:count, :count_in_thread] do
    test "#{handler}: all chunks, in order; the state is committed at the end", %{pyre: pyre} do
      assert pyre |> Pyre.stream("s", unquote(handler), %{to: 1_000}) |> Enum.to_list() ==
               Enum.to_list(0..999)

      assert {:ok, %{"made" => 1_000}, 1} = Pyre.state(pyre, "s")
      assert empty?()
    end

    test "#{handler}: none at all is a stream too", %{pyre: pyre} do
      assert pyre |> Pyre.stream("s", unquote(handler), %{to: 0}) |> Enum.to_list() == []
    end

    test "#{handler}: a slow reader is never more than a window behind", %{pyre: pyre, folder: folder} do
      args = %{to: 1_000, folder: folder}

      pyre
      |> Pyre.stream("s", unquote(handler), args)
      |> Stream.with_index(1)
      |> Stream.each(fn {_chunk, read} ->
        settled(pyre)
        made = length(lines(folder, "made"))
        assert made <= read + 16, "#{made} made, #{read} read"
      end)
      |> Enum.take(40)
    end

    test "#{handler}: left early, its finally runs, and its changes are rolled back", %{
      pyre: pyre,
      folder: folder
    } do
      assert pyre |> Pyre.stream("s", unquote(handler), %{to: 1_000, folder: folder}) |> Enum.take(3) == [
               0,
               1,
               2
             ]

      eventually(fn -> lines(folder, "closed") == ["closed"] end)
      assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
      assert empty?()
    end

    test "#{handler}: closed when its reader dies", %{pyre: pyre, folder: folder} do
      test = self()

      {reader, monitor} =
        spawn_monitor(fn ->
          pyre
          |> Pyre.stream("s", unquote(handler), %{to: 1_000, folder: folder})
          |> Enum.each(fn _chunk ->
            send(test, :reads)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :reads, 5_000
      Process.exit(reader, :kill)
      assert_receive {:DOWN, ^monitor, :process, _pid, :killed}
      eventually(fn -> lines(folder, "closed") == ["closed"] end)
      assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
    end
  end

  test "nothing is sent before the first chunk is asked for", %{pyre: pyre} do
    stream = Pyre.stream(pyre, "s", :count, %{to: 3})
    assert Pyre.info(pyre).counters.delivered == 0
    assert Enum.to_list(stream) == [0, 1, 2]
    assert Enum.to_list(stream) == [0, 1, 2]
    assert made(pyre) == 6
  end

  test "an error comes after the chunks before it, and the agent restarts", %{pyre: pyre} do
    test = self()

    error =
      assert_raise PythonError, fn ->
        pyre |> Pyre.stream("s", :fail_after, %{to: 20}) |> Enum.each(&send(test, {:got, &1}))
      end

    assert error.type == "ValueError"
    for n <- 0..19, do: assert_received({:got, ^n})
    assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
    assert {:ok, %{restarts: 1}} = Pyre.info(pyre, "s")
  end

  test "what was committed in the middle stays", %{pyre: pyre} do
    assert_raise PythonError, fn -> pyre |> Pyre.stream("s", :commit_at, %{at: 5}) |> Enum.to_list() end
    assert {:ok, 5} = Pyre.call(pyre, "s", :plain)
  end

  test "large chunks: a mebibyte is under way at most", %{pyre: pyre, folder: folder} do
    args = %{count: 40, size: 300_000, folder: folder}

    pyre
    |> Pyre.stream("s", :blobs, args)
    |> Stream.with_index(1)
    |> Enum.each(fn {chunk, read} ->
      assert byte_size(chunk) == 300_000
      settled(pyre)
      assert length(lines(folder, "made")) <= read + 4
    end)
  end

  test "a chunk that can't travel, or is too large, ends it", %{pyre: pyre} do
    test = self()

    assert %PythonError{type: "EncodeError"} =
             assert_raise(PythonError, fn ->
               pyre |> Pyre.stream("s", :unencodable) |> Enum.each(&send(test, {:got, &1}))
             end)

    assert_received {:got, 1}

    assert %PythonError{type: "TooLarge"} =
             assert_raise(PythonError, fn ->
               pyre |> Pyre.stream("s", :blobs, %{count: 1, size: 17_000_000}) |> Enum.to_list()
             end)
  end

  test "no chunk for a while, or the end not by the deadline", %{pyre: pyre, folder: folder} do
    args = %{to: 2, folder: folder}
    test = self()

    assert %Error{kind: :timeout, message: message} =
             assert_raise(Error, fn ->
               pyre
               |> Pyre.stream("s", :stand_after, args, timeout: 300)
               |> Enum.each(&send(test, {:got, &1}))
             end)

    assert message =~ "300 ms"
    assert_received {:got, 1}

    assert %Error{kind: :timeout} =
             assert_raise(Error, fn ->
               pyre
               |> Pyre.stream("s", :stand_after, Map.put(args, :name, "other"), deadline: 300)
               |> Enum.to_list()
             end)

    assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
  end

  test "a call to a stream, and a stream of what is none, say what to do", %{pyre: pyre} do
    assert {:error, %Error{kind: :unknown_handler, message: message}} = Pyre.call(pyre, "s", :count, %{to: 1})
    assert message =~ "read it with stream"
    stream = Pyre.stream(pyre, "s", :plain)
    assert_raise Error, ~r/is no stream: call it/, fn -> Enum.to_list(stream) end

    assert_raise Error, ~r/has no stream 'nothing'/, fn ->
      pyre |> Pyre.stream("s", :nothing) |> Enum.to_list()
    end

    assert_raise Error, ~r/missing argument 'to'/, fn ->
      pyre |> Pyre.stream("s", :count) |> Enum.to_list()
    end

    assert_raise Error, ~r/no agent/, fn -> pyre |> Pyre.stream("nobody", :count) |> Enum.to_list() end
  end

  test "it occupies its agent; beside others it reads, and is closed alone", %{pyre: pyre, folder: folder} do
    task =
      Task.async(fn -> pyre |> Pyre.stream("s", :stand_after, %{to: 2, folder: folder}) |> Enum.to_list() end)

    await_gate(folder, "gate")
    assert pyre |> Pyre.stream("s", :beside, %{to: 100}) |> Enum.to_list() == Enum.to_list(0..99)
    assert pyre |> Pyre.stream("s", :beside, %{to: 1_000, folder: folder}) |> Enum.take(2) == [0, 1]
    eventually(fn -> lines(folder, "closed") == ["closed"] end)
    assert {:error, %Error{kind: :deadline}} = Pyre.call(pyre, "s", :plain, %{}, timeout: 100)
    open_gate(folder, "gate")
    assert Task.await(task) == [0, 1, 2]
    assert {:ok, 2} = Pyre.call(pyre, "s", :plain)
  end

  test "many at once, each in order", %{pyre: pyre} do
    for n <- 1..20, do: {:ok, _id} = Pyre.start_agent(pyre, "Streamer", id: "s#{n}")

    1..20
    |> Enum.map(fn n ->
      Task.async(fn -> pyre |> Pyre.stream("s#{n}", :count, %{to: 200}) |> Enum.to_list() end)
    end)
    |> Task.await_many(20_000)
    |> Enum.each(&assert &1 == Enum.to_list(0..199))
  end

  describe "an agent reads" do
    setup %{pyre: pyre} do
      {:ok, "r"} = Pyre.start_agent(pyre, "Reader", id: "r")
      :ok
    end

    for handler <- [:read, :read_in_thread] do
      test "to the end (#{handler})", %{pyre: pyre} do
        args = %{of: "s", name: "count", args: %{to: 500}}
        assert {:ok, 500} = Pyre.call(pyre, "r", unquote(handler), args)
        assert {:ok, %{"read" => read}, 1} = Pyre.state(pyre, "r")
        assert read == Enum.to_list(0..499)
      end
    end

    test "a part, and the generator is closed", %{pyre: pyre, folder: folder} do
      args = %{of: "s", name: "count", args: %{to: 500, folder: folder}, most: 3}
      assert {:ok, 3} = Pyre.call(pyre, "r", :read, args)
      eventually(fn -> lines(folder, "closed") == ["closed"] end)
      assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
    end

    test "and sees its error after the chunks", %{pyre: pyre} do
      assert {:ok, "20 RemoteError"} =
               Pyre.call(pyre, "r", :read_all, %{of: "s", name: "fail_after", args: %{to: 20}})

      assert {:ok, "20 UnknownHandler"} =
               Pyre.call(pyre, "r", :read_all, %{of: "s", name: "plain", args: %{}})
    end

    test "and does not wait for ever", %{pyre: pyre, folder: folder} do
      args = %{of: "s", name: "stand_after", args: %{to: 2, folder: folder}}
      assert {:ok, "2 timeout"} = Pyre.call(pyre, "r", :impatient, args)
      assert {:ok, 0} = Pyre.call(pyre, "s", :plain)
    end

    test "a circle is a deadlock", %{pyre: pyre} do
      assert {:ok, "0 Deadlock"} =
               Pyre.call(pyre, "r", :read_all, %{of: "r", name: "relay", args: %{of: "s", to: 1}})
    end

    test "and its own reader's end goes down the chain", %{pyre: pyre, folder: folder} do
      assert pyre |> Pyre.stream("r", :relay, %{of: "s", to: 100}) |> Enum.to_list() ==
               for(n <- 0..99, do: n * 10)

      task =
        Task.async(fn ->
          Pyre.call(pyre, "r", :read, %{of: "s", name: "stand_after", args: %{to: 2, folder: folder}},
            timeout: 500
          )
        end)

      await_gate(folder, "gate")
      assert {:error, %Error{kind: :timeout}} = Task.await(task)
      assert {:ok, 100} = Pyre.call(pyre, "s", :plain)
    end
  end
end
