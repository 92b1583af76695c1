# The parts of the Python side alone: codec, dispatch, validation (bench/python, with pytest-benchmark).
#
#     mix run bench/python_bench.exs
Code.require_file("support/bench.exs", __DIR__)

defmodule PythonBench do
  alias Bench.Report

  @tests Path.expand("python", __DIR__)
  # What pytest-benchmark measured, a line each: the test's name, median, minimum and 99th percentile in µs.
  @outline """
  import json, sys
  for found in json.load(open(sys.argv[1]))["benchmarks"]:
      data = sorted(found["stats"]["data"])
      figures = (found["stats"]["median"], data[0], data[int(len(data) * 0.99)])
      print(found["name"], *(format(figure * 1e6, ".4f") for figure in figures), sep="\\t")
  """

  def run do
    {:ok, python} = Pyre.Python.find(nil)
    json = Path.join(System.tmp_dir!(), "pyre-python-bench-#{System.pid()}.json")

    try do
      measure(python, json)
      {lines, 0} = System.cmd(python, ["-c", @outline, json])
      rows = lines |> String.split("\n", trim: true) |> Enum.map(&row/1)
      Report.write("python", "Python", Enum.map(rows, &Map.new/1), text(rows))
    after
      File.rm(json)
    end
  end

  defp measure(python, json) do
    arguments = [
      "-m",
      "pytest",
      @tests,
      "--benchmark-enable",
      "--benchmark-save-data",
      "--benchmark-json",
      json
    ]

    {output, status} = System.cmd(python, arguments, stderr_to_stdout: true)
    if status != 0, do: raise("the benchmarks of the Python side failed:\n#{output}")
  end

  defp row(line) do
    [name | figures] = String.split(line, "\t")
    [median, least, p99] = Enum.map(figures, &String.to_float/1)

    [
      name:
        name |> String.replace_prefix("test_", "") |> String.replace("_", " ") |> String.replace("[", " ["),
      median_us: median,
      least_us: least,
      p99_us: p99
    ]
  end

  defp text(rows) do
    """
    Parts of the interpreter's work, without a pipe; µs. A number in brackets is that of messages in the frame or batch.

    #{Report.table(["", "median", "least", "p99"], Enum.map(rows, &Keyword.values/1))}
    """
  end
end

PythonBench.run()
