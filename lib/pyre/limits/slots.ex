defmodule Pyre.Limits.Slots do
  @moduledoc false

  # So many agents of a class, or of a tenant, run a message at once (`concurrency`); the others wait in the order in which they
  # asked. An agent's process takes a slot before it hands a message over, and gives it back after, or dies, whatever dies with it:
  # slots are monitored. Rows of the limits' table, from which a successor of this process goes on:
  #
  #   {{:wanted, number, pid}, keys}   by the agent's process, before it asks
  #   {{:slot, pid}, keys}             by this process, when it grants; deleted by the agent's, when it gives back
  #
  # `keys` are `[{key, most}]`.

  use GenServer

  alias Pyre.{Address, Classes, Instance}

  @type keys :: [{term(), pos_integer()}]

  defstruct [:instance, taken: %{}, queues: %{}, monitors: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## The agent's side

  @doc "May the agent run a message? Where it must wait, it is told `:slot` when it may."
  @spec ask(Pyre.Agent.t()) :: {:ok, Pyre.Agent.t()} | {:wait, Pyre.Agent.t()}
  def ask(%{slot: slot} = state) when slot in [:fresh, :held], do: {:ok, state}
  def ask(%{slot: :wanted} = state), do: {:wait, state}

  def ask(%{instance: instance} = state) do
    case if(Instance.limited?(instance), do: keys(instance, state), else: []) do
      [] ->
        {:ok, state}

      keys ->
        :ets.insert(instance.limits, {{:wanted, Instance.unique(instance), self()}, keys})
        Instance.notify(instance, :slots, :look)
        {:wait, %{state | slot: :wanted}}
    end
  end

  defp keys(%{config: %{limits: limits}} = instance, %{class: class, id: id}) do
    by_class = get_in(limits, [class, :concurrency]) || Classes.limit(instance, class, "concurrency")
    tenant = tenant(instance, id)
    by_tenant = tenant && get_in(limits, [tenant, :concurrency])
    for {key, most} when most != nil <- [{{:class, class}, by_class}, {tenant, by_tenant}], do: {key, most}
  end

  defp tenant(%{config: %{limits: limits}}, _id) when limits == %{}, do: nil

  defp tenant(instance, id) do
    with {:ok, %{opts: opts}} <- Address.fetch(instance, id),
         {:tenant, _key} = tenant <- opts[:isolation],
         do: tenant,
         else: (_none -> nil)
  end

  @doc "The agent gives its slot back, where it has one."
  @spec leave(Pyre.Agent.t()) :: Pyre.Agent.t()
  def leave(%{slot: slot, instance: instance} = state) when slot in [:fresh, :held] do
    :ets.delete(instance.limits, {:slot, self()})
    Instance.notify(instance, :slots, {:left, self()})
    %{state | slot: nil}
  end

  def leave(state), do: state

  @doc "How many run and wait, by key."
  @spec counts(Instance.t()) :: %{term() => %{running: non_neg_integer(), waiting: non_neg_integer()}}
  def counts(%{limits: table}) do
    running = for {{:slot, _pid}, keys} <- :ets.tab2list(table), {key, _most} <- keys, do: {key, :running}

    waiting =
      for {{:wanted, _number, _pid}, keys} <- :ets.tab2list(table), {key, _most} <- keys, do: {key, :waiting}

    empty = %{running: 0, waiting: 0}

    Enum.reduce(running ++ waiting, %{}, fn {key, what}, counts ->
      Map.update(counts, key, %{empty | what => 1}, &Map.update!(&1, what, fn count -> count + 1 end))
    end)
  end

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :slots)
    held = :ets.select(instance.limits, [{{{:slot, :"$1"}, :"$2"}, [], [{{:"$1", :"$2"}}]}])

    state =
      Enum.reduce(held, %__MODULE__{instance: instance}, fn {pid, keys}, state -> hold(state, pid, keys) end)

    {:ok, state |> queue() |> grant()}
  end

  @impl GenServer
  def handle_info(:look, state), do: {:noreply, state |> queue() |> grant()}
  def handle_info({:left, pid}, state), do: {:noreply, state |> free(pid) |> grant()}

  def handle_info({:DOWN, _monitor, :process, pid, _reason}, state) do
    :ets.delete(state.instance.limits, {:slot, pid})
    :ets.match_delete(state.instance.limits, {{:wanted, :_, pid}, :_})
    {:noreply, state |> free(pid) |> grant()}
  end

  ## Helpers

  # All that ask and are not queued yet, in their order. A queue is for the first key; a second one is looked at when it grants.
  defp queue(%{instance: instance} = state) do
    wanted = :ets.select(instance.limits, [{{{:wanted, :"$1", :"$2"}, :"$3"}, [], [{{:"$1", :"$2", :"$3"}}]}])

    Enum.reduce(wanted, state, fn {_number, pid, keys} = request, state ->
      if is_map_key(state.monitors, pid) do
        state
      else
        state = put_in(state.monitors[pid], {Process.monitor(pid), nil})
        [{key, _most} | _more] = keys
        update_in(state.queues[key], &((&1 || []) ++ [request]))
      end
    end)
  end

  defp grant(state), do: Enum.reduce(Map.keys(state.queues), state, &grant(&2, &1))

  defp grant(state, key) do
    case Enum.split_while(state.queues[key] || [], fn {_number, _pid, keys} -> not room?(state, keys) end) do
      {[], []} ->
        %{state | queues: Map.delete(state.queues, key)}

      {_blocked, []} ->
        state

      {blocked, [{number, pid, keys} | rest]} ->
        state = put_in(state.queues[key], blocked ++ rest)
        :ets.insert(state.instance.limits, {{:slot, pid}, keys})
        :ets.delete(state.instance.limits, {:wanted, number, pid})
        send(pid, :slot)
        state |> hold(pid, keys) |> grant(key)
    end
  end

  defp room?(state, keys), do: Enum.all?(keys, fn {key, most} -> Map.get(state.taken, key, 0) < most end)

  defp hold(state, pid, keys) do
    monitor = with {monitor, nil} <- state.monitors[pid], do: monitor, else: (nil -> Process.monitor(pid))
    taken = Enum.reduce(keys, state.taken, fn {key, _most}, taken -> Map.update(taken, key, 1, &(&1 + 1)) end)
    %{state | taken: taken, monitors: Map.put(state.monitors, pid, {monitor, keys})}
  end

  defp free(state, pid) do
    case Map.pop(state.monitors, pid) do
      {nil, _monitors} ->
        state

      {{monitor, keys}, monitors} ->
        Process.demonitor(monitor, [:flush])

        taken =
          Enum.reduce(keys || [], state.taken, fn {key, _most}, taken ->
            Map.update!(taken, key, &(&1 - 1))
          end)

        queues =
          Map.new(state.queues, fn {key, queue} -> {key, Enum.reject(queue, &(elem(&1, 1) == pid))} end)

        %{state | taken: taken, monitors: monitors, queues: queues}
    end
  end
end
