defmodule Pyre.Chaos.Load do
  @moduledoc false

  # The senders of the soak. Each casts and calls, one after the other, and writes down what it was told.

  alias Pyre.Chaos.Ledger
  alias Pyre.{Chaos, Error, Patience, PythonError}

  @think_ms 2
  # How much longer than its deadline a call may take: the wait for the agent's verdict, and a busy machine.
  @grace_ms 3_000
  @timeouts [250, 2_000, 15_000]

  @doc "Runs all senders until then. What they saw, in figures."
  @spec run(atom(), [String.t()], Chaos.options(), :atomics.atomics_ref(), Ledger.t()) :: map()
  def run(name, ids, options, until, ledger) do
    ids = List.to_tuple(ids)

    for number <- 1..options.senders do
      Task.async(fn ->
        _seeded = :rand.seed(:exsss, {options.seed, number, 1})
        sender = %{name: name, ids: ids, id: "sender-#{number}", ledger: ledger, until: until}
        send_all(sender, %{}, %{outcomes: %{}, us: []})
      end)
    end
    |> Task.await_many(:infinity)
    |> Enum.reduce(&merge/2)
    |> summary()
  end

  defp send_all(%{until: until} = sender, numbers, seen) do
    if Chaos.over?(until) do
      seen
    else
      Patience.pause(:rand.uniform(@think_ms))
      {numbers, seen} = send_one(:rand.uniform(100), pick(sender.ids), sender, numbers, seen)
      send_all(sender, numbers, seen)
    end
  end

  defp pick(ids), do: elem(ids, :rand.uniform(tuple_size(ids)) - 1)

  defp send_one(dice, id, sender, numbers, seen) when dice <= 45 do
    number = Map.get(numbers, id, 0) + 1

    case Pyre.cast(sender.name, id, :note, %{sender: sender.id, number: number}) do
      :ok ->
        Ledger.accepted(sender.ledger, id, sender.id, number)
        {Map.put(numbers, id, number), count(seen, :cast_accepted)}

      {:error, %Error{kind: kind}} ->
        {numbers, count(seen, {:cast_refused, kind})}
    end
  end

  defp send_one(dice, id, sender, numbers, seen) when dice <= 75,
    do: {numbers, add(id, :add, %{}, id, sender, seen)}

  defp send_one(dice, id, sender, numbers, seen) when dice <= 85,
    do: {numbers, add(id, :add_in_thread, %{}, id, sender, seen)}

  defp send_one(dice, id, sender, numbers, seen) when dice <= 92 do
    target = pick(sender.ids)
    {numbers, add(id, :add_elsewhere, %{target: target}, target, sender, seen)}
  end

  defp send_one(dice, id, sender, numbers, seen) when dice <= 97 do
    {_answer, seen} = call(id, :total, %{}, sender, seen)
    {numbers, seen}
  end

  defp send_one(_dice, id, sender, numbers, seen) do
    case call(id, :fail, %{}, sender, seen) do
      {{:ok, reply}, seen} ->
        Ledger.violation(sender.ledger, "#{id}: a handler that fails answered #{inspect(reply)}")
        {numbers, seen}

      {_error, seen} ->
        {numbers, seen}
    end
  end

  # `where` is the account that adds.
  defp add(id, handler, args, where, sender, seen) do
    {answer, seen} = call(id, handler, args, sender, seen)

    _noted =
      case answer do
        {:ok, sum} -> Ledger.added(sender.ledger, where, sum)
        {:error, %PythonError{}} -> Ledger.in_doubt(sender.ledger, where)
        {:error, error} -> did_nothing?(error, id == where) || Ledger.in_doubt(sender.ledger, where)
      end

    seen
  end

  # What the errors promise. That an agent which was cancelled has committed nothing says nothing of another that it had called:
  # that one may have committed, and answered too late.
  defp did_nothing?(%Error{kind: kind}, _own?) when kind in [:deadline, :overloaded, :deadlock], do: true
  defp did_nothing?(%Error{details: %{begun: false}}, _own?), do: true
  defp did_nothing?(%Error{kind: :timeout, details: %{committed: false}}, own?), do: own?
  defp did_nothing?(_error, _own?), do: false

  defp call(id, handler, args, sender, seen) do
    timeout = Enum.random(@timeouts)
    {us, answer} = :timer.tc(fn -> Pyre.call(sender.name, id, handler, args, timeout: timeout) end)

    if div(us, 1_000) > timeout + @grace_ms,
      do:
        Ledger.violation(
          sender.ledger,
          "#{id}.#{handler}: answered after #{div(us, 1_000)} ms, its timeout was #{timeout} ms"
        )

    # An alias that was taken back lets no second answer through; what came by another way would lie here.
    receive do
      stray ->
        Ledger.violation(sender.ledger, "#{id}.#{handler}: a second answer, #{inspect(stray, limit: 5)}")
    after
      0 -> :ok
    end

    {answer, %{count(seen, outcome(answer)) | us: [us | seen.us]}}
  end

  defp outcome({:ok, _reply}), do: :ok
  defp outcome({:error, %Error{kind: kind}}), do: kind
  defp outcome({:error, %PythonError{type: type}}), do: type

  defp count(seen, outcome), do: %{seen | outcomes: Map.update(seen.outcomes, outcome, 1, &(&1 + 1))}

  defp merge(one, other),
    do: %{
      outcomes: Map.merge(one.outcomes, other.outcomes, fn _key, a, b -> a + b end),
      us: one.us ++ other.us
    }

  defp summary(%{outcomes: outcomes, us: us}) do
    sorted = us |> Enum.sort() |> List.to_tuple()
    at = fn share -> elem(sorted, min(trunc(tuple_size(sorted) * share), tuple_size(sorted) - 1)) end

    %{
      outcomes: outcomes,
      calls: tuple_size(sorted),
      p50_us: at.(0.5),
      p99_us: at.(0.99),
      max_us: at.(1.0)
    }
  end
end
