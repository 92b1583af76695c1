defmodule Bench.Programs do
  @moduledoc false

  # The programs that are measured from outside, each in a process of its own, and the floor, which is compiled first.

  @floor Path.expand("../floor/echo.c", __DIR__)

  @doc "Compiles the floor. `{:ok, path}`, or what to tell where there is no compiler."
  def floor do
    target = Path.join(System.tmp_dir!(), "pyre-floor-#{System.pid()}")

    case System.find_executable("gcc") do
      nil ->
        {:error,
         "There is no gcc here, so there is no floor to compare with: `apt-get install gcc` brings it."}

      gcc ->
        {text, status} = System.cmd(gcc, ["-O2", "-Wall", "-o", target, @floor], stderr_to_stdout: true)
        if status == 0, do: {:ok, target}, else: raise("the floor does not compile:\n#{text}")
    end
  end

  @doc "Runs an Elixir script with the library's code in a BEAM of its own. What it gave to `Bench.Programs.tell/1`."
  def sample(script, arguments, limit_seconds, env \\ []) do
    paths = for path <- code_paths(), do: ["-pa", path]
    command = ["-k", "5", "#{limit_seconds}", "elixir"] ++ List.flatten(paths) ++ [script | arguments]
    {text, status} = System.cmd("timeout", command, stderr_to_stdout: true, env: env)

    case Regex.run(~r/^told (\S+)$/m, text) do
      [_line, told] when status == 0 -> told |> Base.decode64!() |> :erlang.binary_to_term()
      _nothing -> raise "#{Path.basename(script)} ended with status #{status}:\n#{text}"
    end
  end

  @doc "Tells the program that asked for this sample what was measured."
  def tell(term), do: IO.puts("told #{term |> :erlang.term_to_binary() |> Base.encode64()}")

  @doc "Where the library's own modules are."
  def code_paths do
    ebin = :code.lib_dir(:pyre, :ebin) |> to_string()
    Enum.filter([ebin, Path.join(Path.dirname(ebin), "consolidated")], &File.dir?/1)
  end

  @doc "Starts a program. The ms until it wrote a line (`:line`) or ended (`:exit`)."
  def time(executable, arguments, until, limit_ms, env \\ []) do
    started = System.monotonic_time(:microsecond)

    port =
      Port.open({:spawn_executable, executable}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        line: 1_024,
        args: arguments,
        env: for({name, value} <- env, do: {to_charlist(name), to_charlist(value)})
      ])

    seen = await(port, until, limit_ms)
    taken = System.monotonic_time(:microsecond) - started
    if until == :line, do: await(port, :exit, limit_ms)
    if seen == :timeout, do: raise("#{executable} took longer than #{limit_ms} ms")
    taken / 1_000
  end

  defp await(port, until, limit_ms) do
    receive do
      {^port, {:data, {:eol, "reply"}}} when until == :line -> :ok
      {^port, {:data, {_end, text}}} -> IO.puts(:stderr, text) && await(port, until, limit_ms)
      {^port, {:exit_status, 0}} when until == :exit -> :ok
      {^port, {:exit_status, status}} -> raise "the program ended with status #{status}"
    after
      limit_ms -> give_up(port)
    end
  end

  defp give_up(port) do
    with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: System.cmd("kill", ["-KILL", "#{os_pid}"])
    :timeout
  end
end
