defmodule Pyre.Agent.EscalationsTest do
  use ExUnit.Case, async: true

  # What a hostile interpreter may ask.

  require Pyre.Wire, as: Wire

  alias Pyre.Agent.Escalations
  alias Pyre.Wire.MsgPack

  @key {7, 2, 1}

  setup do
    {:ok, good} = MsgPack.encode(%{question: "Go on?", options: nil, data: %Pyre.Bin{data: <<0xC0>>}})
    {:ok, state: %Pyre.Agent{id: "a", handle: 7, class: "A"}, good: good}
  end

  defp body(good, more) do
    {:ok, map} = MsgPack.decode(good)
    {:ok, body} = MsgPack.encode(Map.merge(map, more))
    body
  end

  test "what nobody understands is refused, and opens nothing", %{state: state, good: good} do
    for {body, timeout_ms} <- [
          {<<>>, 0},
          {<<0xC1>>, 0},
          {<<0x90>>, 0},
          {<<0x80>>, 0},
          {body(good, %{"question" => 1}), 0},
          {body(good, %{"options" => []}), 0},
          {body(good, %{"options" => [1]}), 0},
          {body(good, %{"data" => 1}), 0},
          {body(good, %{"assignee" => 1}), 0},
          {body(good, %{"default" => []}), 0},
          {good, -1},
          {good, "soon"}
        ] do
      assert {:error, %{kind: :protocol}} = Escalations.ask(state, @key, "1:Go on?", body, timeout_ms)
    end
  end

  test "an effect that nobody understands stays one, and others are passed on", %{state: state, good: good} do
    other = {Wire.effect_cancel_timer(), "tick"}

    for strange <- [
          {Wire.effect_escalate()},
          {Wire.effect_escalate(), 1, "then", good, 0},
          {Wire.effect_escalate(), "1:Go on?", "then", good, nil}
        ] do
      assert Escalations.open(state, %{key: @key}, [strange, other]) == {:ok, [strange, other]}
    end

    assert Escalations.open(state, %{key: @key}, []) == {:ok, []}
  end

  test "a hook can't wait", %{state: state, good: good} do
    assert {:error, %{kind: :invalid_args, message: message}} =
             Escalations.ask(state, {7, :on_start, 0}, "1:Go on?", good, 0)

    assert message =~ "on_start"
  end
end
