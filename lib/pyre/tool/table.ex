defmodule Pyre.Tool.Table do
  @moduledoc false

  # The tools that an instance offers to its agents. A row is {name, spec}; the rows are State's.

  alias Pyre.{Error, Instance}
  alias Pyre.Tool.Spec

  @doc "Offers a tool. One with the same name is replaced; what runs of it runs on."
  @spec put(Instance.t(), Spec.t()) :: :ok
  def put(instance, spec) do
    :ets.insert(instance.tools, {spec.name, spec})
    :ok
  end

  @doc "Offers a tool no more."
  @spec delete(Instance.t(), String.t()) :: :ok | {:error, Error.t()}
  def delete(instance, name) do
    case :ets.take(instance.tools, name) do
      [_row] -> :ok
      [] -> {:error, not_found(instance, name)}
    end
  end

  @doc "The tool with that name."
  @spec fetch(Instance.t(), String.t()) :: {:ok, Spec.t()} | {:error, Error.t()}
  def fetch(instance, name) do
    case :ets.lookup(instance.tools, name) do
      [{_name, spec}] -> {:ok, spec}
      [] -> {:error, not_found(instance, name)}
    end
  end

  @doc "All tools, by name."
  @spec all(Instance.t()) :: [Spec.t()]
  def all(instance), do: for({_name, spec} <- Enum.sort(:ets.tab2list(instance.tools)), do: spec)

  defp not_found(instance, name) do
    names = for {known, _spec} <- :ets.tab2list(instance.tools), do: known
    closest = Enum.max_by(names, &String.jaro_distance(&1, text(name)), fn -> "" end)

    hint =
      cond do
        names == [] -> "; there are none"
        String.jaro_distance(closest, text(name)) > 0.8 -> ", did you mean #{inspect(closest)}?"
        true -> "; the tools are #{names |> Enum.sort() |> Enum.take(20) |> Enum.join(", ")}"
      end

    Error.new(:not_found, "there is no tool #{inspect(name, limit: 5, printable_limit: 100)}#{hint}")
  end

  defp text(name), do: if(is_binary(name) and String.valid?(name), do: name, else: "")
end
