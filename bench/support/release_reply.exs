# One sample for bench/start_bench.exs, evaluated in a release that has booted its instance: an agent, a call. Says "reply" when it is there.
:ok = Pyre.await_ready(Pyre, 15_000)
{:ok, "first"} = Pyre.start_agent(Pyre, "Counter", id: "first", timeout: 15_000)
{:ok, 1} = Pyre.call(Pyre, "first", :add, %{n: 1}, timeout: 15_000)
IO.puts("reply")
System.halt(0)
