defmodule Pyre.BenchTest do
  # What guards against regressions must be able to fail. How fast anything is, is asked in bench/ only.
  use ExUnit.Case, async: false

  Code.require_file("../../bench/support/guard.exs", __DIR__)

  alias Mix.Tasks.Pyre.Bench, as: Task

  @baseline %{alone: 0.5, calls_64: 0.5}

  describe "the comparison with a baseline" do
    test "lets pass what is better, and what is worse within the tolerance" do
      rows = Bench.Guard.compare(%{alone: 0.9, calls_64: 0.25}, @baseline)
      assert [{:alone, 0.9, 0.5, _better, true}, {:calls_64, 0.25, 0.5, 2.0, true}] = rows
    end

    test "refuses what is worse beyond it, and says how much" do
      rows = Bench.Guard.compare(%{alone: 0.5, calls_64: 0.2}, @baseline)
      assert [true, false] == Enum.map(rows, &elem(&1, 4))
      assert Bench.Guard.text(rows) =~ ~r/calls_64 +0.20 × .* baseline 0.50: 2.50 × as slow, TOO SLOW/
    end

    test "refuses a figure of the baseline that was not measured" do
      assert [_alone, {:calls_64, nil, 0.5, nil, false}] = Bench.Guard.compare(%{alone: 0.5}, @baseline)
    end

    test "the committed baseline names figures of both kinds" do
      {baseline, _bindings} = Code.eval_file("bench/baseline.exs")
      assert %{alone: alone, calls_256: calls} = baseline
      assert alone > 0 and calls > 0
    end
  end

  @tag :tmp_dir
  @tag timeout: 120_000
  test "make bench-quick fails against a baseline that is too good", %{tmp_dir: tmp_dir} do
    if System.find_executable("gcc") do
      baseline = Path.join(tmp_dir, "too_good.exs")
      File.write!(baseline, "%{calls_64: 1_000.0}")
      assert {output, 1} = quick(["--rounds", "1", "--window", "100", "--baseline", baseline])
      assert output =~ "TOO SLOW"
      assert output =~ "slower than the baseline"

      File.write!(baseline, "%{calls_64: 0.001}")
      assert {output, 0} = quick(["--rounds", "1", "--window", "100", "--baseline", baseline])
      assert output =~ "ok"
    else
      IO.puts("skipped: the quick benchmark needs gcc for its floor; apt-get install gcc")
    end
  end

  defp quick(arguments) do
    ebin = Path.join(Mix.Project.app_path(), "ebin")

    System.cmd("timeout", ["-k", "5", "60", "elixir", "-pa", ebin, "bench/quick_bench.exs" | arguments],
      stderr_to_stdout: true,
      env: [{"PYRE_BENCH_PATIENCE", "0"}]
    )
  end

  describe "mix pyre.bench" do
    setup do
      shell = Mix.shell()
      Mix.shell(Mix.Shell.Process)
      on_exit(fn -> Mix.shell(shell) end)
    end

    test "lists every benchmark with the question that it answers" do
      Task.run([])
      listed = for {:mix_shell, :info, [line]} <- messages(), do: line
      assert length(listed) == length(Path.wildcard("bench/*_bench.exs"))
      assert Enum.any?(listed, &(&1 =~ ~r/^memory +What an idle agent weighs/))
    end

    test "says which one may have been meant" do
      assert_raise Mix.Error, ~r/there is no benchmark "memry", did you mean memory\?/, fn ->
        Task.run(["memry"])
      end
    end

    test "has help, and refuses options of its own that it doesn't have" do
      Task.run(["--help"])
      assert_received {:mix_shell, :info, ["Runs one of the benchmarks" <> _more]}
      assert_raise Mix.Error, ~r/unknown option --rounds/, fn -> Task.run(["--rounds"]) end
    end
  end

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end
end
