defmodule Pyre.Agent.Restarting do
  @moduledoc false

  # Restarts, unparks and deletes agents on request. Runs in the process of whoever asks.

  alias Pyre.Agent.{Client, Ending, Quarantine, Restarts, Starter}
  alias Pyre.{Address, Error, History, Instance, Mailbox, Options, Patience}
  alias Pyre.Group.{Control, Table}

  @end_ms 1_000

  @doc "Runs a terminated agent again, with a fresh budget; one that runs is restarted between two messages."
  @spec restart(Instance.t(), Address.id(), keyword()) :: :ok | {:error, Pyre.error()}
  def restart(instance, id, opts) do
    opts = Options.validate!(:restart, opts)

    with :ok <- Starter.check_id(id),
         {:ok, agent} <- fetch(instance, id),
         :ok <- restart(instance, agent, opts[:timeout], agent.status),
         {:ok, _id} <- Starter.await_started(instance, id, opts[:timeout]),
         do: :ok
  end

  defp restart(instance, %{id: id} = agent, timeout, :terminated) do
    await_end(agent)
    group = Table.parent(instance, {:agent, id})

    cond do
      group != nil and Table.status(instance, group) != :running -> {:error, Control.closed(instance, group)}
      Address.change_status(instance, id, :terminated, :restarting) -> revive(instance, agent, group)
      true -> restart(instance, agent, timeout, :running)
    end
  end

  defp restart(instance, %{id: id, handle: handle}, _timeout, :parked),
    do: {:error, Mailbox.parked(instance, id, handle)}

  defp restart(instance, %{id: id}, timeout, _running) do
    with {:ok, _nil} <- Client.call(instance, id, :restart, <<>>, <<0x80>>, timeout), do: :ok
  end

  defp revive(instance, %{id: id, handle: handle}, group) do
    Restarts.forgive(instance, handle)
    History.note(instance, id, :restarted, %{reason: :requested})

    with {:error, error} <- Starter.restart_child(instance, id, group) do
      Address.change_status(instance, id, :restarting, :terminated)
      {:error, error}
    end
  end

  @doc "Lets a parked agent go on, with nothing held against it."
  @spec unpark(Instance.t(), map()) :: :ok
  def unpark(instance, agent) do
    Quarantine.forget(instance, agent.handle)
    Address.put_status(instance, agent.id, :running)
    History.note(instance, agent.id, :unparked, %{})
    if agent.pid, do: send(agent.pid, :unparked)
    :ok
  end

  @doc "Forgets a terminated agent."
  @spec delete(Instance.t(), Address.id()) :: :ok | {:error, Pyre.error()}
  def delete(instance, id) do
    with :ok <- Starter.check_id(id), {:ok, agent} <- fetch(instance, id) do
      if agent.status == :terminated, do: await_end(agent)

      if Address.change_status(instance, id, :terminated, :stopping) do
        Ending.forget(instance, id, agent.handle, :delete)
        :ok
      else
        {:error,
         Error.new(:already_started, "the agent #{inspect(id)} is not terminated; Pyre.stop_agent/3 stops it")}
      end
    end
  end

  # Its process may still be telling who waited.
  defp await_end(%{pid: nil}), do: true
  defp await_end(%{pid: pid}), do: Patience.await_end(pid, @end_ms)

  defp fetch(instance, id) do
    with :error <- Address.fetch(instance, id), do: {:error, Mailbox.not_found(id)}
  end
end
