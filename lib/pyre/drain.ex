defmodule Pyre.Drain do
  @moduledoc false

  # Exists only to make the shutdown's order right: the last child, so the first to be stopped. It closes the intake,
  # lets running handlers end, lets agents run `on_stop`, and answers whoever still waits.

  use GenServer

  require Logger

  alias Pyre.{Address, Classes, DeadLetters, Error, Instance, Mailbox, Patience}

  @poll_ms 10

  @spec child_spec(%{name: atom(), drain_timeout: non_neg_integer()}) :: Supervisor.child_spec()
  def child_spec(config) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [config.name]},
      shutdown: 2 * config.drain_timeout + 2_000
    }
  end

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @doc "Closes the intake, and waits until nothing runs."
  @spec close(Instance.t(), timeout()) :: :ok | {:error, Error.t()}
  def close(instance, timeout) do
    until = if timeout == :infinity, do: :infinity, else: Instance.now_ms() + timeout

    case close_until(instance, stopping(instance), until) do
      :ok ->
        :ok

      :timeout ->
        running = Mailbox.running_count(instance)

        {:error,
         Error.new(:timeout, "#{running} messages still run after #{timeout} ms", %{committed: :unknown})}
    end
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    Process.flag(:trap_exit, true)
    {:ok, name}
  end

  # The tables may have been lost and made anew since the start: the instance is looked up when it is needed.
  @impl GenServer
  def terminate(_reason, name) do
    with %Instance{} = instance <- Instance.get(name), do: drain(instance)
  end

  ## Helpers

  defp drain(instance) do
    until = Instance.now_ms() + instance.config.drain_timeout
    error = stopping(instance)
    close_until(instance, error, until)
    # Agents that go on in the next node have not ended.
    unless instance.config.snapshot, do: run_on_stop(instance, until)
    Mailbox.abandon_all(instance, cut(instance))
    Mailbox.refuse_all(instance, error)
    unless instance.config.snapshot, do: report(instance, error)
  end

  defp stopping(instance), do: Error.new(:stopping, "the instance #{inspect(instance.name)} is shutting down")

  defp close_until(instance, error, until) do
    Instance.close(instance)
    Mailbox.refuse_all(instance, error)
    wait(fn -> Mailbox.running_count(instance) == 0 end, until)
  end

  # They have no caller who could be told, and the tables end with the instance: the log is where they are found again.
  defp report(instance, error) do
    left =
      for {id, %{kind: kind} = message} when kind != :stop <- Mailbox.without_caller(instance),
          do: {id, message}

    left = for {id, message} <- left, do: {id, class(instance, id), message}

    for {id, class, message} <- left,
        do: DeadLetters.put(instance, %{id: id, class: class}, message, :stopping, error)

    if left != [] do
      summary = DeadLetters.summary(for {id, class, message} <- left, do: {id, class, message.handler})

      Logger.warning(
        "#{length(left)} casts and timers had not ended at shutdown and are lost: #{summary}",
        pyre: instance.name
      )
    end
  end

  defp class(instance, id) do
    case Address.fetch(instance, id) do
      {:ok, %{class: class}} -> class
      :error -> "?"
    end
  end

  defp cut(instance) do
    Error.new(
      :agent_down,
      "the instance #{inspect(instance.name)} was shut down while the message ran, " <>
        "and did not wait longer than its :drain_timeout of #{instance.config.drain_timeout} ms",
      %{begun: true}
    )
  end

  defp run_on_stop(instance, until) do
    ids =
      for class <- Classes.names(instance),
          match?({_on_start?, true}, Classes.hooks(instance, class)),
          id <- Address.used(instance, class),
          do: id

    # One that has ended meanwhile needs no stop.
    Enum.each(ids, &Mailbox.put(instance, &1, :stop, <<>>, :delete, 0, nil))
    wait(fn -> not Enum.any?(ids, &:ets.member(instance.agents, &1)) end, until)
  end

  # The instance ends: that nobody tells this process when a mailbox runs empty spares every message that work.
  defp wait(done?, until) do
    cond do
      done?.() -> :ok
      Instance.now_ms() >= until -> :timeout
      true -> wait_on(done?, until)
    end
  end

  defp wait_on(done?, until) do
    Patience.pause(@poll_ms)
    wait(done?, until)
  end
end
