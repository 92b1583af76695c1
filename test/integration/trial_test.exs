defmodule Pyre.Integration.TrialTest do
  # A share of the agents tries new code before all others get it.
  use Pyre.Case, async: true

  alias Pyre.Error

  @till """
  from pyre import Agent, Context, handler

  class Till(Agent):
      class State:
          cents: int = 0

      @handler
      async def pay(self, ctx: Context, cents: int) -> int:
          self.state.cents += cents
          return self.state.cents
  """

  @faulty String.replace(@till, "self.state.cents += cents", "self.state.cents += cents / 0")
  @better String.replace(@till, "+= cents", "+= 1000 * cents")

  # Fails from the second payment on: some have committed with the new version by then.
  @late """
  from pyre import Agent, Context, handler

  class Till(Agent):
      version = 2

      class State:
          euros: float = 0.0
          payments: int = 0

      @staticmethod
      def migrate(state: dict, from_version: int) -> dict:
          return {"euros": state["cents"] / 100}

      @handler
      async def pay(self, ctx: Context, cents: int) -> float:
          if cents == 13:
              raise ValueError("bad luck")
          self.state.euros += cents / 100
          self.state.payments += 1
          return self.state.euros
  """

  setup do
    folder = workspace()
    write(folder, @till)
    {:ok, folder: folder}
  end

  defp write(folder, source), do: File.write!(Path.join(folder, "till.py"), source)

  # The trial is over when the test says so, or something is decided.
  defp start(folder, opts \\ []) do
    start_pyre!([agents: folder, canary_share: 0.5, canary_period: 60_000] ++ opts)
  end

  defp tills(pyre, count) do
    for n <- 1..count do
      {:ok, id} = Pyre.start_agent(pyre, "Till", id: "till-#{n}")
      {:ok, 1} = Pyre.call(pyre, id, :pay, %{cents: 1})
      id
    end
  end

  defp try_out(pyre, folder, source) do
    write(folder, source)
    reload = Task.async(fn -> Pyre.reload(pyre) end)
    eventually(fn -> match?([%{status: :trial} | _older], Pyre.generations(pyre)) end)
    reload
  end

  defp end_trial(pyre, number), do: send(process(pyre, :generations), {:trial_over, number})

  defp pay(pyre, id, cents), do: Pyre.call(pyre, id, :pay, %{cents: cents}, timeout: 10_000)

  # Who takes part gets a thousand times as much.
  defp members(pyre, ids), do: for(id <- ids, {:ok, cents} = pay(pyre, id, 1), cents > 1_000, do: id)

  test "a share tries it, and then all have it", %{folder: folder} do
    pyre = start(folder)
    ids = tills(pyre, 10)
    reload = try_out(pyre, folder, @better)
    assert length(eventually(fn -> with([] <- members(pyre, ids), do: nil) end)) == 5
    assert length(members(pyre, ids)) == 5
    assert Task.yield(reload, 0) == nil
    end_trial(pyre, 2)
    assert {:ok, %{generation: 2, status: :current}} = Task.await(reload, 20_000)
    assert members(pyre, ids) == ids
    assert [%{status: :current}, %{status: :retired}] = Pyre.generations(pyre)
  end

  test "what crashes more than before is taken back, and nothing is held against those who tried it", %{
    folder: folder
  } do
    pyre = start(folder)
    ids = tills(pyre, 10)
    reload = try_out(pyre, folder, @faulty)
    [%{os_pid: canary}] = for %{role: :canary} = worker <- Pyre.workers(pyre), do: worker
    # Until it is rejected.
    assert eventually(fn ->
             Enum.each(ids, &pay(pyre, &1, 1))
             Task.yield(reload, 0)
           end) ==
             {:ok,
              {:error,
               Error.new(
                 :worker_start,
                 "generation 2 is rejected, and generation 1 runs on: " <> rejection(pyre),
                 %{generation: 2, problems: []}
               )}}

    assert rejection(pyre) =~
             ~r/^its agents crash more than before, the last one till-\d+: .*ZeroDivisionError/

    for id <- ids, do: assert({:ok, _cents} = pay(pyre, id, 1))
    for id <- ids, do: assert({:ok, %{status: :running}} = Pyre.info(pyre, id))
    eventually(fn -> not File.exists?("/proc/#{canary}") end)
    eventually(fn -> Enum.map(Pyre.workers(pyre), & &1.role) == [:shared] end)

    # The same place is free for what is mended.
    reload = try_out(pyre, folder, @better)
    end_trial(pyre, 3)
    assert {:ok, %{generation: 3}} = Task.await(reload, 20_000)
    assert members(pyre, ids) == ids
  end

  defp rejection(pyre) do
    [%{status: :rejected, reason: reason} | _older] = Pyre.generations(pyre)
    reason
  end

  test "an agent that has committed a newer state stays with the code that can read it", %{folder: folder} do
    pyre = start(folder, canary_share: 1.0)
    ids = tills(pyre, 4)
    reload = try_out(pyre, folder, @late)
    [newer | others] = ids
    eventually(fn -> match?({:ok, euros} when is_float(euros), pay(pyre, newer, 100)) end)
    for id <- Enum.take(others, 2), do: {:error, %Pyre.PythonError{}} = pay(pyre, id, 13)
    assert {:error, %Error{kind: :worker_start}} = Task.await(reload)

    # The others are back, with the state that they had; this one goes on in euros.
    for id <- others, do: assert({:ok, 2} = pay(pyre, id, 1))
    {:ok, before} = pay(pyre, newer, 100)
    assert is_float(before)

    assert [%{worker: no, os_pid: os_pid}] =
             for(%{role: {:kept, 2}} = worker <- Pyre.workers(pyre), do: worker)

    assert [%{generation: 2, status: :rejected, workers: [^no]}, %{generation: 1, workers: [1]}] =
             Pyre.generations(pyre)

    # Also when its interpreter is killed, which comes back with the same code.
    {_output, 0} = System.cmd("kill", ["-9", Integer.to_string(os_pid)])
    eventually(fn -> pay(pyre, newer, 100) == {:ok, before + 1.0} end)
    # Or who leads reloads.
    Process.exit(process(pyre, :generations), :kill)

    # What comes next may take it along.
    write(folder, String.replace(@late, "cents == 13", "False"))
    eventually(fn -> match?({:ok, %{generation: 3}}, Pyre.reload(pyre, trial: false)) end)
    assert {:ok, paid} = pay(pyre, newer, 13)
    assert_in_delta paid, before + 1.13, 0.001
    assert {:ok, 0.15} = pay(pyre, hd(others), 13)
    eventually(fn -> Enum.map(Pyre.workers(pyre), & &1.role) == [:shared] end)
    eventually(fn -> code_folders(pyre) == ["code-3"] end)
  end

  defp code_folders(pyre) do
    for "code-" <> _number = name <- File.ls!(Pyre.Instance.get(pyre).directory), do: name
  end

  test "a state that doesn't migrate rejects the generation, and parks nobody", %{folder: folder} do
    pyre = start(folder)
    ids = tills(pyre, 4)
    reload = try_out(pyre, folder, String.replace(@late, ~s(state["cents"]), ~s(state["pence"])))
    for id <- ids, do: :ok = Pyre.cast(pyre, id, :pay, %{cents: 1})
    assert {:error, %Error{message: message}} = Task.await(reload)
    assert message =~ "KeyError: 'pence'"
    for id <- ids, do: eventually(fn -> Pyre.state(pyre, id) == {:ok, %{"cents" => 2}, 2} end)
    assert Pyre.quarantine(pyre) == []
  end

  test "a canary that dies rejects it; no call is lost", %{folder: folder} do
    pyre = start(folder, canary_share: 1.0)
    ids = tills(pyre, 4)
    reload = try_out(pyre, folder, @better)
    eventually(fn -> members(pyre, ids) == ids end)
    [canary] = for %{role: :canary, os_pid: os_pid} <- Pyre.workers(pyre), do: os_pid
    {_output, 0} = System.cmd("kill", ["-9", Integer.to_string(canary)])
    assert {:error, %Error{message: message}} = Task.await(reload)
    assert message =~ "its interpreter died"
    for id <- ids, do: assert({:ok, _cents} = pay(pyre, id, 1))
    eventually(fn -> Enum.map(Pyre.workers(pyre), & &1.role) == [:shared] end)
  end

  test "who leads the trial may be killed: it is over, and nothing is left", %{folder: folder} do
    pyre = start(folder)
    ids = tills(pyre, 4)
    reload = try_out(pyre, folder, @better)
    Process.exit(process(pyre, :generations), :kill)
    assert {:error, %Error{kind: :not_ready}} = Task.await(reload)
    eventually(fn -> match?([%{status: :rejected} | _older], Pyre.generations(pyre)) end)
    eventually(fn -> Enum.map(Pyre.workers(pyre), & &1.role) == [:shared] end)
    for id <- ids, do: assert({:ok, _cents} = pay(pyre, id, 1))
    assert {:ok, %{generation: 3}} = Pyre.reload(pyre, trial: false)
  end

  test "what fails outside, for others too, doesn't reject it", %{folder: folder} do
    pyre = start(folder, canary_share: 0.25, max_restarts: 1_000)
    source = String.replace(@till, "self.state.cents += cents", "1 / (cents - 13)")
    write(folder, source)
    {:ok, %{generation: 2}} = Pyre.reload(pyre, trial: false)
    ids = for n <- 1..8, do: start_agent!(pyre, "Till", id: "till-#{n}")
    for id <- ids, do: {:ok, 0} = pay(pyre, id, 1)
    reload = try_out(pyre, folder, source <> "\n# a comment\n")
    [canary] = for %{role: :canary, worker: no} <- Pyre.workers(pyre), do: no
    for id <- ids, do: {:ok, 0} = pay(pyre, id, 1)
    {members, others} = Enum.split_with(ids, &match?({:ok, %{worker: ^canary}}, Pyre.info(pyre, &1)))
    assert length(members) == 2
    for id <- others ++ members, do: {:error, %Pyre.PythonError{}} = pay(pyre, id, 13)
    end_trial(pyre, 3)
    assert {:ok, %{generation: 3}} = Task.await(reload, 20_000)
  end

  test "there is no trial where nobody could try it, or nobody wants it", %{folder: folder} do
    pyre = start(folder)
    write(folder, @better)
    assert {:ok, %{generation: 2}} = Pyre.reload(pyre)
    [id] = for n <- 1..1, do: start_agent!(pyre, "Till", id: "till-#{n}")
    write(folder, @till)
    assert {:ok, %{generation: 3}} = Pyre.reload(pyre, trial: false)
    assert {:ok, 1} = pay(pyre, id, 1)
  end
end
