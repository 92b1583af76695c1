defmodule Bench.Machine do
  @moduledoc false

  # What the figures depend on: the machine's facts, which cores a process may use, what its processes hold and burn.

  @ticks_per_second 100
  # While so little is done, nobody else works: an idle instance with its interpreters takes some of it.
  @quiet_cores 0.25
  @look_ms 250

  @doc "The facts that stand beside every figure."
  def facts do
    %{
      cpu: cpu(),
      cpus: System.schedulers_online(),
      memory_mb: div(meminfo("MemTotal"), 1_024),
      kernel: "/proc/sys/kernel/osrelease" |> first_line() |> String.split("-") |> hd(),
      otp:
        "#{System.otp_release()} (erts #{:erlang.system_info(:version)}, #{:erlang.system_info(:emu_flavor)})",
      elixir: System.version(),
      python: python_versions(),
      commit: commit(),
      load: first_line("/proc/loadavg"),
      nice: "/proc/#{System.pid()}/stat" |> stat_fields() |> Enum.at(16) |> String.to_integer()
    }
  end

  @doc "A plain name for the machine, such as amd-epyc-2cpu."
  def slug do
    name = cpu() |> String.downcase() |> String.replace(~r/\(.*?\)|[^a-z0-9]+/, "-") |> String.trim("-")
    "#{String.replace(name, ~r/-+/, "-")}-#{System.schedulers_online()}cpu"
  end

  defp cpu do
    case Regex.run(~r/model name\s*:\s*(.+)/, File.read!("/proc/cpuinfo")) do
      [_line, name] -> String.trim(name)
      nil -> "unknown"
    end
  end

  defp meminfo(key) do
    [_line, kilobytes] = Regex.run(~r/#{key}:\s+(\d+)/, File.read!("/proc/meminfo"))
    String.to_integer(kilobytes)
  end

  defp python_versions do
    {:ok, python} = Pyre.Python.find(nil)

    code =
      "import platform, importlib.metadata as m; print(platform.python_version()," <>
        " *(f'{n} {m.version(n)}' for n in ('msgpack', 'structlog', 'uvloop')), sep=', ')"

    case System.cmd(python, ["-c", code], stderr_to_stdout: true) do
      {versions, 0} -> String.trim(versions)
      {error, _status} -> "unknown: #{error |> String.trim() |> String.split("\n") |> List.last()}"
    end
  end

  # What is not in the commit is told too, where it is a part of what is measured.
  defp commit do
    {hash, 0} = System.cmd("git", ["rev-parse", "--short", "HEAD"])
    {changed, 0} = System.cmd("git", ["status", "--porcelain", "--untracked-files=no", "lib", "priv"])
    String.trim(hash) <> if(changed == "", do: "", else: " and uncommitted changes")
  end

  defp first_line(path), do: path |> File.read!() |> String.split("\n") |> hd()

  @doc "Lets all threads of a process run on these cores only. False where taskset is missing."
  def pin(os_pid, cores) do
    case System.find_executable("taskset") do
      nil -> false
      taskset -> match?({_text, 0}, System.cmd(taskset, ["-a", "-c", "-p", cores, "#{os_pid}"]))
    end
  end

  @doc "All cores, for `pin/2`."
  def all_cores, do: "0-#{System.schedulers_online() - 1}"

  @doc "The processor time that a process has used, in µs; its children's is not in it."
  def cpu_us(os_pid) do
    [utime, stime] = "/proc/#{os_pid}/stat" |> stat_fields() |> Enum.slice(11, 2)
    to_us(String.to_integer(utime) + String.to_integer(stime))
  end

  @doc "The processor time that the whole machine has used, in µs."
  def busy_us do
    [user, nice, system, _idle, _iowait, irq, softirq, steal | _guest] =
      "/proc/stat" |> first_line() |> String.split() |> tl() |> Enum.map(&String.to_integer/1)

    to_us(user + nice + system + irq + softirq + steal)
  end

  defp to_us(ticks), do: div(ticks * 1_000_000, @ticks_per_second)

  # The name in front of these fields stands in parentheses and may itself hold some.
  defp stat_fields(path), do: path |> File.read!() |> String.split(") ") |> List.last() |> String.split()

  @doc """
  Waits until nothing else is busy, since what is measured beside another program is that program; in all at most `PYRE_BENCH_PATIENCE` seconds (30).
  """
  def await_quiet do
    left_ms = :persistent_term.get(__MODULE__, nil) || 1_000 * patience_seconds()
    before = busy_us()
    Process.sleep(@look_ms)
    busy? = (busy_us() - before) / (@look_ms * 1_000) > @quiet_cores
    # A look that finds quiet costs no patience.
    :persistent_term.put(__MODULE__, if(busy?, do: max(left_ms - @look_ms, 0), else: left_ms))
    if busy? and left_ms > 0, do: await_quiet(), else: :ok
  end

  defp patience_seconds, do: "PYRE_BENCH_PATIENCE" |> System.get_env("30") |> String.to_integer()

  @doc "Runs a function, and tells how many cores other programs than these were busy with meanwhile."
  def with_others(os_pids, function) do
    before = clocks(os_pids)
    result = function.()

    [wall, busy, own] =
      clocks(os_pids) |> Enum.zip(before) |> Enum.map(fn {later, earlier} -> later - earlier end)

    {result, max((busy - own) / wall, 0.0)}
  end

  defp clocks(os_pids) do
    [System.monotonic_time(:microsecond), busy_us(), os_pids |> Enum.map(&cpu_us/1) |> Enum.sum()]
  end

  @doc "The proportional set size of a process and all its descendants, in bytes: `{total, [{name, bytes}]}`."
  def pss(os_pid) do
    parts = for pid <- tree(os_pid), bytes = own_pss(pid), do: {first_line("/proc/#{pid}/comm"), bytes}
    {parts |> Enum.map(&elem(&1, 1)) |> Enum.sum(), parts}
  end

  # Nil for a process that ended since it was listed.
  defp own_pss(pid) do
    with {:ok, text} <- File.read("/proc/#{pid}/smaps_rollup"),
         [_line, kilobytes] <- Regex.run(~r/^Pss:\s+(\d+) kB/m, text) do
      String.to_integer(kilobytes) * 1_024
    else
      _gone -> nil
    end
  end

  defp tree(root) do
    parents =
      for entry <- File.ls!("/proc"),
          entry =~ ~r/^\d+$/,
          {:ok, stat} <- [File.read("/proc/#{entry}/stat")],
          do: {stat |> String.split(") ") |> List.last() |> String.split() |> Enum.at(1), entry}

    descend(["#{root}"], Enum.group_by(parents, &elem(&1, 0), &elem(&1, 1)))
  end

  defp descend(pids, children),
    do: Enum.flat_map(pids, fn pid -> [pid | descend(Map.get(children, pid, []), children)] end)
end
