# Plots of what was measured here today, as SVG; run by `make bench` and the others at their end.
#
#     mix run bench/plots_bench.exs
Code.require_file("support/bench.exs", __DIR__)

defmodule PlotsBench do
  alias Bench.{Report, Venv}

  @draw Path.expand("plots/draw.py", __DIR__)
  @texts %{
    "callers" => "calls per second by callers",
    "latency" => "latency of one caller by percentile",
    "memory" => "memory by agents",
    "recovery" => "answers around a loss",
    "peers" => "peers by latency and throughput"
  }

  def run do
    with {:ok, python} <- Venv.python("plots") do
      {names, 0} =
        System.cmd("timeout", ["120", python, @draw, Report.directory()], env: [{"MPLBACKEND", "svg"}])

      text = for name <- String.split(names), into: "", do: "![#{@texts[name]}](#{name}.svg)\n\n"
      Report.append("Plots", text)
    else
      {:error, reason} -> IO.puts("no plots: matplotlib was #{reason}")
    end
  end
end

PlotsBench.run()
