defmodule Pyre.Group.Control do
  @moduledoc false

  # Starts, restarts and stops groups on request. Runs in the process of whoever asks, and waits there.

  alias Pyre.Agent.{Ending, Restarts, Starter, Stopping}
  alias Pyre.{Address, Error, Group, Instance, Options}
  alias Pyre.Group.Table

  @doc "Starts a group and its agents, one after the other. Where one can't be started, nothing is left."
  @spec start(Instance.t(), Table.name(), keyword()) :: {:ok, Table.name()} | {:error, Pyre.error()}
  def start(instance, name, opts) do
    opts = options!(opts)
    agents = for {class, agent} <- opts[:agents], do: {class, Keyword.put(agent, :group, name)}

    with :ok <- Starter.check_id(name),
         :ok <- Starter.check_open(instance),
         :ok <- check_parent(instance, opts[:group]),
         :ok <- reserve(instance, name, opts),
         :ok <- or_remove(instance, name, supervise(instance, name, opts[:group])),
         :ok <- or_remove(instance, name, start_agents(instance, agents)) do
      {:ok, name}
    end
  end

  @doc "Validates the options of a group, and of the agents in it."
  @spec options!(keyword()) :: keyword()
  def options!(opts) do
    opts = Options.validate!(:group, opts)
    Enum.each(opts[:agents], &member!/1)
    opts
  end

  defp member!({class, opts}) do
    if Keyword.has_key?(opts, :group),
      do:
        raise(
          ArgumentError,
          "expected no :group for an agent in :agents, got: #{inspect(opts[:group], limit: 5)}"
        )

    # As if it had one.
    _opts = Starter.options!([{:group, "group"} | opts])
    Starter.to_name!(class)
  end

  defp check_parent(_instance, nil), do: :ok

  defp check_parent(instance, parent) do
    if Table.status(instance, parent) == :running, do: :ok, else: {:error, closed(instance, parent)}
  end

  defp reserve(instance, name, opts) do
    if Table.reserve(instance, name, opts[:group], opts),
      do: :ok,
      else: {:error, Error.new(:already_started, "there is a group with the name #{inspect(name)} already")}
  end

  defp supervise(instance, name, nil) do
    case Group.Supervisor.start_child(instance, name) do
      {:ok, _pid} -> :ok
      other -> {:error, not_started(name, other)}
    end
  end

  defp supervise(instance, name, parent) do
    with true <- Table.add(instance, parent, {:group, name}),
         :ok <- Group.start_child(instance, parent, {:group, name}) do
      :ok
    else
      false -> {:error, closed(instance, parent)}
      {:error, :group_down} -> {:error, closed(instance, parent)}
      {:error, reason} -> {:error, not_started(name, reason)}
    end
  end

  defp not_started(name, reason),
    do:
      Error.new(
        :agent_down,
        "the supervisor of the group #{inspect(name)} could not be started: #{inspect(reason, limit: 10)}",
        %{begun: false}
      )

  defp start_agents(instance, agents) do
    Enum.reduce_while(agents, :ok, fn {class, opts}, :ok ->
      case Starter.start(instance, class, opts) do
        {:ok, _id} -> {:cont, :ok}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  defp or_remove(_instance, _name, :ok), do: :ok

  defp or_remove(instance, name, {:error, error}) do
    _done = remove(instance, name, [])
    {:error, error}
  end

  @doc "Why a group takes nothing."
  @spec closed(Instance.t(), Table.name()) :: Error.t()
  def closed(instance, name) do
    case Table.status(instance, name) do
      nil ->
        Error.new(:not_found, "there is no group with the name #{inspect(name, printable_limit: 100)}")

      status when status in [:failing, :terminated] ->
        Error.new(
          :terminated,
          "the group #{inspect(name)} is terminated; restart or stop it once the cause is gone"
        )

      :stopping ->
        Error.new(:stopped, "the group #{inspect(name)} is being stopped")

      _just_restarting ->
        Error.new(:agent_down, "the supervisor of the group #{inspect(name)} is not up", %{begun: false})
    end
  end

  @doc "Starts a terminated group again, with a fresh budget, and all agents in it that are terminated."
  @spec restart(Instance.t(), Table.name(), keyword()) :: :ok | {:error, Pyre.error()}
  def restart(instance, name, opts) do
    opts = Options.validate!(:restart, opts)

    case Table.fetch(instance, name) do
      {:ok, %{parent: nil, status: :terminated}} ->
        restart_terminated(instance, name, opts[:timeout])

      {:ok, %{status: :terminated, parent: parent}} ->
        {:error,
         Error.new(
           :terminated,
           "the group #{inspect(name)} is a part of #{inspect(parent)}; restart that one"
         )}

      {:ok, _running} ->
        {:error, Error.new(:already_started, "the group #{inspect(name)} is not terminated")}

      :error ->
        {:error, closed(instance, name)}
    end
  end

  # The keeper looks at what is :running only, so the pid of the last incarnation has to go first.
  defp restart_terminated(instance, name, timeout) do
    agents = revive(instance, name)

    if Table.change_status(instance, name, :terminated, :starting) do
      with :ok <- supervise(instance, name, nil), do: await(instance, agents, timeout)
    else
      {:error, closed(instance, name)}
    end
  end

  # The agents, first to last.
  defp revive(instance, name) do
    Table.reset(instance, name)

    Enum.flat_map(Table.children(instance, name), fn
      {:agent, id} ->
        with {:ok, %{handle: handle}} <- Address.fetch(instance, id) do
          Restarts.forgive(instance, handle)
          Address.change_status(instance, id, :terminated, :restarting)
        end

        [id]

      {:group, nested} ->
        agents = revive(instance, nested)
        Table.put_status(instance, nested, :starting)
        agents
    end)
  end

  defp await(instance, agents, timeout) do
    Enum.reduce_while(agents, :ok, fn id, :ok ->
      case Starter.await_started(instance, id, timeout) do
        {:ok, _id} -> {:cont, :ok}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
  end

  @doc "Stops what is in a group, last to first, and forgets it."
  @spec stop(Instance.t(), Table.name(), keyword()) :: :ok | {:error, Pyre.error()}
  def stop(instance, name, opts) do
    _valid = Options.validate!(:stop, opts)

    with :ok <- Starter.check_id(name),
         {:ok, _row} <- Table.fetch(instance, name) do
      remove(instance, name, opts)
    else
      :error -> {:error, closed(instance, name)}
      {:error, error} -> {:error, error}
    end
  end

  # What does not stop in its time is forgotten all the same; its error is told.
  defp remove(instance, name, opts) do
    Table.put_status(instance, name, :stopping)

    errors =
      for child <- last_to_first(instance, name),
          {:error, error} <- [stop_child(instance, child, opts)],
          do: error

    _ended = terminate(instance, name)
    forget(instance, name)
    List.first(errors, :ok) |> as_result()
  end

  defp as_result(:ok), do: :ok
  defp as_result(error), do: {:error, error}

  defp last_to_first(instance, name), do: instance |> Table.children(name) |> Enum.reverse()

  defp stop_child(instance, {:group, nested}, opts), do: remove(instance, nested, opts)

  defp stop_child(instance, {:agent, id}, opts) do
    with {:error, %Error{kind: kind}} = error <- Stopping.stop(instance, id, opts),
         do: if(kind in [:stopped, :not_found], do: :ok, else: error)
  end

  defp terminate(instance, name) do
    case Table.fetch(instance, name) do
      {:ok, %{parent: nil, pid: pid}} when is_pid(pid) -> Group.Supervisor.terminate_child(instance, pid)
      {:ok, %{parent: parent}} when parent != nil -> Group.forget_child(instance, parent, {:group, name})
      _never_started -> :ok
    end
  end

  defp forget(instance, name) do
    Enum.each(last_to_first(instance, name), fn
      {:group, nested} -> forget(instance, nested)
      {:agent, id} -> forget_agent(instance, id)
    end)

    _parent = Table.remove(instance, {:group, name})
    Table.delete(instance, name)
  end

  defp forget_agent(instance, id) do
    with {:ok, %{handle: handle}} <- Address.fetch(instance, id),
         do: Ending.forget(instance, id, handle, :delete)

    Table.remove(instance, {:agent, id})
  end
end
