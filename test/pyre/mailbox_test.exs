defmodule Pyre.MailboxTest do
  # The tables alone: no agent's process, no interpreter.
  use ExUnit.Case, async: true

  alias Pyre.{Address, Error, Instance, Mailbox, State}
  alias Pyre.Agent.Waits

  setup context do
    name = Module.concat(__MODULE__, "I#{:erlang.phash2(context.test)}")
    start_supervised!({State, Instance.config(name: name, max_mailbox: 5)})
    instance = Instance.fetch!(name)
    true = Address.reserve(instance, "a", "Counter", <<0x80>>, [])
    {:ok, %{handle: handle}} = Address.fetch(instance, "a")
    %{instance: instance, handle: handle}
  end

  defp put(instance, args, reply_to \\ nil), do: Mailbox.put(instance, "a", :cast, "add", args, 0, reply_to)

  defp args(instance, handle) do
    for message <- Mailbox.waiting(instance, handle), do: message.args
  end

  test "messages wait in the order in which one sender put them", %{instance: instance, handle: handle} do
    for n <- 1..5, do: {:ok, _key} = put(instance, <<n>>)
    assert args(instance, handle) == [<<1>>, <<2>>, <<3>>, <<4>>, <<5>>]
    assert Mailbox.next(instance, handle).args == <<1>>
  end

  test "a stop overtakes what waits", %{instance: instance, handle: handle} do
    {:ok, _key} = put(instance, <<1>>)
    {:ok, key} = Mailbox.put(instance, "a", :stop, <<>>, :delete, 0, nil)
    assert Mailbox.next(instance, handle).key == key
  end

  test "the bound is exact, also with many senders at once", %{instance: instance, handle: handle} do
    results =
      1..50
      |> Enum.map(fn n -> Task.async(fn -> put(instance, <<n>>) end) end)
      |> Task.await_many()

    assert Enum.count(results, &match?({:ok, _key}, &1)) == 5
    assert Enum.count(results, &match?({:error, %Error{kind: :overloaded}}, &1)) == 45
    assert length(Mailbox.waiting(instance, handle)) == 5
    assert {:ok, %{mailbox: 5, mailbox_bytes: 5}} = Address.fetch(instance, "a")
  end

  test "a message that has ended makes room", %{instance: instance, handle: handle} do
    for n <- 1..5, do: {:ok, _key} = put(instance, <<n>>)
    assert {:error, %Error{kind: :overloaded, details: %{retry_after_ms: _}}} = put(instance, <<6>>)
    Mailbox.delete(instance, "a", Mailbox.next(instance, handle))
    assert {:ok, _key} = put(instance, <<6>>)
  end

  test "one of two takes a message: who runs it, or who withdraws it", %{instance: instance, handle: handle} do
    {:ok, key} = put(instance, <<1>>)

    winners =
      1..20
      |> Enum.map(fn n ->
        Task.async(fn ->
          if rem(n, 2) == 0, do: Mailbox.claim(instance, key), else: Mailbox.withdraw(instance, "a", key)
        end)
      end)
      |> Task.await_many()
      |> Enum.count(& &1)

    assert winners == 1
    assert Mailbox.next(instance, handle) == nil
  end

  test "a message that is withdrawn twice is counted out once", %{instance: instance, handle: handle} do
    {:ok, _key} = put(instance, <<1>>)
    message = Mailbox.next(instance, handle)
    Mailbox.delete(instance, "a", message)
    Mailbox.delete(instance, "a", message)
    assert {:ok, %{mailbox: 0, mailbox_bytes: 0}} = Address.fetch(instance, "a")
  end

  test "a message given back keeps its place", %{instance: instance, handle: handle} do
    for n <- 1..3, do: {:ok, _key} = put(instance, <<n>>)
    first = Mailbox.next(instance, handle)
    assert Mailbox.claim(instance, first.key)
    assert Mailbox.next(instance, handle).args == <<2>>
    Mailbox.unclaim(instance, first.key, 2)
    assert %{args: <<1>>, attempt: 2} = Mailbox.next(instance, handle)
  end

  test "a mailbox takes nothing for an unknown, a terminated or a stopped agent", %{instance: instance} do
    assert {:error, %Error{kind: :not_found}} = Mailbox.put(instance, "b", :cast, "add", <<>>, 0, nil)
    Address.put_status(instance, "a", :terminated)
    assert {:error, %Error{kind: :terminated}} = put(instance, <<1>>)
    Address.put_status(instance, "a", :stopping)
    assert {:error, %Error{kind: :stopped}} = put(instance, <<1>>)
    assert {:ok, %{mailbox: 0}} = Address.fetch(instance, "a")
  end

  test "with the intake closed only a stop is taken", %{instance: instance} do
    Instance.close(instance)
    assert {:error, %Error{kind: :stopping}} = put(instance, <<1>>)
    assert {:ok, _key} = Mailbox.put(instance, "a", :stop, <<>>, :delete, 0, nil)
  end

  test "at the end callers are answered, and the others told", %{instance: instance} do
    ref = make_ref()
    {:ok, _key} = put(instance, <<1>>)
    {:ok, _key} = put(instance, <<2>>, {:caller, ref, :erlang.alias(), self()})
    assert :ok == Mailbox.refuse_all(instance, Error.new(:stopping, "over"))
    assert_received {^ref, 1, %Error{kind: :stopping}}
    assert [{"a", %{kind: :cast, args: <<1>>}}] = Mailbox.without_caller(instance)
  end

  describe "who waits for whom" do
    test "a circle is refused, with the ids in it", %{instance: instance} do
      assert :ok = Waits.add(instance, "a", "b", 1)
      assert :ok = Waits.add(instance, "b", "c", 2)
      assert {:deadlock, ["c", "a", "b", "c"]} = Waits.add(instance, "c", "a", 3)
    end

    test "an agent that calls itself is a circle of one", %{instance: instance} do
      assert {:deadlock, ["a", "a"]} = Waits.add(instance, "a", "a", 1)
    end

    test "what is refused leaves no edge, and what has ended opens the circle", %{instance: instance} do
      :ok = Waits.add(instance, "a", "b", 1)
      {:deadlock, _circle} = Waits.add(instance, "b", "a", 2)
      Waits.remove(instance, "a", "b", 1)
      assert :ok = Waits.add(instance, "b", "a", 3)
    end

    test "two calls to one agent are two edges", %{instance: instance} do
      :ok = Waits.add(instance, "a", "b", 1)
      :ok = Waits.add(instance, "a", "b", 2)
      Waits.remove(instance, "a", "b", 1)
      assert {:deadlock, _circle} = Waits.add(instance, "b", "a", 3)
    end

    test "two who close a circle at once are never both let through", %{instance: instance} do
      for n <- 1..200 do
        {x, y} = {"x#{n}", "y#{n}"}

        results =
          [{x, y}, {y, x}]
          |> Enum.map(fn {from, to} -> Task.async(fn -> Waits.add(instance, from, to, n) end) end)
          |> Task.await_many()

        refute results == [:ok, :ok]
      end
    end
  end
end
