defmodule Pyre.Telemetry do
  @events [
    {[:call, :start], "a call from Elixir begins", [:system_time], [:name, :handler]},
    {[:call, :stop], "it has been answered", [:duration], [:name, :handler, :result]},
    {[:worker, :start], "an interpreter is ready", [:system_time], [:name, :worker, :pool, :os_pid]},
    {[:worker, :stop], "an interpreter died, or could not be started", [:system_time],
     [:name, :worker, :pool, :os_pid, :error]},
    {[:wire, :invalid], "an interpreter broke the protocol and is replaced", [:count],
     [:name, :worker, :pool, :os_pid, :reason]},
    {[:agent, :message], "a message of an agent has ended: it is answered, or given up", [:count],
     [:name, :class, :handler]},
    {[:agent, :failed], "a handler failed, the agent's process ends", [:count], [:name, :id, :class, :error]},
    {[:agent, :progress], "a message told how far it is, about twenty times a second at most", [:count],
     [:name, :id, :class, :handler, :message_id, :attempt, :fraction, :text]},
    {[:agent, :asleep], "an agent has fallen asleep: it has no process any more", [:count],
     [:name, :id, :class]},
    {[:agent, :woken], "a message has woken one that was asleep", [:count], [:name, :id, :class]},
    {[:tool, :start], "a tool begins for an agent", [:system_time], [:name, :tool, :id, :class, :handler]},
    {[:tool, :stop], "it has ended", [:duration], [:name, :tool, :id, :class, :handler, :result]},
    {[:dead_letter], "a message without a caller was given up", [:count],
     [:name, :id, :class, :handler, :reason]},
    {[:generation], "a generation of agents' code has come so far", [:count],
     [:name, :generation, :status, :reason]},
    {[:escalation, :opened], "an agent asks a person", [:count],
     [:name, :id, :class, :escalation, :kind, :question, :assignee]},
    {[:escalation, :decided], "a person decided, or nobody can any more", [:count],
     [:name, :id, :class, :escalation, :kind, :question, :assignee, :outcome, :answer, :by]}
  ]

  @keys [
    count: "always 1, for counters",
    duration: "in native units: `System.convert_time_unit(duration, :native, :microsecond)`",
    system_time: "in native units, as `System.system_time/0` gives it",
    name: "the instance's name",
    id: "the agent's id",
    class: "the agent's class, a string",
    handler: "the handler's name, a string",
    worker: "the worker's number",
    pool: "the worker's pool, an atom",
    os_pid: "the interpreter's pid in the operating system; nil where none could be started",
    error: "a `Pyre.Error` or a `Pyre.PythonError`",
    reason:
      "of a dead letter: see `Pyre.dead_letters/2`; of a broken protocol: what was wrong, a term; of a generation: why it was rejected, else nil",
    result:
      "`:ok`, or the kind of the `Pyre.Error`; `:python_error` for the handler's own. Of a tool also `:tool_error`, `:exit` and `:cancelled`",
    tool: "the tool's name",
    generation: "the generation's number",
    status: "`:importing`, `:trial`, `:rejected`, `:rolling`, `:current` or `:retired`",
    message_id: "the message's number in its agent",
    attempt: "which attempt at the message this is, from 1",
    fraction: "from 0 to 1, or nil",
    text: "what the handler said of it",
    escalation: "the escalation's id",
    kind: "`:question` or `:failure`",
    question: "what the agent asks",
    assignee: "whom it asks, or nil",
    outcome: "`:answered`, `:dismissed`, `:expired` or `:closed`",
    answer: "the answer, or nil",
    by: "who decided, or nil"
  ]

  @moduledoc """
  The events that Pyre emits, where the host application has `:telemetry`.

  Pyre doesn't depend on it. It looks once, when the application starts, whether it is there.

      :telemetry.attach("slow calls", [:pyre, :call, :stop], &MyApp.Metrics.call/4, nil)

  Handlers run in the process that emits, so in that of a caller, an agent or a worker: they must be quick, and one that raises is
  detached by `:telemetry`. No event carries arguments, replies or states. For figures without `:telemetry` there is `Pyre.metrics/1`.

  | event | when | measurements | metadata |
  |---|---|---|---|
  #{Enum.map_join(@events, "\n", fn {name, meaning, measurements, metadata} -> "| `#{inspect([:pyre | name])}` | #{meaning} | #{Enum.map_join(measurements, ", ", &"`#{&1}`")} | #{Enum.map_join(metadata, ", ", &"`#{&1}`")} |" end)}

  The keys:

  #{Enum.map_join(@keys, "\n", fn {key, meaning} -> "  * `#{key}` - #{meaning}" end)}
  """

  @doc """
  The names of all events.

      iex> [:pyre, :call, :stop] in Pyre.Telemetry.events()
      true
  """
  @doc since: "0.1.0"
  @spec events() :: [[atom()]]
  def events, do: for({name, _meaning, _measurements, _metadata} <- @events, do: [:pyre | name])

  @doc false
  @spec detect() :: :ok
  def detect, do: :persistent_term.put(__MODULE__, Code.ensure_loaded?(:telemetry))

  @doc false
  @spec span([atom()], map(), (() -> result)) :: result when result: {:ok, term()} | {:error, Pyre.error()}
  def span(name, metadata, function) do
    if enabled?() do
      event(name ++ [:start], %{system_time: System.system_time()}, metadata)
      started = System.monotonic_time()
      result = function.()

      event(
        name ++ [:stop],
        %{duration: System.monotonic_time() - started},
        Map.put(metadata, :result, outcome(result))
      )

      result
    else
      function.()
    end
  end

  defp outcome({:ok, _reply}), do: :ok
  defp outcome({:error, %Pyre.Error{kind: kind}}), do: kind
  defp outcome({:error, %Pyre.PythonError{}}), do: :python_error

  @doc false
  @spec enabled?() :: boolean()
  def enabled?, do: :persistent_term.get(__MODULE__, false)

  @doc false
  @spec event([atom()], map(), map()) :: :ok
  def event(name, measurements, metadata) do
    if enabled?(), do: :telemetry.execute([:pyre | name], measurements, metadata)
    :ok
  end
end
