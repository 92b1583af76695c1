defmodule Pyre.Console do
  @moduledoc false

  # Words and figures of the live status and of the last report. Pure: what is shown is made here, where and when is the
  # task's concern.

  @type sample :: %{
          at_ms: integer(),
          agents: non_neg_integer(),
          terminated: non_neg_integer(),
          parked: non_neg_integer(),
          messages: non_neg_integer(),
          restarts: non_neg_integer(),
          workers: [map()],
          fleet: %{String.t() => term()}
        }

  @doc "What is looked at once a second."
  @spec sample(atom(), %{String.t() => term()}) :: sample()
  def sample(instance, fleet) do
    %{agents: agents, counters: counters} = Pyre.info(instance)

    %{
      at_ms: System.monotonic_time(:millisecond),
      agents: agents |> Map.drop([:terminated, :parked]) |> Map.values() |> Enum.sum(),
      terminated: agents.terminated,
      parked: agents.parked,
      messages: counters.delivered,
      restarts: counters.restarts,
      workers: Pyre.workers(instance),
      fleet: fleet
    }
  end

  @doc "The status on one line, made from two samples."
  @spec status(sample(), sample(), integer()) :: String.t()
  def status(previous, now, started_ms) do
    [
      clock(now.at_ms - started_ms),
      count(now.agents, "agent"),
      "#{rate(previous, now)} msg/s",
      fleet(now.fleet),
      count(now.restarts, "restart"),
      if(now.terminated > 0, do: "#{now.terminated} terminated"),
      if(now.parked > 0, do: "#{now.parked} parked"),
      Enum.map_join(now.workers, "  ", &worker/1)
    ]
    |> Enum.reject(&(&1 in [nil, ""]))
    |> Enum.join("  ")
  end

  @doc "The line that ends a run."
  @spec totals(sample(), integer()) :: String.t()
  def totals(now, started_ms) do
    deaths = now.workers |> Enum.map(& &1.deaths) |> Enum.sum()

    "#{clock(now.at_ms - started_ms)}: #{count(now.agents, "agent")}, #{count(now.messages, "message")}, " <>
      "#{count(now.restarts, "restart")}, #{count(deaths, "interpreter")} replaced"
  end

  @doc "Cut to a terminal's width, so that it can be overwritten in place."
  @spec cut(String.t(), pos_integer()) :: String.t()
  def cut(line, width) do
    if String.length(line) >= width, do: String.slice(line, 0, max(width - 2, 0)) <> "…", else: line
  end

  defp clock(ms) do
    seconds = div(ms, 1_000)
    minutes = div(seconds, 60)
    :io_lib.format("~2..0B:~2..0B", [minutes, rem(seconds, 60)]) |> to_string()
  end

  defp rate(%{at_ms: at} = previous, %{at_ms: now} = sample) when now > at,
    do: round((sample.messages - previous.messages) * 1_000 / (now - at))

  defp rate(_previous, _now), do: 0

  defp fleet(fleet),
    do: fleet |> Enum.sort() |> Enum.map_join("  ", fn {label, value} -> "#{value} #{label}" end)

  defp worker(%{status: :ready, role: :spare} = worker),
    do: "w#{worker.worker} spare#{deaths(worker.deaths)}"

  defp worker(%{status: :ready} = worker),
    do: "w#{worker.worker} #{lag(worker.lag_us)}#{deaths(worker.deaths)}"

  defp worker(worker), do: "w#{worker.worker} #{worker.status}#{deaths(worker.deaths)}"

  defp lag(us) when us < 1_000, do: "lag <1 ms"
  defp lag(us), do: "lag #{div(us, 1_000)} ms"

  defp deaths(0), do: ""
  defp deaths(deaths), do: " (replaced #{deaths}×)"

  defp count(1, noun), do: "1 #{noun}"
  defp count(number, noun), do: "#{number} #{noun}s"
end
