defmodule Pyre.Telemetry do
  @events [
    {[:call, :start], "a call from Elixir begins", "`system_time`", "`name`, `handler`"},
    {[:call, :stop], "it has been answered", "`duration` (native units)",
     "`name`, `handler`, `result`: `:ok` or the error's kind"},
    {[:worker, :start], "an interpreter is ready", "`system_time`", "`name`, `worker`, `os_pid`"},
    {[:worker, :stop], "an interpreter ended, or could not be started", "`system_time`",
     "`name`, `worker`, `os_pid`, `error`"},
    {[:wire, :invalid], "an interpreter broke the protocol and is replaced", "`count`",
     "`name`, `worker`, `os_pid`, `reason`"},
    {[:agent, :message], "a message ended and was answered", "`count`", "`name`, `class`, `handler`"},
    {[:agent, :failed], "a handler failed, the agent's process ends", "`count`",
     "`name`, `id`, `class`, `error`"},
    {[:agent, :progress], "a message told how far it is, about twenty times a second at most", "`count`",
     "`name`, `id`, `class`, `handler`, `message_id`, `attempt`, `fraction`, `text`"},
    {[:agent, :asleep], "an agent has fallen asleep: it has no process any more", "`count`",
     "`name`, `id`, `class`"},
    {[:agent, :woken], "a message has woken one that was asleep", "`count`", "`name`, `id`, `class`"},
    {[:tool, :start], "a tool begins for an agent", "`system_time`",
     "`name`, `tool`, `id`, `class`, `handler`"},
    {[:tool, :stop], "it has ended", "`duration` (native units)",
     "`name`, `tool`, `id`, `class`, `handler`, `result`: `:ok`, `:tool_error`, `:exit`, `:cancelled` or the error's kind"},
    {[:dead_letter], "a message without a caller was given up", "`count`",
     "`name`, `id`, `class`, `handler`, `reason`"},
    {[:generation], "a generation of agents' code has come so far", "`count`",
     "`name`, `generation`, `status`: `:importing`, `:rejected`, `:rolling`, `:current` or `:retired`, `reason`"},
    {[:escalation, :opened], "an agent asks a person", "`count`",
     "`name`, `id`, `class`, `escalation`, `kind`, `question`, `assignee`"},
    {[:escalation, :decided], "a person decided, or nobody can any more", "`count`",
     "the same, and `outcome`, `answer`, `by`"}
  ]

  @moduledoc """
  The events that Pyre emits, where the host application has `:telemetry`.

  Pyre doesn't depend on it. It looks once, when the application starts, whether it is there.

  | event | when | measurements | metadata |
  |---|---|---|---|
  #{Enum.map_join(@events, "\n", fn {name, meaning, measurements, metadata} -> "| `#{inspect([:pyre | name])}` | #{meaning} | #{measurements} | #{metadata} |" end)}
  """

  @compile {:no_warn_undefined, :telemetry}

  @doc "The names of all events."
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

  defp enabled?, do: :persistent_term.get(__MODULE__, false)

  @doc false
  @spec event([atom()], map(), map()) :: :ok
  def event(name, measurements, metadata) do
    if enabled?(), do: :telemetry.execute([:pyre | name], measurements, metadata)
    :ok
  end
end
