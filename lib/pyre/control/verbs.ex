defmodule Pyre.Control.Verbs do
  @moduledoc false

  # What an operator can ask for: each verb is a public function of `Pyre`, with its arguments by name, as they came from the
  # command line. Nothing here knows how it is shown.

  alias Pyre.{Doctor, Error, PythonError}

  @call_timeout_ms 60_000

  @type answer :: {:ok, term()} | {:error, Pyre.error()}

  @doc "Runs a verb. `more` sends what comes before the answer, and says whether anybody still listens."
  @spec run(atom(), String.t(), map(), (term() -> :ok | {:error, term()})) :: answer()
  def run(name, verb, args, more)

  def run(name, "status", _args, _more) do
    {:ok,
     name
     |> Pyre.info()
     |> Map.put(:name, inspect(name))
     |> Map.put(:health, Pyre.health(name))
     |> Map.put(:version, to_string(Application.spec(:pyre, :vsn)))}
  end

  def run(name, "health", _args, _more), do: {:ok, Pyre.health(name)}
  def run(name, "doctor", _args, _more), do: {:ok, Doctor.instance(name)}

  def run(name, "agents", args, _more) do
    filter =
      for {key, value} <- [class: args["class"], status: status!(args["status"])],
          value != nil,
          do: {key, value}

    agents = Pyre.agents(name, filter)
    {:ok, %{"total" => length(agents), "agents" => Enum.take(agents, args["limit"] || 100)}}
  end

  def run(name, "inspect", %{"id" => id}, _more) do
    with {:ok, info} <- Pyre.info(name, id),
         {:ok, state, _revision} <- Pyre.state(name, id),
         do: {:ok, info |> Map.delete(:pid) |> Map.put(:state, state)}
  end

  def run(name, "call", %{"id" => id, "handler" => handler} = args, _more),
    do: Pyre.call(name, id, handler, args["args"] || %{}, timeout: args["timeout_ms"] || @call_timeout_ms)

  def run(name, "cast", %{"id" => id, "handler" => handler} = args, _more),
    do: name |> Pyre.cast(id, handler, args["args"] || %{}) |> done()

  def run(name, "start", %{"class" => class} = args, _more) do
    opts = for {key, value} when value != nil <- [id: args["id"], args: args["args"]], do: {key, value}
    Pyre.start_agent(name, class, opts)
  end

  def run(name, "stop-agent", %{"id" => id}, _more), do: name |> Pyre.stop_agent(id) |> done()
  def run(name, "restart", %{"id" => id}, _more), do: name |> Pyre.restart_agent(id) |> done()
  def run(name, "tree", _args, _more), do: {:ok, name |> Pyre.tree() |> Map.put(:name, inspect(name))}
  def run(name, "workers", _args, _more), do: {:ok, Pyre.workers(name)}
  def run(name, "recycle", %{"worker" => worker}, _more), do: name |> Pyre.recycle(worker) |> done()
  def run(name, "pause", args, _more), do: name |> Pyre.pause(whom!(args)) |> done()
  def run(name, "resume", args, _more), do: name |> Pyre.resume(whom!(args)) |> done()
  def run(name, "quarantine", _args, _more), do: {:ok, Pyre.quarantine(name)}

  def run(name, "park", %{"id" => id} = args, _more),
    do: name |> Pyre.park(id, reason: args["reason"]) |> done()

  def run(name, "unpark", %{"id" => id}, _more), do: name |> Pyre.unpark(id) |> done()
  def run(name, "metrics", _args, _more), do: {:ok, Pyre.Metrics.prometheus(name)}

  def run(name, "inbox", args, _more) do
    filter =
      for {key, value} <- [
            agent: args["agent"],
            class: args["class"],
            assignee: args["assignee"],
            status: inbox_status!(args["status"])
          ],
          value != nil,
          do: {key, value}

    {:ok, Pyre.inbox(name, filter)}
  end

  def run(name, "answer", %{"escalation" => id, "answer" => answer, "by" => by}, _more),
    do: name |> Pyre.answer(id, answer, by: by) |> done()

  def run(name, "dismiss", %{"escalation" => id, "by" => by}, _more),
    do: name |> Pyre.dismiss(id, by: by) |> done()

  def run(name, "history", %{"id" => id} = args, _more) do
    with {:ok, entries} <- Pyre.history(name, id), do: {:ok, Enum.take(entries, -(args["limit"] || 50))}
  end

  # Until whoever asked is gone, or the trace ends by itself.
  def run(name, "trace", %{"id" => id} = args, more) do
    opts =
      for {key, value} when value != nil <- [timeout: args["timeout_ms"], limit: args["limit"]],
          do: {key, value}

    name
    |> Pyre.trace(id, opts)
    |> Enum.find(fn entry -> more.(plain(entry)) != :ok end)

    {:ok, nil}
  end

  def run(name, "reload", args, _more),
    do: Pyre.reload(name, force: args["force"] == true, trial: args["now"] != true)

  def run(name, "generations", _args, _more), do: {:ok, Pyre.generations(name)}

  def run(name, "dead-letters", args, _more) do
    case args do
      %{"retry" => letter} when letter != nil ->
        name |> Pyre.retry_dead_letter(letter!(letter)) |> done()

      %{"discard" => letter} when letter != nil ->
        name |> Pyre.discard_dead_letter(letter!(letter)) |> done()

      _list ->
        {:ok,
         Pyre.dead_letters(
           name,
           for({:agent, id} when is_binary(id) <- [agent: args["agent"]], do: {:agent, id})
         )}
    end
  end

  def run(name, "drain", args, _more), do: Pyre.drain(name, args["timeout_ms"] || :default) |> done()

  # The answer must still reach who asked.
  def run(_name, "stop", _args, _more) do
    spawn(fn -> System.stop(0) end)
    {:ok, nil}
  end

  def run(_name, verb, _args, _more),
    do:
      {:error,
       Error.new(
         :invalid_args,
         "there is no verb #{inspect(verb, limit: 5, printable_limit: 50)}, or an argument of it is missing"
       )}

  @doc "A value as MessagePack can carry it: what has no counterpart becomes text."
  @spec plain(term()) :: term()
  def plain(%PythonError{} = error), do: %{"error" => Exception.message(error)}
  def plain(%Error{} = error), do: %{"kind" => to_string(error.kind), "error" => Exception.message(error)}
  def plain(%DateTime{} = at), do: DateTime.to_iso8601(at)
  def plain(%module{} = struct) when is_atom(module), do: struct |> Map.from_struct() |> plain()
  def plain(map) when is_map(map), do: Map.new(map, fn {key, value} -> {plain_key(key), plain(value)} end)

  def plain(list) when is_list(list), do: Enum.map(list, &plain/1)
  def plain(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.map_join(" ", &word/1)
  def plain(atom) when is_atom(atom) and atom not in [nil, true, false], do: Atom.to_string(atom)

  def plain(other) when is_pid(other) or is_reference(other) or is_function(other) or is_port(other),
    do: inspect(other)

  def plain(other), do: other

  defp plain_key(key) when is_binary(key), do: key
  defp plain_key(key), do: word(key)

  defp word(text) when is_binary(text), do: text
  defp word(other), do: if(is_atom(other), do: Atom.to_string(other), else: inspect(other))

  ## Helpers

  defp done(:ok), do: {:ok, nil}
  defp done({:ok, _value} = ok), do: ok
  defp done({:error, _error} = error), do: error

  @statuses Map.new(
              [:asleep, :starting, :running, :restarting, :terminated, :stopping, :parked],
              &{Atom.to_string(&1), &1}
            )
  defp status!(nil), do: nil
  defp status!(status) when is_map_key(@statuses, status), do: @statuses[status]

  defp status!(other),
    do:
      raise(
        ArgumentError,
        "expected the status to be one of #{Enum.join(Map.keys(@statuses), ", ")}, got: #{inspect(other, limit: 5)}"
      )

  @inbox_statuses %{"open" => :open, "decided" => :decided, "all" => :all}

  defp inbox_status!(nil), do: :open
  defp inbox_status!(status) when is_map_key(@inbox_statuses, status), do: @inbox_statuses[status]

  defp inbox_status!(other),
    do:
      raise(ArgumentError, "expected the status to be open, decided or all, got: #{inspect(other, limit: 5)}")

  defp whom!(%{"agent" => id}) when is_binary(id), do: {:agent, id}
  defp whom!(%{"class" => class}) when is_binary(class), do: {:class, class}
  defp whom!(%{"group" => group}) when is_binary(group), do: {:group, group}
  defp whom!(%{"all" => true}), do: :all
  defp whom!(_nobody), do: raise(ArgumentError, "say whom: an agent, a class, a group, or all")

  defp letter!("all"), do: :all
  defp letter!(number) when is_integer(number), do: number

  defp letter!(other),
    do: raise(ArgumentError, "expected the number of a dead letter or all, got: #{inspect(other, limit: 5)}")
end
