defmodule Pyre.Integration.MetricsTest do
  use Pyre.Case, async: true

  alias Pyre.Metrics

  @line ~r/^(pyre_\w+)(?:\{(.*)\})? (-?[\d.e-]+)$/

  setup do
    pyre = start_pyre!()
    id = start_agent!(pyre, "Journal")
    for entry <- 1..3, do: {:ok, ^entry} = Pyre.call(pyre, id, :append, %{entry: entry})
    {:ok, pyre: pyre, id: id}
  end

  defp value(pyre, name, labels \\ []) do
    [value] = for {^name, ^labels, value} <- Pyre.metrics(pyre), do: value
    value
  end

  test "figures are what happened", %{pyre: pyre, id: id} do
    assert value(pyre, :pyre_ready) == 1
    assert value(pyre, :pyre_calls_total) == 3
    assert value(pyre, :pyre_commits_total) == 3
    assert value(pyre, :pyre_agents, status: :running) == 1
    assert value(pyre, :pyre_worker_deaths_total, worker: 1, role: :shared, pool: :default) == 0
    kill_interpreter(pyre)
    {:ok, 4} = Pyre.call(pyre, id, :append, %{entry: 4})
    assert value(pyre, :pyre_worker_deaths_total, worker: 1, role: :shared, pool: :default) == 1
    :ok = Pyre.pause(pyre, {:agent, id})
    for entry <- 5..6, do: :ok = Pyre.cast(pyre, id, :append, %{entry: entry})
    assert value(pyre, :pyre_messages_waiting) == 2
  end

  # Symptom: interpreters' deaths were there twice, by worker and in all, so that a sum over the name was twice as many.
  test "no figure is there twice, nor with other labels", %{pyre: pyre} do
    metrics = Pyre.metrics(pyre)
    keys = for {name, labels, _value} <- metrics, do: {name, labels}
    assert keys == Enum.uniq(keys)
    labels = for {name, labels, _value} <- metrics, uniq: true, do: {name, Keyword.keys(labels)}
    assert length(labels) == length(Enum.uniq_by(labels, &elem(&1, 0)))
  end

  test "the text is that of Prometheus: a type for each name, and a number in each line", %{pyre: pyre} do
    {types, lines} =
      pyre
      |> Metrics.prometheus()
      |> String.split("\n", trim: true)
      |> Enum.split_with(&String.starts_with?(&1, "# TYPE "))

    names = for line <- lines, uniq: true, do: (Regex.run(@line, line) || flunk(line)) |> Enum.at(1)
    typed = for type <- types, ["#", "TYPE", name, kind] = String.split(type), do: {name, kind}
    assert Enum.sort(names) == Enum.sort(Enum.map(typed, &elem(&1, 0)))
    for {name, kind} <- typed, do: assert(kind == if(name =~ ~r/_total$/, do: "counter", else: "gauge"))
    assert ~s(pyre_worker_ready{worker="1",role="shared",pool="default"} 1) in lines
  end
end
