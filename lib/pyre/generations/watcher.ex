defmodule Pyre.Generations.Watcher do
  @moduledoc false

  # In development: has the code loaded anew when a file of the agents' directories has changed (the option `:watch`). It looks at
  # names, sizes and times; an editor that writes a file in several steps is waited for.

  use GenServer

  alias Pyre.{Generations, Instance}
  alias Pyre.Generations.Sources

  @look_ms 200
  @reload_timeout_ms 600_000

  @spec start_link(atom()) :: GenServer.on_start()
  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @impl GenServer
  def init(name) do
    instance = Instance.fetch!(name)
    Process.send_after(self(), :look, @look_ms)
    {:ok, %{instance: instance, loaded: scan(instance), seen: nil}}
  end

  # Loaded where two looks in a row have found the same, and something else than what was loaded last. What is wrong with it is
  # logged by the reload; a rejected generation is tried again after the next change.
  @impl GenServer
  def handle_info(:look, %{instance: instance, loaded: loaded, seen: seen} = state) do
    now = scan(instance)
    ready? = now == seen and now != loaded

    _logged = ready? && Generations.reload(instance, force: false, trial: false, timeout: @reload_timeout_ms)

    Process.send_after(self(), :look, @look_ms)
    {:noreply, %{state | loaded: if(ready?, do: now, else: loaded), seen: now}}
  end

  defp scan(instance), do: Sources.scan(instance.config.agents)
end
