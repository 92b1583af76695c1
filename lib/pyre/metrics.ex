defmodule Pyre.Metrics do
  @moduledoc """
  The figures of an instance, for whatever collects them.

      text = Pyre.Metrics.prometheus(MyApp.Pyre)

  Counters grow from the start of the instance and end in `_total`; the others are what is there now.
  """

  @typedoc "One figure. Times are in seconds, sizes in bytes."
  @type sample :: {name :: atom(), labels :: [{atom(), term()}], value :: number()}

  @doc "All figures."
  @doc since: "0.1.0"
  @spec all(Pyre.instance()) :: [sample()]
  def all(instance) do
    info = Pyre.info(instance)
    # Each worker tells of its own deaths: a sum over that name must not count them twice.
    counters =
      for {name, value} <- Enum.sort(info.counters),
          name != :worker_deaths,
          do: {:"pyre_#{name}_total", [], value}

    agents = for {status, count} <- Enum.sort(info.agents), do: {:pyre_agents, [status: status], count}
    gauges = for key <- [:timers, :messages_waiting, :dead_letters], do: {:"pyre_#{key}", [], info[key]}
    ready = {:pyre_ready, [], if(Pyre.health(instance).status == :ready, do: 1, else: 0)}
    [ready | gauges] ++ agents ++ Enum.flat_map(Pyre.workers(instance), &worker/1) ++ counters
  end

  defp worker(worker) do
    labels = [worker: worker.worker, role: role(worker.role), pool: worker.pool]

    [
      {:pyre_worker_ready, labels, if(worker.status == :ready, do: 1, else: 0)},
      {:pyre_worker_lag_seconds, labels, worker.lag_us / 1_000_000},
      {:pyre_worker_activations, labels, worker.activations},
      {:pyre_worker_rss_bytes, labels, worker.rss_bytes || 0},
      {:pyre_worker_deaths_total, labels, worker.deaths}
    ]
  end

  # Whose worker it is would make a new series for each.
  defp role({kind, _whose}), do: kind
  defp role(role), do: role

  @doc "All figures in the text format of Prometheus, version 0.0.4."
  @doc since: "0.1.0"
  @spec prometheus(Pyre.instance()) :: String.t()
  def prometheus(instance) do
    instance
    |> all()
    |> Enum.group_by(&elem(&1, 0))
    |> Enum.sort()
    |> Enum.map_join(fn {name, samples} ->
      ["# TYPE #{name} #{type(name)}\n" | Enum.map(samples, &line/1)] |> Enum.join()
    end)
  end

  defp type(name), do: if(String.ends_with?(Atom.to_string(name), "_total"), do: "counter", else: "gauge")

  defp line({name, [], value}), do: "#{name} #{value}\n"

  defp line({name, labels, value}),
    do: "#{name}{#{Enum.map_join(labels, ",", fn {key, label} -> ~s(#{key}="#{label}") end)}} #{value}\n"
end
