defmodule Pyre.Limits do
  @moduledoc false

  # How fast messages may come, and how much may be spent. The rows are State's, and anybody may count in them:
  #
  #   {{:rate, key}, instant}                  when the next message would come if all came evenly, in microseconds
  #   {{:limit, scope, unit}, most, per}       a budget, in millionths
  #   {{:spent, scope, unit, window}, amount}  what was spent, in millionths: in all (window 0), or in the current one
  #
  # A rate is kept by the generic cell rate algorithm (ITU-T I.371, as used for leaky buckets): one integer for a bucket, counted up in
  # one step, so that nobody waits for anybody. Who sets no limit pays for one look at a flag.

  alias Pyre.{Address, Classes, Error, Instance}

  @limited [:call, :cast, :stream, :event]
  @million 1_000_000
  @seconds %{minute: 60, hour: 3_600, day: 86_400}

  @type scope :: :instance | {:agent, Address.id()} | {:class, String.t()} | {:tenant, String.t()}
  @type per :: :total | :minute | :hour | :day

  ## How fast messages may come

  @doc "May a message come now? Asked before it is counted in."
  @spec admit(Instance.t(), Address.id(), atom()) :: :ok | {:error, Error.t()}
  def admit(instance, id, kind) when kind in @limited,
    do: if(Instance.limited?(instance), do: check(instance, id), else: :ok)

  def admit(_instance, _id, _control), do: :ok

  defp check(%{config: %{limits: limits}} = instance, id) do
    with {:ok, %{handle: handle, class: class, opts: opts}} <- Address.fetch(instance, id),
         own = opts[:rate_limit] || Classes.limit(instance, class, "rate_limit"),
         :ok <- take(instance, {:agent, handle}, own, "the agent #{inspect(id)} takes"),
         do: take(instance, {:class, class}, get_in(limits, [class, :rate]), "all agents of #{class} take"),
         else:
           (
             :error -> :ok
             error -> error
           )
  end

  defp take(_instance, _key, nil, _who), do: :ok

  defp take(%{limits: table}, key, {count, period_ms}, who) do
    now = System.monotonic_time(:microsecond)
    step = div(period_ms * 1_000, count)

    # Not before now (where it is later a microsecond is taken from it), and one message further.
    [at, due] = :ets.update_counter(table, {:rate, key}, [{2, -1, now, now}, {2, step}], {{:rate, key}, now})
    early = due - now - count * step

    if early > 0 do
      # As if it had not come, to the microsecond: who is refused tries again at once, and often.
      :ets.update_counter(table, {:rate, key}, {2, if(at == now, do: -step, else: 1 - step)})

      {:error,
       Error.new(:rate_limited, "#{who} #{count} messages in #{period_ms} ms, and this is one too many", %{
         retry_after_ms: div(early, 1_000) + 1,
         limit: count,
         period_ms: period_ms
       })}
    else
      :ok
    end
  end

  ## How much may be spent

  @doc "Sets a budget; nil takes it back."
  @spec set_budget(Instance.t(), scope(), String.t(), number() | nil, per()) :: :ok
  def set_budget(%{limits: table} = instance, scope, unit, nil, _per) do
    :ets.delete(table, {:limit, scope, unit})
    clear(instance, scope, unit)
  end

  def set_budget(%{limits: table} = instance, scope, unit, most, per) do
    :ets.insert(table, {{:limit, scope, unit}, round(most * @million), per})
    Instance.limit(instance)
  end

  @doc "Forgets what was spent."
  @spec reset(Instance.t(), scope()) :: :ok
  def reset(instance, scope), do: clear(instance, scope, :_)

  defp clear(%{limits: table}, scope, unit) do
    :ets.match_delete(table, {{:spent, scope, unit, :_}, :_})
    :ok
  end

  @doc "An agent has spent something: it rides with the commit of its message."
  @spec spend(Instance.t(), Pyre.Agent.t(), String.t(), non_neg_integer()) :: :ok
  def spend(%{limits: table} = instance, state, unit, millionths) do
    for scope <- scopes(instance, state), window <- windows(table, scope, unit) do
      key = {:spent, scope, unit, window}
      :ets.update_counter(table, key, {2, millionths}, {key, 0})
    end

    :ok
  end

  defp windows(table, scope, unit) do
    case :ets.lookup(table, {:limit, scope, unit}) do
      [{_key, _most, per}] when per != :total ->
        window = window(per)
        # Those that are over are of no use any more.
        :ets.select_delete(table, [
          {{{:spent, scope, unit, :"$1"}, :_}, [{:"/=", :"$1", 0}, {:"/=", :"$1", window}], [true]}
        ])

        [0, window]

      _all_time ->
        [0]
    end
  end

  defp window(:total), do: 0
  defp window(per), do: div(System.os_time(:second), @seconds[per])

  defp scopes(instance, %{id: id, class: class}) do
    tenant =
      with {:ok, %{opts: opts}} <- Address.fetch(instance, id),
           {:tenant, key} <- opts[:isolation],
           do: [{:tenant, key}],
           else: (_none -> [])

    [:instance, {:agent, id}, {:class, class} | tenant]
  end

  @doc "Why an agent may run nothing now, where a budget is used up."
  @spec exhausted(Instance.t(), Pyre.Agent.t()) :: Error.t() | nil
  def exhausted(instance, state) do
    if Instance.limited?(instance) do
      Enum.find_value(scopes(instance, state), fn scope ->
        Enum.find_value(limits(instance, scope), fn {unit, most, per} ->
          spent = spent(instance, scope, unit, window(per))
          spent >= most && used_up(scope, unit, {spent, most, per})
        end)
      end)
    end
  end

  defp limits(%{limits: table}, scope),
    do: :ets.select(table, [{{{:limit, scope, :"$1"}, :"$2", :"$3"}, [], [{{:"$1", :"$2", :"$3"}}]}])

  defp spent(%{limits: table}, scope, unit, window) do
    case :ets.lookup(table, {:spent, scope, unit, window}) do
      [{_key, amount}] -> amount
      [] -> 0
    end
  end

  defp used_up(scope, unit, {spent, most, per}) do
    Error.new(
      :budget_exhausted,
      "the budget of #{words(scope)} is used up: #{amount(spent)} of #{amount(most)} #{unit}#{period(per)}",
      Map.merge(%{unit: unit, spent: amount(spent), limit: amount(most)}, again(per))
    )
  end

  defp words(:instance), do: "the instance"
  defp words({kind, name}), do: "the #{kind} #{inspect(name)}"
  defp period(:total), do: ""
  defp period(per), do: " a #{per}"
  defp again(:total), do: %{}

  defp again(per),
    do: %{retry_after_ms: 1_000 * (@seconds[per] - rem(System.os_time(:second), @seconds[per]))}

  # 7 tokens, and 0.25 USD.
  defp amount(millionths) when rem(millionths, @million) == 0, do: div(millionths, @million)
  defp amount(millionths), do: millionths / @million

  @doc "What was spent, and may be: by unit, maps with `spent`, and `limit` and `per` where there is a budget."
  @spec budget(Instance.t(), scope()) :: %{String.t() => map()}
  def budget(%{limits: table} = instance, scope) do
    limits = Map.new(limits(instance, scope), fn {unit, most, per} -> {unit, {most, per}} end)
    units = :ets.select(table, [{{{:spent, scope, :"$1", 0}, :_}, [], [:"$1"]}])

    for unit <- Enum.uniq(units ++ Map.keys(limits)), into: %{} do
      case limits do
        %{^unit => {most, per}} ->
          {unit, %{spent: amount(spent(instance, scope, unit, window(per))), limit: amount(most), per: per}}

        _no_limit ->
          {unit, %{spent: amount(spent(instance, scope, unit, 0))}}
      end
    end
  end

  @doc "An agent is gone for good; what its class and tenant have spent stays."
  @spec delete(Instance.t(), Address.id(), pos_integer()) :: :ok
  def delete(%{limits: table} = instance, id, handle) do
    if Instance.limited?(instance) do
      :ets.delete(table, {:rate, {:agent, handle}})
      :ets.match_delete(table, {{:spent, {:agent, id}, :_, :_}, :_})
      :ets.match_delete(table, {{:limit, {:agent, id}, :_}, :_, :_})
    end

    :ok
  end

  @doc "What a snapshot carries over: the rates begin anew."
  @spec carry(tuple()) :: tuple() | nil
  def carry({key, _value} = row) when elem(key, 0) == :spent, do: row
  def carry({{:limit, _scope, _unit}, _most, _per} = row), do: row
  def carry(_rate_or_slot), do: nil
end
