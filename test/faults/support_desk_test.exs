defmodule Pyre.Faults.SupportDeskTest do
  # Promise: the support desk loses no ticket and asks nobody twice, though its interpreters are killed while it works.
  use Pyre.Case, async: true

  @moduletag :fault

  @desk Path.expand("../../priv/python/examples/support_desk", __DIR__)
  @tickets @desk |> Path.join("tickets.jsonl") |> File.stream!() |> Enum.count()

  defp triaged(pyre, at_least) do
    eventually(fn ->
      case Pyre.call(pyre, "front", :status) do
        {:ok, %{"triaged" => triaged} = status} when triaged >= at_least -> status
        _not_yet -> nil
      end
    end)
  end

  test "two kills in the middle: every ticket is triaged, and each grave one is asked about once" do
    # Both a kill's restarts and the intake's own, should the front desk's interpreter die under its call.
    pyre = start_pyre!(agents: @desk, workers: 1, max_restarts: 20)
    triaged(pyre, 20)
    kill_interpreter(pyre)
    triaged(pyre, 60)
    kill_interpreter(pyre)

    %{"for a person" => waiting} = triaged(pyre, @tickets)
    inbox = eventually(fn -> with inbox when length(inbox) == waiting <- Pyre.inbox(pyre), do: inbox end)
    assert waiting > 0
    assert inbox |> Enum.uniq_by(& &1.question) |> length() == waiting
    assert Pyre.dead_letters(pyre) == []

    [%{id: id, agent: agent, data: %{"number" => number}} | _others] = inbox
    kill_interpreter(pyre)
    assert :ok = Pyre.answer(pyre, id, "fix now", by: "ada")

    eventually(fn ->
      match?({:ok, %{"cases" => %{^number => %{"status" => "urgent"}}}, _revision}, Pyre.state(pyre, agent))
    end)
  end
end
