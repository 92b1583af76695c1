defmodule PyreTest do
  use ExUnit.Case, async: true

  doctest Pyre

  test "a name that no instance has raises in the caller, and says what to do" do
    assert_raise ArgumentError, ~r/no Pyre instance named Nobody is running; put \{Pyre, name: Nobody/, fn ->
      Pyre.call(Nobody, "a", :add)
    end
  end

  test "an instance that is no name is refused" do
    assert_raise ArgumentError, "expected the instance to be its name, an atom, got: \"x\"", fn ->
      Pyre.info("x")
    end
  end

  test "a wrong option raises where the specification is made, not in a supervisor" do
    assert_raise ArgumentError, ~r/did you mean :workers/, fn -> Pyre.child_spec(worker: 2) end
  end
end
