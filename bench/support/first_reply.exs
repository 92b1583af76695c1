# One sample for bench/start_bench.exs: an instance, an agent, a call. Says "reply" when it is there.
{:ok, supervisor} = Pyre.start_link(name: FirstReply, agents: Path.expand("../agents", __DIR__))
{:ok, "first"} = Pyre.start_agent(FirstReply, "Counter", id: "first", timeout: 15_000)
{:ok, 1} = Pyre.call(FirstReply, "first", :add, %{n: 1}, timeout: 15_000)
IO.puts("reply")
Supervisor.stop(supervisor)
