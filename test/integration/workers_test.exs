defmodule Pyre.Integration.WorkersTest do
  # What agents of one interpreter share: its output, its log, its loop, its threads, its resources.
  use Pyre.Case, async: true

  alias Pyre.{Error, PythonError}

  @moduletag :python

  # What the instance logged with this text in it.
  defp assert_logged(text, timeout \\ 5_000) do
    receive do
      {:logged, level, logged, meta} ->
        if logged =~ text, do: {level, logged, meta}, else: assert_logged(text, timeout)
    after
      timeout -> flunk("nobody logged #{inspect(text)}")
    end
  end

  describe "output" do
    setup do
      pyre = start_pyre!(log: true)
      {:ok, pyre: pyre, id: start_agent!(pyre, "Noise", id: "n")}
    end

    for handler <- [:by_print, :by_descriptor, :by_c, :by_child, :by_stderr] do
      test "#{handler} lands in the log, and never in the protocol", %{pyre: pyre, id: id} do
        text = "noise #{unquote(handler)} é"
        assert Pyre.call(pyre, id, unquote(handler), %{text: text}) == {:ok, nil}
        assert {:info, logged, %{worker: 1}} = assert_logged(text)
        assert logged == "worker 1: #{text}"
        assert [%{deaths: 0}] = Pyre.workers(pyre)
      end
    end

    test "through structlog keeps its level, fields and labels", %{pyre: pyre, id: id} do
      assert Pyre.call(pyre, id, :by_structlog, %{text: "something odd"}) == {:ok, nil}
      assert {:warning, "something odd answer=42", meta} = assert_logged("something odd")
      assert %{worker: 1, agent_id: "n", class: "Noise", handler: "by_structlog", message_id: number} = meta
      assert is_integer(number)
    end

    test "through the standard library's logging does, too", %{pyre: pyre, id: id} do
      assert Pyre.call(pyre, id, :by_logging, %{text: "a thing"}) == {:ok, nil}
      assert {:error, text, meta} = assert_logged("it said a thing")
      assert text =~ "it said a thing"
      assert %{agent_id: "n", handler: "by_logging", python_logger: "some.package"} = meta
      assert Pyre.call(pyre, id, :by_logging_exception, %{text: "odd"}) == {:ok, nil}
      assert {:error, text, _meta} = assert_logged("caught")
      assert text =~ "KeyError: 'odd'"
    end

    test "of warnings is output like any other", %{pyre: pyre, id: id} do
      assert Pyre.call(pyre, id, :by_warning, %{text: "careful"}) == {:ok, nil}
      assert_logged("careful")
    end

    test "is empty input for whoever reads standard input", %{pyre: pyre, id: id} do
      assert Pyre.call(pyre, id, :read_input) == {:ok, 0}
    end

    test "that an agent closes is its own loss", %{pyre: pyre, id: id} do
      assert Pyre.call(pyre, id, :close_output) == {:ok, "closed"}
      assert Pyre.call(pyre, id, :by_structlog, %{text: "still here"}) == {:ok, nil}
      assert_logged("still here")
    end
  end

  describe "a handler that holds the loop" do
    test "is warned about by name, with its stack" do
      pyre = start_pyre!(log: true)
      {:ok, "s"} = Pyre.start_agent(pyre, "Sleeper", id: "s")
      assert Pyre.call(pyre, "s", :stall, %{seconds: 0.3}) == {:ok, nil}
      assert {:warning, text, meta} = assert_logged("has held the loop")
      assert text =~ ~s(handler Sleeper.stall of agent "s")
      assert text =~ "noise.py"
      assert text =~ "time.sleep(seconds)"
      assert %{agent_id: "s", class: "Sleeper", handler: "stall", worker: 1} = meta
    end

    test "is not confused with one that waits, or runs in a thread" do
      pyre = start_pyre!(log: true)
      {:ok, "s"} = Pyre.start_agent(pyre, "Sleeper", id: "s")
      assert Pyre.call(pyre, "s", :nap, %{seconds: 0.3}) == {:ok, 0.3}
      assert Pyre.call(pyre, "s", :doze, %{seconds: 0.3}) == {:ok, nil}
      {:ok, nil} = Pyre.call(pyre, "s", :stall, %{seconds: 0.15})
      assert {:warning, text, _meta} = assert_logged("has held the loop")
      assert text =~ "Sleeper.stall"
    end
  end

  describe "many at once" do
    # Medians of one run; the bound is wide, since other tests run beside.
    test "1,000 sleeping handlers delay an idle agent by nothing" do
      pyre = start_pyre!()
      {:ok, "p"} = Pyre.start_agent(pyre, "Sleeper", id: "p")
      alone = median_us(pyre)
      for n <- 1..1_000, do: {:ok, _id} = Pyre.start_agent(pyre, "Sleeper", id: "s#{n}")
      for n <- 1..1_000, do: :ok = Pyre.cast(pyre, "s#{n}", :nap, %{seconds: 60})
      eventually(fn -> match?([%{activations: 1_001}], Pyre.workers(pyre)) end)
      beside = median_us(pyre)
      assert beside < 5 * alone + 2_000, "alone #{alone} us, beside 1,000 sleepers #{beside} us"
    end

    defp median_us(pyre) do
      times =
        for _n <- 1..101,
            do: pyre |> then(&:timer.tc(fn -> {:ok, "pong"} = Pyre.call(&1, "p", :ping) end)) |> elem(0)

      times |> Enum.sort() |> Enum.at(50)
    end

    test "blocked threads delay neither the loop nor each other" do
      pyre = start_pyre!()
      folder = workspace()
      for n <- 1..30, do: {:ok, _id} = Pyre.start_agent(pyre, "Gatekeeper", id: "g#{n}")

      blocked =
        for n <- 1..30,
            do:
              Task.async(fn ->
                Pyre.call(pyre, "g#{n}", :go_in_thread, %{folder: folder, name: "g#{n}"}, timeout: 20_000)
              end)

      for n <- 1..30, do: await_gate(folder, "g#{n}")
      {:ok, "p"} = Pyre.start_agent(pyre, "Sleeper", id: "p")
      assert Pyre.call(pyre, "p", :ping) == {:ok, "pong"}
      for n <- 1..30, do: open_gate(folder, "g#{n}")
      for task <- blocked, do: assert(Task.await(task, 20_000) == {:ok, 1})
    end

    test "tasks that a handler leaves running end with it, and that is told" do
      pyre = start_pyre!(log: true)
      {:ok, "s"} = Pyre.start_agent(pyre, "Sleeper", id: "s")
      assert {:ok, nil} = Pyre.call(pyre, "s", :leave_task)
      assert {:warning, _text, %{agent_id: "s"}} = assert_logged("cancelled 1 tasks")
    end

    test "activations beyond :max_activations are made again from the committed state" do
      pyre = start_pyre!(max_activations: 10)
      for n <- 1..50, do: {:ok, _id} = Pyre.start_agent(pyre, "Journal", id: "j#{n}")
      for _round <- 1..3, n <- 1..50, do: {:ok, _count} = Pyre.call(pyre, "j#{n}", :append, %{entry: n})
      for n <- 1..50, do: assert({:ok, %{"entries" => [^n, ^n, ^n]}, 3} = Pyre.state(pyre, "j#{n}"))
      eventually(fn -> match?([%{activations: held}] when held in 1..10, Pyre.workers(pyre)) end)
    end
  end

  describe "a resource" do
    setup do
      folder = workspace()
      {:ok, folder: folder, pyre: start_pyre!(env: [{"TEST_FOLDER", folder}])}
    end

    test "is opened once per worker, at its first use, and closed when the worker ends", context do
      %{pyre: pyre, folder: folder} = context
      ids = for n <- 1..5, do: start_agent!(pyre, "Client", id: "c#{n}")
      refute File.exists?(Path.join(folder, "connections"))

      uses =
        ids
        |> Task.async_stream(fn id -> Pyre.call(pyre, id, :use) end)
        |> Enum.map(fn {:ok, {:ok, uses}} -> uses end)

      assert Enum.sort(uses) == [1, 2, 3, 4, 5]
      assert Pyre.call(pyre, "c1", :use_by_name) == {:ok, 6}
      assert Pyre.call(pyre, "c1", :use_in_thread) == {:ok, 7}
      :ok = stop_supervised(pyre)
      assert File.read!(Path.join(folder, "connections")) == "open\nclose\n"
    end

    test "that can't be opened is the error of the handler that asked", %{pyre: pyre} do
      {:ok, "c"} = Pyre.start_agent(pyre, "Client", id: "c")

      assert {:error, %PythonError{type: "ConnectionRefusedError", message: "nobody listens"}} =
               Pyre.call(pyre, "c", :use_broken)

      assert Pyre.call(pyre, "c", :fine) == {:ok, "fine"}
    end

    test "is opened anew by the next interpreter", %{pyre: pyre, folder: folder} do
      {:ok, "c"} = Pyre.start_agent(pyre, "Client", id: "c")
      assert Pyre.call(pyre, "c", :use) == {:ok, 1}
      kill_interpreter(pyre)
      assert Pyre.call(pyre, "c", :use) == {:ok, 1}
      assert File.read!(Path.join(folder, "connections")) == "open\nopen\n"
    end
  end

  describe "run" do
    setup do
      {:ok, pyre: start_pyre!()}
    end

    test "calls a function by position and by name, plain or async", %{pyre: pyre} do
      assert Pyre.run(pyre, "math", "sqrt", [16]) == {:ok, 4.0}
      assert Pyre.run(pyre, "_plain", "add", [1]) == {:ok, 11}
      assert Pyre.run(pyre, "_plain", :add, %{first: 1, second: 2}) == {:ok, 3}
      assert Pyre.run(pyre, "_plain", "add_slowly", [1, 2]) == {:ok, 3}
      assert Pyre.run(pyre, "os", "path.join", ["a", "b"]) == {:ok, "a/b"}
      assert Pyre.agents(pyre) == []
    end

    test "tells what went wrong", %{pyre: pyre} do
      assert {:error, %PythonError{type: "ZeroDivisionError", traceback: traceback}} =
               Pyre.run(pyre, "_plain", "fail")

      assert traceback =~ "_plain.py"
      assert {:error, %Error{kind: :unknown_handler}} = Pyre.run(pyre, "_plain", "nonsense")
      assert {:error, %Error{kind: :unknown_handler}} = Pyre.run(pyre, "no_such_module", "f")
      assert {:error, %Error{kind: :encode}} = Pyre.run(pyre, "_plain", "what")
      assert {:error, %Error{kind: :encode}} = Pyre.run(pyre, "_plain", "add", [self()])
      assert {:error, %PythonError{type: "TypeError"}} = Pyre.run(pyre, "_plain", "add", [])
    end
  end

  describe "a handler that swallows its cancellation" do
    test "does not keep its caller, and its reply is not committed" do
      pyre = start_pyre!()
      folder = workspace()
      {:ok, "s"} = Pyre.start_agent(pyre, "Sleeper", id: "s")
      args = %{folder: folder, name: "x"}
      assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, "s", :swallow, args, timeout: 50)
      open_gate(folder, "x")
      assert Pyre.call(pyre, "s", :ping) == {:ok, "pong"}
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end
end
