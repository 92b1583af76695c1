defmodule Pyre.Request do
  @moduledoc """
  A call that is under way: what `Pyre.call_async/5` gives.

  It belongs to the process that made it: the answer comes there, `Pyre.await/2` takes it, and the death of that process cancels the call. Any
  process may look (`Pyre.status/1`) and cancel (`Pyre.cancel/1`).

  Its fields are for display only: `agent`, and `message_id`, by which `Pyre.cancel/2` and the history know it: `{agent, number}`.
  """

  alias Pyre.{Address, Error, Instance, Mailbox}
  alias Pyre.Agent.Client
  alias Pyre.Wire.Body

  @enforce_keys [:instance, :agent, :message_id, :key, :ref, :alias, :owner, :deadline, :timeout]
  defstruct @enforce_keys

  @typedoc "The agent, and the number of the message in it."
  @type message_id :: {Pyre.id(), pos_integer()}
  @typedoc false
  @opaque key :: Mailbox.key()
  @typedoc "A call that is under way."
  @type t :: %__MODULE__{
          instance: atom(),
          agent: Pyre.id(),
          message_id: message_id(),
          key: key(),
          ref: reference(),
          alias: reference(),
          owner: pid(),
          deadline: non_neg_integer(),
          timeout: timeout()
        }

  # How often one who waits long looks whether there is still something to wait for.
  @look_ms 1_000
  # How long an agent's process has to say what became of a message that is to be cancelled.
  @verdict_ms 5_000

  @doc false
  @spec open(Instance.t(), Pyre.id(), binary(), binary(), timeout(), Mailbox.priority()) ::
          {:ok, t()} | {:error, Error.t()}
  def open(instance, id, handler, body, timeout, priority \\ :normal) do
    ref = make_ref()
    alias = :erlang.alias([:reply])
    deadline = Client.deadline(timeout)

    case Mailbox.put(instance, id, :call, handler, body, deadline, {:caller, ref, alias, self()}, priority) do
      {:ok, {_handle, _lane, number} = key} ->
        {:ok,
         %__MODULE__{
           instance: instance.name,
           agent: id,
           message_id: {id, number},
           key: key,
           ref: ref,
           alias: alias,
           owner: self(),
           deadline: deadline,
           timeout: timeout
         }}

      {:error, error} ->
        :erlang.unalias(alias)
        {:error, error}
    end
  end

  @doc false
  @spec await(t(), timeout()) :: {:ok, term()} | {:error, Pyre.error()}
  def await(%__MODULE__{owner: owner}, _limit) when owner != self() do
    raise ArgumentError, "a request is awaited by the process that made it, #{inspect(owner)}"
  end

  def await(request, limit), do: wait(request, limit, Client.deadline(limit))

  defp wait(%{ref: ref} = request, limit, until) do
    receive do
      {^ref, status, body} -> Body.to_result(status, Client.own(body))
    after
      request.deadline |> Client.left() |> min(Client.left(until)) |> min(@look_ms) ->
        look(request, limit, until)
    end
  end

  defp look(request, limit, until) do
    instance = Instance.get(request.instance)

    cond do
      instance == nil or not Instance.there?(instance) ->
        Client.ended(request.instance, request.alias)

      Client.left(request.deadline) == 0 ->
        Client.give_up(instance, request.agent, request.key, {request.ref, request.alias, request.timeout})

      Client.left(until) == 0 ->
        {:error, Error.new(:timeout, "it was not answered within #{limit} ms, and goes on", %{pending: true})}

      status(request) == :done ->
        taken(request)

      true ->
        wait(request, limit, until)
    end
  end

  # The answer comes before the row goes.
  defp taken(%{ref: ref, message_id: message_id}) do
    receive do
      {^ref, status, body} -> Body.to_result(status, Client.own(body))
    after
      0 -> {:error, Error.new(:not_found, "the answer to #{inspect(message_id)} was taken already")}
    end
  end

  @doc false
  @spec status(t()) :: :queued | :running | :retrying | :done
  def status(%__MODULE__{instance: name, key: key}) do
    instance = Instance.get(name)

    case instance && Mailbox.progress(instance, key) do
      nil -> :done
      progress -> progress
    end
  end

  @doc false
  @spec cancel(Instance.t(), Pyre.id(), pos_integer()) :: :cancelled | :already_done | :not_found
  def cancel(instance, id, number) do
    case Mailbox.locate(instance, id, number) do
      {:ok, key} -> if withdrawn?(instance, id, key), do: :cancelled, else: ask(instance, id, number, key)
      other -> other
    end
  end

  defp withdrawn?(instance, id, key) do
    with %{reply_to: reply_to} <- Mailbox.find(instance, key),
         true <- Mailbox.withdraw(instance, id, key) do
      Mailbox.reply(reply_to, 1, error(id, "before it had begun"))
      true
    else
      _running_or_gone -> false
    end
  end

  @doc false
  @spec error(Pyre.id(), String.t()) :: Error.t()
  def error(id, when_),
    do: Error.new(:cancelled, "the message to #{inspect(id)} was cancelled #{when_}", %{committed: false})

  # Whichever of the cancellation and the commit the agent's process handles first has won.
  defp ask(instance, id, number, key) do
    with {:ok, %{status: status, pid: pid}} when status == :asleep or is_pid(pid) <-
           Address.fetch(instance, id),
         false <- status == :asleep and :already_done do
      monitor = Process.monitor(pid)
      send(pid, {:cancel, key, {self(), monitor}})

      receive do
        {^monitor, :elsewhere} ->
          Process.demonitor(monitor, [:flush])
          cancel(instance, id, number)

        {^monitor, verdict} ->
          Process.demonitor(monitor, [:flush])
          verdict

        # Its successor runs it again, or has answered it.
        {:DOWN, ^monitor, :process, _pid, _reason} ->
          cancel(instance, id, number)
      after
        @verdict_ms ->
          Process.demonitor(monitor, [:flush])
          :not_found
      end
    else
      # Who is asleep has nothing that runs or waits.
      :already_done -> :already_done
      _gone -> :not_found
    end
  end
end
