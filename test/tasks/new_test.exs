defmodule Pyre.Tasks.NewTest do
  # What the tasks make is run as its owner would: by mix, pytest, ruff and mypy, in a directory of its own.
  use Pyre.Case, async: false

  alias Mix.Tasks.Pyre.Gen.Agent, as: GenAgent
  alias Mix.Tasks.Pyre.New

  @moduletag timeout: 180_000

  @repository File.cwd!()

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)
    {:ok, folder: workspace()}
  end

  test "a host application runs its agents, and passes its own checks", %{folder: folder} do
    path = Path.join(folder, "my_shop")
    New.run([path])
    assert_received {:mix_shell, :info, ["\nIt is made. Next:" <> _commands]}
    File.ln_s!(Path.join(@repository, ".venv"), Path.join(path, ".venv"))
    assert {_output, 0} = mix(path, ["format", "--check-formatted"])
    assert {output, 0} = mix(path, ["test", "--warnings-as-errors"])
    assert output =~ "1 test, 0 failures"

    File.cd!(path, fn -> GenAgent.run(["OrderDesk", "--autostart"]) end)
    assert File.read!(Path.join(path, "priv/python/order_desk.py")) =~ ~s(autostart = "order_desk")
    assert_python_checks(path, "4 passed")

    assert {output, 0} =
             mix(path, ["run", "-e", "IO.inspect({Pyre.await_ready(MyShop.Pyre), MyShop.count(\"x\")})"])

    assert output =~ "{:ok, {:ok, 1}}"
  end

  test "agents alone pass their checks, and run", %{folder: folder} do
    path = Path.join(folder, "fleet")
    New.run([path, "--agents-only"])
    assert_python_checks(path, "2 passed")
    pyre = start_pyre!(agents: Path.join(path, "agents"))
    assert {:ok, 2} = Pyre.call(pyre, "counter", :add, %{by: 2})
  end

  test "a long name makes well-formed files too", %{folder: folder} do
    path = Path.join(folder, "warehouse_and_delivery_planning_for_all_countries")
    New.run([path, "--module", "Warehouse.AndDelivery.PlanningForAllCountries"])
    File.cd!(path, fn -> GenAgent.run(["WarehouseAndDeliveryPlanningForAll"]) end)
    assert {_output, 0} = mix(path, ["format", "--check-formatted"])
    assert_ruff(path)
  end

  test "what is there is not written over", %{folder: folder} do
    File.write!(Path.join(folder, "desk.py"), "mine")
    path = Path.join(folder, "shop")
    File.mkdir!(path)
    File.write!(Path.join(path, "note"), "mine")
    assert_raise Mix.Error, ~r/shop is there already, and is not empty/, fn -> New.run([path]) end

    send(self(), {:mix_shell_input, :yes?, false})
    GenAgent.run(["desk", "--agents", folder, "--tests", folder])
    assert File.read!(Path.join(folder, "desk.py")) == "mine"
    assert File.exists?(Path.join(folder, "test_desk.py"))
  end

  for {argv, sentence} <- [
        {[], "an argument is missing; usage: mix pyre.new PATH"},
        {["a", "b"], "unexpected argument \"b\""},
        {["a", "--agent-only"],
         "unknown option --agent-only, did you mean --agents-only?; see mix help pyre.new"},
        {["a", "--module"], "the value of --module is missing or wrong"},
        {["My-App"], "\"My-App\" can't be the name of an application"},
        {["pyre"], "an application pyre is there already"},
        {["string"], "a module String is there already; take another name, or say --module"},
        {["a", "--module", "shop"], "\"shop\" can't be the name of a module"}
      ] do
    test "mix pyre.new #{Enum.join(argv, " ")} is refused" do
      assert_raise Mix.Error, ~r/^#{Regex.escape(unquote(sentence))}/, fn -> New.run(unquote(argv)) end
    end
  end

  for {name, sentence} <- [
        {"order-desk", "\"order-desk\" can't be the name of an agent"},
        {"class", "class.py would hide what Python or Pyre has by that name"},
        {"Queue", "queue.py would hide"},
        {"pyre", "pyre.py would hide"},
        {String.duplicate("a", 41),
         "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" is too long for a file: 41 characters of at most 40"}
      ] do
    test "mix pyre.gen.agent #{name} is refused" do
      assert_raise Mix.Error, ~r/^#{Regex.escape(unquote(sentence))}/, fn -> GenAgent.run([unquote(name)]) end
    end
  end

  for task <- [New, GenAgent] do
    test "#{inspect(task)} --help tells its options" do
      unquote(task).run(["--help"])
      assert_received {:mix_shell, :info, [help]}
      assert help =~ "    mix #{Mix.Task.task_name(unquote(task))} "
    end
  end

  ## Helpers

  defp mix(path, argv), do: System.cmd("mix", argv, cd: path, stderr_to_stdout: true)

  defp assert_python_checks(path, passed) do
    assert {output, 0} = python(path, ["-m", "pytest", "-p", "pyre.fixtures", "-p", "no:cacheprovider"])
    assert output =~ passed
    assert {_output, 0} = python(path, ["-m", "mypy"])
    assert_ruff(path)
  end

  defp assert_ruff(path) do
    assert {_output, 0} = python(path, ["-m", "ruff", "check", "--no-cache"])
    assert {_output, 0} = python(path, ["-m", "ruff", "format", "--check", "--no-cache"])
  end

  # As where the package is installed.
  defp python(path, argv) do
    package = Pyre.Python.package_directory()

    System.cmd(python(), argv,
      cd: path,
      stderr_to_stdout: true,
      env: [{"PYTHONPATH", package}, {"MYPYPATH", package}]
    )
  end
end
