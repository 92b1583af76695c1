defmodule Pyre.Faults.PoolsTest do
  # Promise: what happens to the interpreters of one pool, or keeps them from starting, concerns no other pool.
  use Pyre.Case, async: true

  alias Pyre.{Error, OSProcess, Venv}

  @moduletag :fault

  @agent """
  import os

  from pyre import Agent, Context, handler


  class NAME(Agent):
      class State:
          count: int = 0

      @handler
      async def add(self, ctx: Context) -> int:
          self.state.count += 1
          return self.state.count

      @handler
      async def leave(self, ctx: Context) -> None:
          os._exit(3)
  """

  setup do
    folder = workspace()
    for name <- ["agents", "ml"], do: File.mkdir!(Path.join(folder, name))
    write(folder, "agents/plain.py", agent("Plain"))
    write(folder, "ml/embed.py", agent("Embed"))
    {:ok, folder: folder, shared: Path.join(folder, "agents"), own: Path.join(folder, "ml")}
  end

  defp agent(name), do: String.replace(@agent, "NAME", name)
  defp write(folder, path, source), do: File.write!(Path.join(folder, path), source)

  defp boot(context, ml, opts \\ []) do
    ml = Keyword.merge([workers: 1, agents: context.own], ml)
    boot_pyre!([agents: context.shared, pools: [ml: ml], call_timeout: 20_000] ++ opts)
  end

  defp os_pids(pyre, pool),
    do:
      Enum.sort(for %{pool: ^pool, os_pid: os_pid} when is_integer(os_pid) <- Pyre.workers(pyre), do: os_pid)

  defp failed?(pyre),
    do: match?([%{status: :failed}], for(%{pool: :ml} = worker <- Pyre.workers(pyre), do: worker))

  test "kill -9 of one pool's interpreter leaves the others alone", context do
    pyre = boot(context, [], workers: 2, spare: true)
    :ok = Pyre.await_ready(pyre, 20_000)
    eventually(fn -> length(os_pids(pyre, :default)) == 3 end)

    for {class, id} <- [{"Plain", "p"}, {"Embed", "e"}],
        do: {:ok, ^id} = Pyre.start_agent(pyre, class, id: id)

    for id <- ["p", "e"], do: {:ok, 1} = Pyre.call(pyre, id, :add)
    before = os_pids(pyre, :default)
    [victim] = os_pids(pyre, :ml)
    OSProcess.signal(victim, "KILL")
    eventually(fn -> victim not in os_pids(pyre, :ml) end)
    # While there is none: the spare of the default pool is not for it.
    assert {:ok, 2} = Pyre.call(pyre, "p", :add)
    assert {:ok, 2} = Pyre.call(pyre, "e", :add)
    assert os_pids(pyre, :default) == before
    assert [%{deaths: 1}] = for(%{pool: :ml} = worker <- Pyre.workers(pyre), do: worker)
    assert Enum.all?(Pyre.workers(pyre), &(&1.pool == :ml or &1.deaths == 0))
    assert %{default: 3, ml: 1} = Enum.frequencies_by(Pyre.workers(pyre), & &1.pool)
  end

  test "a spare of its own takes the place at once", context do
    pyre = boot(context, spare: true)
    :ok = Pyre.await_ready(pyre, 20_000)
    # An instance is ready without its spares.
    eventually(fn ->
      match?([_shared, _spare], for(%{pool: :ml, status: :ready} = one <- Pyre.workers(pyre), do: one))
    end)

    {:ok, "e"} = Pyre.start_agent(pyre, "Embed", id: "e")
    {:ok, %{worker: nil}} = Pyre.info(pyre, "e")
    assert {:error, %Error{kind: :worker_down}} = Pyre.call(pyre, "e", :leave)

    # The caller may be told a moment before the two have changed roles.
    eventually(fn -> Enum.sort(roles(pyre, :ml)) == [{2, :spare}, {4, :shared}] end)
  end

  defp roles(pyre, pool) do
    for %{pool: ^pool, role: role, worker: no} when role in [:shared, :spare] <- Pyre.workers(pyre),
        do: {no, role}
  end

  test "where a pool's Python lacks what interpreters need, its agents are told, and others run", context do
    python = Venv.make!(Path.join(context.folder, "bare"), %{}, bare: true)
    pyre = boot(context, python: python)
    # Its class is not known, nor that it isn't there.
    assert {:error, %Error{kind: :worker_start, message: message}} =
             Pyre.start_agent(pyre, "Embed", timeout: 20_000)

    assert message =~ "0 of 1 workers are ready: worker 2 of the pool ml (os pid "
    assert message =~ "the package msgpack can't be imported"
    {:ok, "p"} = Pyre.start_agent(pyre, "Plain", id: "p")
    assert {:ok, 1} = Pyre.call(pyre, "p", :add)
    assert Pyre.run(pyre, "math", "sqrt", [4]) == {:ok, 2.0}
    assert %{status: :starting, reasons: ["no worker of the pool ml is ready", reason]} = Pyre.health(pyre)
    assert reason =~ ~r/^worker 2 of the pool ml is (failed|starting): .*msgpack can't be imported/s
    assert {:error, %Error{kind: :worker_start, message: message}} = Pyre.await_ready(pyre, 100)
    assert message =~ "1 of 2 workers are ready: worker 2 of the pool ml"

    # A reload goes on without it.
    write(context.folder, "agents/plain.py", String.replace(agent("Plain"), "+= 1", "+= 100"))
    eventually(fn -> failed?(pyre) end)
    assert {:ok, %{generation: 2, status: :current}} = Pyre.reload(pyre)
    assert {:ok, 101} = Pyre.call(pyre, "p", :add)

    # What it lacked is there.
    Venv.make!(Path.join(context.folder, "bare"), %{})
    assert Pyre.await_ready(pyre, 20_000) == :ok
    {:ok, "e"} = Pyre.start_agent(pyre, "Embed", id: "e")
    assert {:ok, 1} = Pyre.call(pyre, "e", :add)
    assert %{classes: ["Embed", "Plain"], problems: []} = Pyre.info(pyre)
    assert %{status: :ready} = Pyre.health(pyre)
  end

  test "a Python that is missing is named with its pool", context do
    pyre = boot(context, python: "/nowhere/python")

    assert {:error, %Error{kind: :worker_start, message: message}} =
             Pyre.start_agent(pyre, "Embed", timeout: 20_000)

    assert message =~ ~s(the pool ml: the option :python names "/nowhere/python", which is not there)
    write(context.folder, "agents/plain.py", String.replace(agent("Plain"), "+= 1", "+= 100"))
    assert {:ok, %{status: :current}} = Pyre.reload(pyre)
  end

  test "a package that only one pool has is a problem of the other, whose sound files go on", context do
    write(context.folder, "ml/torchy.py", "import torch_of_nobody\n" <> agent("Torchy"))
    pyre = boot(context, [])
    assert Pyre.await_ready(pyre, 20_000) == :ok
    assert [%{"pool" => "ml", "error" => "ModuleNotFoundError: " <> _rest}] = Pyre.info(pyre).problems
    assert {:error, %Error{kind: :unknown_class, details: %{pool: "ml"}}} = Pyre.start_agent(pyre, "Torchy")
    assert {:ok, _id} = Pyre.start_agent(pyre, "Embed")
  end

  test "agents of a pool that lost its Python wait for it alone, and nobody waits for them", context do
    python = Path.join(context.folder, "python")
    script(python, ~s(exec #{python()} "$@"))
    pyre = boot(context, [python: python], max_in_flight: 2)
    :ok = Pyre.await_ready(pyre, 20_000)
    waiting = for n <- 1..50, do: "e#{n}"
    for id <- waiting, do: {:ok, ^id} = Pyre.start_agent(pyre, "Embed", id: id)
    running = for n <- 1..20, do: "p#{n}"
    for id <- running, do: {:ok, ^id} = Pyre.start_agent(pyre, "Plain", id: id)

    script(python, "echo broken >&2\nexit 1")
    OSProcess.signal(os_pid(pyre, 2), "KILL")
    eventually(fn -> failed?(pyre) end)
    for id <- waiting, do: :ok = Pyre.cast(pyre, id, :add)
    assert {:error, %Error{kind: :worker_start, message: message}} = Pyre.call(pyre, "e1", :add)
    assert message =~ "worker 2 of the pool ml"

    # The interpreter of these is crowded: each waits for its turn there.
    calls = for id <- running, _again <- 1..20, do: Task.async(fn -> Pyre.call(pyre, id, :add) end)
    assert Enum.all?(Task.await_many(calls, 20_000), &match?({:ok, _count}, &1))

    script(python, ~s(exec #{python()} "$@"))

    eventually(
      fn -> Enum.all?(waiting, &match?({:ok, %{"count" => 1}, _revision}, Pyre.state(pyre, &1))) end,
      20_000
    )
  end

  test "what was carried over waits for its pool, while others go on", context do
    python = Path.join(context.folder, "python")
    script(python, ~s(exec #{python()} "$@"))

    write(
      context.folder,
      "ml/embed.py",
      agent("Embed") <> "\n    def on_start(self) -> None:\n        self.state.count += 10\n"
    )

    path = Path.join(context.folder, "state.snapshot")
    one = boot(context, [python: python], snapshot: path)
    :ok = Pyre.await_ready(one, 20_000)
    {:ok, "p"} = Pyre.start_agent(one, "Plain", id: "p")
    {:ok, _group} = Pyre.start_group(one, "g", agents: [{"Embed", id: "e"}, {"Plain", id: "q"}])
    assert {:ok, 11} = Pyre.call(one, "e", :add)
    :ok = stop_supervised(one)

    script(python, "echo broken >&2\nexit 1")
    two = boot(context, [python: python], snapshot: path)
    for id <- ["p", "q"], do: assert({:ok, 1} = Pyre.call(two, id, :add))
    :ok = Pyre.cast(two, "e", :add)
    script(python, ~s(exec #{python()} "$@"))
    # Not without its on_start.
    eventually(fn -> match?({:ok, %{"count" => 22}, _revision}, Pyre.state(two, "e")) end, 20_000)
  end

  defp script(path, line) do
    File.write!(path, "#!/bin/sh\n#{line}\n")
    File.chmod!(path, 0o755)
  end
end
