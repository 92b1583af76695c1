defmodule Pyre.Faults.BurstsTest do
  # Promise: casts that are handed over together are run as if each had come alone: in order, each once where nothing dies, and
  # whatever one of them does, the others are not hurt by it.
  use Pyre.Case, async: true

  alias Pyre.{Instance, Mailbox}
  alias Pyre.Agent.Commits
  alias Pyre.Worker.Pool

  @moduletag :fault

  setup context do
    pyre = start_pyre!(Map.get(context, :options, []))
    {:ok, "b"} = Pyre.start_agent(pyre, "Batcher", id: "b", max_restarts: 100)
    {:ok, pyre: pyre, folder: workspace()}
  end

  # They wait together, so that they are handed over in ever larger bursts.
  defp cast_all(pyre, casts, id \\ "b") do
    :ok = Pyre.pause(pyre, {:agent, id})
    for {handler, args} <- casts, do: :ok = Pyre.cast(pyre, id, handler, args)
    :ok = Pyre.resume(pyre, {:agent, id})
  end

  defp adds(range), do: for(n <- range, do: {:add, %{entry: n}})

  defp await_entries(pyre, wanted, id \\ "b") do
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, id)) end, 25_000)
    {:ok, %{"entries" => entries}, _revision} = Pyre.state(pyre, id)
    assert entries == Enum.to_list(wanted)
  end

  defp bursts(pyre), do: Pyre.info(pyre).counters.bursts
  defp letters(pyre), do: for(letter <- Pyre.dead_letters(pyre), do: {letter.handler, letter.reason})

  test "they run in order, each is committed, and told in the history", %{pyre: pyre} do
    cast_all(pyre, adds(1..500))
    await_entries(pyre, 1..500)
    assert bursts(pyre) in 8..100
    assert {:ok, %{revision: 500, restarts: 0, mailbox_bytes: 0}} = Pyre.info(pyre, "b")
    # Where its time is over, what has not begun is delivered again.
    assert %{commits: 500, delivered: delivered, resent: 0} = Pyre.info(pyre).counters
    assert delivered in 500..1_000
    {:ok, entries} = Pyre.history(pyre, "b", events: [:message])
    assert length(entries) == 50
    assert Enum.all?(entries, &match?(%{handler: "add", outcome: :ok, kind: :cast, attempt: 1}, &1))
    assert Enum.all?(entries, &(&1.duration_us in 0..1_000_000))
  end

  test "those that change nothing make no revision", %{pyre: pyre} do
    cast_all(pyre, for(n <- 1..100, do: {if(rem(n, 2) == 0, do: :add, else: :look), %{entry: n}}))
    await_entries(pyre, 2..100//2)
    assert {:ok, %{revision: 50}} = Pyre.info(pyre, "b")
    assert bursts(pyre) > 0
  end

  for {handler, kept?, letter} <- [
        {:fail, false, {"fail", :failed}},
        {:refuse, false, {"refuse", :refused}},
        {:nothing, false, {"nothing", :refused}},
        {:wait, true, nil},
        {:think, true, nil}
      ] do
    test "one in the middle is another: #{handler}", %{pyre: pyre} do
      cast_all(pyre, Enum.to_list(adds(1..29)) ++ [{unquote(handler), %{entry: 30}}] ++ adds(31..60))
      await_entries(pyre, if(unquote(kept?), do: Enum.to_list(1..60), else: Enum.to_list(1..60) -- [30]))
      assert letters(pyre) == List.wrap(unquote(Macro.escape(letter)))
      assert bursts(pyre) > 0
      restarts = if unquote(handler) == :fail, do: 1, else: 0
      assert {:ok, %{restarts: ^restarts}} = Pyre.info(pyre, "b")
    end
  end

  test "one whose arguments don't fit is given up alone", %{pyre: pyre} do
    cast_all(pyre, adds(1..29) ++ [{:add, %{entry: "thirty"}}] ++ adds(31..60))
    await_entries(pyre, Enum.to_list(1..60) -- [30])
    assert letters(pyre) == [{"add", :refused}]
  end

  test "one has an effect, and one asks for something at once", %{pyre: pyre} do
    {:ok, "c"} = Pyre.start_agent(pyre, "Batcher", id: "c")

    cast_all(
      pyre,
      adds(1..29) ++ [{:tell, %{entry: 30, to: "c"}}] ++ adds(31..99) ++ [{:later, %{entry: 100}}]
    )

    eventually(fn -> match?({:ok, %{"entries" => [_, _ | _]}, 101}, Pyre.state(pyre, "b")) end)
    await_entries(pyre, Enum.to_list(1..100) ++ [-100])
    await_entries(pyre, [30], "c")
  end

  test "calls keep their places among them", %{pyre: pyre} do
    :ok = Pyre.pause(pyre, {:agent, "b"})

    calls =
      for n <- 1..40, reduce: [] do
        calls ->
          :ok = Pyre.cast(pyre, "b", :add, %{entry: n})

          if rem(n, 10) == 0 do
            {:ok, request} = Pyre.call_async(pyre, "b", :look, %{entry: n})
            [{n, request} | calls]
          else
            calls
          end
      end

    :ok = Pyre.resume(pyre, {:agent, "b"})
    for {n, request} <- calls, do: assert({:ok, ^n} = Pyre.await(request))
    await_entries(pyre, 1..40)
  end

  test "two agents in turns, of which the interpreter holds one" do
    pyre = start_pyre!(max_activations: 1)
    for id <- ["a", "z"], do: {:ok, ^id} = Pyre.start_agent(pyre, "Batcher", id: id)

    for round <- 0..9,
        id <- ["a", "z"],
        n <- 1..20,
        do: :ok = Pyre.cast(pyre, id, :add, %{entry: round * 20 + n})

    for id <- ["a", "z"], do: await_entries(pyre, 1..200, id)
  end

  test "the one that ends the interpreter is blamed, no other", %{pyre: pyre} do
    cast_all(pyre, adds(1..40) ++ [{:leave, %{entry: 41}}] ++ adds(42..80))
    await_entries(pyre, Enum.to_list(1..80) -- [41])
    assert letters(pyre) == [{"leave", :blamed}]
    assert {:ok, %{quarantine: %{strikes: 1}, restarts: 0}} = Pyre.info(pyre, "b")
    assert bursts(pyre) > 0
  end

  @tag options: [stall_timeout: 300]
  test "the one that holds the loop is blamed, no other", %{pyre: pyre} do
    cast_all(pyre, adds(1..40) ++ [{:spin, %{entry: 41}}] ++ adds(42..80))
    await_entries(pyre, Enum.to_list(1..80) -- [41])
    assert letters(pyre) == [{"spin", :blamed}]
    assert {:ok, %{quarantine: %{strikes: 1, evidence: [%{handler: "spin"}]}}} = Pyre.info(pyre, "b")
  end

  # From here on one of them holds the loop, and something happens meanwhile.
  defp hold(pyre, folder) do
    cast_all(pyre, adds(1..40) ++ [{:hold, %{entry: 41, folder: folder, name: "gate"}}] ++ adds(42..80))
    await_gate(folder, "gate")
    assert bursts(pyre) > 0
  end

  @tag options: [stall_timeout: 20_000]
  test "the interpreter is killed: nobody is blamed, and each has happened once", %{
    pyre: pyre,
    folder: folder
  } do
    hold(pyre, folder)
    open_gate(folder, "gate") && kill_interpreter(pyre)
    await_entries(pyre, 1..80)
    assert letters(pyre) == []
    assert {:ok, %{quarantine: %{strikes: 0}, revision: 80}} = Pyre.info(pyre, "b")
  end

  @tag options: [stall_timeout: 20_000]
  test "the process of its worker is killed", %{pyre: pyre, folder: folder} do
    hold(pyre, folder)
    worker = Pool.pid(Instance.get(pyre), 1)
    open_gate(folder, "gate")
    Process.exit(worker, :kill)
    await_entries(pyre, 1..80)
    assert letters(pyre) == []
  end

  @tag options: [stall_timeout: 20_000]
  test "the agent's process is killed", %{pyre: pyre, folder: folder} do
    hold(pyre, folder)
    pid = Pyre.whereis(pyre, "b")
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, ^pid, :killed}
    open_gate(folder, "gate")
    await_entries(pyre, 1..80)
    assert {:ok, %{revision: 80}} = Pyre.info(pyre, "b")
  end

  @tag options: [stall_timeout: 20_000]
  test "one of them is cancelled: it has run", %{pyre: pyre, folder: folder} do
    hold(pyre, folder)
    {:ok, %{running: running}} = Pyre.info(pyre, "b")
    numbers = for %{message_id: number} <- running, do: number
    task = Task.async(fn -> for number <- numbers, do: Pyre.cancel(pyre, {"b", number}) end)
    open_gate(folder, "gate")
    assert Enum.uniq(Task.await(task)) -- [:already_done, {:error, :already_done}] == []
    await_entries(pyre, 1..80)
  end

  @tag options: [stall_timeout: 20_000, drain_timeout: 200]
  test "the agent is stopped: what has not ended is a letter", %{pyre: pyre, folder: folder} do
    hold(pyre, folder)
    :ok = Pyre.stop_agent(pyre, "b", keep: true)
    open_gate(folder, "gate")
    {:ok, "b"} = Pyre.start_agent(pyre, "Batcher", id: "b")
    {:ok, %{"entries" => entries}, _revision} = Pyre.state(pyre, "b")
    assert length(entries) + length(letters(pyre)) == 80
    assert entries == Enum.to_list(1..length(entries)//1)
  end

  @tag options: [stall_timeout: 20_000]
  test "what was committed together is known, whoever is killed over it", %{pyre: pyre} do
    instance = Instance.get(pyre)
    {:ok, %{handle: handle}} = Pyre.Address.fetch(instance, "b")
    {:ok, first} = Mailbox.reserve(instance, "b", :cast, <<>>)
    {:ok, second} = Mailbox.reserve(instance, "b", :cast, <<>>)
    {:ok, third} = Mailbox.reserve(instance, "b", :cast, <<>>)
    assert 2 = Commits.put_burst(instance, handle, <<0x80>>, 2, {[first, second], <<0xC0>>})
    assert Commits.answer(instance, handle, first) == {:ok, <<0xC0>>}
    assert Commits.answer(instance, handle, second) == {:ok, <<0xC0>>}
    assert Commits.answer(instance, handle, third) == :error
  end

  test "where messages have priorities, they are kept, and the oldest has its turn", %{
    pyre: pyre,
    folder: folder
  } do
    :ok = Pyre.cast(pyre, "b", :hold, %{entry: 0, folder: folder, name: "gate"})
    await_gate(folder, "gate")
    :ok = Pyre.cast(pyre, "b", :add, %{entry: -1}, priority: :low)
    for n <- 1..100, do: :ok = Pyre.cast(pyre, "b", :add, %{entry: n})
    open_gate(folder, "gate")
    eventually(fn -> match?({:ok, %{mailbox: 0}}, Pyre.info(pyre, "b")) end)
    {:ok, %{"entries" => entries}, _revision} = Pyre.state(pyre, "b")
    assert entries -- [-1] == Enum.to_list(0..100)
    assert Enum.find_index(entries, &(&1 == -1)) in 1..16
    assert bursts(pyre) > 0
  end

  @tag options: [payloads: true]
  test "where payloads are kept, each goes alone", %{pyre: pyre} do
    cast_all(pyre, adds(1..50))
    await_entries(pyre, 1..50)
    assert bursts(pyre) == 0
    {:ok, entries} = Pyre.history(pyre, "b", events: [:message])
    assert Enum.map(entries, & &1.args) == for(n <- 1..50, do: %{"entry" => n})
  end
end
