defmodule Pyre.Generations.TrialTest do
  use ExUnit.Case, async: true

  alias Pyre.Generations.Trial

  doctest Trial

  test "one crash may be chance, however few take part" do
    for members <- [1, 3, 100], others <- [0, 1, 1_000] do
      refute Trial.worse?(%Trial{members: members, others: others, crashes: 1})
      assert Trial.worse?(%Trial{members: members, others: others, crashes: 2})
    end
  end

  test "what hits all alike is nobody's fault, and a worse generation is found beside it" do
    trial = %Trial{members: 100, others: 900, crashes_of_others: 450}
    refute Trial.worse?(%{trial | crashes: 100})
    assert Trial.worse?(%{trial | crashes: 102})
  end

  test "crashes are counted where they happen, and who crashed is kept for the share only" do
    trial =
      %Trial{members: 1, others: 1}
      |> Trial.crashed("a", true, 1)
      |> Trial.crashed("b", false, 1)
      |> Trial.crashed("a", true, 2)

    assert %{crashes: 3, crashes_of_others: 1} = trial
    assert MapSet.to_list(trial.crashed) == ["a"]
  end
end
