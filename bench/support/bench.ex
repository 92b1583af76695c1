defmodule Bench do
  @moduledoc false

  # What all benchmarks share: medians, facts about the machine, pinning, memory, and the files that hold the results.

  @results Path.expand("../results", __DIR__)

  @doc "The middle of a list of numbers."
  def median(values), do: percentile(values, 50)

  def percentile(values, percent) do
    sorted = Enum.sort(values)
    Enum.at(sorted, min(div(length(sorted) * percent, 100), length(sorted) - 1))
  end

  @doc "The medians of maps with the same keys."
  def medians(samples) do
    for key <- samples |> hd() |> Map.keys(), into: %{}, do: {key, samples |> Enum.map(& &1[key]) |> median()}
  end

  @doc "Pins all threads of a process to processors, such as \"0\" or \"0,1\"."
  def pin(os_pid, cpus) do
    {_output, 0} = System.cmd("taskset", ["-acp", cpus, to_string(os_pid)], stderr_to_stdout: true)
    :ok
  end

  @doc "Proportional memory of processes, in bytes."
  def pss_bytes(os_pids), do: os_pids |> Enum.map(&pss_of/1) |> Enum.sum()

  defp pss_of(os_pid) do
    [_all, kilobytes] = Regex.run(~r/^Pss:\s+(\d+) kB/m, File.read!("/proc/#{os_pid}/smaps_rollup"))
    String.to_integer(kilobytes) * 1_024
  end

  @doc "This BEAM, its port helper and everything below it: interpreters, the reaper."
  def os_pids do
    children =
      for path <- Path.wildcard("/proc/[0-9]*/stat"),
          {:ok, stat} <- [File.read(path)],
          [pid | _rest] = String.split(stat),
          [_state, ppid | _rest] = stat |> String.split(") ") |> List.last() |> String.split(),
          do: {String.to_integer(pid), String.to_integer(ppid)}

    descend([String.to_integer(System.pid())], children)
  end

  defp descend([], _children), do: []
  defp descend([pid | rest], children), do: [pid | descend(for({child, ^pid} <- children, do: child) ++ rest, children)]

  @doc "The echo program that stands in for an interpreter, or nil where it can't be compiled."
  def floor do
    path = Path.expand("../../_build/bench/echo", __DIR__)
    File.mkdir_p!(Path.dirname(path))

    with gcc when is_binary(gcc) <- System.find_executable("gcc"),
         source = Path.expand("../floor/echo.c", __DIR__),
         {_output, 0} <- System.cmd(gcc, ["-O2", "-o", path, source], stderr_to_stdout: true) do
      path
    else
      _missing ->
        IO.puts("no gcc: the rows against the floor are left out (apt-get install gcc libc6-dev)")
        nil
    end
  end

  @doc "What a figure must be read with."
  def facts do
    %{
      "date" => Date.to_iso8601(Date.utc_today()),
      "commit" => commit(),
      "cpu" => cpu(),
      "cores" => System.schedulers_online(),
      "memory_gb" => memory_gb(),
      "kernel" => "Linux " <> (File.read!("/proc/sys/kernel/osrelease") |> String.trim() |> String.split("-") |> hd()),
      "elixir" => System.version(),
      "otp" => System.otp_release(),
      "load_before" => File.read!("/proc/loadavg") |> String.split() |> hd()
    }
  end

  defp commit do
    case System.cmd("git", ["describe", "--always", "--dirty", "--abbrev=10"], stderr_to_stdout: true) do
      {commit, 0} -> String.trim(commit)
      _no_repository -> "unknown"
    end
  end

  defp cpu do
    case Regex.run(~r/model name\s+: (.+)/, File.read!("/proc/cpuinfo")) do
      [_all, name] -> String.trim(name)
      nil -> "unknown"
    end
  end

  defp memory_gb do
    [_all, kilobytes] = Regex.run(~r/MemTotal:\s+(\d+)/, File.read!("/proc/meminfo"))
    round(String.to_integer(kilobytes) / 1_048_576)
  end

  @doc "Writes NAME.json and NAME.md under bench/results/<date>-<machine>/, and prints the latter."
  def write(name, figures, markdown) do
    facts = facts()
    directory = Path.join(@results, "#{facts["date"]}-#{machine(facts)}")
    File.mkdir_p!(directory)
    File.write!(Path.join(directory, name <> ".json"), json(%{"facts" => facts, "figures" => figures}) <> "\n")

    text = """
    # #{name}

    #{facts["cpu"]}, #{facts["cores"]} cores, #{facts["memory_gb"]} GB, #{facts["kernel"]}; Elixir #{facts["elixir"]}, OTP #{facts["otp"]};
    commit #{facts["commit"]}, #{facts["date"]}, load before #{facts["load_before"]}.

    #{markdown}
    """

    File.write!(Path.join(directory, name <> ".md"), text)
    IO.puts(text)
  end

  defp machine(facts) do
    cpu = facts["cpu"] |> String.downcase() |> String.replace(~r/[^a-z0-9]+/, "-") |> String.trim("-")
    "#{String.slice(cpu, 0, 24)}-#{facts["cores"]}-cores"
  end

  @doc "A table of rows of cells."
  def table([header | rows]) do
    Enum.map_join([header, Enum.map(header, fn _cell -> "---" end) | rows], "\n", fn cells -> "| #{Enum.join(cells, " | ")} |" end)
  end

  def round_to(number, digits), do: number |> Kernel./(1) |> Float.round(digits)

  defp json(map) when is_map(map), do: "{" <> Enum.map_join(Enum.sort(map), ", ", fn {key, value} -> "#{json(to_string(key))}: #{json(value)}" end) <> "}"
  defp json(list) when is_list(list), do: "[" <> Enum.map_join(list, ", ", &json/1) <> "]"
  defp json(text) when is_binary(text), do: inspect(text)
  defp json(nil), do: "null"
  defp json(number), do: to_string(number)
end
