defmodule Pyre.CodeLoading do
  @moduledoc false

  # What is loaded when. A node that runs by itself boots with the modules that it needs for its first reply (`RELEASE_MODE` in rel/env.sh.eex); the others follow
  # once its instance is ready, so that nothing is read from a directory that an operator has replaced meanwhile. A module that is loaded when it is first
  # called takes twice as long as in one go with others, so there are two lists: what the interpreters' start waits for, and what the first reply needs, which
  # is loaded while they start. A module that is not in them, or not there any more, costs a little time and nothing else.

  use Task, restart: :temporary

  alias Pyre.Agent.Starter
  alias Pyre.Instance

  @boot [
    DynamicSupervisor,
    File.Stat,
    List.Chars,
    Path,
    Port,
    Pyre,
    Pyre.Classes,
    Pyre.Drain,
    Pyre.Environment,
    Pyre.Generations,
    Pyre.Generations.Sources,
    Pyre.Generations.Table,
    Pyre.Instance,
    Pyre.InstanceSupervisor,
    Pyre.Options,
    Pyre.Pools,
    Pyre.Python,
    Pyre.Reaper,
    Pyre.RuntimeSupervisor,
    Pyre.Snapshot,
    Pyre.State,
    Pyre.Supervisor,
    Pyre.Tool.Spec,
    Pyre.Wire.Frame,
    Pyre.Worker,
    Pyre.Worker.Launch,
    Pyre.Worker.Log,
    Pyre.Worker.Numbers,
    Pyre.Worker.Pool,
    Pyre.Worker.Process,
    Pyre.Worker.Recorder,
    Pyre.Worker.Supervisor,
    Range,
    String.Chars.Atom,
    String.Chars.Integer,
    String.Unicode,
    :gen_tcp,
    :local_tcp
  ]

  @reply [
    Enumerable.List,
    Enumerable.Map,
    Pyre.Agent,
    Pyre.Agent.Burst,
    Pyre.Agent.Client,
    Pyre.Agent.Commits,
    Pyre.Agent.Delivery,
    Pyre.Agent.Escalations,
    Pyre.Agent.Hibernated,
    Pyre.Agent.Placement,
    Pyre.Agent.Quarantine,
    Pyre.Agent.Requests,
    Pyre.Agent.Sleep,
    Pyre.Agent.Steps,
    Pyre.Agent.Streams,
    Pyre.Agent.Watch,
    Pyre.Classes.Names,
    Pyre.Generations.Trial,
    Pyre.Group.Member,
    Pyre.History,
    Pyre.History.Ring,
    Pyre.Limits,
    Pyre.Mailbox,
    Pyre.Pause,
    Pyre.Tool.Chain,
    Pyre.Trace,
    Pyre.Wire.Body,
    Pyre.Wire.MsgPack.Decoder,
    Pyre.Worker.Recycling,
    Pyre.Worker.Stall
  ]

  # Whoever needs another module meanwhile waits for no more than these.
  @at_once 20
  # The first replies, which want modules, too, have passed by then.
  @quiet_ms 2_000

  @spec start_link(atom()) :: {:ok, pid()}
  def start_link(instance), do: Task.start_link(__MODULE__, :load_when_ready, [instance])

  @doc "Loads what an interpreter's start needs, or what the first reply of an agent does."
  @spec load(:boot | :reply) :: :ok
  def load(stage) do
    _loaded_or_not_there = :code.ensure_modules_loaded(if stage == :boot, do: @boot, else: @reply)
    :ok
  end

  @doc "Loads what is not loaded yet: for the first reply at once, all else when the instance is ready and its first agents have had some time."
  @spec load_when_ready(atom()) :: :ok
  def load_when_ready(instance) do
    load(:reply)
    _ready_or_not = instance |> Instance.fetch!() |> Starter.await(:ready, :infinity)
    Process.sleep(@quiet_ms)
    load()
  end

  @doc "Loads all modules of all applications."
  @spec load() :: :ok
  def load do
    modules =
      for {application, _text, _version} <- Application.loaded_applications(),
          module <- modules(application),
          do: module

    modules
    |> Enum.reject(&:code.is_loaded/1)
    |> Enum.chunk_every(@at_once)
    |> Enum.each(&:code.ensure_modules_loaded/1)
  end

  defp modules(application) do
    case :application.get_key(application, :modules) do
      {:ok, modules} -> modules
      :undefined -> []
    end
  end
end
