defmodule Pyre.Integration.EscalationsTest do
  use Pyre.Case, async: true

  alias Pyre.{Error, Instance, PythonError}

  setup do
    pyre = start_pyre!()
    {:ok, pyre: pyre, id: start_agent!(pyre, "Clerk", id: "c", max_restarts: 10)}
  end

  defp open(pyre, count \\ 1) do
    eventually(fn ->
      inbox = Pyre.inbox(pyre)
      length(inbox) == count && inbox
    end)
  end

  defp decided(pyre, id, count) do
    eventually(fn ->
      {:ok, state, _revision} = Pyre.state(pyre, id)
      decided = Map.get(state, "decided", [])
      length(decided) == count && decided
    end)
  end

  describe "the inbox" do
    test "shows what is asked, and the agent works on", %{pyre: pyre, id: id} do
      assert {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 900})
      assert {:ok, "pong"} = Pyre.call(pyre, id, :ping)

      assert [
               %{
                 id: escalation,
                 status: :open,
                 kind: :question,
                 agent: "c",
                 class: "Clerk",
                 question: "Refund 900 EUR?",
                 options: ["approve", "reject"],
                 data: %{"amount" => 900, "raw" => "plain"},
                 assignee: "ada",
                 then: "decided",
                 since: %DateTime{},
                 expires: nil
               } = shown
             ] = Pyre.inbox(pyre)

      assert is_integer(escalation)
      refute is_map_key(shown, :by)
      assert Pyre.info(pyre).escalations == 1
      assert {:ok, %{escalations: 1}} = Pyre.info(pyre, id)
    end

    test "is in the agent's history, with who decided what", %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 900})
      [%{id: escalation}] = open(pyre)
      :ok = Pyre.answer(pyre, escalation, "approve", by: "grace")
      {:ok, history} = Pyre.history(pyre, id, events: [:escalation_opened, :escalation_decided])

      assert [
               %{
                 event: :escalation_opened,
                 escalation: ^escalation,
                 question: "Refund 900 EUR?",
                 assignee: "ada"
               },
               %{
                 event: :escalation_decided,
                 escalation: ^escalation,
                 outcome: :answered,
                 answer: "approve",
                 by: "grace"
               } = decided
             ] = history

      assert %DateTime{} = decided.at
    end

    test "is filtered by agent, class, assignee and status", %{pyre: pyre, id: id} do
      other = start_agent!(pyre, "EagerClerk", id: "e")
      {:ok, _nil} = Pyre.call(pyre, id, :file, %{amount: 1})
      [%{id: first}, %{id: second}] = open(pyre, 2) |> Enum.sort_by(&(&1.agent == "c"))
      assert [%{id: ^second}] = Pyre.inbox(pyre, agent: id)
      assert [%{id: ^first}] = Pyre.inbox(pyre, class: "EagerClerk", assignee: nil)
      assert [%{id: ^second}] = Pyre.inbox(pyre, assignee: "ada")
      assert Pyre.inbox(pyre, agent: other, assignee: "ada") == []
      assert Pyre.inbox(pyre, status: :decided) == []
      :ok = Pyre.answer(pyre, second, "reject", by: "ada")
      assert [%{id: ^first}] = Pyre.inbox(pyre)
      assert [%{id: ^second, by: "ada", answer: "reject"}] = Pyre.inbox(pyre, status: :decided)
      assert length(Pyre.inbox(pyre, status: :all)) == 2
    end

    test "refuses a filter that is none", %{pyre: pyre} do
      for filter <- [[status: :closed], [agent: 1], [who: "ada"], :open],
          do: assert_raise(ArgumentError, ~r/expected the filter to hold/, fn -> Pyre.inbox(pyre, filter) end)
    end

    test "keeps the last thousand of those that are decided", %{pyre: pyre, id: id} do
      for _n <- 1..1_005 do
        {:ok, _nil} = Pyre.call(pyre, id, :file_briefly)
        [%{id: escalation}] = Pyre.inbox(pyre)
        :ok = Pyre.answer(pyre, escalation, "yes", by: "ada")
      end

      decided(pyre, id, 1_005)
      kept = eventually(fn -> (kept = Pyre.inbox(pyre, status: :decided)) |> length() == 1_000 && kept end)
      assert kept |> Enum.map(& &1.id) |> Enum.min() > 5
      # The ring, its length, and the decided ones.
      assert :ets.info(Instance.get(pyre).escalations, :size) == 2_001
    end
  end

  describe "a decision" do
    setup %{pyre: pyre, id: id} do
      {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 900})
      [%{id: escalation}] = open(pyre)
      {:ok, escalation: escalation}
    end

    test "comes as a message, with who and what was carried along", context do
      %{pyre: pyre, id: id, escalation: escalation} = context
      assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")

      assert [[message, ^escalation, question, "approve", "ada", "answered", 900, "bytes"]] =
               decided(pyre, id, 1)

      assert is_integer(message)
      assert question == "Refund 900 EUR?"
      assert Pyre.inbox(pyre) == []
      assert Pyre.info(pyre).escalations == 0

      assert [%{status: :decided, outcome: :answered, answer: "approve", by: "ada", at: %DateTime{}}] =
               Pyre.inbox(pyre, status: :decided)
    end

    test "is made once", %{pyre: pyre, id: id, escalation: escalation} do
      answers =
        for who <- ["ada", "bob", "cleo", "dan"], do: {who, if(who < "c", do: "approve", else: "reject")}

      results =
        answers
        |> Task.async_stream(fn {who, answer} -> Pyre.answer(pyre, escalation, answer, by: who) end)
        |> Enum.map(fn {:ok, result} -> result end)

      assert Enum.count(results, &(&1 == :ok)) == 1
      [[_message, _id, _question, answer, by | _rest]] = decided(pyre, id, 1)
      assert {by, answer} in answers

      for {:error, error} <- results do
        assert %Error{kind: :not_found, details: %{by: ^by, answer: ^answer, outcome: "answered"}} = error
        assert error.message =~ "#{by} answered #{inspect(answer)}"
      end

      assert {:error, %Error{kind: :not_found}} = Pyre.dismiss(pyre, escalation, by: "ada")
    end

    test "must be an option, by somebody, of something", %{pyre: pyre, escalation: escalation} do
      assert {:error, %Error{kind: :invalid_args, message: message}} =
               Pyre.answer(pyre, escalation, "maybe", by: "ada")

      assert message =~ ~s("approve", "reject", got: "maybe")
      assert {:error, %Error{kind: :invalid_args}} = Pyre.answer(pyre, escalation, nil, by: "ada")
      assert {:error, %Error{kind: :not_found}} = Pyre.answer(pyre, 999_999, "approve", by: "ada")
      assert {:error, %Error{kind: :not_found}} = Pyre.dismiss(pyre, :seven, by: "ada")

      for opts <- [[], [by: ""], [by: nil], [by: "ada", at: 1]],
          do:
            assert_raise(ArgumentError, ~r/expected by:/, fn ->
              Pyre.answer(pyre, escalation, "approve", opts)
            end)

      assert [%{id: ^escalation}] = Pyre.inbox(pyre)
    end

    test "may be a dismissal", %{pyre: pyre, id: id, escalation: escalation} do
      assert :ok = Pyre.dismiss(pyre, escalation, by: "ada")

      assert [[_message, ^escalation, _question, nil, "ada", "dismissed", 900, "bytes"]] =
               decided(pyre, id, 1)

      assert {:error, %{message: message}} = Pyre.answer(pyre, escalation, "approve", by: "bob")
      assert message =~ "ada dismissed it"
    end

    test "is a dead letter where the agent is terminated", %{pyre: pyre} do
      id = start_agent!(pyre, "Clerk", id: "d", max_restarts: 0)
      {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 7})
      {:error, %PythonError{}} = Pyre.call(pyre, id, :file_briefly, %{fail: true})
      assert eventually(fn -> match?({:ok, %{status: :terminated}}, Pyre.info(pyre, id)) end)
      assert [%{id: escalation}] = Pyre.inbox(pyre, agent: id)
      assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
      assert [%{id: letter, kind: :decision, handler: "decided"}] = Pyre.dead_letters(pyre)
      :ok = Pyre.restart_agent(pyre, id)
      :ok = Pyre.retry_dead_letter(pyre, letter)
      assert [[_message, ^escalation, _question, "approve" | _rest]] = decided(pyre, id, 1)
    end

    test "waits for a place where the mailbox is full", %{pyre: pyre} do
      id = start_agent!(pyre, "Clerk", id: "d", max_mailbox: 2)
      {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 7})
      [%{id: escalation}] = Pyre.inbox(pyre, agent: id)
      :ok = Pyre.pause(pyre, {:agent, id})
      for _n <- 1..2, do: :ok = Pyre.cast(pyre, id, :ping)
      {:error, %Error{kind: :overloaded}} = Pyre.cast(pyre, id, :ping)
      assert :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
      assert {:ok, %{mailbox: 2}} = Pyre.info(pyre, id)
      :ok = Pyre.resume(pyre, {:agent, id})
      assert [[_message, ^escalation, _question, "approve" | _rest]] = decided(pyre, id, 1)
    end

    test "is nobody's once the agent is stopped", %{pyre: pyre, id: id, escalation: escalation} do
      :ok = Pyre.stop_agent(pyre, id)
      assert Pyre.inbox(pyre) == []
      assert [%{id: ^escalation, outcome: :closed, by: nil}] = Pyre.inbox(pyre, status: :decided)
      assert {:error, %Error{kind: :not_found}} = Pyre.answer(pyre, escalation, "approve", by: "ada")
      start_agent!(pyre, "Clerk", id: id)
      assert {:ok, "pong"} = Pyre.call(pyre, id, :ping)
      assert decided(pyre, id, 0) == []
    end
  end

  describe "a question with a continuation" do
    test "rides with the commit: a handler that fails has not asked", %{pyre: pyre, id: id} do
      assert {:error, %PythonError{}} = Pyre.call(pyre, id, :file_briefly, %{fail: true})
      assert {:ok, "pong"} = Pyre.call(pyre, id, :ping)
      assert Pyre.inbox(pyre, status: :all) == []
    end

    test "gives a handler what it names, and takes any text without options", %{pyre: pyre, id: id} do
      {:ok, _nil} = Pyre.call(pyre, id, :file_briefly)
      [%{id: escalation, options: nil, data: nil}] = open(pyre)
      assert {:error, %Error{kind: :invalid_args}} = Pyre.answer(pyre, escalation, "", by: "ada")
      assert :ok = Pyre.answer(pyre, escalation, "yes, but carefully", by: "ada")
      assert decided(pyre, id, 1) == [["yes, but carefully"]]
    end

    test "expires, with its default or without an answer", %{pyre: pyre, id: id} do
      {:ok, _count} = Pyre.call(pyre, id, :file, %{amount: 2, within: 0.05, default: "reject"})
      assert [[_m, _e, _q, "reject", nil, "expired", 2, "bytes"]] = decided(pyre, id, 1)
      {:ok, _count} = Pyre.call(pyre, id, :file, %{amount: 3, within: 0.05})
      assert [_first, [_m, escalation, _q, nil, nil, "expired", 3, "bytes"]] = decided(pyre, id, 2)
      assert {:error, %Error{message: message}} = Pyre.answer(pyre, escalation, "approve", by: "ada")
      assert message =~ "it expired"
    end

    test "that is answered expires no more", %{pyre: pyre, id: id} do
      {:ok, _count} = Pyre.call(pyre, id, :file, %{amount: 2, within: 0.3, default: "reject"})
      {:ok, _count} = Pyre.call(pyre, id, :file, %{amount: 3, within: 0.3, default: "reject"})
      [%{id: first}, _second] = open(pyre, 2)
      :ok = Pyre.answer(pyre, first, "approve", by: "ada")
      answers = for [_m, _e, _q, answer | _rest] <- decided(pyre, id, 2), do: answer
      assert answers == ["approve", "reject"]
    end

    test "is refused where a thousand are open, and rolls its handler back", %{pyre: pyre, id: id} do
      for _n <- 1..1_000, do: {:ok, _nil} = Pyre.call(pyre, id, :file_briefly)
      assert {:error, %Error{kind: :overloaded} = error} = Pyre.call(pyre, id, :file, %{amount: 1})
      assert error.message =~ "has 1000 open escalations"
      assert {:error, %{message: message}} = Pyre.call(pyre, id, :insist)
      assert message =~ "has 1000 open escalations"
      [%{id: escalation} | _others] = Pyre.inbox(pyre)
      :ok = Pyre.dismiss(pyre, escalation, by: "ada")
      assert {:ok, 1} = Pyre.call(pyre, id, :file, %{amount: 1})
    end

    test "may be asked by on_start, and is not asked anew by each incarnation", %{pyre: pyre} do
      eager = start_agent!(pyre, "EagerClerk", id: "e")
      [%{id: escalation}] = open(pyre)
      {:error, %PythonError{}} = Pyre.call(pyre, eager, :fail)
      :ok = Pyre.answer(pyre, escalation, "yes", by: "ada")
      assert eventually(fn -> match?({:ok, %{"told" => ["yes"]}, _revision}, Pyre.state(pyre, eager)) end)
      {:error, %PythonError{}} = Pyre.call(pyre, eager, :fail)
      [%{id: next}] = open(pyre)
      assert next > escalation
    end

    test "hooks can't wait for a person", %{pyre: pyre} do
      assert {:error, %{message: message}} =
               Pyre.start_agent(pyre, "EagerClerk", args: %{wait: true}, max_restarts: 0)

      assert message =~ "can't wait for a person"
    end
  end

  describe "a handler that waits" do
    setup do
      {:ok, folder: workspace()}
    end

    test "goes on with the answer", %{pyre: pyre, id: id, folder: folder} do
      call = Task.async(fn -> Pyre.call(pyre, id, :pay, %{folder: folder}) end)
      [%{id: escalation, then: nil, question: "Pay anna 9 EUR?"}] = open(pyre)
      :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
      assert Task.await(call) == {:ok, ["approve", "ada", "answered", "paid 9"]}
      assert Instance.escalating(Instance.get(pyre)) == 0
    end

    test "may be a plain one, in its thread", %{pyre: pyre, id: id} do
      call = Task.async(fn -> Pyre.call(pyre, id, :pay_in_thread) end)
      [%{id: escalation}] = open(pyre)
      :ok = Pyre.answer(pyre, escalation, "fine", by: "ada")
      assert Task.await(call) == {:ok, "fine"}
    end

    test "asks the same twice, and is answered twice", %{pyre: pyre, id: id} do
      call = Task.async(fn -> Pyre.call(pyre, id, :twice) end)
      [%{id: first}] = open(pyre)
      :ok = Pyre.answer(pyre, first, "once", by: "ada")
      [%{id: second}] = eventually(fn -> (inbox = Pyre.inbox(pyre)) != [] && inbox end)
      assert second > first
      :ok = Pyre.answer(pyre, second, "again", by: "ada")
      assert Task.await(call) == {:ok, ["once", "again"]}
    end

    test "gets the default when it expires, else an exception", %{pyre: pyre, id: id, folder: folder} do
      args = %{folder: folder, within: 0.05, default: "reject"}
      assert {:ok, ["reject", nil, "expired", "nothing"]} = Pyre.call(pyre, id, :pay, args)
      assert {:error, %PythonError{expected: true} = error} = Pyre.call(pyre, id, :insist, %{within: 0.05})
      assert error.type =~ "Unanswered"
      assert error.message =~ "expired before anybody answered"
    end

    test "gets an exception when it is dismissed", %{pyre: pyre, id: id} do
      call = Task.async(fn -> Pyre.call(pyre, id, :insist) end)
      [%{id: escalation}] = open(pyre)
      :ok = Pyre.dismiss(pyre, escalation, by: "ada")
      assert {:error, %PythonError{message: message}} = Task.await(call)
      assert message =~ "ada dismissed"
    end

    test "has its caller's deadline, and its question is closed with it", %{pyre: pyre, id: id} do
      assert {:error, %Error{kind: :timeout}} = Pyre.call(pyre, id, :insist, %{}, timeout: 100)
      assert eventually(fn -> Pyre.inbox(pyre) == [] end)
      assert [%{outcome: :closed}] = Pyre.inbox(pyre, status: :decided)
      assert {:ok, "pong"} = Pyre.call(pyre, id, :ping)
    end

    test "is closed when its agent is stopped", %{pyre: pyre, id: id, folder: folder} do
      :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
      open(pyre)
      :ok = Pyre.stop_agent(pyre, id)
      assert Pyre.inbox(pyre) == []
      assert Instance.escalating(Instance.get(pyre)) == 0
      assert [%{reason: :stopped, handler: "pay"}] = Pyre.dead_letters(pyre)
    end
  end

  test "the time that a person takes does not count against :max_runtime" do
    pyre = start_pyre!(max_runtime: 1_000)
    id = start_agent!(pyre, "Clerk")
    folder = workspace()
    :ok = Pyre.cast(pyre, id, :pay, %{folder: folder})
    [%{id: escalation, since: since}] = open(pyre)
    # Where it counted, the handler would have been cancelled by then, which closes the escalation.
    eventually(fn -> DateTime.diff(DateTime.utc_now(), since, :millisecond) > 3_200 end)
    assert [%{id: ^escalation}] = Pyre.inbox(pyre)
    :ok = Pyre.answer(pyre, escalation, "approve", by: "ada")
    assert [[_message, "approve", "ada", "answered", "paid 9"]] = decided(pyre, id, 1)
  end

  describe "a message that used its attempts up" do
    setup do
      {:ok, folder: workspace()}
    end

    test "is discarded as a dead letter; the agent has not been restarted", context do
      %{pyre: pyre, id: id, folder: folder} = context
      :ok = Pyre.cast(pyre, id, :fetch, %{folder: folder})
      [%{id: escalation, kind: :failure, question: question, data: data}] = open(pyre)
      assert question =~ ~s(Clerk.fetch of "c" failed 2 times: TimeoutError: attempt 2)
      assert %{"handler" => "fetch", "attempts" => 2, "error" => %{"type" => "TimeoutError"}} = data
      assert {:ok, %{restarts: 0, mailbox: 1}} = Pyre.info(pyre, id)
      :ok = Pyre.answer(pyre, escalation, "discard", by: "ada")
      assert [%{reason: :failed, handler: "fetch", error: %PythonError{}}] = Pyre.dead_letters(pyre)
      assert {:ok, %{mailbox: 0}} = Pyre.info(pyre, id)
    end

    test "is an error for its caller at once, and may be tried again all the same", context do
      %{pyre: pyre, id: id, folder: folder} = context
      assert {:error, %PythonError{type: "TimeoutError"}} = Pyre.call(pyre, id, :fetch, %{folder: folder})
      [%{id: first}] = open(pyre)
      :ok = Pyre.answer(pyre, first, "retry", by: "ada")
      [%{id: second}] = eventually(fn -> (inbox = Pyre.inbox(pyre)) not in [[]] && inbox end)
      assert second > first
      assert gate(folder, "fetch") == ["1", "2", "1", "2"]
      open_gate(folder, "fetch")
      :ok = Pyre.answer(pyre, second, "retry", by: "ada")
      assert [[_message, 1]] = decided(pyre, id, 1)
      assert Instance.escalating(Instance.get(pyre)) == 0
    end

    test "is a dead letter when its agent is stopped", %{pyre: pyre, id: id, folder: folder} do
      :ok = Pyre.cast(pyre, id, :fetch, %{folder: folder})
      open(pyre)
      :ok = Pyre.stop_agent(pyre, id)
      assert Pyre.inbox(pyre) == []
      assert [%{reason: :stopped, handler: "fetch"}] = Pyre.dead_letters(pyre)
    end
  end
end
