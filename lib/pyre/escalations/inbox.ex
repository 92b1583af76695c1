defmodule Pyre.Escalations.Inbox do
  @moduledoc false

  # What people see of escalations, and whether an answer fits. Reads the table, changes nothing.

  alias Pyre.Agent.Starter
  alias Pyre.Escalations.Table
  alias Pyre.{Error, Instance}
  alias Pyre.Wire.MsgPack

  @statuses [:open, :decided, :all]
  @max_answer_bytes 65_536

  @doc "The escalations that a filter lets through, the oldest first."
  @spec list(Instance.t(), term()) :: [map()]
  def list(instance, filter) do
    filter = filter |> checked!() |> Keyword.put_new(:status, :open)

    for row <- Table.all(instance),
        escalation = public(row),
        Enum.all?(filter, fn {key, value} -> value == :all or Map.fetch!(escalation, key) == value end),
        do: escalation
  end

  defp checked!(filter) when is_list(filter), do: Enum.map(filter, &checked_pair!/1)
  defp checked!(other), do: refuse!(other)

  defp checked_pair!({:agent, id}) when is_binary(id), do: {:agent, id}
  defp checked_pair!({:class, class}), do: {:class, Starter.to_name!(class)}
  defp checked_pair!({:assignee, who}) when is_binary(who) or is_nil(who), do: {:assignee, who}
  defp checked_pair!({:status, status}) when status in @statuses, do: {:status, status}
  defp checked_pair!(other), do: refuse!(other)

  @spec refuse!(term()) :: no_return()
  defp refuse!(other) do
    raise ArgumentError,
          "expected the filter to hold agent: an id, class: a class, assignee: a text or nil, or status: one of " <>
            "#{inspect(@statuses)}, got: #{inspect(other, limit: 5, printable_limit: 100)}"
  end

  defp public({id, status, decision, _told, escalation}) do
    escalation
    |> Map.take([:kind, :agent, :class, :question, :options, :assignee, :default, :then])
    |> Map.merge(%{
      id: id,
      status: status,
      data: decoded(escalation.data),
      since: datetime(escalation.since),
      expires: escalation.expires && datetime(escalation.expires)
    })
    |> Map.merge(decided(decision))
  end

  defp decided(nil), do: %{}
  defp decided(decision), do: %{decision | at: datetime(decision.at)}

  defp decoded(data) do
    case MsgPack.decode(data) do
      {:ok, term} -> term
      {:error, _from_a_hostile_interpreter} -> data
    end
  end

  @doc "A stored instant as a `DateTime`."
  @spec datetime(integer()) :: DateTime.t()
  def datetime(unix_ms), do: DateTime.from_unix!(unix_ms, :millisecond)

  @doc "May this escalation be answered so?"
  @spec check_answer(Table.escalation(), term()) :: :ok | {:error, Error.t()}
  def check_answer(%{options: nil}, answer) do
    if is_binary(answer) and byte_size(answer) in 1..@max_answer_bytes and String.valid?(answer),
      do: :ok,
      else: misfit("expected the answer to be a text of 1 to #{@max_answer_bytes} bytes", answer)
  end

  def check_answer(%{options: options}, answer) do
    if answer in options,
      do: :ok,
      else: misfit("expected the answer to be one of #{Enum.map_join(options, ", ", &inspect/1)}", answer)
  end

  defp misfit(expected, answer) do
    {:error,
     Error.new(:invalid_args, "#{expected}, got: #{inspect(answer, limit: 5, printable_limit: 100)}", %{
       argument: "answer"
     })}
  end

  @doc "Why there is nothing to decide."
  @spec not_open(Table.row() | nil, term()) :: Error.t()
  def not_open(nil, id),
    do: Error.new(:not_found, "there is no escalation #{inspect(id, limit: 5, printable_limit: 50)}")

  def not_open({_id, :decided, decision, _told, _escalation}, id) do
    Error.new(:not_found, "the escalation #{id} is not open any more: #{told(decision)}", %{
      outcome: Atom.to_string(decision.outcome),
      answer: decision.answer,
      by: decision.by,
      at: DateTime.to_iso8601(datetime(decision.at))
    })
  end

  defp told(%{outcome: :answered} = decision),
    do:
      "#{decision.by} answered #{inspect(decision.answer, printable_limit: 100)} at #{datetime(decision.at)}"

  defp told(%{outcome: :dismissed} = decision),
    do: "#{decision.by} dismissed it at #{datetime(decision.at)}"

  defp told(%{outcome: :expired} = decision), do: "it expired at #{datetime(decision.at)}"

  defp told(%{outcome: :closed} = decision),
    do: "the agent or the message that asked ended at #{datetime(decision.at)}"
end
