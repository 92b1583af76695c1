defmodule Pyre.OptionsTest do
  use ExUnit.Case, async: true

  alias Pyre.Options

  test "what is not given has its default" do
    assert Options.validate!(:instance, [])[:call_timeout] == 5_000
    assert Options.validate!(:instance, call_timeout: 10)[:call_timeout] == 10
  end

  test "a misspelled option is named, with what was probably meant" do
    assert_raise ArgumentError, "unknown option :wrokers, did you mean :workers?", fn ->
      Options.validate!(:instance, wrokers: 2)
    end
  end

  test "an option that resembles none gets the list" do
    assert_raise ArgumentError,
                 ~r/^unknown option :colour, the options are: :timeout, :priority, :start$/,
                 fn ->
                   Options.validate!(:call, colour: 2)
                 end
  end

  for {schema, opts, message} <- [
        {:instance, [workers: 0], "expected :workers to be a positive integer, got: 0"},
        {:instance, [name: "x"], "expected :name to be an atom, such as MyApp.Pyre, got: \"x\""},
        {:instance, [agents: [:x]], "expected :agents to be a directory or a list of directories, got: [:x]"},
        {:instance, [env: %{}], "expected :env to be a list of {name, value}, both strings, got: %{}"},
        {:instance, [drain_timeout: -1],
         "expected :drain_timeout to be a non-negative integer (milliseconds), got: -1"},
        {:call, [timeout: "5s"],
         "expected :timeout to be a non-negative integer (milliseconds) or :infinity, got: \"5s\""},
        {:call, [start: "Counter"], "expected :start to be {class, options}, got: \"Counter\""},
        {:agent, [restart: :often],
         "expected :restart to be one of :permanent, :transient, :temporary, got: :often"},
        {:agent, [args: [a: 1]], "expected :args to be a map, got: [a: 1]"},
        {:stop, [keep: 1], "expected :keep to be true or false, got: 1"},
        {:put_state, [expect_revision: -1],
         "expected :expect_revision to be a revision, a non-negative integer, got: -1"}
      ] do
    test "#{inspect(opts)} is refused with a sentence that names it" do
      assert_raise ArgumentError, unquote(message), fn ->
        Options.validate!(unquote(schema), unquote(Macro.escape(opts)))
      end
    end
  end

  test "options that are no keyword list are refused" do
    assert_raise ArgumentError, "expected options to be a keyword list, got: %{timeout: 5}", fn ->
      Options.validate!(:call, %{timeout: 5})
    end
  end

  test "the documentation names each option with its default" do
    docs = Options.docs(:instance)
    for key <- Keyword.keys(Options.defaults(:instance)), do: assert(docs =~ "`:#{key}`")
    assert docs =~ "(default: `5000`)"
  end
end
