defmodule Pyre.House.NothingGlobalTest do
  # An instance in a host's tree touches nothing of the host's but what it was asked for. Not beside others, which start instances too.
  use Pyre.Case, async: false

  defp world do
    %{
      registered: MapSet.new(Process.registered()),
      environment: System.get_env(),
      application: Application.get_all_env(:pyre),
      applications: Enum.map(Application.started_applications(), &elem(&1, 0)) |> Enum.sort(),
      logger: {Logger.level(), :logger.get_config()},
      directory: File.cwd!(),
      signals: Process.whereis(:erl_signal_server) |> :sys.get_state() |> length()
    }
  end

  test "a life of an instance registers its own name and that of its events, and changes nothing else" do
    before = world()
    name = :"pyre_#{System.unique_integer([:positive])}"
    {:ok, supervisor} = Pyre.start_link(name: name, agents: fixture("agents"), workers: 1, spare: false)
    :ok = Pyre.await_ready(name, 20_000)
    {:ok, id} = Pyre.start_agent(name, "Clerk")
    {:ok, _pong} = Pyre.call(name, id, :ping)

    now = world()

    # The second is the scope of its process groups, by which instances of one name on several nodes find each other.
    assert MapSet.difference(now.registered, before.registered) ==
             MapSet.new([name, Module.concat(name, Events)])

    assert Map.delete(now, :registered) == Map.delete(before, :registered)

    Supervisor.stop(supervisor)
    assert world() == before
  end

  # Calls that would do one of these things, in the modules of the library; what a person starts (tasks, the soak) may,
  # and so may the node that is Pyre alone and has no host.
  @global [
    {System, :put_env},
    {System, :delete_env},
    {Application, :put_env},
    {Logger, :configure},
    {Logger, :configure_backend},
    {Logger, :add_backend},
    {:logger, :add_handler},
    {:logger, :set_primary_config},
    {:os, :set_signal},
    {File, :cd!}
  ]
  # Looking the interpreter up.
  @reads %{{Application, :get_env} => [], {System, :get_env} => [Pyre.Python, Pyre.Release]}

  test "no module of the library calls what would change the host's world, or reads its settings" do
    calls =
      for module <- Application.spec(:pyre, :modules),
          name = inspect(module),
          not String.starts_with?(name, [
            "Mix.",
            "Pyre.Chaos",
            "Pyre.Console",
            "Pyre.Doctor",
            "Pyre.Standalone"
          ]),
          not (to_string(module.module_info(:compile)[:source]) =~ "/test/support/"),
          {called, function, _arity} <- remote_calls(module),
          do: {module, {called, function}}

    assert [] == Enum.filter(calls, fn {_module, call} -> call in @global end)

    for {call, readers} <- @reads,
        do: assert(for({module, ^call} <- calls, module not in readers, do: module) == [])
  end

  defp remote_calls(module) do
    {:ok, {_module, [imports: imports]}} = module |> :code.which() |> :beam_lib.chunks([:imports])
    imports
  end
end
