defmodule Pyre.Integration.PoolsTest do
  # Two pools of one instance, each with a virtual environment of its own, in which a package has another version.
  use Pyre.Case, async: true

  alias Pyre.{Error, Venv}

  @agent """
  import os
  import sys

  import dialect
  from pyre import Agent, Context, handler


  class NAME(Agent):
      class State:
          asked: int = 0

      @handler
      async def speak(self, ctx: Context) -> str:
          return dialect.VERSION

      @handler
      async def ask(self, ctx: Context, id: str) -> list[str]:
          self.state.asked += 1
          return [dialect.VERSION, await ctx.call(id, "speak")]

      @handler
      async def place(self, ctx: Context) -> dict[str, str]:
          return {"python": sys.executable, "threads": os.environ.get("THREADS", "")}
  """

  setup_all do
    folder = Path.join(System.tmp_dir!(), "pyre-pools-#{System.pid()}")
    File.mkdir!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)

    pythons =
      for version <- ["1", "2"] do
        Venv.make!(Path.join(folder, version), %{"dialect" => "VERSION = #{inspect(version)}\n"})
      end

    {:ok, one: hd(pythons), two: List.last(pythons)}
  end

  setup do
    folder = workspace()
    for name <- ["agents", "ml"], do: File.mkdir!(Path.join(folder, name))
    write(folder, "agents/plain.py", agent("Plain"))
    write(folder, "ml/embed.py", agent("Embed"))
    {:ok, folder: folder, shared: Path.join(folder, "agents"), own: Path.join(folder, "ml")}
  end

  defp agent(name, more \\ ""),
    do: String.replace(@agent, "class NAME(Agent):\n", "class #{name}(Agent):\n#{more}")

  defp write(folder, path, source), do: File.write!(Path.join(folder, path), source)
  defp in_pool(pool), do: "    pool = #{inspect(pool)}\n\n"

  defp start(context, opts \\ []), do: context |> options(opts) |> start_pyre!()

  defp options(context, opts) do
    {ml, opts} = Keyword.pop(opts, :ml, [])
    ml = Keyword.merge([python: context.two, workers: 1, agents: context.own], ml)
    [agents: context.shared, python: context.one, pools: [ml: ml]] ++ opts
  end

  defp pool_of(pyre, id) do
    {:ok, %{worker: no}} = Pyre.info(pyre, id)
    Enum.find_value(Pyre.workers(pyre), &(&1.worker == no && &1.pool))
  end

  test "classes of two pools import two versions of a package at the same time, and call each other",
       context do
    pyre = start(context, env: [{"THREADS", "4"}], ml: [env: [{"THREADS", "1"}]])
    for class <- ["Plain", "Embed"], do: {:ok, ^class} = Pyre.start_agent(pyre, class, id: class)
    assert Pyre.call(pyre, "Plain", :ask, %{id: "Embed"}) == {:ok, ["1", "2"]}
    assert Pyre.call(pyre, "Embed", :ask, %{id: "Plain"}) == {:ok, ["2", "1"]}
    assert {pool_of(pyre, "Plain"), pool_of(pyre, "Embed")} == {:default, :ml}
    assert Pyre.call(pyre, "Plain", :place) == {:ok, %{"python" => context.one, "threads" => "4"}}
    assert Pyre.call(pyre, "Embed", :place) == {:ok, %{"python" => context.two, "threads" => "1"}}
    # A function is for the default pool.
    assert Pyre.run(pyre, "os", "getenv", ["THREADS"]) == {:ok, "4"}
    assert %{classes: ["Embed", "Plain"], problems: [], workers: 2} = Pyre.info(pyre)
    numbers = for %{worker: no} <- Pyre.workers(pyre), do: no
    assert numbers == Enum.uniq(numbers)
  end

  test "a class of a shared directory chooses its pool; other pools don't import its file", context do
    write(
      context.folder,
      "agents/embed.py",
      agent("Chosen", in_pool("ml")) <> "\nassert dialect.VERSION == \"2\"\n"
    )

    write(context.folder, "agents/plain.py", agent("Plain") <> "\nassert dialect.VERSION == \"1\"\n")
    pyre = start(context)
    assert %{classes: ["Chosen", "Embed", "Plain"], problems: []} = Pyre.info(pyre)
    {:ok, "c"} = Pyre.start_agent(pyre, "Chosen", id: "c")
    assert Pyre.call(pyre, "c", :speak) == {:ok, "2"}
    assert pool_of(pyre, "c") == :ml
  end

  test "a class that names a pool that there isn't is a problem, and its start an error", context do
    write(context.folder, "agents/lost.py", agent("Lost", in_pool("mll")))
    pyre = start(context)
    assert [%{"file" => file, "error" => error, "pool" => "default"}] = Pyre.info(pyre).problems
    assert file == Path.join(context.shared, "lost.py")
    assert error == "agent class Lost names the pool 'mll', which is not configured, did you mean 'ml'?"
    assert {:error, %Error{kind: :unknown_class, message: message}} = Pyre.start_agent(pyre, "Lost")
    assert message =~ error
    {:ok, "p"} = Pyre.start_agent(pyre, "Plain", id: "p")
  end

  test "without pools, too", context do
    write(context.folder, "agents/lost.py", agent("Lost", in_pool("ml")))
    pyre = start_pyre!(agents: context.shared, python: context.one)
    assert [%{"error" => error}] = Pyre.info(pyre).problems
    assert error == "agent class Lost names the pool 'ml', which is not configured; the pools are: default"
  end

  test "a class of two pools is the first one's, and a problem that names both", context do
    write(context.folder, "ml/again.py", agent("Plain"))
    write(context.folder, "ml/away.py", agent("Away", in_pool("default")))
    pyre = start(context)

    assert [%{"file" => away, "error" => not_here, "pool" => "ml"}, %{"file" => again, "error" => twice}] =
             Enum.sort_by(Pyre.info(pyre).problems, & &1["file"], :desc)

    assert {Path.basename(away), Path.basename(again)} == {"away.py", "again.py"}

    assert not_here =~
             "agent class Away names the pool 'default', but #{context.own} belongs to the pool 'ml'"

    assert twice == "agent class Plain is also defined in #{context.shared}/plain.py, in the pool default"
    {:ok, "p"} = Pyre.start_agent(pyre, "Plain", id: "p")
    assert Pyre.call(pyre, "p", :speak) == {:ok, "1"}
  end

  test "agents with an interpreter of their own, and those on probation, have it with their pool's Python",
       context do
    leaving = agent("Leaving", "    @handler\n    async def leave(self) -> None:\n        os._exit(3)\n\n")
    write(context.folder, "ml/leaving.py", leaving)
    pyre = start(context, ml: [spare: true], call_timeout: 20_000)
    {:ok, "own"} = Pyre.start_agent(pyre, "Embed", id: "own", isolation: :dedicated)

    for {class, id} <- [{"Embed", "e"}, {"Plain", "p"}],
        do: {:ok, ^id} = Pyre.start_agent(pyre, class, id: id, isolation: {:tenant, "acme"})

    assert Pyre.call(pyre, "own", :ask, %{id: "p"}) == {:ok, ["2", "1"]}
    assert Pyre.call(pyre, "p", :ask, %{id: "e"}) == {:ok, ["1", "2"]}
    isolated = for %{pool: pool, role: {_kind, _whose}} <- Pyre.workers(pyre), do: pool
    assert Enum.sort(isolated) == [:default, :ml, :ml]

    {:ok, "bad"} = Pyre.start_agent(pyre, "Leaving", id: "bad")
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "bad", :leave)
    assert Pyre.call(pyre, "bad", :place) == {:ok, %{"python" => context.two, "threads" => ""}}
    assert [%{pool: :ml}] = for(%{role: :probation} = worker <- Pyre.workers(pyre), do: worker)
    assert {:ok, %{quarantine: %{strikes: 1}}} = Pyre.info(pyre, "bad")
  end

  test "a reload is for all pools; a class that changes its pool takes its agents there", context do
    pyre = start(context, workers: 2)
    for class <- ["Plain", "Embed"], do: {:ok, ^class} = Pyre.start_agent(pyre, class, id: class)
    {:ok, ["1", "2"]} = Pyre.call(pyre, "Plain", :ask, %{id: "Embed"})
    write(context.folder, "agents/plain.py", agent("Plain", in_pool("ml")))

    write(
      context.folder,
      "ml/embed.py",
      String.replace(agent("Embed"), "return dialect.VERSION", "return \"new\"")
    )

    assert {:ok, %{generation: 2, status: :current}} = Pyre.reload(pyre)
    assert Pyre.call(pyre, "Plain", :ask, %{id: "Embed"}) == {:ok, ["2", "new"]}
    assert {:ok, %{"asked" => 2}, _revision} = Pyre.state(pyre, "Plain")
    assert pool_of(pyre, "Plain") == :ml
    assert [%{workers: workers}, %{workers: []}] = Pyre.generations(pyre)
    shared = for %{role: :shared, pool: pool, worker: no} <- Pyre.workers(pyre), do: {pool, no}
    assert Enum.frequencies_by(shared, &elem(&1, 0)) == %{default: 2, ml: 1}
    assert Enum.sort(workers) == Enum.sort(for {_pool, no} <- shared, do: no)
  end

  test "code that one pool can't import is rejected for all", context do
    pyre = start(context)
    {:ok, "p"} = Pyre.start_agent(pyre, "Plain", id: "p")
    before = Enum.sort(for %{os_pid: os_pid} <- Pyre.workers(pyre), do: os_pid)
    write(context.folder, "ml/embed.py", "import nowhere_at_all")

    write(
      context.folder,
      "agents/plain.py",
      String.replace(agent("Plain"), "return dialect.VERSION", "return \"new\"")
    )

    assert {:error, %Error{kind: :worker_start, details: details}} = Pyre.reload(pyre)
    assert [%{"pool" => "ml", "error" => "ModuleNotFoundError: " <> _rest}] = details.problems
    assert Pyre.call(pyre, "p", :speak) == {:ok, "1"}
    assert Enum.sort(for %{os_pid: os_pid} <- Pyre.workers(pyre), do: os_pid) == before

    # A class that comes into two pools, too.
    write(context.folder, "ml/embed.py", agent("Embed") <> "\n" <> agent("Plain"))
    assert {:error, %Error{message: message}} = Pyre.reload(pyre)
    assert message =~ "agent class Plain is also defined in"
  end

  test "a share of the agents tries new code in the pool that it wants", context do
    pyre = start(context, canary_share: 1.0, canary_period: 60_000)
    for class <- ["Plain", "Embed"], do: {:ok, ^class} = Pyre.start_agent(pyre, class, id: class)
    {:ok, ["1", "2"]} = Pyre.call(pyre, "Plain", :ask, %{id: "Embed"})
    write(context.folder, "agents/plain.py", agent("Plain", in_pool("ml")))
    reload = Task.async(fn -> Pyre.reload(pyre) end)
    eventually(fn -> match?([%{status: :trial} | _older], Pyre.generations(pyre)) end)
    assert eventually(fn -> Pyre.call(pyre, "Plain", :speak) == {:ok, "2"} end)
    assert Pyre.call(pyre, "Embed", :ask, %{id: "Plain"}) == {:ok, ["2", "2"]}
    roles = for %{role: :canary, pool: pool} <- Pyre.workers(pyre), do: pool
    assert Enum.sort(roles) == [:default, :ml]
    send(process(pyre, :generations), {:trial_over, 2})
    assert {:ok, %{generation: 2, status: :current}} = Task.await(reload, 20_000)
    assert Pyre.call(pyre, "Plain", :speak) == {:ok, "2"}
    eventually(fn -> Enum.all?(Pyre.workers(pyre), &(&1.role == :shared)) end)
  end

  test "what was carried over from another life runs in its pool again", context do
    path = Path.join(context.folder, "state.snapshot")
    one = start(context, snapshot: path)
    for class <- ["Plain", "Embed"], do: {:ok, ^class} = Pyre.start_agent(one, class, id: class)
    {:ok, ["1", "2"]} = Pyre.call(one, "Plain", :ask, %{id: "Embed"})
    {:ok, ["2", "1"]} = Pyre.call(one, "Embed", :ask, %{id: "Plain"})
    :ok = stop_supervised(one)
    two = start(context, snapshot: path)
    assert Pyre.call(two, "Embed", :ask, %{id: "Plain"}) == {:ok, ["2", "1"]}
    assert {:ok, %{"asked" => 2}, _revision} = Pyre.state(two, "Embed")
    assert pool_of(two, "Embed") == :ml
  end

  test "a directory with a virtual environment of its own is a pool of its own", context do
    venv = Path.join(context.own, ".venv")
    python = Venv.make!(venv, %{"dialect" => "VERSION = 'own'\n"})
    pyre = start_pyre!(agents: [context.shared, context.own], python: context.one)
    for class <- ["Plain", "Embed"], do: {:ok, ^class} = Pyre.start_agent(pyre, class, id: class)
    assert Pyre.call(pyre, "Plain", :ask, %{id: "Embed"}) == {:ok, ["1", "own"]}
    assert {:ok, %{"python" => ^python}} = Pyre.call(pyre, "Embed", :place)
    assert pool_of(pyre, "Embed") == :ml
  end

  test "what is said of a worker tells its pool", context do
    pyre = start(context, log: true)

    write(
      context.folder,
      "ml/noise.py",
      agent("Noise", "    @handler\n    async def shout(self) -> None:\n        print('loud')\n\n")
    )

    {:ok, _reloaded} = Pyre.reload(pyre)
    {:ok, "n"} = Pyre.start_agent(pyre, "Noise", id: "n")
    {:ok, nil} = Pyre.call(pyre, "n", :shout)
    assert %{pool: :ml} = logged("loud")
    assert {:pyre_worker_ready, labels, 1} = List.keyfind(Pyre.metrics(pyre), :pyre_worker_ready, 0)
    assert labels[:pool] in [:default, :ml]
  end

  defp logged(text) do
    receive do
      {:logged, _level, logged, meta} -> if logged =~ text, do: meta, else: logged(text)
    after
      5_000 -> flunk("nobody logged #{inspect(text)}")
    end
  end
end
