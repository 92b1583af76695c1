defmodule Pyre.Case do
  @moduledoc false

  # Tests that run real interpreters. Each has an instance of its own, and when it ends nothing of that may be left:
  # no process of the operating system, no file.

  use ExUnit.CaseTemplate

  import Pyre.Eventually

  alias Pyre.{Instance, LogProbe, OSProcess}

  using do
    quote do
      import Pyre.Case
      import Pyre.Eventually
      import Pyre.OSProcess, only: [assert_os_pid_exited: 1, signal: 2]

      @moduletag :capture_log
      @moduletag timeout: 30_000
    end
  end

  @fixtures Path.expand("../fixtures", __DIR__)
  @ready_ms 20_000

  @doc "A path below test/fixtures."
  @spec fixture(Path.t()) :: Path.t()
  def fixture(path), do: Path.join(@fixtures, path)

  @doc "The interpreter of the tests: the one that `make setup` made."
  @spec python() :: Path.t()
  def python, do: Path.expand("../../.venv/bin/python", __DIR__)

  @doc "A ready instance with one worker and the fixtures' agents, under a name of its own. `log: true` sends its log here."
  @spec start_pyre!(keyword()) :: atom()
  def start_pyre!(opts \\ []) do
    name = boot_pyre!(opts)
    :ok = Pyre.await_ready(name, @ready_ms)
    name
  end

  @doc "The same, but it need not become ready."
  @spec boot_pyre!(keyword()) :: atom()
  def boot_pyre!(opts \\ []) do
    {log?, opts} = Keyword.pop(opts, :log, false)
    name = :"pyre_#{System.unique_integer([:positive])}"
    if log?, do: LogProbe.attach(name)

    defaults = [
      name: name,
      agents: fixture("agents"),
      workers: 1,
      spare: false,
      drain_timeout: 500,
      canary_period: 0
    ]

    start_supervised!({Pyre, Keyword.merge(defaults, opts)}, id: name, restart: :temporary)
    %{directory: directory} = Instance.get(name)
    on_exit(fn -> assert_nothing_left(directory) end)
    name
  end

  # The directory's path is in the environment of every interpreter, so in that of whatever one started, too.
  defp assert_nothing_left(directory) do
    eventually(fn -> OSProcess.with_environment(directory) == [] end, 5_000)
    # Where the supervisor itself was killed, nobody waited for the end of State.
    eventually(fn -> not File.exists?(directory) end, 5_000)
  rescue
    error in ExUnit.AssertionError ->
      left = for os_pid <- OSProcess.with_environment(directory), do: OSProcess.command(os_pid)

      reraise ExUnit.AssertionError,
              [
                message:
                  "left over: #{inspect(left)}, #{inspect(Path.wildcard(directory <> "/**"))}; #{error.message}"
              ],
              __STACKTRACE__
  end

  @doc "Starts an agent with an id of its own, and gives the id."
  @spec start_agent!(atom(), String.t(), keyword()) :: String.t()
  def start_agent!(instance, class, opts \\ []) do
    {:ok, id} = Pyre.start_agent(instance, class, opts)
    id
  end

  @doc "The operating system's pid of a worker that is ready."
  @spec os_pid(atom(), pos_integer()) :: pos_integer()
  def os_pid(instance, worker \\ 1) do
    eventually(fn ->
      Enum.find_value(Pyre.workers(instance), fn w ->
        w.worker == worker and w.status == :ready and w.os_pid
      end)
    end)
  end

  @doc "Kills a worker's interpreter by force, and waits until the next one is ready."
  @spec kill_interpreter(atom(), pos_integer()) :: :ok
  def kill_interpreter(instance, worker \\ 1) do
    os_pid = os_pid(instance, worker)
    OSProcess.signal(os_pid, "KILL")
    eventually(fn -> os_pid(instance, worker) != os_pid end)
    :ok
  end

  @doc "The process of an instance with a role: :starter, :timers, :reaper, {:partition, n}."
  @spec process(atom(), term()) :: pid()
  def process(instance, role), do: instance |> Instance.get() |> Instance.whereis(role)

  @doc "A directory of the test's own, in which gates are."
  @spec workspace() :: Path.t()
  def workspace do
    path = Path.join(System.tmp_dir!(), "pyre-test-#{System.pid()}-#{System.unique_integer([:positive])}")
    File.mkdir!(path)
    on_exit(fn -> File.rm_rf!(path) end)
    path
  end

  @doc "Waits until a handler stands at a gate; gives the attempts in which it has come there."
  @spec await_gate(Path.t(), String.t(), pos_integer()) :: [String.t()]
  def await_gate(folder, name, times \\ 1) do
    eventually(fn ->
      seen = gate(folder, name)
      length(seen) >= times && seen
    end)
  end

  @doc "The attempts in which a handler came to a gate so far."
  @spec gate(Path.t(), String.t()) :: [String.t()]
  def gate(folder, name) do
    case File.read(Path.join(folder, "#{name}.entered")) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, :enoent} -> []
    end
  end

  @doc "Lets whoever stands at a gate go on, now and later."
  @spec open_gate(Path.t(), String.t()) :: :ok
  def open_gate(folder, name), do: File.write!(Path.join(folder, "#{name}.open"), "")
end
