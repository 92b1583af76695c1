defmodule Pyre.EnvironmentTest do
  use ExUnit.Case, async: true

  alias Pyre.{Environment, Options}

  doctest Environment

  setup_all do
    directory = System.tmp_dir!()
    {:ok, directory: directory}
  end

  test "durations and sizes have units", %{directory: directory} do
    given = %{
      "PYRE_AGENTS" => "#{directory}:#{directory}",
      "PYRE_CALL_TIMEOUT" => "90s",
      "PYRE_DRAIN_TIMEOUT" => "1m",
      "PYRE_MAX_RUNTIME" => "infinity",
      "PYRE_MAX_WORKER_RSS" => "512MB",
      "PYRE_SPARE" => "no",
      "PYRE_WORKERS" => " 3 ",
      "HOME" => "/root"
    }

    assert Environment.options(given) ==
             {:ok,
              [
                agents: [directory, directory],
                call_timeout: 90_000,
                drain_timeout: 60_000,
                max_runtime: :infinity,
                max_worker_rss: 536_870_912,
                spare: false,
                workers: 3
              ]}
  end

  for {name, value, expected} <- [
        {"PYRE_WORKERS", "0", "a positive integer"},
        {"PYRE_WORKERS", "2.5", "a positive integer"},
        {"PYRE_CALL_TIMEOUT", "5 weeks", "a duration, such as"},
        {"PYRE_STALL_TIMEOUT", "0", "a duration above 0"},
        {"PYRE_MAX_WORKER_RSS", "1MB", "a size of at least 64MB"},
        {"PYRE_SPARE", "perhaps", "true or false"},
        {"PYRE_AGENTS", "/nowhere", "a directory that exists"}
      ] do
    test "#{name}=#{value} is refused, and named" do
      assert {:error, sentence} = Environment.options(%{unquote(name) => unquote(value)})
      assert sentence =~ "#{unquote(name)} is #{inspect(unquote(value))}; expected #{unquote(expected)}"
    end
  end

  test "a variable that stands for nothing is a mistake" do
    assert {:error, sentence} = Environment.options(%{"PYRE_DRAIN_TIMEOUTS" => "1s"})
    assert sentence == "PYRE_DRAIN_TIMEOUTS is no variable of Pyre; did you mean PYRE_DRAIN_TIMEOUT?"
  end

  test "an empty one is none" do
    assert Environment.options(%{"PYRE_WORKERS" => ""}) == {:ok, []}
  end

  # A default that its own type refuses could not be said in the environment.
  test "each option's variable takes the option's default" do
    defaults = Options.defaults(:instance)

    for {name, key, _type, _doc} <- Options.variables(), is_integer(defaults[key]) do
      assert Environment.options(%{name => "#{defaults[key]}"}) == {:ok, [{key, defaults[key]}]}
    end
  end
end
