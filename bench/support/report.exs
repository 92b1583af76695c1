defmodule Bench.Report do
  @moduledoc false

  # Writes what was measured: a JSON file with every figure, and a section of the day's README with those that matter.

  alias Bench.{Json, Machine}

  @results Path.expand("../results", __DIR__)

  @doc "Where this day's results of this machine are; below `PYRE_BENCH_RESULTS` where that is set, for trials."
  def directory do
    Path.join(System.get_env("PYRE_BENCH_RESULTS") || @results, "#{Date.utc_today()}-#{Machine.slug()}")
  end

  @doc "Writes the figures of one benchmark. `text` is its section in Markdown, without a heading."
  def write(name, title, figures, text) do
    directory = directory()
    File.mkdir_p!(directory)
    facts = Machine.facts()
    File.write!(Path.join(directory, "#{name}.json"), Json.encode(%{machine: facts, figures: figures}))

    append(
      title,
      "#{String.trim(text)}\n\nCommit #{facts.commit}; load average at the end #{facts.load}#{nice(facts)}."
    )
  end

  # On a machine that others use, too.
  defp nice(%{nice: 0}), do: ""
  defp nice(%{nice: nice}), do: "; run at nice #{nice}"

  @doc "Puts a section into the day's README, in the place of an earlier one of that title."
  def append(title, text) do
    File.mkdir_p!(directory())
    readme = Path.join(directory(), "README.md")
    section = "## #{title}\n\n#{String.trim(text)}\n"
    File.write!(readme, readme |> read(Machine.facts()) |> put_section(title, section))
    IO.puts("\n#{section}\nWritten to #{Path.relative_to_cwd(directory())}")
  end

  defp read(readme, facts) do
    case File.read(readme) do
      {:ok, text} -> text
      {:error, :enoent} -> "# Figures of #{Date.utc_today()}\n\n#{machine(facts)}\n"
    end
  end

  defp machine(facts) do
    table(["", ""], [
      ["processor", "#{facts.cpu}, #{facts.cpus} cores"],
      ["memory", "#{facts.memory_mb} MB"],
      ["kernel", facts.kernel],
      ["Erlang/OTP", facts.otp],
      ["Elixir", facts.elixir],
      ["Python", facts.python]
    ])
  end

  defp put_section(text, title, section) do
    [head | sections] = String.split(text, ~r/^(?=## )/m)
    others = Enum.reject(sections, &String.starts_with?(&1, "## #{title}\n"))

    [head | Enum.sort([section | others])]
    |> Enum.map_join("\n", &(String.trim_trailing(&1, "\n") |> Kernel.<>("\n")))
  end

  @doc "A table in Markdown."
  def table(head, rows) do
    lines = [head, Enum.map(head, fn _column -> "---" end) | rows]
    Enum.map_join(lines, "\n", fn row -> "| #{Enum.map_join(row, " | ", &cell/1)} |" end) <> "\n"
  end

  defp cell(value) when is_float(value), do: :erlang.float_to_binary(value, decimals: 2)
  defp cell(value) when is_integer(value) and value >= 10_000, do: thousands(value)
  defp cell(value), do: to_string(value)

  defp thousands(value) do
    value
    |> Integer.to_string()
    |> String.reverse()
    |> String.replace(~r/(\d{3})(?=\d)/, "\\1,")
    |> String.reverse()
  end

  @doc "A line that says what was wanted of a figure and what came."
  def wanted(text, value, met?), do: "* wanted: #{text}: #{cell(value)}, #{verdict(met?)}"

  @doc "Did a figure come out as wanted?"
  def verdict(true), do: "met"
  def verdict(false), do: "**missed**"
end
