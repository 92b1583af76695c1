defmodule Pyre.Escalations do
  @moduledoc false

  # Decides escalations, lets them expire, and tells the agents. The rows are State's; this one process decides for people, so that no
  # caller's death leaves a decision that nobody is told of: what this process itself had not told when it died, its successor does.
  #
  # Who is told:
  #   a continuation (`then`)          gets a message with the answer into its mailbox, once
  #   a message that waits             its agent's process is notified, and reads the row; a later run of the message reads it too
  #   a message that used its          is run again, or becomes a dead letter
  #   attempts up

  use GenServer

  alias Pyre.Agent.Retries
  alias Pyre.Escalations.{Inbox, Table}
  alias Pyre.{Address, Classes, DeadLetters, Error, Instance, Mailbox}
  alias Pyre.Wire.MsgPack

  # A timer of the VM's can't be armed for more than 49 days; a day is enough to look again.
  @longest_ms 86_400_000
  @retry_ms 100
  @call_ms 5_000

  @retry "retry"
  @discard "discard"

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "A person's answer."
  @spec answer(Instance.t(), term(), term(), term()) :: :ok | {:error, Error.t()}
  def answer(instance, id, answer, opts), do: ask(instance, {:answer, id, answer, by!(opts)})

  @doc "A person's decision not to answer."
  @spec dismiss(Instance.t(), term(), term()) :: :ok | {:error, Error.t()}
  def dismiss(instance, id, opts), do: ask(instance, {:dismiss, id, by!(opts)})

  @doc "What a message that used its attempts up may be answered with."
  @spec failure_options() :: [String.t()]
  def failure_options, do: [@retry, @discard]

  defp by!(by: by) when is_binary(by) and by != "", do: by

  defp by!(other) do
    raise ArgumentError,
          "expected by: who decides, a text that is not empty, got: #{inspect(other, limit: 5, printable_limit: 100)}"
  end

  defp ask(instance, request) do
    with pid when is_pid(pid) <- Instance.whereis(instance, :escalations),
         {:answered, result} <- call(pid, request),
         do: result,
         else:
           (_down -> {:error, Error.new(:not_ready, "who decides escalations is being restarted; try again")})
  end

  defp call(pid, request) do
    {:answered, GenServer.call(pid, request, @call_ms)}
  catch
    :exit, _reason -> :down
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :escalations)
    for id <- Table.repair(instance), do: tell(instance, id)
    {:ok, arm(%{instance: instance, timer: nil})}
  end

  @impl GenServer
  def handle_call({:answer, id, answer, by}, _from, %{instance: instance} = state) do
    result =
      with {:ok, escalation} <- fetch_open(instance, id),
           :ok <- Inbox.check_answer(escalation, answer),
           do: decide(instance, id, :answered, answer, by)

    {:reply, result, state}
  end

  def handle_call({:dismiss, id, by}, _from, %{instance: instance} = state) do
    result =
      with {:ok, _escalation} <- fetch_open(instance, id), do: decide(instance, id, :dismissed, nil, by)

    {:reply, result, state}
  end

  @impl GenServer
  def handle_info(:arm, state), do: {:noreply, arm(state)}
  def handle_info(:due, state), do: {:noreply, expire(state)}

  def handle_info({:tell, id}, state) do
    tell(state.instance, id)
    {:noreply, state}
  end

  defp fetch_open(instance, id) do
    case Table.get(instance, id) do
      {_id, :open, _decision, _told, escalation} -> {:ok, escalation}
      decided_or_none -> {:error, Inbox.not_open(decided_or_none, id)}
    end
  end

  defp decide(instance, id, outcome, answer, by) do
    if Table.decide(instance, id, outcome, answer, by),
      do: tell(instance, id),
      else: {:error, Inbox.not_open(Table.get(instance, id), id)}
  end

  ## Expiry

  defp expire(%{instance: instance} = state) do
    with {due_ms, id} <- Table.first_due(instance),
         true <- due_ms <= Instance.now_ms() do
      with {_id, :open, _decision, _told, escalation} <- Table.get(instance, id),
           do: decide(instance, id, :expired, escalation.default, nil)

      Table.forget_due(instance, due_ms, id)
      expire(state)
    else
      _none_due -> arm(state)
    end
  end

  defp arm(%{timer: timer} = state) do
    _left = timer && Process.cancel_timer(timer)

    case Table.first_due(state.instance) do
      {due_ms, _id} ->
        delay = (due_ms - Instance.now_ms()) |> max(0) |> min(@longest_ms)
        %{state | timer: Process.send_after(self(), :due, delay)}

      nil ->
        %{state | timer: nil}
    end
  end

  ## Telling

  defp tell(instance, id) do
    case Table.get(instance, id) do
      {_id, :decided, decision, told, escalation} when told != :over ->
        tell(instance, id, decision, told, escalation)

      _told_before ->
        :ok
    end

    :ok
  end

  # Where the process is another by now, that one runs the message again, and finds the decision.
  defp tell(instance, id, _decision, _told, %{kind: :question, then: nil, agent: agent}) do
    with {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, agent), do: send(pid, {:decided, id})
  end

  defp tell(instance, id, decision, _told, %{kind: :failure, message: key} = escalation) do
    Table.forget_failure(instance, key)

    if decision.answer == @retry,
      do: run_again(instance, escalation),
      else: discard(instance, escalation)

    Table.over(instance, id)
  end

  # It is in the mailbox, or has its place there and was not put: by a predecessor of this process.
  defp tell(instance, id, decision, {:put, {handle, _lane, _seq} = key}, %{agent: agent} = escalation) do
    case Address.fetch(instance, agent) do
      {:ok, %{handle: ^handle}} ->
        unless Mailbox.known?(instance, key), do: put(instance, id, key, decision, escalation)

      _gone ->
        Table.message_ended(instance, key)
    end
  end

  defp tell(instance, id, decision, :not_yet, %{agent: agent, handle: handle} = escalation) do
    args = args(instance, id, decision, escalation)

    with {:ok, %{handle: ^handle}} <- Address.fetch(instance, agent),
         {:ok, key} <- Mailbox.reserve(instance, agent, :decision, args) do
      Table.put(instance, id, key)
      put(instance, id, key, decision, escalation)
    else
      {:error, %Error{kind: :overloaded}} ->
        Process.send_after(self(), {:tell, id}, @retry_ms)

      {:error, %Error{kind: :terminated} = error} ->
        give_up(instance, escalation, args, error)
        Table.over(instance, id)

      _gone ->
        Table.over(instance, id)
    end
  end

  defp put(instance, id, key, decision, %{agent: agent, then: then} = escalation) do
    args = args(instance, id, decision, escalation)

    with {:error, %Error{kind: :terminated} = error} <-
           Mailbox.put_at(instance, agent, key, {:decision, then, args}),
         do: give_up(instance, escalation, args, error)
  end

  defp give_up(instance, %{handle: handle, then: then} = escalation, args, error) do
    message = %{
      key: {handle, :decision, Instance.unique(instance)},
      kind: :decision,
      handler: then,
      args: args,
      attempt: 1
    }

    owner = %{id: escalation.agent, class: escalation.class}
    DeadLetters.put(instance, owner, message, :terminated, error)
  end

  ## The message of a continuation
  #
  # A handler gets of it what it names: `async def decided(self, ctx, answer)` is as good as one that takes all. What was carried along
  # goes in as it came.

  defp args(instance, id, decision, escalation) do
    named = [
      {"answer", decision.answer},
      {"outcome", Atom.to_string(decision.outcome)},
      {"by", decision.by},
      {"at", Inbox.datetime(decision.at)},
      {"question", escalation.question},
      {"escalation", id}
    ]

    values = for {name, value} <- named, do: {name, encode(value)}
    takes? = Classes.takes(instance, escalation.class, escalation.then)
    taken = Enum.filter([{"data", escalation.data} | values], fn {name, _value} -> takes?.(name) end)
    pairs = for {name, value} <- taken, do: [encode(name), value]
    # A map of at most 15 pairs.
    IO.iodata_to_binary([<<8::4, length(taken)::4>> | pairs])
  end

  defp encode(value) do
    {:ok, body} = MsgPack.encode(value)
    body
  end

  ## A message that used its attempts up

  defp run_again(instance, %{agent: agent, message: key}) do
    with true <- Retries.renew(instance, key),
         {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, agent),
         do: send(pid, {:mail, key})
  end

  defp discard(instance, %{agent: agent, class: class, message: key} = escalation) do
    with true <- Retries.take(instance, key),
         %{} = message <- Mailbox.find(instance, key) do
      {:ok, %{"error" => error}} = MsgPack.decode(escalation.data)
      owner = %{id: agent, class: class}
      DeadLetters.put(instance, owner, message, :failed, Error.from_body(error))
      Mailbox.delete(instance, agent, message)
    end
  end
end
