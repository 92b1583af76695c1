defmodule Pyre.Agent.Client do
  @moduledoc false

  # The caller's side of a call: puts the message into the mailbox and waits for the answer at an alias, so that a late
  # one never reaches the caller's mailbox. Gives up at the deadline, and then learns whether the message had begun.

  alias Pyre.Agent.Retries
  alias Pyre.{Address, Error, Instance, Mailbox}
  alias Pyre.Wire.Body

  # How long the agent's process has to say what became of a message that was given up.
  @verdict_ms 250
  @small_bytes 4_096
  # How often one who waits long looks whether the instance is still there. A monitor would cost every call.
  @look_ms 1_000

  @doc "Sends a message and waits for its answer."
  @spec call(Instance.t(), String.t(), Mailbox.kind(), binary(), term(), timeout(), Mailbox.priority()) ::
          {:ok, term()} | {:error, Pyre.error()}
  def call(instance, id, kind, handler, args, timeout, priority \\ :normal) do
    # The compiler sees that no message with this reference can be older, and skips what waits in the mailbox.
    ref = make_ref()
    alias = :erlang.alias([:reply])
    deadline = deadline(timeout)

    case Mailbox.put(instance, id, kind, handler, args, deadline, {:caller, ref, alias, self()}, priority) do
      {:ok, key} ->
        receive do
          {^ref, status, body} -> status |> Body.to_result(own(body))
        after
          min(timeout, @look_ms) -> wait_on(instance, {id, key}, {ref, alias, timeout}, deadline)
        end

      {:error, error} ->
        :erlang.unalias(alias)
        {:error, error}
    end
  end

  @doc "The instant at which a timeout is over, on the instance's clock; 0 for never."
  @spec deadline(timeout()) :: non_neg_integer()
  def deadline(:infinity), do: 0
  def deadline(timeout) when is_integer(timeout), do: max(Instance.now_ms() + timeout, 1)

  defp wait_on(instance, {id, key} = message, {ref, alias, _timeout} = waiting, deadline) do
    left = left(deadline)

    cond do
      not Instance.there?(instance) -> ended(instance.name, alias)
      left == 0 -> give_up(instance, id, key, waiting)
      true -> wait_on(instance, message, waiting, deadline, min(left, @look_ms), ref)
    end
  end

  defp wait_on(instance, message, waiting, deadline, pause, ref) do
    receive do
      {^ref, status, body} -> Body.to_result(status, own(body))
    after
      pause -> wait_on(instance, message, waiting, deadline)
    end
  end

  @doc "How long it is until a deadline."
  @spec left(non_neg_integer()) :: timeout()
  def left(0), do: :infinity
  def left(deadline) when is_integer(deadline), do: max(deadline - Instance.now_ms(), 0)

  @doc "What is told to whoever waits for an instance that is gone."
  @spec ended(atom(), reference()) :: {:error, Error.t()}
  def ended(name, alias) do
    :erlang.unalias(alias)

    {:error,
     Error.new(
       :agent_down,
       "the instance #{inspect(name)} ended before the message was answered",
       %{begun: :unknown}
     )}
  end

  @doc "A small reply is a part of a frame with many others, which it would keep alive."
  @spec own(term()) :: term()
  def own(body) when is_binary(body) and byte_size(body) < @small_bytes, do: :binary.copy(body)
  def own(body), do: body

  @doc "The deadline has passed: the message is taken back, or cancelled, and the agent's process says what became of it."
  @spec give_up(Instance.t(), Address.id(), Mailbox.key(), {reference(), reference(), timeout()}) ::
          {:ok, term()} | {:error, Pyre.error()}
  def give_up(instance, id, key, {ref, alias, timeout}) do
    attempt = Mailbox.attempt(instance, key)

    if Mailbox.withdraw(instance, id, key) do
      :erlang.unalias(alias)
      Instance.count(instance, :expired)
      {:error, expired(id, attempt, timeout)}
    else
      cancel(instance, id, key)
      verdict(id, ref, alias, timeout)
    end
  end

  defp expired(id, 1, timeout) do
    Error.new(
      :deadline,
      "the message waited #{timeout} ms in the mailbox of #{inspect(id)} and did not run"
    )
  end

  defp expired(id, attempt, _timeout), do: Retries.error(id, attempt)

  defp cancel(instance, id, key) do
    with {:ok, %{pid: pid}} when is_pid(pid) <- Address.fetch(instance, id), do: send(pid, {:cancel, key})
  end

  defp verdict(id, ref, alias, timeout) do
    receive do
      {^ref, status, body} -> Body.to_result(status, body)
    after
      @verdict_ms ->
        :erlang.unalias(alias)

        {:error,
         Error.new(:timeout, "#{inspect(id)} did not answer within #{timeout} ms", %{committed: :unknown})}
    end
  end
end
