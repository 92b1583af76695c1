defmodule Pyre.Lull do
  @moduledoc false

  # Has agents fall asleep now, where a test decides when. It does what the sweeper does, as if their time were over.

  import Pyre.Eventually

  alias Pyre.{Address, Instance}

  @doc "Waits until an agent is asleep by itself."
  @spec await_sleep(atom(), String.t()) :: true
  def await_sleep(pyre, id), do: eventually(fn -> asleep?(pyre, id) end)

  @doc "Has an agent that is awake fall asleep."
  @spec lull(atom(), String.t()) :: true
  def lull(pyre, id) do
    eventually(fn ->
      pid = await_hibernation(pyre, id)
      pid != nil and nudge(pyre, id, pid)
      asleep?(pyre, id)
    end)
  end

  @doc "Waits until an agent has nothing to do; gives its process, or nil where it is asleep."
  @spec await_hibernation(atom(), String.t()) :: pid() | nil
  def await_hibernation(pyre, id) do
    eventually(fn ->
      pid = Pyre.whereis(pyre, id)

      cond do
        pid == nil -> {:pid, nil}
        Process.info(pid, :current_function) == {:current_function, {:erlang, :hibernate, 3}} -> {:pid, pid}
        true -> nil
      end
    end)
    |> elem(1)
  end

  @doc "Tells a process to fall asleep, which it does unless a message is faster."
  @spec nudge(atom(), String.t(), pid()) :: :sleep
  def nudge(pyre, id, pid) do
    Address.put_sleep_at(Instance.get(pyre), id, 0)
    send(pid, :sleep)
  end

  @spec asleep?(atom(), String.t()) :: boolean()
  def asleep?(pyre, id), do: match?({:ok, %{status: :asleep}}, Pyre.info(pyre, id))
end
