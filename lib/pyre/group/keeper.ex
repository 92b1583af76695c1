defmodule Pyre.Group.Keeper do
  @moduledoc false

  # Watches the groups that are in no other: one that used its intensity up is terminated, with all agents in it, so that who waits for
  # them is told. Starts them again after the loss of their supervisor. Makes supervisors forget the agents that were stopped.
  #
  # It stands after Pyre.Group.Supervisor in the tree, so at a shutdown it ends first and takes no group's end for a failure.

  use GenServer

  require Logger

  alias Pyre.Agent.{Ending, Restarts}
  alias Pyre.{Address, Classes, Error, Group, Instance, Patience}
  alias Pyre.Group.Table

  defstruct [:instance, monitors: %{}]

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  ## Callbacks

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Instance.register(instance, :groups)
    {:ok, %__MODULE__{instance: instance}, {:continue, :catch_up}}
  end

  @impl GenServer
  def handle_continue(:catch_up, %{instance: instance} = state) do
    :ok = repopulate(instance)
    # What a predecessor had begun to close is closed.
    for %{status: :failing} = row <- Table.top(instance), do: close(instance, row)
    {:noreply, Enum.reduce(Table.top(instance), state, &look(&2, &1.name))}
  end

  @impl GenServer
  def handle_info({:look, group}, state), do: {:noreply, look(state, group)}

  def handle_info(:repopulate, state) do
    :ok = repopulate(state.instance)
    {:noreply, state}
  end

  # A group's supervisor may be shutting its children down, which may take its time.
  def handle_info({:forgotten, group, child}, %{instance: instance} = state) do
    spawn(fn -> Group.tidy(instance, group, child) end)
    {:noreply, state}
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, state) do
    {group, monitors} = Map.pop(state.monitors, monitor)
    {:noreply, look(%{state | monitors: monitors}, group)}
  end

  ## Helpers

  # A group that should run is among the supervisor's children, or it has failed: unless that supervisor itself is new.
  defp look(%{instance: instance} = state, group) do
    # In this order: a group that is started meanwhile is not missed among the children.
    with {:ok, %{status: status, pid: pid} = row} when status in [:running, :stopping] and is_pid(pid) <-
           Table.fetch(instance, group),
         {:ok, children} <- Group.Supervisor.children(instance) do
      cond do
        pid in children -> watch(state, group, pid)
        Instance.closed?(instance) or :ets.member(instance.processes, {:empty, :groups}) -> state
        true -> failed(state, row)
      end
    else
      _nothing_to_watch -> state
    end
  end

  defp watch(state, group, pid) do
    if group in Map.values(state.monitors),
      do: state,
      else: %{state | monitors: Map.put(state.monitors, Process.monitor(pid), group)}
  end

  # Whoever is stopping it waits for agents that have no process any more.
  defp failed(%{instance: instance} = state, %{status: :stopping} = row) do
    with {:ok, %{status: :stopping, pid: pid}} when pid == row.pid <- Table.fetch(instance, row.name),
         do: :ok = terminate_all(instance, row)

    state
  end

  defp failed(%{instance: instance} = state, row) do
    if Table.fail(instance, row.name, row.pid), do: close(instance, row)
    state
  end

  # It is :terminated once all in it are: who starts it again then meets no agent that is still to be told.
  defp close(instance, row) do
    Logger.error(failure(row).message, pyre: instance.name)
    :ok = terminate_all(instance, row)
    Table.change_status(instance, row.name, :failing, :terminated)
  end

  defp failure(row) do
    Error.new(
      :terminated,
      "the group #{inspect(row.name)} is terminated: more than #{row.max_restarts} restarts in #{row.max_seconds} s" <>
        culprit(row.blame),
      %{last_error: row.blame && row.blame |> elem(1) |> Exception.message()}
    )
  end

  defp culprit(nil), do: ""
  defp culprit({id, error}), do: ", the last one for the agent #{inspect(id)}: #{Exception.message(error)}"

  defp terminate_all(instance, row),
    do: terminate_all(instance, row.name, row.blame && elem(row.blame, 0), failure(row))

  defp terminate_all(instance, group, culprit, error) do
    Enum.each(Table.children(instance, group), fn
      {:agent, id} ->
        terminate_agent(instance, id, culprit, error)

      {:group, nested} ->
        Table.put_status(instance, nested, :terminated)
        terminate_all(instance, nested, culprit, error)
    end)
  end

  defp terminate_agent(instance, id, culprit, error) do
    with {:ok, %{status: status, handle: handle, class: class}} when status != :terminated <-
           Address.fetch(instance, id) do
      # The culprit has an error of its own.
      if id != culprit, do: Restarts.note(instance, handle, error)
      _note = Table.left(instance, id)
      Ending.terminated(%{instance: instance, id: id, handle: handle, class: class, stop: nil})
    end
  end

  # As the starter does it for agents: the mark is taken away last, and only that of this very process.
  defp repopulate(instance), do: if(Classes.told?(instance), do: revive_all(instance), else: :ok)

  defp revive_all(instance) do
    Enum.each(:ets.lookup(instance.processes, {:empty, :groups}), fn mark ->
      running =
        for %{status: status, pid: pid} = row when status in [:running, :stopping] and is_pid(pid) <-
              Table.top(instance),
            do: row

      Enum.each(running, &revive(instance, &1.name, &1.pid))
      :ets.delete_object(instance.processes, mark)
    end)
  end

  defp revive(instance, group, pid) do
    with {:ok, children} <- Group.Supervisor.children(instance),
         false <- pid in children do
      Patience.await_end(pid)
      Group.Supervisor.start_child(instance, group)
    end
  end
end
