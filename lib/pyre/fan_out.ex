defmodule Pyre.FanOut do
  @moduledoc false

  # Many calls at once from one process: so many under way at a time, one deadline for all, the results in the order of the calls.

  alias Pyre.{Error, Instance, Request}
  alias Pyre.Agent.Client
  alias Pyre.Wire.Body

  @type call :: {Pyre.id(), binary(), binary()}
  @type result :: {:ok, term()} | {:error, Pyre.error()}

  # How often one who waits long looks whether the instance is still there.
  @look_ms 1_000

  @doc "Makes the calls; `timeout` is for all of them."
  @spec run(Instance.t(), [call() | {:error, Error.t()}], timeout(), pos_integer()) :: [result()]
  def run(instance, calls, timeout, most) do
    state = %{
      instance: instance,
      deadline: Client.deadline(timeout),
      timeout: timeout,
      under_way: %{},
      results: %{}
    }

    left = Enum.with_index(calls)
    results = left |> fill(state, most) |> collect(most)
    for {_call, at} <- left, do: Map.fetch!(results, at)
  end

  # Begins calls until so many are under way; gives those that are left.
  defp fill([], state, _most), do: {[], state}
  defp fill(left, %{under_way: under_way} = state, most) when map_size(under_way) >= most, do: {left, state}

  defp fill([{call, at} | rest], state, most) do
    case open(call, state) do
      {:ok, request} -> fill(rest, put_in(state.under_way[request.ref], {at, request}), most)
      {:error, error} -> fill(rest, put_in(state.results[at], {:error, error}), most)
    end
  end

  defp open({:error, _error} = error, _state), do: error

  defp open({id, handler, body}, %{deadline: deadline} = state) do
    case Client.left(deadline) do
      0 -> {:error, Error.new(:deadline, "the deadline passed before the call was made; it did not run")}
      left -> Request.open(state.instance, id, handler, body, left)
    end
  end

  defp collect({[], %{under_way: under_way, results: results}}, _most) when under_way == %{}, do: results

  defp collect({left, %{under_way: under_way} = state}, most) do
    receive do
      {ref, status, body} when is_map_key(under_way, ref) ->
        {{at, _request}, under_way} = Map.pop!(under_way, ref)
        result = Body.to_result(status, Client.own(body))
        left |> fill(%{put_in(state.results[at], result) | under_way: under_way}, most) |> collect(most)
    after
      min(Client.left(state.deadline), @look_ms) ->
        if Client.left(state.deadline) == 0 or not Instance.there?(state.instance),
          do: {left, state} |> cut() |> collect(most),
          else: collect({left, state}, most)
    end
  end

  # Each says for itself what became of it.
  defp cut({left, %{under_way: under_way} = state}) do
    late = for {_ref, {at, request}} <- under_way, into: %{}, do: {at, Request.await(request, :infinity)}
    fill(left, %{state | under_way: %{}, results: Map.merge(state.results, late)}, length(left) + 1)
  end
end
