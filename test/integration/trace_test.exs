defmodule Pyre.Integration.TraceTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  setup do
    pyre = start_pyre!()
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, pyre: pyre}
  end

  defp append(pyre, entry), do: {:ok, _count} = Pyre.call(pyre, "j", :append, %{entry: entry})
  defp followers(pyre), do: :ets.info(Instance.get(pyre).traces, :size)

  # Once this returns, entries go to the task.
  defp follow(pyre, opts, collect \\ &Enum.to_list/1) do
    before = followers(pyre)
    task = Task.async(fn -> pyre |> Pyre.trace("j", opts) |> collect.() end)
    eventually(fn -> followers(pyre) > before end)
    task
  end

  defp assert_nobody_follows(pyre) do
    assert eventually(fn -> followers(pyre) == 0 end)
    assert eventually(fn -> Instance.traces(Instance.get(pyre)) == 0 end)
  end

  test "the entries of the history, live, until there are enough", %{pyre: pyre} do
    append(pyre, 1)
    task = follow(pyre, limit: 4)
    append(pyre, 2)
    {:error, _} = Pyre.call(pyre, "j", :refuse, %{entry: 3})
    :ok = Pyre.pause(pyre, {:agent, "j"})
    :ok = Pyre.resume(pyre, {:agent, "j"})
    append(pyre, 4)
    entries = Task.await(task)
    assert [%{outcome: :ok}, %{outcome: :refused}, %{event: :paused}, %{event: :resumed}] = entries
    {:ok, [_first | rest]} = Pyre.history(pyre, "j")
    assert Enum.take(rest, 4) == entries
    assert_nobody_follows(pyre)
  end

  test "it begins when it is enumerated, and nothing is left of it in the mailbox", %{pyre: pyre} do
    trace = Pyre.trace(pyre, "j", limit: 1)
    append(pyre, 1)
    assert followers(pyre) == 0
    me = self()

    spawn_link(fn ->
      eventually(fn -> followers(pyre) == 1 end)
      for entry <- 2..5, do: append(pyre, entry)
      send(me, :appended)
    end)

    assert [%{message_id: 2}] = Enum.to_list(trace)
    assert_receive :appended
    refute_received _anything
    assert_nobody_follows(pyre)
  end

  test "it ends when its time is over", %{pyre: pyre} do
    assert [] = pyre |> Pyre.trace("j", timeout: 30) |> Enum.to_list()
    assert_nobody_follows(pyre)
  end

  test "it ends with the agent, after what happened to that", %{pyre: pyre} do
    task = follow(pyre, timeout: :infinity, limit: :infinity)
    append(pyre, 1)
    :ok = Pyre.stop_agent(pyre, "j")
    assert [%{event: :message}] = Task.await(task)
    assert_nobody_follows(pyre)
  end

  test "it ends with the instance", %{pyre: pyre} do
    task = follow(pyre, timeout: :infinity)
    stop_supervised!(pyre)
    assert [] = Task.await(task)
  end

  test "it ends with whoever reads it", %{pyre: pyre} do
    task = follow(pyre, timeout: :infinity)
    Process.unlink(task.pid)
    Process.exit(task.pid, :kill)
    assert_nobody_follows(pyre)
    append(pyre, 1)
  end

  test "it ends where reading is halted, or raises", %{pyre: pyre} do
    task = follow(pyre, [timeout: :infinity], &Enum.take(&1, 1))
    append(pyre, 1)
    assert [%{message_id: 1}] = Task.await(task)
    assert_nobody_follows(pyre)

    task =
      follow(pyre, [timeout: :infinity], fn trace ->
        assert_raise RuntimeError, fn -> Enum.each(trace, fn _entry -> raise "enough" end) end
      end)

    append(pyre, 2)
    Task.await(task)
    assert_nobody_follows(pyre)
  end

  test "a slow reader has a bounded mailbox, and is told how many entries it missed", %{pyre: pyre} do
    me = self()

    # Stands still at the first entry until it is told to go on.
    collect = fn trace ->
      Enum.map(trace, fn
        %{message_id: 1} = entry ->
          send(me, :reading)

          receive do
            :go_on -> entry
          end

        entry ->
          entry
      end)
    end

    task = follow(pyre, [buffer: 5, limit: 8], collect)
    append(pyre, 1)
    assert_receive :reading
    for entry <- 2..50, do: append(pyre, entry)
    _state = pyre |> Pyre.whereis("j") |> :sys.get_state()
    assert {:message_queue_len, 5} = Process.info(task.pid, :message_queue_len)
    send(task.pid, :go_on)
    ^me = me
    # Once it has taken them, there is room again.
    assert eventually(fn -> match?({:message_queue_len, 0}, Process.info(task.pid, :message_queue_len)) end)
    append(pyre, 51)
    assert [first, _2, _3, _4, _5, sixth, dropped, last] = Task.await(task)
    assert {first.message_id, sixth.message_id, last.message_id} == {1, 6, 51}
    assert %{event: :dropped, count: 44, at: %DateTime{}} = dropped
  end

  test "several follow one agent, each for itself", %{pyre: pyre} do
    short = follow(pyre, limit: 1)
    long = follow(pyre, limit: 2)
    append(pyre, 1)
    assert [one] = Task.await(short)
    append(pyre, 2)
    assert [^one, %{message_id: 2}] = Task.await(long)
  end

  test "mistakes of the caller", %{pyre: pyre} do
    assert_raise Error, ~r/there is no agent with the id "nobody"/, fn ->
      pyre |> Pyre.trace("nobody") |> Enum.take(1)
    end

    assert_raise Error, fn -> Pyre.trace(pyre, "") end

    assert_raise ArgumentError, ~r/expected :buffer to be a positive integer/, fn ->
      Pyre.trace(pyre, "j", buffer: 0)
    end

    assert_nobody_follows(pyre)
  end
end
