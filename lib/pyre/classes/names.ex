defmodule Pyre.Classes.Names do
  @moduledoc false

  # Classes' names as small integers: each agent's row tells its class, and there may be a million rows. They are rows of the classes'
  # table, {{:number, name}, number} and {{:name, number}, name}. Classes are few, and nothing ever takes one out: an agent may outlive its class.

  alias Pyre.Instance

  @doc "The number of a name."
  @spec number(Instance.t(), String.t()) :: pos_integer()
  def number(%{classes: table} = instance, name) do
    case :ets.lookup(table, {:number, name}) do
      [{_key, number}] -> number
      [] -> add(instance, :binary.copy(name))
    end
  end

  # Of two who add one name the first is right. Whoever reads a number finds its name.
  defp add(%{classes: table} = instance, name) do
    number = :ets.update_counter(table, :numbers, {2, 1}, {:numbers, 0})
    :ets.insert(table, {{:name, number}, name})
    :ets.insert_new(table, {{:number, name}, number})
    number(instance, name)
  end

  @doc "The name that a number stands for."
  @spec name(Instance.t(), pos_integer()) :: String.t()
  def name(%{classes: table}, number), do: :ets.lookup_element(table, {:name, number}, 2)

  @doc "What a snapshot carries over. All else in this table the next node's interpreters tell."
  @spec carry(tuple()) :: tuple() | nil
  def carry({{kind, _name_or_number}, _the_other} = row) when kind in [:name, :number], do: row
  def carry({:numbers, _last} = row), do: row
  def carry(_row), do: nil
end
