defmodule Pyre.Integration.DocsBlocksTest do
  # What the README and the guides show is run, in the order in which a reader meets it: blocks of Elixir against a real instance, whose
  # agents are the blocks of Python before them; commands to that instance through the real client. Python and configuration are run
  # by test/python/test_docs.py. A block is left out only below, with the reason.
  use Pyre.Case, async: true

  alias Pyre.DocsPage

  @root Path.expand("../..", __DIR__)
  @pages ["README.md", "CONTRIBUTING.md"] ++
           (Path.join(@root, "docs/guides/*.md") |> Path.wildcard() |> Enum.map(&Path.relative_to(&1, @root)))

  @run ~w(elixir sh console)
  @by_pytest ~w(python toml ini dockerfile)
  # A drawing, or what a program prints: nothing to run. The tree in the README is compared below.
  @nothing_to_run ~w(text)

  # {page, what the block contains} => why it isn't run.
  @left_out %{}

  # Programs of the reader's system, which the tests don't run.
  @programs ~w(git cd mkdir kill ps docker)

  # What the examples take as given in the reader's own application.
  defmodule Elixir.MyApp.Crm do
    def fetch(_tenant, id), do: {:ok, %{id: id, name: "Ada"}}
  end

  test "a block has a language, and something runs it" do
    for page <- @pages, block <- blocks(page) do
      assert block.language in (@run ++ @by_pytest ++ @nothing_to_run),
             "#{page}:#{block.line}: #{block.language}"
    end

    for page <- @pages do
      outside = Regex.replace(~r/^```.*?^```$/ms, File.read!(path(page)), "")

      refute outside =~ ~r/\n\n    (?![*-])\S/,
             "#{page} has a block without a fence, which nothing runs"
    end
  end

  test "what is left out is there" do
    for {{page, part}, reason} <- @left_out do
      assert Enum.any?(blocks(page), &(&1.text =~ part)),
             "#{page} has no block with #{inspect(part)} any more"

      assert String.length(reason) > 20
    end
  end

  for page <- @pages do
    @tag timeout: 120_000
    test "#{page} shows what happens" do
      page = unquote(page)
      start = %{page: page, directory: workspace(), binding: [], env: env(), instance?: false, written: []}
      page |> blocks() |> Enum.reject(&left_out?(page, &1)) |> Enum.reduce(start, &run_block/2)
    end
  end

  test "the tree in the README is that of ARCHITECTURE.md" do
    assert tree("README.md") -- tree("ARCHITECTURE.md") == []
    assert "Pyre.Agent" in tree("README.md")
  end

  ## Pages

  defp path(page), do: Path.join(@root, page)
  defp blocks(page), do: page |> path() |> File.read!() |> DocsPage.blocks()

  defp left_out?(page, block),
    do: Enum.any?(@left_out, fn {{name, part}, _reason} -> name == page and block.text =~ part end)

  defp tree(page) do
    [drawing] = Regex.run(~r/^Pyre\.Supervisor.*?^```/ms, File.read!(path(page)))
    ~r/^[│├└─ ]*(Pyre[\w.]*)/mu |> Regex.scan(drawing, capture: :all_but_first) |> List.flatten()
  end

  ## Blocks

  defp run_block(%{language: "elixir", text: "import Config" <> _rest = text} = block, state) do
    assert [_ | _] = Config.Reader.eval!("#{state.page}:#{block.line}", text)
    state
  end

  defp run_block(%{language: "elixir"} = block, state) do
    state = if block.text =~ ~r/^children = /m, do: write_files(state, block), else: ready(state, block)
    file = "#{state.page} (the block at line #{block.line})"

    state =
      block.text
      |> DocsPage.statements(block.line, file)
      |> Enum.reduce(state, fn statement, state -> run_statement(statement, block, state) end)

    if state.instance? or state.binding[:children] == nil, do: state, else: start_children(state)
  end

  defp run_block(%{language: language} = block, state) when language in ["sh", "console"] do
    block
    |> DocsPage.commands()
    |> Enum.reduce(state, fn {command, output}, state ->
      run_command(command |> split() |> skip_environment(), {command, output, block}, state)
    end)
  end

  defp run_block(_others, state), do: state

  defp run_statement({statement, shown}, block, state) do
    {value, binding, env} = eval(statement, block, state)
    if shown, do: assert_shown(value, shown, block, state)
    %{state | binding: binding, env: env}
  end

  defp eval(statement, block, state) do
    Code.eval_quoted_with_env(statement, state.binding, state.env)
  rescue
    error ->
      flunk("#{state.page}:#{block.line}: #{Macro.to_string(statement)}\n\n#{Exception.message(error)}")
  end

  defp assert_shown(value, shown, block, state) do
    text = inspect(value, limit: :infinity, printable_limit: :infinity, width: 0)

    assert DocsPage.shown?(text, shown) or equal?(value, shown),
           "#{state.page}:#{block.line} shows #{shown}\n\nand it is #{text}"
  end

  defp equal?(value, shown) do
    {expected, _binding} = Code.eval_string(shown)
    value == expected
  rescue
    _with_dots -> false
  end

  defp env, do: Code.env_for_eval(file: "documentation")

  ## The instance that a page speaks of

  defp ready(state, block) do
    before = state.written
    state = write_files(state, block)

    cond do
      not state.instance? ->
        start([name: MyApp.Pyre], state)

      state.written == before or block.text =~ "reload" ->
        state

      true ->
        {:ok, %{status: :current}} = Pyre.reload(MyApp.Pyre)
        state
    end
  end

  defp write_files(state, block) do
    {_output, 0} =
      System.cmd(
        python(),
        [path("test/python/docs_page.py"), path(state.page), "#{block.line}", state.directory]
      )

    written = for file <- Path.wildcard(Path.join(state.directory, "*.py")), do: {file, File.read!(file)}
    %{state | written: written}
  end

  defp start_children(state) do
    assert [{Pyre, opts}] = state.binding[:children]
    start(opts, state)
  end

  # Where agents, interpreter and socket are is the test's matter.
  defp start(opts, state) do
    given = [agents: state.directory, python: python(), control: control(state), drain_timeout: 500]
    start_supervised!({Pyre, [workers: 1] |> Keyword.merge(opts) |> Keyword.merge(given)}, id: state.page)
    :ok = Pyre.await_ready(opts[:name], 20_000)
    %{state | instance?: true}
  end

  defp control(state), do: Path.join(state.directory, "control")

  ## Commands

  defp split(command), do: OptionParser.split(command)

  defp skip_environment([word | rest] = words) do
    case Regex.run(~r/^([A-Z_]+)=(.*)$/, word) do
      [_all, "PYRE_AGENTS", _path] ->
        skip_environment(rest)

      [_all, "PYRE_" <> _name = name, value] ->
        assert({:ok, _} = Pyre.Environment.options(%{name => value})) && skip_environment(rest)

      [_all, _name, _value] ->
        skip_environment(rest)

      nil ->
        words
    end
  end

  defp run_command(["make", "release" | _more], _shown, state), do: target("release", state)

  defp run_command(["make", target | variables], {command, _output, _block}, state) do
    for variable <- variables, [name | _value] = String.split(variable, "=") do
      assert File.read!(path("Makefile")) =~ "$(#{name})", "#{state.page}: make takes no #{name}: #{command}"
    end

    target(target, state)
  end

  defp run_command([program, "ctl" | argv], shown, state)
       when program in ["bin/pyre", "_build/release/bin/pyre"],
       do: ctl(argv, shown, state)

  defp run_command(["mix", "pyre.ctl" | argv], shown, state), do: ctl(argv, shown, state)

  defp run_command(["bin/pyre", verb], _shown, state) when verb in ["start", "stop", "pid", "remote"],
    do: state

  defp run_command(["_build/release/bin/pyre", "start"], _shown, state), do: state

  defp run_command(["mix", "run", file | _argv], _shown, state) do
    assert File.exists?(path(file)), "#{state.page}: #{file}"
    state
  end

  defp run_command(["mix", task | argv], {command, _output, _block}, state) do
    module = Mix.Task.get(task)

    assert module || Mix.Project.config()[:aliases][String.to_atom(task)],
           "#{state.page}: there is no mix #{task}"

    for "--" <> _name = flag <- argv, String.starts_with?(task, "pyre.") do
      {:docs_v1, _line, _language, _format, %{"en" => doc}, _metadata, _docs} = Code.fetch_docs(module)
      assert doc =~ ~r/#{flag}\b/, "#{state.page}: mix #{task} knows no #{flag}: #{command}"
    end

    state
  end

  defp run_command([program, "-m", module | _argv], _shown, state)
       when program in ["python", "python3", ".venv/bin/python"] do
    assert {_output, 0} =
             System.cmd(python(), ["-c", "import #{module}"], env: [{"PYTHONPATH", path("priv/python")}])

    state
  end

  defp run_command(["pip", "install", "-r", file], _shown, state) do
    assert File.exists?(file |> String.replace_leading("deps/pyre/", "") |> path()), "#{state.page}: #{file}"
    state
  end

  defp run_command([program | _argv], {command, _output, _block}, state) do
    assert program in @programs, "#{state.page}: nothing checks #{inspect(command)}"
    state
  end

  defp target(target, state) do
    assert File.read!(path("Makefile")) =~ ~r/^#{target}:/m, "#{state.page}: there is no make #{target}"
    state
  end

  # What needs a node talks to the page's own; its end is other tests' matter.
  defp ctl(argv, {command, output, block}, state) do
    parse = "import sys; from pyre.ctl import parser; parser().parse_args(sys.argv[1:])"
    environment = [{"PYTHONPATH", path("priv/python")}, {"PYRE_CONTROL", control(state)}]
    {said, status} = System.cmd(python(), ["-c", parse | argv], env: environment, stderr_to_stdout: true)
    assert status == 0, "#{state.page}:#{block.line}: #{command}\n\n#{said}"

    if block.language == "console" and hd(argv) not in ["stop", "drain"] do
      state = ready(state, block)

      {said, _status} =
        System.cmd(python(), ["-m", "pyre.ctl" | argv], env: environment, stderr_to_stdout: true)

      assert output == "" or DocsPage.shown?(said, output),
             "#{state.page}:#{block.line}: #{command} shows\n\n#{output}\n\nand it says\n\n#{said}"

      state
    else
      state
    end
  end
end
