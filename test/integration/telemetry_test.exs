defmodule Pyre.Integration.TelemetryTest do
  # Each event that is documented is emitted, with just the measurements and metadata that the table names. The package itself can't be had
  # without Hex; what stands in for it has the one function that Pyre calls, and hands on what it gets. Not beside other tests, since
  # all instances of the node emit then.
  use Pyre.Case, async: false

  setup do
    test = self()
    :persistent_term.put(__MODULE__, test)

    Code.eval_quoted(
      quote do
        defmodule :telemetry do
          def execute(name, measurements, metadata),
            do: send(:persistent_term.get(unquote(__MODULE__)), {:event, name, measurements, metadata}) && :ok
        end
      end
    )

    :ok = Pyre.Telemetry.detect()

    on_exit(fn ->
      true = :code.delete(:telemetry)
      :code.purge(:telemetry)
      :ok = Pyre.Telemetry.detect()
      :persistent_term.erase(__MODULE__)
    end)
  end

  # What is documented: the event with the keys of its measurements and metadata.
  defp documented do
    {:docs_v1, _line, _language, _format, %{"en" => doc}, _metadata, _docs} = Code.fetch_docs(Pyre.Telemetry)

    for [_all, event, measurements, metadata] <-
          Regex.scan(~r/^\| `(\[.+?\])` \| .* \| (.*) \| (.*) \|$/m, doc),
        into: %{},
        do: {event, {keys(measurements), keys(metadata)}}
  end

  defp keys(text),
    do: ~r/`(\w+)`/ |> Regex.scan(text, capture: :all_but_first) |> List.flatten() |> Enum.sort()

  defp emitted(events \\ %{}) do
    receive do
      {:event, name, measurements, metadata} ->
        keys = fn map -> map |> Map.keys() |> Enum.map(&Atom.to_string/1) |> Enum.sort() end
        emitted(Map.put(events, inspect(name), {keys.(measurements), keys.(metadata)}))
    after
      0 -> events
    end
  end

  test "each event is emitted as it is documented" do
    everything_happens()
    documented = documented()
    emitted = emitted()
    assert map_size(documented) == length(Pyre.Telemetry.events())
    assert Map.keys(emitted) -- Map.keys(documented) == []
    assert Map.keys(documented) -- Map.keys(emitted) == []
    for {event, keys} <- documented, do: assert({event, emitted[event]} == {event, keys})
  end

  test "each key is explained" do
    {:docs_v1, _line, _language, _format, %{"en" => doc}, _metadata, _docs} = Code.fetch_docs(Pyre.Telemetry)

    for {_event, {measurements, metadata}} <- documented(), key <- measurements ++ metadata do
      assert doc =~ "  * `#{key}` - "
    end
  end

  defp everything_happens do
    clock = {"clock", fn _args -> {:ok, 12} end, description: "Tells the time."}
    pyre = start_pyre!(tools: [clock])
    {:ok, "j"} = Pyre.start_agent(pyre, "Journal", id: "j")
    {:ok, 1} = Pyre.call(pyre, "j", :append, %{entry: 1})
    {:error, %Pyre.PythonError{}} = Pyre.call(pyre, "j", :fail)
    :ok = Pyre.cast(pyre, "j", :fail)
    eventually(fn -> Pyre.dead_letters(pyre) != [] end)
    {:ok, "h"} = Pyre.start_agent(pyre, "Handyman", id: "h")
    {:ok, 12} = Pyre.call(pyre, "h", :use, %{tool: "clock", args: %{}})
    {:ok, "c"} = Pyre.start_agent(pyre, "Clerk", id: "c")
    {:ok, _pending} = Pyre.call(pyre, "c", :file, %{amount: 900})
    [%{id: escalation}] = Pyre.inbox(pyre)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    {:ok, "s"} = Pyre.start_agent(pyre, "Scanner", id: "s")
    {:ok, _done} = Pyre.call(pyre, "s", :scan, %{steps: 3})
    {:ok, "dozer"} = Pyre.start_agent(pyre, "Journal", id: "dozer", idle_timeout: 10)
    Pyre.Lull.await_sleep(pyre, "dozer")
    {:ok, 1} = Pyre.call(pyre, "dozer", :append, %{entry: 1})
    {:ok, %{status: :current}} = Pyre.reload(pyre, force: true)
    kill_interpreter(pyre)

    # One that speaks another protocol.
    env = [{"TEST_PYTHON", python()}, {"TEST_WORKER", fixture("workers/sends_garbage_in_frames.py")}]
    hostile = boot_pyre!(python: fixture("workers/impostor"), env: env)
    eventually(fn -> hd(Pyre.workers(hostile)).last_error end)
  end
end
