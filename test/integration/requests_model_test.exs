defmodule Pyre.Integration.RequestsModelTest do
  # Calls, casts, cancellations, deadlines and looks, in random order, against what must hold in any: each call has one result, what
  # `cancel` and `status` said is what came of it, and the committed state counts exactly what was answered.
  use Pyre.Case, async: true

  alias Pyre.Error

  @steps 250

  for seed <- 1..4 do
    test "seed #{seed}" do
      :rand.seed(:exsss, {unquote(seed), 0, 0})
      pyre = start_pyre!()
      {:ok, "a"} = Pyre.start_agent(pyre, "Waiter", id: "a")

      model = Enum.reduce(1..@steps, %{open: [], counts: [], casts: 0}, fn _n, model -> step(pyre, model) end)
      model = Enum.reduce(model.open, %{model | open: []}, &finish/2)

      # One whose agent didn't say in time may have been committed, or not: there is none on a machine that keeps up.
      assert Enum.uniq(model.counts) == model.counts
      assert Pyre.call!(pyre, "a", :count, %{}, timeout: 20_000) == length(model.counts) + model.casts
      assert Process.info(self(), :messages) == {:messages, []}
      # What was answered is counted out just after its answer.
      eventually(fn -> match?({:ok, %{restarts: 0, mailbox: 0}}, Pyre.info(pyre, "a")) end)
    end
  end

  defp step(pyre, model) do
    case :rand.uniform(10) do
      n when n <= 4 -> %{model | open: [{call(pyre), nil} | model.open]}
      n when n <= 6 -> cast(pyre, model)
      _look_or_end when model.open == [] -> model
      n -> model.open |> Enum.random() |> touch(n, model)
    end
  end

  defp call(pyre) do
    opts = [timeout: Enum.random([0, 2, 10, 20_000, 20_000])]
    {:ok, request} = Pyre.call_async(pyre, "a", :add_soon, %{seconds: Enum.random([0, 0, 0.002])}, opts)
    request
  end

  defp cast(pyre, model) do
    :ok = Pyre.cast(pyre, "a", :add)
    %{model | casts: model.casts + 1}
  end

  defp touch({request, nil} = open, 7, model) do
    verdict = Pyre.cancel(request)
    assert verdict in [:cancelled, :already_done]
    %{model | open: [{request, verdict} | List.delete(model.open, open)]}
  end

  defp touch({request, _said} = open, 8, model) do
    case Pyre.status(request) do
      :done -> %{model | open: [{request, :done} | List.delete(model.open, open)]}
      _under_way -> model
    end
  end

  defp touch(open, _await, model), do: finish(open, %{model | open: List.delete(model.open, open)})

  defp finish({request, said}, model) do
    result = Pyre.await(request)
    check(said, result)

    case result do
      {:ok, count} ->
        %{model | counts: [count | model.counts]}

      {:error, %Error{kind: kind, details: details}} ->
        assert kind in [:cancelled, :deadline, :timeout]
        assert Map.get(details, :committed, false) == false
        model
    end
  end

  defp check(nil, _result), do: :ok
  defp check(:done, _result), do: :ok
  defp check(:already_done, result), do: refute(match?({:error, %Error{kind: :cancelled}}, result))
  # Its deadline had passed before, perhaps, and it was still being cancelled.
  defp check(:cancelled, {:error, %Error{kind: kind}}), do: assert(kind in [:cancelled, :timeout])
end
