defmodule Pyre.CastMany do
  @moduledoc false

  # Many casts at once from one process: those to one agent go into its mailbox together, and wake it once.

  alias Pyre.Agent.Starter
  alias Pyre.{Error, Instance, Mailbox}

  @type cast :: {Pyre.id(), binary(), binary()}

  @doc "Puts the casts into the mailboxes; the results are in the order of the casts."
  @spec run(Instance.t(), [cast() | {:error, Error.t()}], keyword()) :: [:ok | {:error, Pyre.error()}]
  def run(instance, casts, opts) do
    results =
      casts
      |> by_agent()
      |> Enum.flat_map(fn {id, {numbers, messages}} ->
        Enum.zip(Enum.reverse(numbers), put(instance, id, Enum.reverse(messages), opts))
      end)

    Instance.count(instance, :casts, Enum.count(results, &match?({_number, {:ok, _key}}, &1)))
    in_order(casts, Enum.sort(results), 0)
  end

  # Newest first, with their numbers in the list.
  defp by_agent(casts) do
    casts
    |> Enum.with_index()
    |> Enum.reduce(%{}, fn
      {{:error, _unusable}, _number}, agents ->
        agents

      {{id, handler, args}, number}, agents ->
        case agents do
          %{^id => {numbers, messages}} ->
            %{agents | id => {[number | numbers], [{handler, args} | messages]}}

          %{} ->
            Map.put(agents, id, {[number], [{handler, args}]})
        end
    end)
  end

  defp put(instance, id, messages, opts) do
    case Starter.ensure(instance, id, opts[:start]) do
      :ok -> Mailbox.put_casts(instance, id, messages, opts[:priority])
      {:error, error} -> for _message <- messages, do: {:error, error}
    end
  end

  defp in_order([], [], _number), do: []

  defp in_order([{:error, error} | casts], results, number),
    do: [{:error, error} | in_order(casts, results, number + 1)]

  defp in_order([_cast | casts], [{number, result} | results], number),
    do: [told(result) | in_order(casts, results, number + 1)]

  defp told({:ok, _key}), do: :ok
  defp told({:error, error}), do: {:error, error}
end
