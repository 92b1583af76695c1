defmodule Pyre.PoolsTest do
  use ExUnit.Case, async: true

  alias Pyre.{Instance, Pools}
  alias Pyre.Worker.Numbers

  @moduletag :tmp_dir

  defp config(opts), do: Instance.config([name: __MODULE__, workers: 2] ++ opts)
  defp pool(config, name), do: Pools.fetch!(config, name)

  defp venv(path) do
    python = Path.join(path, ".venv/bin/python")
    File.mkdir_p!(Path.dirname(python))
    File.write!(python, "")
    path
  end

  test "without pools there is the default one, with the instance's options" do
    config = config(python: "/usr/bin/python3", env: [{"A", "1"}], agents: "agents", spare: false)

    assert config.pools == [
             %{
               name: :default,
               workers: 2,
               spare: false,
               python: "/usr/bin/python3",
               env: [{"A", "1"}],
               own: []
             }
           ]

    assert config.agents == [Path.expand("agents")]
  end

  test "what a pool leaves out is as in the default one, but for its directories and the spare" do
    config =
      config(
        python: "/usr/bin/python3",
        env: [{"A", "1"}, {"B", "1"}],
        agents: "agents",
        pools: [ml: [env: [{"B", "2"}], agents: ["ml"]], default: [workers: 3, spare: true]]
      )

    assert Pools.names(config) == [:default, :ml]
    assert %{workers: 3, spare: true, own: []} = pool(config, :default)

    assert pool(config, :ml) == %{
             name: :ml,
             workers: 3,
             spare: false,
             python: "/usr/bin/python3",
             env: [{"A", "1"}, {"B", "2"}],
             own: [Path.expand("ml")]
           }

    assert config.shared == [Path.expand("agents")]
    assert config.agents == [Path.expand("agents"), Path.expand("ml")]
    assert Pools.directories(config, :ml) == config.agents
    assert Pools.directories(config, :default) == config.shared
  end

  test "a directory that a pool lists is that pool's alone" do
    config = config(agents: ["agents", "ml"], pools: [ml: [agents: "ml"]])
    assert config.shared == [Path.expand("agents")]
  end

  for {pools, message} <- [
        {[ml: [wrokers: 1]], "the pool :ml: unknown option :wrokers, did you mean :workers?"},
        {[ml: [workers: 0]], "the pool :ml: expected :workers to be a positive integer, got: 0"},
        {[ml: [env: %{}]],
         "the pool :ml: expected :env to be a list of {name, value}, both strings, got: %{}"},
        {[ml: 1], "the pool :ml: expected options to be a keyword list, got: 1"},
        {%{}, "expected :pools to be a list of {name, options}, such as [ml: [workers: 1]], got: %{}"},
        {[ml: [], ml: []], "expected each pool once in :pools, got :ml twice"},
        {[a: [agents: "/x"], b: [agents: "/x"]],
         "the pools :a and :b: expected :agents to hold no directory of another pool, got: /x"}
      ] do
    test "#{inspect(pools)} is refused with a sentence that names it" do
      assert_raise ArgumentError, unquote(message), fn -> config(pools: unquote(Macro.escape(pools))) end
    end
  end

  describe "a directory with a virtual environment" do
    test "is the default pool's where it is the only one, unless a Python is named", %{tmp_dir: tmp} do
      only = venv(Path.join(tmp, "agents"))
      config = config(agents: only)
      assert Pools.names(config) == [:default]
      assert pool(config, :default).python == Path.join(only, ".venv/bin/python")
      assert config.shared == [only]
      config = config(agents: only, python: "python3")
      assert pool(config, :default).python == "python3"
    end

    test "is a pool of its own, named after it, beside others", %{tmp_dir: tmp} do
      ml = venv(Path.join(tmp, "ml"))
      config = config(agents: [Path.join(tmp, "desk"), ml], python: "python3")
      assert Pools.names(config) == [:default, :ml]
      assert %{own: [^ml], python: python, workers: 2, spare: false} = pool(config, :ml)
      assert python == Path.join(ml, ".venv/bin/python")
      assert config.shared == [Path.join(tmp, "desk")]
      assert %{python: "python3", workers: 2} = pool(config, :default)
    end

    test "that has the name of a pool is in it, and what that says counts", %{tmp_dir: tmp} do
      ml = venv(Path.join(tmp, "ml"))
      config = config(agents: [Path.join(tmp, "desk"), ml], pools: [ml: [workers: 1]])
      assert %{own: [^ml], workers: 1, python: python} = pool(config, :ml)
      assert python == Path.join(ml, ".venv/bin/python")
      config = config(agents: [Path.join(tmp, "desk"), ml], pools: [ml: [python: "python3"]])
      assert pool(config, :ml).python == "python3"
    end

    test "that a pool lists is in that one, with its Python", %{tmp_dir: tmp} do
      ml = venv(Path.join(tmp, "ml"))
      config = config(agents: Path.join(tmp, "desk"), pools: [embedding: [agents: ml]])
      assert Pools.names(config) == [:default, :embedding]
      assert pool(config, :embedding).python == Path.join(ml, ".venv/bin/python")
    end

    test "two of one name are told apart by where they are; a default pool without agents keeps one worker",
         %{
           tmp_dir: tmp
         } do
      crm = venv(Path.join(tmp, "crm/agents"))
      ml = venv(Path.join(tmp, "ml/agents"))
      config = config(agents: [crm, ml])
      assert Pools.names(config) == [:default, :"crm/agents", :"ml/agents"]
      assert %{workers: 1, spare: false} = pool(config, :default)
      assert %{workers: 2} = pool(config, :"ml/agents")
      assert %{workers: 3} = config(agents: [crm, ml], pools: [default: [workers: 3]]) |> pool(:default)
    end

    test "two in one pool need a Python to be named", %{tmp_dir: tmp} do
      [one, two] = for name <- ["one", "two"], do: venv(Path.join(tmp, name))

      assert_raise ArgumentError,
                   ~r/^the pool :ml: expected :python, since both .*one and .*two have a .venv/,
                   fn ->
                     config(pools: [ml: [agents: [one, two]]])
                   end
    end
  end

  test "numbers are unique, and as ever where there is one pool" do
    config = config(max_isolated: 3, spare: true)
    assert Numbers.initial(config) == [{1, :shared, :default}, {2, :shared, :default}, {3, :spare, :default}]
    assert Numbers.probation(config, :default) == 4
    assert Enum.to_list(Numbers.isolated(config)) == [5, 6, 7]
    assert Enum.to_list(Numbers.canaries(config)) == [8, 9]

    config = config(max_isolated: 1, pools: [ml: [workers: 1], gpu: [workers: 1, spare: true]])
    initial = for {no, _role, _pool} <- Numbers.initial(config), do: no
    probation = for name <- Pools.names(config), do: Numbers.probation(config, name)

    all =
      initial ++ probation ++ Enum.to_list(Numbers.isolated(config)) ++ Enum.to_list(Numbers.canaries(config))

    assert length(all) == length(Enum.uniq(all))
    assert Enum.max(all) == Numbers.last(config)
    assert {4, :shared, :gpu} in Numbers.initial(config)
    assert {7, :spare, :gpu} in Numbers.initial(config)
    assert config(max_isolated: 0) |> Numbers.isolated() |> Enum.to_list() == []
  end
end
