defmodule Pyre.Integration.BadInputTest do
  # Wrong values, from callers and from the machine: each is answered by a sentence that names it.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :python

  describe "an option of an instance" do
    for {option, value, expected} <- [
          {:workers, 0, "expected :workers to be a positive integer, got: 0"},
          {:workers, "2", ~s(expected :workers to be a positive integer, got: "2")},
          {:agents, 7, "expected :agents to be a directory or a list of directories, got: 7"},
          {:agents, [:a], "expected :agents to be a directory or a list of directories, got: [:a]"},
          {:name, "x", ~s(expected :name to be an atom, such as MyApp.Pyre, got: "x")},
          {:python, 3, "expected :python to be a string, got: 3"},
          {:env, [{:a, "b"}], ~s(expected :env to be a list of {name, value}, both strings, got: [a: "b"])},
          {:call_timeout, -1,
           "expected :call_timeout to be a non-negative integer (milliseconds) or :infinity, got: -1"},
          {:start_timeout, :infinity,
           "expected :start_timeout to be a positive integer (milliseconds), got: :infinity"},
          {:max_mailbox, 0, "expected :max_mailbox to be a positive integer, got: 0"},
          {:max_restarts, -1, "expected :max_restarts to be a non-negative integer, got: -1"},
          {:wrokers, 2, "unknown option :wrokers, did you mean :workers?"},
          {:colour, 2, "unknown option :colour, the options are: :name, :agents"}
        ] do
      test "#{option}: #{inspect(value)} raises in the caller" do
        opts = Keyword.merge([name: :never_started], [{unquote(option), unquote(Macro.escape(value))}])

        for start <- [&Pyre.start_link/1, &Pyre.child_spec/1] do
          error = assert_raise ArgumentError, fn -> start.(opts) end
          assert error.message =~ unquote(expected)
        end
      end
    end

    test "that are no keyword list" do
      assert_raise ArgumentError, ~r/expected options to be a keyword list/, fn ->
        Pyre.start_link(%{name: :x})
      end
    end

    test "a directory of agents that is not there" do
      pyre = start_pyre!(agents: "/no/such/directory")
      assert {:error, %Error{kind: :unknown_class, message: message}} = Pyre.start_agent(pyre, "Watcher")
      assert message =~ "/no/such/directory"
    end
  end

  describe "a caller's mistake" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Echo", id: "e")}
    end

    test "is named: what there is not", %{pyre: pyre} do
      assert {:error, %Error{kind: :unknown_class, message: message}} = Pyre.start_agent(pyre, "Ecko")
      assert message =~ ~s(no agent class "Ecko", did you mean "Echo"?)
      assert {:error, %Error{kind: :not_found, message: message}} = Pyre.call(pyre, "nobody", :echo)
      assert message =~ ~s("nobody")
      assert {:error, %Error{kind: :not_found}} = Pyre.cast(pyre, "nobody", :echo)
      assert {:error, %Error{kind: :not_found}} = Pyre.state(pyre, "nobody")
      assert {:error, %Error{kind: :not_found}} = Pyre.info(pyre, "nobody")
      assert {:error, %Error{kind: :not_found}} = Pyre.put_state(pyre, "nobody", %{})
      assert {:error, %Error{kind: :not_found}} = Pyre.stop_agent(pyre, "nobody")
      assert Pyre.whereis(pyre, "nobody") == nil
      assert {:error, %Error{kind: :unknown_handler, message: message}} = Pyre.call(pyre, "e", :ecko)
      assert message =~ "ecko"
      assert message =~ "echo"

      assert_raise ArgumentError, ~r/no Pyre instance named Nowhere is running/, fn ->
        Pyre.call(Nowhere, "e", :echo)
      end

      assert_raise ArgumentError, ~r/expected the instance to be its name/, fn -> Pyre.info("x") end
    end

    test "is named: ids", %{pyre: pyre} do
      huge = String.duplicate("x", 10_000_000)

      for {id, expected} <- [
            {"", "got 0"},
            {huge, "got 10000000"},
            {<<255, 254>>, "UTF-8"},
            {:atom, "a string, got: :atom"},
            {nil, "a string, got: nil"},
            {7, "a string, got: 7"}
          ],
          ask <- [
            &Pyre.call(pyre, &1, :echo),
            &Pyre.cast(pyre, &1, :echo),
            &Pyre.state(pyre, &1),
            &Pyre.info(pyre, &1),
            &Pyre.put_state(pyre, &1, %{}),
            &Pyre.stop_agent(pyre, &1)
          ] do
        assert {:error, %Error{kind: :invalid_id, message: message}} = ask.(id)
        assert message =~ expected
        assert byte_size(message) < 500
      end

      for id <- ["", huge, <<255>>],
          do: assert({:error, %Error{kind: :invalid_id}} = Pyre.start_agent(pyre, "Echo", id: id))

      assert Pyre.whereis(pyre, huge) == nil
      assert {:ok, _id} = Pyre.start_agent(pyre, "Echo", id: String.duplicate("é", 127))
    end

    test "is named: handlers, arguments and options", %{pyre: pyre} do
      for {function, expected} <- [
            {fn -> Pyre.call(pyre, "e", 7) end, "expected the handler to be its name"},
            {fn -> Pyre.call(pyre, "e", nil) end, "expected the handler to be its name"},
            {fn -> Pyre.cast(pyre, "e", "") end, "expected the handler to be its name"},
            {fn -> Pyre.call(pyre, "e", String.duplicate("x", 300)) end, "1 to 255 bytes"},
            {fn -> Pyre.call(pyre, "e", :echo, [1]) end, "expected a map (names to values), got: [1]"},
            {fn -> Pyre.call(pyre, "e", :echo, ~D[2024-01-01]) end, "expected a map (names to values)"},
            {fn -> Pyre.put_state(pyre, "e", []) end, "expected a map (names to values), got: []"},
            {fn -> Pyre.call(pyre, "e", :echo, %{}, timeout: "5s") end,
             "expected :timeout to be a non-negative integer"},
            {fn -> Pyre.call(pyre, "e", :echo, %{}, timeuot: 5) end, "did you mean :timeout?"},
            {fn -> Pyre.call(pyre, "e", :echo, %{}, start: "Echo") end,
             "expected :start to be {class, options}"},
            {fn -> Pyre.cast(pyre, "e", :echo, %{}, timeout: 5) end, "unknown option :timeout"},
            {fn -> Pyre.stop_agent(pyre, "e", keep: 1) end, "expected :keep to be true or false"},
            {fn -> Pyre.put_state(pyre, "e", %{}, expect_revision: -1) end,
             "expected :expect_revision to be a revision"},
            {fn -> Pyre.start_agent(pyre, 7) end, "expected the class to be a string or an atom, got: 7"},
            {fn -> Pyre.start_agent(pyre, nil) end, "expected the class to be a string or an atom, got: nil"},
            {fn -> Pyre.start_agent(pyre, "Echo", args: [1]) end, "expected :args to be a map"},
            {fn -> Pyre.start_agent(pyre, "Echo", restart: :never) end,
             "expected :restart to be one of :permanent"},
            {fn -> Pyre.start_agent(pyre, "Echo", max_mailbox: 0) end,
             "expected :max_mailbox to be a positive integer"},
            {fn -> Pyre.start_agents(pyre, :all) end, "expected a list of {class, options}"},
            {fn -> Pyre.start_agents(pyre, ["Echo"]) end, "expected a list of {class, options}"},
            {fn -> Pyre.run(pyre, :math, "sqrt") end, "expected the module to be a string, got: :math"},
            {fn -> Pyre.run(pyre, "math", "sqrt", 4) end, "expected a map (names to values), got: 4"},
            {fn -> Pyre.await_ready(pyre, :soon) end, "expected the timeout to be a non-negative integer"},
            {fn -> Pyre.agents(pyre, colour: 1) end, "expected the filter to hold"}
          ] do
        error = assert_raise ArgumentError, function
        assert error.message =~ expected
      end
    end

    test "is named: what can't be encoded, with its path", %{pyre: pyre} do
      for {value, expected} <- [
            {self(), "a pid has no counterpart"},
            {make_ref(), "a reference"},
            {&is_atom/1, "a function"},
            {{1, 2}, "a tuple has no counterpart; use a list"},
            {URI.parse("http://x"), "the struct URI needs an explicit conversion"},
            {Integer.pow(2, 64), "integers go from -2^63 to 2^64 - 1"},
            {-Integer.pow(2, 63) - 1, "this one is smaller"}
          ] do
        args = %{value: [%{"inner" => value}]}

        for ask <- [&Pyre.call/4, &Pyre.cast/4] do
          assert {:error, %Error{kind: :encode} = error} = ask.(pyre, "e", :echo, args)
          assert error.details.path == ~s(["value"][0]["inner"])
          assert error.message =~ error.details.path
          assert error.message =~ expected, error.message
        end

        assert {:error, %Error{kind: :encode}} = Pyre.put_state(pyre, "e", args)
        assert {:error, %Error{kind: :encode}} = Pyre.start_agent(pyre, "Echo", args: %{kept: value})
      end

      assert Pyre.call(pyre, "e", :echo, %{value: 1}) == {:ok, 1}
    end

    test "is named: start arguments", %{pyre: pyre} do
      for {args, argument} <- [
            {%{}, "name"},
            {%{name: 7}, "name"},
            {%{name: "x", size: "big"}, "size"},
            {%{name: "x", colour: 1}, "colour"}
          ] do
        assert {:error, %Error{kind: :invalid_args} = error} = Pyre.start_agent(pyre, "Strict", args: args)
        assert error.message =~ inspect(argument)
        assert error.details.argument == argument
      end

      assert Pyre.agents(pyre, class: "Strict") == []
    end
  end

  describe "a handler's mistake" do
    setup do
      pyre = start_pyre!()
      {:ok, pyre: pyre, id: start_agent!(pyre, "Journal", id: "j")}
    end

    test "a reply that can't be encoded names the path, and nothing changes", %{pyre: pyre, id: id} do
      assert {:error, %Error{kind: :encode} = error} = Pyre.call(pyre, id, :spoil_reply)
      assert error.message =~ ~s(["outer"][1]["inner"])
      assert Pyre.call(pyre, id, :entries) == {:ok, []}
      assert {:ok, %{restarts: 1}} = Pyre.info(pyre, id)
    end

    test "a state that can't be encoded makes the handler fail, and nothing changes", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :append, %{entry: 1})
      assert {:error, error} = Pyre.call(pyre, id, :spoil_state)
      assert Exception.message(error) =~ "entries"
      assert Pyre.state(pyre, id) == {:ok, %{"entries" => [1]}, 1}
      assert Pyre.call(pyre, id, :entries) == {:ok, [1]}
    end

    test "in a cast is logged, and the cast is given up", %{pyre: pyre, id: id} do
      :ok = Pyre.cast(pyre, id, :fail, %{entry: 1})
      :ok = Pyre.cast(pyre, id, :nonsense)
      :ok = Pyre.cast(pyre, id, :append, %{entry: "x"})
      assert Pyre.call(pyre, id, :entries) == {:ok, []}
      assert Pyre.info(pyre).counters.dropped_casts == 3
      assert {:ok, %{restarts: 1, last_error: %PythonError{}}} = Pyre.info(pyre, id)
    end
  end

  describe "a Python" do
    defp refused(opts) do
      pyre = boot_pyre!(opts)
      assert {:error, %Error{kind: :worker_start, message: message}} = Pyre.start_agent(pyre, "Echo")
      assert Process.alive?(Process.whereis(pyre))
      message
    end

    test "that is missing" do
      assert refused(python: "/no/such/python") =~ ~s(:python names "/no/such/python", which is not there)
      assert refused(python: "no-such-python") =~ ~s(:python names "no-such-python")
      assert refused(python: fixture("agents")) =~ "can't be executed"
    end

    test "that can't be executed" do
      path = Path.join(workspace(), "python")
      File.write!(path, "#!/bin/sh\n")
      assert refused(python: path) =~ "can't be executed"
    end

    test "that is no Python" do
      assert refused(python: "/bin/true") =~ "exited with status 0"
    end

    # Any that is installed beside ours will do.
    @old "PYRE_TEST_OLD_PYTHON"
         |> System.get_env(Path.expand("~/.pyenv/versions/3.{8,9,10}*/bin/python"))
         |> Path.wildcard()
         |> List.first()

    if @old do
      test "that is too old" do
        message = refused(python: @old)
        assert message =~ ~r/is Python 3\.\d+\.\d+, but Pyre needs 3\.11 or newer/
        assert message =~ "status 69"
      end
    else
      @tag skip: "no Python older than 3.11 is installed; set PYRE_TEST_OLD_PYTHON"
      test "that is too old"
    end

    test "without a required package" do
      message =
        refused(env: [{"PYTHONPATH", "#{fixture("without_msgpack")}:#{:code.priv_dir(:pyre)}/python"}])

      assert message =~ "the package msgpack can't be imported"
      assert message =~ "pip install msgpack"
      assert message =~ "status 69"
    end

    test "comes back once the cause is gone, and what waited is run" do
      path = Path.join(workspace(), "python")
      pyre = boot_pyre!(python: path)
      assert {:error, %Error{kind: :worker_start}} = Pyre.await_ready(pyre, 50)
      File.write!(path, "#!/bin/sh\nexec #{python()} \"$@\"\n")
      File.chmod!(path, 0o755)
      assert Pyre.await_ready(pyre, 20_000) == :ok
      assert {:ok, _id} = Pyre.start_agent(pyre, "Echo")
    end
  end
end
