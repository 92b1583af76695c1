defmodule Pyre.CodeLoading do
  @moduledoc false

  # A node that runs by itself boots with the modules that it needs for its first reply, which takes a fifth less time than to load all of them first
  # (`RELEASE_MODE` in rel/env.sh.eex). The rest follows once its instance is ready, so that nothing is read from a directory that an operator has
  # replaced meanwhile.

  use Task, restart: :temporary

  alias Pyre.Agent.Starter
  alias Pyre.Instance

  # Whoever needs another module meanwhile waits for no more than these.
  @at_once 20
  # The first replies, which want modules, too, have passed by then.
  @quiet_ms 2_000

  @spec start_link(atom()) :: {:ok, pid()}
  def start_link(instance), do: Task.start_link(__MODULE__, :load_when_ready, [instance])

  @doc "Loads what is not loaded yet, once the instance is ready, and its first agents have had some time."
  @spec load_when_ready(atom()) :: :ok
  def load_when_ready(instance) do
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
