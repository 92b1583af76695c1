defmodule Pyre.House.LayersTest do
  use ExUnit.Case, async: true

  # Calls go downwards: the public API, agents, workers, the tables, the wire. Read from the compiled modules, which
  # know every remote call, also those that macros made.

  # Less what the tests add to the application.
  @modules Enum.reject(Application.spec(:pyre, :modules), fn module ->
             to_string(module.module_info(:compile)[:source]) =~ "/test/support/"
           end)

  # Data that every layer may make and take apart.
  @data [Pyre.Bin, Pyre.Error, Pyre.Ext, Pyre.PythonError]

  @tables [
    Pyre.Address,
    Pyre.Agent.Commits,
    Pyre.Agent.Restarts,
    Pyre.Classes,
    Pyre.DeadLetters,
    Pyre.Escalations.Table,
    Pyre.Group.Table,
    Pyre.History,
    Pyre.History.Ring,
    Pyre.Instance,
    Pyre.Mailbox,
    Pyre.Pause,
    Pyre.Tool.Runs,
    Pyre.Tool.Table
  ]
  @processes [
    Pyre.Agent,
    Pyre.Drain,
    Pyre.Reaper,
    Pyre.State,
    Pyre.Supervisor,
    Pyre.Worker,
    Pyre.Worker.Pulse
  ]

  # What may use the public API as anybody does: the display, the soak, an operator's commands, what examines, what collects figures, what
  # others test with.
  @users [
    Pyre.Chaos,
    Pyre.Chaos.Load,
    Pyre.Chaos.Monkey,
    Pyre.Console,
    Pyre.Control.Verbs,
    Pyre.Doctor,
    Pyre.Metrics,
    Pyre.Testing
  ]

  test "the wire calls nothing above it" do
    assert [] == calls(from: &wire?/1, to: &(&1 in @modules and not wire?(&1) and &1 not in @data))
  end

  test "the wire's codecs hold no process, port or table" do
    assert [] == calls(from: &wire?/1, to: &(&1 in [GenServer, Process, Port, :ets, :gen_tcp]))
  end

  test "the tables call no process" do
    assert [] == calls(from: &(&1 in @tables), to: &(&1 in @processes))
  end

  test "nothing below the public API calls it" do
    assert [] == calls(from: &(&1 not in @users and not task?(&1)), to: &(&1 == Pyre))
  end

  test "the modules named here exist" do
    assert [] == (@data ++ @tables ++ @processes ++ @users) -- @modules
  end

  defp wire?(module), do: module == Pyre.Wire or String.starts_with?(inspect(module), "Pyre.Wire.")
  defp task?(module), do: String.starts_with?(inspect(module), "Mix.")

  defp calls(from: from?, to: to?) do
    for module <- @modules, from?.(module), callee <- callees(module), to?.(callee), do: {module, callee}
  end

  defp callees(module) do
    {:ok, {^module, imports: imports}} = :beam_lib.chunks(:code.which(module), [:imports])
    for {callee, _name, _arity} <- imports, callee != module, uniq: true, do: callee
  end
end
