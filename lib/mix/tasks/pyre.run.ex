defmodule Mix.Tasks.Pyre.Run do
  @shortdoc "Runs the agents of a directory and shows what they do"

  @moduledoc """
  Runs the agents of a directory and shows what they do.

      mix pyre.run [--agents DIRECTORY] [--seconds N] [--workers N] [--python PATH] [--verbose] [--debug]

  Agents with `autostart` are started. A file that is changed, added or deleted takes effect at once (`Pyre.reload/2`). `mix pyre.ctl` talks
  to the run: it shows what agents ask people (`inbox`), and answers it. The status is one live line in a terminal, and a plain line every few seconds where the
  output is not one. After `--seconds`, or on SIGTERM, the instance drains and a report is printed.

    * `--agents` - the directory of the agent files; the watch fleet in `priv/python/examples/watch` by default. May
      be given more than once
    * `--seconds` - how long to run; until it is stopped by default
    * `--workers` - how many interpreters; one per core by default
    * `--python` - the interpreter to start
    * `--debug` - lets a handler hold its interpreter for ever, as a breakpoint does, instead of replacing it; also with `DEBUG=1`
      in the environment
    * `--verbose` - shows log lines from info upwards, not only warnings

  An agent class takes part in the display by two handlers of an autostart agent: `status`, which returns a dict of labels and
  figures for the live line, and `report`, which returns the text that is printed at the end.
  """

  use Mix.Task

  alias Pyre.{Classes, Console, Control, Instance}

  @instance Pyre.Run
  @tick_ms 1_000
  @plain_every 5
  @most_asked 5
  @handler_timeout_ms 2_000
  @ready_timeout_ms 60_000

  @switches [
    agents: :keep,
    seconds: :integer,
    workers: :integer,
    python: :string,
    verbose: :boolean,
    debug: :boolean,
    help: :boolean
  ]

  @impl Mix.Task
  def run(argv) do
    {opts, rest, invalid} = OptionParser.parse(argv, strict: @switches, aliases: [h: :help])

    cond do
      opts[:help] ->
        Mix.shell().info(@moduledoc)

      invalid != [] ->
        Mix.raise("unknown or wrong option #{invalid |> hd() |> elem(0)}; see mix help pyre.run")

      rest != [] ->
        Mix.raise("unexpected argument #{inspect(hd(rest))}; see mix help pyre.run")

      true ->
        run_agents(opts)
    end
  end

  defp run_agents(opts) do
    Mix.Task.run("app.start")
    task = self()
    {:ok, _id} = System.trap_signal(:sigterm, fn -> send(task, :stop) && :ok end)
    configure_log(opts)
    directories = directories(opts)
    {:ok, supervisor} = Pyre.start_link(instance_options(opts, directories))
    Process.unlink(supervisor)

    try do
      await_ready(directories)
      _timer = opts[:seconds] && Process.send_after(self(), :stop, opts[:seconds] * 1_000)
      watch()
    after
      Supervisor.stop(supervisor, :shutdown, :infinity)
    end
  end

  defp directories(opts) do
    directories =
      case Keyword.get_values(opts, :agents) do
        [] -> [Path.join(:code.priv_dir(:pyre), "python/examples/watch")]
        given -> given
      end

    for directory <- directories,
        not File.dir?(directory),
        do: Mix.raise("there is no directory #{directory}")

    directories
  end

  defp instance_options(opts, directories) do
    [name: @instance, agents: directories, watch: true, control: control()] ++
      Keyword.take(opts, [:workers, :python]) ++ debugging(opts)
  end

  # Where `mix pyre.ctl` looks. A second run at the same time does without.
  defp control do
    path = System.get_env("PYRE_CONTROL") || default_control()

    case Control.check(path) do
      :ok ->
        path

      {:error, reason} ->
        Mix.shell().info("mix pyre.ctl won't reach this run: #{path}: #{reason}")
        nil
    end
  end

  # As in priv/python/pyre/ctl.py.
  defp default_control do
    case System.get_env("XDG_RUNTIME_DIR") do
      nil -> "/tmp/pyre-#{File.stat!("/proc/self").uid}/control"
      base -> Path.join(base, "pyre/control")
    end
  end

  defp debugging(opts) do
    if opts[:debug] || System.get_env("DEBUG") == "1",
      do: [stall_timeout: :infinity, call_timeout: :infinity],
      else: []
  end

  defp await_ready(directories) do
    with {:error, error} <- Pyre.await_ready(@instance, @ready_timeout_ms),
         do: Mix.raise(Exception.message(error))

    instance = Instance.fetch!(@instance)

    if Classes.names(instance) == [],
      do:
        Mix.raise(
          "no agent class was found in #{Enum.join(directories, ", ")}; an agent is a subclass of pyre.Agent in a .py file there"
        )
  end

  ## The display

  defp watch do
    started_ms = System.monotonic_time(:millisecond)
    first = Console.sample(@instance, %{})
    Process.send_after(self(), :tick, @tick_ms)
    last = tick(first, started_ms, 0, 0)
    clear_line()
    for text <- ask_all("report"), do: IO.puts(text)
    print_left(length(Pyre.inbox(@instance)))
    IO.puts(Console.totals(last, started_ms))
  end

  # While there is a node that takes the answer.
  defp print_asked(asked) do
    new = for %{id: id} = question <- Pyre.inbox(@instance), id > asked, do: question
    if new != [], do: clear_line()

    for %{id: id, agent: agent, question: question, options: options} <- Enum.take(new, @most_asked) do
      IO.puts("#{agent} asks: #{question}\n    mix pyre.ctl answer #{id} #{answers(options)}")
    end

    left = length(new) - @most_asked
    if left > 0, do: IO.puts("and #{left} more questions: mix pyre.ctl inbox")
    Enum.max([asked | Enum.map(new, & &1.id)])
  end

  defp print_left(0), do: :ok
  defp print_left(1), do: IO.puts("1 question was still open.")
  defp print_left(count), do: IO.puts("#{count} questions were still open.")

  defp answers(nil), do: "TEXT"
  defp answers(options), do: Enum.map_join(options, "|", &if(&1 =~ ~r/^[\w.-]+$/, do: &1, else: inspect(&1)))

  # `asked` is the newest question that was printed.
  defp tick(previous, started_ms, count, asked) do
    receive do
      :stop ->
        Console.sample(@instance, previous.fleet)

      :tick ->
        Process.send_after(self(), :tick, @tick_ms)
        fleet = "status" |> ask_all() |> Enum.filter(&is_map/1) |> Enum.reduce(%{}, &Map.merge/2)
        now = Console.sample(@instance, fleet)
        asked = print_asked(asked)
        previous |> Console.status(now, started_ms) |> show(count)
        tick(now, started_ms, count + 1, asked)
    end
  end

  # What autostart agents say of the fleet. One that is slow or failing is left out, not waited for.
  defp ask_all(handler) do
    instance = Instance.fetch!(@instance)

    for class <- Classes.all(instance),
        is_map_key(class["handlers"], handler),
        [id, _args] <- class["autostart"],
        {:ok, reply} <- [Pyre.call(@instance, id, handler, %{}, timeout: @handler_timeout_ms)],
        do: reply
  end

  defp show(line, count) do
    cond do
      terminal?() -> IO.write("\r\e[2K" <> Console.cut(line, width()))
      rem(count, @plain_every) == 0 -> IO.puts(line)
      true -> :ok
    end
  end

  defp clear_line, do: if(terminal?(), do: IO.write("\r\e[2K"))

  # The wrapper that starts this task detaches it from the terminal, so it is told what there is.
  defp terminal?, do: System.get_env("PYRE_TTY") == "1"

  defp width do
    case Integer.parse(System.get_env("PYRE_COLUMNS", "")) do
      {columns, ""} when columns > 10 -> columns
      _unknown -> 100
    end
  end

  defp configure_log(opts) do
    Logger.configure(level: if(opts[:verbose], do: :info, else: :warning))
    clear = if terminal?(), do: "\r\e[2K", else: ""
    Logger.configure_backend(:console, format: clear <> "$time [$level] $message\n")
  end
end
