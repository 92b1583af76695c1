defmodule Pyre.Chaos do
  @moduledoc false

  # A soak: load and trouble on an instance of its own, and a ledger that is held against what the agents have written down.
  # Uses the public API as anybody does; only the monkey reaches behind it.

  alias Pyre.Chaos.{Ledger, Load, Monkey}
  alias Pyre.Patience

  @stall_ms 500
  @call_ms 15_000
  @idle_ms 10
  @quiet_ms 60_000
  @look_ms 20
  @sample_ms 250
  # Code that is loaded late makes some; one for each message would be thousands.
  @allowed_atoms 300

  @type options :: %{
          seconds: pos_integer(),
          workers: pos_integer(),
          agents: pos_integer(),
          senders: pos_integer(),
          seed: integer(),
          pause_ms: pos_integer(),
          only: atom() | nil,
          most: pos_integer() | nil,
          python: String.t() | nil
        }
  @type report :: %{
          options: options(),
          acts: %{atom() => pos_integer()},
          load: map(),
          counters: map(),
          memory_bytes: pos_integer(),
          violations: [String.t()]
        }

  @doc "The options where nothing else is said."
  @spec defaults() :: options()
  def defaults do
    %{
      seconds: 60,
      workers: 2,
      agents: 40,
      senders: 16,
      seed: System.os_time(:second),
      pause_ms: 150,
      # One kind of trouble alone, and so many of it.
      only: nil,
      most: nil,
      python: nil
    }
  end

  @doc "Runs it. Whatever is in `violations` should not have happened."
  @spec run(options()) :: report()
  def run(options) do
    name = :"pyre_chaos_#{System.unique_integer([:positive])}"
    {:ok, supervisor} = Pyre.start_link(instance_options(name, options))
    Process.unlink(supervisor)
    directory = Pyre.Instance.fetch!(name).directory

    report =
      try do
        :ok = Pyre.await_ready(name, 60_000)
        soak(name, options)
      after
        Supervisor.stop(supervisor, :shutdown, :infinity)
      end

    add_leaks(report, directory)
  end

  defp instance_options(name, options) do
    [
      name: name,
      agents: Path.join(:code.priv_dir(:pyre), "python/examples/chaos"),
      workers: options.workers,
      python: options.python,
      stall_timeout: @stall_ms,
      call_timeout: @call_ms,
      # Whoever is left alone for a moment falls asleep: waking has to stand all this, too.
      idle_timeout: @idle_ms,
      # What is killed here is killed far more often than in any life.
      max_restarts: 1_000_000,
      max_attempts: 1_000_000,
      max_seconds: 1
    ]
  end

  defp soak(name, options) do
    ids = for n <- 1..options.agents, do: "account-#{n}"
    for id <- ids, do: {:ok, ^id} = Pyre.start_agent(name, "Account", id: id)
    for id <- ids, do: {:ok, 0} = Pyre.call(name, id, :total)
    {:ok, ledger} = Ledger.start_link()
    until = until(1_000 * options.seconds)
    peak = Task.async(fn -> peak(0, until) end)
    # By then all code is loaded, which makes atoms.
    atoms =
      Task.async(fn ->
        Patience.pause(500 * options.seconds)
        :erlang.system_info(:atom_count)
      end)

    monkey =
      Task.async(fn -> name |> Monkey.run(ids, options, until) |> tap(fn _acts -> finish(until) end) end)

    load = Load.run(name, ids, options, until, ledger)
    acts = Task.await(monkey, :infinity)
    memory = Task.await(peak, :infinity)
    quiet? = await_quiet(name, now() + @quiet_ms)

    violations =
      Ledger.violations(ledger, states(name, ids)) ++
        if(quiet?,
          do: [],
          else: ["messages still wait #{div(@quiet_ms, 1_000)} s after the end of the trouble"]
        ) ++
        atom_growth(:erlang.system_info(:atom_count) - Task.await(atoms, :infinity))

    %{
      options: options,
      acts: acts,
      load: load,
      counters: Pyre.info(name).counters,
      memory_bytes: memory,
      violations: violations
    }
  end

  defp states(name, ids) do
    for id <- ids, into: %{} do
      {:ok, state, _revision} = Pyre.state(name, id)
      {id, state}
    end
  end

  # Calls are answered when their senders have ended; casts and timers may still wait.
  defp await_quiet(name, limit) do
    %{messages_waiting: waiting, timers: timers} = Pyre.info(name)

    cond do
      waiting + timers == 0 -> true
      now() > limit -> false
      true -> look_again(name, limit)
    end
  end

  defp look_again(name, limit) do
    Patience.pause(@look_ms)
    await_quiet(name, limit)
  end

  defp peak(most, until) do
    most = max(most, :erlang.memory(:total))
    if over?(until), do: most, else: peak_later(most, until)
  end

  defp peak_later(most, until) do
    Patience.pause(@sample_ms)
    peak(most, until)
  end

  defp atom_growth(grown) when grown <= @allowed_atoms, do: []
  defp atom_growth(grown), do: ["#{grown} atoms were made in the second half"]

  # The path of the instance's directory is in the environment of every interpreter and of whatever one started.
  defp add_leaks(report, directory) do
    leaks =
      for entry <- File.ls!("/proc"),
          {os_pid, ""} <- [Integer.parse(entry)],
          {:ok, environment} <- [File.read("/proc/#{entry}/environ")],
          String.contains?(environment, directory),
          Pyre.Worker.Process.alive?(os_pid),
          do: "the process #{os_pid} is left"

    left = if File.exists?(directory), do: ["the directory #{directory} is left"], else: []
    %{report | violations: report.violations ++ leaks ++ left}
  end

  # The end of the soak: an instant that may be moved nearer.
  defp until(ms) do
    until = :atomics.new(1, signed: true)
    :atomics.put(until, 1, now() + ms)
    until
  end

  defp finish(until), do: :atomics.put(until, 1, now())

  @doc "Is it over?"
  @spec over?(:atomics.atomics_ref()) :: boolean()
  def over?(until), do: now() >= :atomics.get(until, 1)

  @doc "Milliseconds on a clock that only goes forward."
  @spec now() :: integer()
  def now, do: System.monotonic_time(:millisecond)
end
