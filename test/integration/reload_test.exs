defmodule Pyre.Integration.ReloadTest do
  # Files of agents change while the instance runs.
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance}

  @first """
  from pyre import Agent, Context, handler

  class Till(Agent):
      class State:
          cents: int = 0

      @handler
      async def pay(self, ctx: Context, cents: int) -> int:
          self.state.cents += cents
          return self.state.cents
  """

  @second """
  from pyre import Agent, Context, handler

  class Till(Agent):
      version = 2

      class State:
          euros: float = 0.0
          receipts: int = 0

      @staticmethod
      def migrate(state: dict, from_version: int) -> dict:
          return {"euros": state["cents"] / 100, "receipts": from_version}

      @handler
      async def pay(self, ctx: Context, cents: int) -> float:
          self.state.euros += cents / 100
          self.state.receipts += 1
          return self.state.euros
  """

  setup do
    folder = workspace()
    write(folder, "till.py", @first)
    {:ok, folder: folder}
  end

  defp write(folder, name, source), do: File.write!(Path.join(folder, name), source)
  defp start(folder, opts \\ []), do: start_pyre!([agents: folder, workers: 1] ++ opts)
  defp till!(pyre, id), do: {:ok, ^id} = Pyre.start_agent(pyre, "Till", id: id)

  for spare <- [true, false] do
    test "a class moves to its next version under load, and no call fails (spare: #{spare})", %{
      folder: folder
    } do
      pyre = start(folder, workers: 2, spare: unquote(spare))
      ids = for n <- 1..10, do: "till-#{n}"
      Enum.each(ids, &till!(pyre, &1))
      stop = :atomics.new(1, [])
      tasks = for id <- ids, do: Task.async(fn -> pay_on(pyre, id, stop, 0) end)

      eventually(fn ->
        Enum.all?(ids, &match?({:ok, _state, revision} when revision > 20, Pyre.state(pyre, &1)))
      end)

      write(folder, "till.py", @second)
      assert {:ok, %{generation: 2, status: :current}} = Pyre.reload(pyre)
      for id <- ids, do: eventually(fn -> match?({:ok, %{"euros" => _}, _revision}, Pyre.state(pyre, id)) end)
      :atomics.put(stop, 1, 1)

      for {id, paid} <- Enum.zip(ids, Task.await_many(tasks, 20_000)) do
        {:ok, %{"euros" => euros, "receipts" => receipts}, revision} = Pyre.state(pyre, id)
        assert_in_delta euros, paid / 100, 0.001
        assert revision == paid
        # Migrated once: each payment since has added one to the version that it came from.
        assert receipts in 2..paid
      end

      assert [
               %{generation: 2, status: :current, workers: workers},
               %{generation: 1, status: :retired, workers: []}
             ] = Pyre.generations(pyre)

      assert Enum.sort(workers) ==
               Enum.sort(
                 for %{worker: no, role: role} <- Pyre.workers(pyre), role in [:shared, :spare], do: no
               )

      assert Enum.frequencies_by(Pyre.workers(pyre), & &1.role)[:shared] == 2
    end
  end

  # One cent at a time; gives how many calls there were, none of which may fail.
  defp pay_on(pyre, id, stop, count) do
    if :atomics.get(stop, 1) == 1 do
      count
    else
      {:ok, _sum} = Pyre.call(pyre, id, :pay, %{cents: 1}, timeout: 20_000)
      pay_on(pyre, id, stop, count + 1)
    end
  end

  test "without a change nothing happens, unless it is forced", %{folder: folder} do
    pyre = start(folder)
    assert {:ok, %{generation: 1, status: :unchanged}} = Pyre.reload(pyre)
    [before] = shared(pyre)
    assert {:ok, %{generation: 2, status: :current}} = Pyre.reload(pyre, force: true)
    refute before in shared(pyre)
  end

  defp shared(pyre), do: for(%{role: :shared, os_pid: os_pid} <- Pyre.workers(pyre), do: os_pid)

  test "files that can't be imported are rejected, and everything goes on as it was", %{folder: folder} do
    pyre = start(folder)
    till!(pyre, "a")
    {:ok, 50} = Pyre.call(pyre, "a", :pay, %{cents: 50})
    before = shared(pyre)
    write(folder, "till.py", "class Till(:")
    assert {:error, %Error{kind: :worker_start, message: message, details: details}} = Pyre.reload(pyre)
    assert message =~ "generation 2 is rejected, and generation 1 runs on"
    assert [%{"file" => file, "error" => "SyntaxError: " <> _words}] = details.problems
    assert file == Path.join(folder, "till.py")
    assert shared(pyre) == before

    assert [%{generation: 2, status: :rejected, reason: reason}, %{generation: 1, status: :current}] =
             Pyre.generations(pyre)

    assert reason =~ "till.py"

    # Also an interpreter that is started now runs what was sound.
    kill_interpreter(pyre)
    assert {:ok, 75} = Pyre.call(pyre, "a", :pay, %{cents: 25}, timeout: 20_000)

    write(folder, "till.py", @second)
    assert {:ok, %{generation: 3}} = Pyre.reload(pyre)
    assert {:ok, 1.0} = Pyre.call(pyre, "a", :pay, %{cents: 25})
  end

  test "an interpreter that is replaced runs what its generation began with", %{folder: folder} do
    pyre = start(folder, spare: false)
    till!(pyre, "a")
    {:ok, 1} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    write(folder, "till.py", String.replace(@first, "+= cents", "+= 1000 * cents"))
    kill_interpreter(pyre)
    assert {:ok, 2} = Pyre.call(pyre, "a", :pay, %{cents: 1}, timeout: 20_000)
    {:ok, _generation} = Pyre.reload(pyre)
    assert {:ok, 1002} = Pyre.call(pyre, "a", :pay, %{cents: 1})
  end

  test "agents of a new file are started; those of one that is gone are parked, with what waits", %{
    folder: folder
  } do
    pyre = start(folder)
    till!(pyre, "a")
    {:ok, 1} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    File.rm!(Path.join(folder, "till.py"))

    write(folder, "greeter.py", """
    from pyre import Agent, handler

    class Greeter(Agent):
        autostart = "greeter"

        @handler
        async def greet(self) -> str:
            return "hello"
    """)

    {:ok, %{generation: 2}} = Pyre.reload(pyre)
    eventually(fn -> Pyre.call(pyre, "greeter", :greet) == {:ok, "hello"} end)
    assert {:error, %Error{kind: :unknown_class}} = Pyre.start_agent(pyre, "Till")
    :ok = Pyre.cast(pyre, "a", :pay, %{cents: 1})
    eventually(fn -> match?({:ok, %{status: :parked, mailbox: 1}}, Pyre.info(pyre, "a")) end)
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    assert message =~ "no agent class is named 'Till'"

    write(folder, "till.py", @first)
    {:ok, %{generation: 3}} = Pyre.reload(pyre)
    :ok = Pyre.unpark(pyre, "a")
    eventually(fn -> match?({:ok, %{"cents" => 2}, 2}, Pyre.state(pyre, "a")) end)
  end

  test "a state that does not migrate parks its agent, and is kept as it is", %{folder: folder} do
    pyre = start(folder)
    for id <- ["a", "b"], do: till!(pyre, id)
    {:ok, 70} = Pyre.call(pyre, "a", :pay, %{cents: 70})
    write(folder, "till.py", String.replace(@second, ~s(state["cents"]), ~s(state["pence"])))
    {:ok, %{generation: 2}} = Pyre.reload(pyre)
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    assert message =~ "Till is at version 2, and the committed state was written by version 1"
    assert message =~ "KeyError: 'pence'"
    assert {:ok, %{"cents" => 70}, 1} = Pyre.state(pyre, "a")
    # One that has committed nothing yet has nothing to migrate.
    assert {:ok, 0.01} = Pyre.call(pyre, "b", :pay, %{cents: 1})

    # Back to older code: what it wrote can be read, what newer code wrote can't.
    write(folder, "till.py", @first)
    {:ok, %{generation: 3}} = Pyre.reload(pyre)
    :ok = Pyre.unpark(pyre, "a")
    assert {:ok, 71} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    assert {:error, %Error{kind: :parked, message: message}} = Pyre.call(pyre, "b", :pay, %{cents: 1})
    assert message =~ "older code can't run it"
  end

  test "living agents get the timers, subscriptions and interleaving handlers of the new code", %{
    folder: folder
  } do
    declares = fn timer, topic, extra ->
      write(folder, "till.py", """
      import asyncio

      from pyre import Agent, Context, every, handler, on

      class Till(Agent):
          class State:
              seen: list[str]

          @every(0.02)
          async def #{timer}(self, ctx: Context) -> None:
              if "#{timer}" not in self.state.seen:
                  self.state.seen.append("#{timer}")

          @on("#{topic}")
          async def heard(self, event) -> None:
              self.state.seen.append("#{topic}")

          @handler
          async def mine(self, ctx: Context) -> None:
              ctx.every(3600.0, "mine")

      #{extra}
      """)
    end

    declares.("older", "first", "")
    pyre = start(folder)
    {:ok, "a"} = Pyre.start_agent(pyre, "Till", id: "a", args: %{seen: []})
    eventually(fn -> match?({:ok, %{"seen" => ["older"]}, _revision}, Pyre.state(pyre, "a")) end)
    {:ok, nil} = Pyre.call(pyre, "a", :mine)

    declares.("newer", "second", """
        @handler(interleave=True)
        async def status(self) -> int:
            return len(self.state.seen)

        @handler
        async def long(self) -> None:
            await asyncio.sleep(30)
    """)

    {:ok, %{generation: 2}} = Pyre.reload(pyre)
    eventually(fn -> match?({:ok, %{"seen" => ["older", "newer"]}, _revision}, Pyre.state(pyre, "a")) end)
    Pyre.publish(pyre, "first", %{})
    Pyre.publish(pyre, "second", %{})

    eventually(fn ->
      match?({:ok, %{"seen" => ["older", "newer", "second"]}, _revision}, Pyre.state(pyre, "a"))
    end)

    assert ["mine", "newer"] = timers(pyre, "a")
    assert Pyre.dead_letters(pyre) == []
    :ok = Pyre.cast(pyre, "a", :long)
    assert {:ok, 3} = Pyre.call(pyre, "a", :status)
  end

  defp timers(pyre, id) do
    instance = Instance.get(pyre)
    {:ok, %{handle: handle}} = Pyre.Address.fetch(instance, id)
    for({{^handle, key}, _due, _unique} <- :ets.tab2list(instance.timer_index), do: key) |> Enum.sort()
  end

  test "a directory that is watched is loaded by itself", %{folder: folder} do
    pyre = start(folder, watch: true)
    till!(pyre, "a")
    {:ok, 200} = Pyre.call(pyre, "a", :pay, %{cents: 200})
    write(folder, "till.py", "class Till(:")
    eventually(fn -> match?([%{status: :rejected} | _], Pyre.generations(pyre)) end)
    assert {:ok, 300} = Pyre.call(pyre, "a", :pay, %{cents: 100})
    write(folder, "till.py", @second)
    eventually(fn -> match?([%{status: :current} | _], Pyre.generations(pyre)) end)
    assert {:ok, 3.5} = Pyre.call(pyre, "a", :pay, %{cents: 50})
  end

  test "a long handler ends where it began, and the rest goes on", %{folder: folder} do
    write(folder, "till.py", """
    import asyncio
    import pathlib

    from pyre import Agent, Context, handler

    HERE = pathlib.Path(__file__)

    class Till(Agent):
        class State:
            cents: int = 0

        @handler
        async def pay(self, ctx: Context, cents: int) -> int:
            self.state.cents += cents
            HERE.with_name("entered").touch()
            while not HERE.with_name("open").exists():
                await asyncio.sleep(0.01)
            return self.state.cents
    """)

    pyre = start(folder)
    for id <- ["a", "b"], do: till!(pyre, id)
    long = Task.async(fn -> Pyre.call(pyre, "a", :pay, %{cents: 99}, timeout: 30_000) end)

    eventually(fn -> File.exists?(Path.join(folder, "entered")) end)
    write(folder, "till.py", @second)
    reload = Task.async(fn -> Pyre.reload(pyre) end)
    eventually(fn -> Pyre.call(pyre, "b", :pay, %{cents: 1}) == {:ok, 0.01} end)
    assert Task.yield(reload, 0) == nil
    File.touch!(Path.join(folder, "open"))
    assert Task.await(long) == {:ok, 99}
    assert {:ok, %{generation: 2, status: :current}} = Task.await(reload, 20_000)
    assert {:ok, 1.0} = Pyre.call(pyre, "a", :pay, %{cents: 1})
  end

  test "where the canary is killed, or who leads the reload is, nothing is left behind", %{folder: folder} do
    pyre = start(folder)
    till!(pyre, "a")
    write(folder, "hanging.py", "import time\ntime.sleep(600)\n")
    reload = Task.async(fn -> Pyre.reload(pyre) end)
    canary = eventually(fn -> Enum.find(Pyre.workers(pyre), &(&1.role == :canary and &1.os_pid != nil)) end)
    _killed = System.cmd("kill", ["-9", Integer.to_string(canary.os_pid)])
    assert {:error, %Error{kind: :worker_start}} = Task.await(reload)
    eventually(fn -> Enum.all?(Pyre.workers(pyre), &(&1.role != :canary)) end)

    reload = Task.async(fn -> Pyre.reload(pyre) end)
    canary = eventually(fn -> Enum.find(Pyre.workers(pyre), &(&1.role == :canary and &1.os_pid != nil)) end)
    Process.exit(process(pyre, :generations), :kill)
    assert {:error, %Error{kind: :not_ready}} = Task.await(reload)
    eventually(fn -> not File.exists?("/proc/#{canary.os_pid}") end)

    File.rm!(Path.join(folder, "hanging.py"))
    write(folder, "till.py", @second)
    eventually(fn -> match?({:ok, %{status: :current}}, Pyre.reload(pyre)) end)
    assert {:ok, 0.01} = Pyre.call(pyre, "a", :pay, %{cents: 1})
    assert File.ls!(Instance.get(pyre).directory) |> Enum.count(&String.starts_with?(&1, "code-")) == 1
  end
end
