defmodule Pyre.Health do
  @moduledoc false

  # How an instance is, from what its tables say: nobody is asked, so that the answer comes at once whatever hangs.

  alias Pyre.Agent.Starter
  alias Pyre.{Address, Classes, Instance, Pools}
  alias Pyre.Worker.Pool

  @type t :: %{status: :ready | :starting | :draining, reasons: [String.t()]}

  @spec look(Instance.t()) :: t()
  def look(instance) do
    if Instance.closed?(instance) do
      %{status: :draining, reasons: ["the instance #{inspect(instance.name)} is shutting down"]}
    else
      reasons = workers(instance) ++ autostart(instance)
      %{status: if(reasons == [], do: :ready, else: :starting), reasons: reasons}
    end
  end

  # A draining worker is being replaced: those that are ready do its work meanwhile.
  defp workers(instance) do
    for pool <- Pools.names(instance.config), reason <- pool(pool, Pool.shared(instance, pool)), do: reason
  end

  defp pool(pool, shared) do
    if Enum.any?(shared, &(&1.status == :ready)),
      do: for(worker <- shared, worker.status in [:starting, :failed], do: worker(worker)),
      else: ["no worker#{Pools.words(pool)} is ready" | Enum.map(shared, &worker/1)]
  end

  defp worker(%{worker: no, status: status, pool: pool, last_error: nil}),
    do: "worker #{no}#{Pools.words(pool)} is #{status}"

  defp worker(%{worker: no, status: status, pool: pool, last_error: error}),
    do: "worker #{no}#{Pools.words(pool)} is #{status}: #{Exception.message(error)}"

  # `:restarting` is an agent's everyday life; one that isn't there, or that gave up, is missed.
  defp autostart(instance) do
    for class <- Classes.all(instance),
        [id, _args] <- class["autostart"],
        reason = agent(instance, id, class["pool"]),
        not is_nil(reason),
        do: "the autostart agent #{inspect(id)} #{reason}"
  end

  defp agent(instance, id, pool) do
    case Address.fetch(instance, id) do
      {:ok, %{status: status}} when status in [:running, :restarting, :asleep] -> nil
      {:ok, %{status: status}} -> "is #{status}"
      :error -> if Starter.autostarted?(instance, pool), do: nil, else: "has not started yet"
    end
  end
end
