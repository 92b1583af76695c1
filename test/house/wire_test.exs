defmodule Pyre.House.WireTest do
  # Both sides of the wire hold the same numbers, kinds and rules. One run of Python tells them all.
  use ExUnit.Case, async: true

  alias Pyre.{Error, Wire}

  @root Path.expand("../..", __DIR__)

  @script """
  from pyre import _wire, errors
  for name in _wire.__all__:
      print("constant", name.lower(), getattr(_wire, name))
  cases = [{}, {"begun": False}, {"begun": True}, {"idempotent": True}]
  for kind in errors.KINDS:
      for number, details in enumerate(cases):
          error = errors.from_body({"kind": kind, "message": "", "details": details})
          assert error.kind == kind
          print("retryable", kind, number, str(error.retryable).lower())
  """

  @cases [%{}, %{begun: false}, %{begun: true}, %{idempotent: true}]

  setup_all do
    python = Path.join(@root, ".venv/bin/python")
    environment = [{"PYTHONPATH", Path.join(@root, "priv/python")}]
    {output, status} = System.cmd(python, ["-c", @script], env: environment, stderr_to_stdout: true)
    assert status == 0, output
    %{lines: output |> String.split("\n", trim: true) |> Enum.map(&String.split/1)}
  end

  test "version, opcodes, statuses, verbs, exit codes and limits", %{lines: lines} do
    theirs = for ["constant", name, value] <- lines, do: {name, String.to_integer(value)}
    ours = for {name, value} <- Wire.constants(), do: {Atom.to_string(name), value}
    assert Enum.sort(theirs) == Enum.sort(ours)
  end

  test "the kinds of errors, and when they are retryable", %{lines: lines} do
    theirs = for ["retryable", kind, number, value] <- lines, do: {kind, String.to_integer(number), value}

    ours =
      for kind <- Error.kinds(), {details, number} <- Enum.with_index(@cases) do
        {Atom.to_string(kind), number, to_string(Error.retryable?(Error.new(kind, "", details)))}
      end

    assert Enum.sort(theirs) == Enum.sort(ours)
  end
end
