defmodule Pyre.Timers.CronTest do
  # The expressions and zones are read by Python. One run of it tells, for many of them and many instants, what its own
  # arithmetic gives, which its tests hold against the zone database.
  use ExUnit.Case, async: true

  alias Pyre.Timers.{Cron, Schedule}

  @root Path.expand("../../..", __DIR__)

  @script """
  import datetime as dt, random, sys
  from pyre import _cron
  random.seed(int(sys.argv[1]))
  expressions = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */6 * * mon-fri", "0 9 * * mon",
                 "0 0 29 2 *", "59 23 31 * *", "0 12 13 * fri", "10 0 1 1,7 *", "5 * * 3,10 sun"]
  zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
  start = int(dt.datetime.now(dt.UTC).timestamp())
  for expression in expressions:
      for zone in zones:
          fields, changes = _cron.parse(expression), _cron.changes(zone)
          turns = [since for since, _ in _cron.CHANGE.iter_unpack(changes)][1:9]
          near = [turn + delta for turn in turns for delta in (-3600, -1, 0, 1799, 3600)]
          for after in [*near, *(start + random.randrange(10 * 365 * 86400) for _ in range(20))]:
              print(*fields, changes.hex(), after, _cron.next_run(fields, changes, after))
  """

  test "the next run is the one that the interpreter's arithmetic gives" do
    lines = python(@script, ["#{:rand.uniform(1_000_000)}"])
    assert length(lines) > 2_000

    for line <- lines do
      [minutes, hours, days, months, weekdays, either, zone, instant, next] = String.split(line)
      fields = {int(minutes), int(hours), int(days), int(months), int(weekdays), either == "1"}

      assert Cron.next(fields, Base.decode16!(zone, case: :lower), int(instant) * 1_000) == int(next) * 1_000,
             line
    end
  end

  describe "a schedule:" do
    setup do
      %{nine: {:cron, {1, Bitwise.bsl(1, 9), -1, -1, -1, false}, <<-1::64, 3_600::32>>, 0, :run_once, false}}
    end

    # 1970-01-02 09:00 at UTC+1.
    @run 86_400_000 + 8 * 3_600_000
    @day 86_400_000

    test "missed runs: one, none, all", %{nine: nine} do
      late = {0, @run + 2 * @day + 120_000}
      assert Schedule.fire(nine, @run, late) == {true, @run + 3 * @day}
      assert Schedule.fire(put_elem(nine, 4, :skip), @run, late) == {false, @run + 3 * @day}
      assert Schedule.fire(put_elem(nine, 4, :run_all), @run, late) == {true, @run + @day}
    end

    test "a clock that is set back a little repeats no run, one that was far ahead is forgotten", %{
      nine: nine
    } do
      assert Schedule.replan(nine, @run + @day, {0, @run - 1_800_000}, 3_600_000) == @run + @day
      assert Schedule.replan(nine, @run + 400 * @day, {0, @run - 1_800_000}, 400 * @day) == @run
    end
  end

  defp int(text), do: String.to_integer(text)

  defp python(script, args) do
    environment = [{"PYTHONPATH", Path.join(@root, "priv/python")}]
    python = Path.join(@root, ".venv/bin/python")
    {output, status} = System.cmd(python, ["-c", script | args], env: environment, stderr_to_stdout: true)
    assert status == 0, output
    String.split(output, "\n", trim: true)
  end
end
