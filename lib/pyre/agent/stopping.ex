defmodule Pyre.Agent.Stopping do
  @moduledoc false

  # Stops an agent on request. Runs in the process of whoever asks, and waits there; the agent's own side of it is in
  # Pyre.Agent and Pyre.Agent.Ending.

  alias Pyre.Agent.{Client, Ending, Starter}
  alias Pyre.{Address, Error, Instance, Mailbox, Options}

  # For what comes after the drain: on_stop, and the way here.
  @margin_ms 5_000

  @doc "Stops an agent and waits until its id is free."
  @spec stop(Instance.t(), Address.id(), keyword()) :: :ok | {:error, Pyre.error()}
  def stop(instance, id, opts) do
    opts = Options.validate!(:stop, opts)
    timeout = opts[:timeout] || instance.config.drain_timeout + @margin_ms
    keep = if opts[:keep], do: :keep, else: :delete

    with :ok <- Starter.check_id(id) do
      case Client.call(instance, id, :stop, <<>>, keep, timeout) do
        {:ok, _nil} -> :ok
        {:error, %Error{kind: :terminated}} -> forget_terminated(instance, id, keep)
        {:error, error} -> {:error, error}
      end
    end
  end

  # It has no process that could do it.
  defp forget_terminated(instance, id, keep) do
    case Address.fetch(instance, id) do
      {:ok, %{status: :terminated, handle: handle}} ->
        Ending.forget(instance, id, handle, keep)
        :ok

      {:ok, _running} ->
        {:error, Error.new(:stopped, "the agent #{inspect(id)} is being stopped")}

      :error ->
        {:error, Mailbox.not_found(id)}
    end
  end
end
