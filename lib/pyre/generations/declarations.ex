defmodule Pyre.Generations.Declarations do
  @moduledoc false

  # The timers and subscriptions that classes declare (`@every`, `@cron`, `@on`). Where a new generation of code declares others, living
  # agents lose what is gone before any of it would find no handler, and get what is new once all interpreters know its handlers. What an
  # agent set by itself stays.

  alias Pyre.{Address, Classes, Instance, Timers}
  alias Pyre.Events.Subscriptions

  @type t :: %{String.t() => {timers :: list(), subscriptions :: list()}}

  @doc "What the classes declare now."
  @spec read(Instance.t()) :: t()
  def read(instance) do
    for name <- Classes.names(instance),
        into: %{},
        do: {name, {Classes.timers(instance, name), Classes.subscriptions(instance, name)}}
  end

  @doc "Takes back what `before` has, and the classes declare no more."
  @spec withdraw(Instance.t(), t()) :: :ok
  def withdraw(instance, before) do
    now = read(instance)

    gone =
      for {name, {timers, subscriptions}} <- before,
          {left_timers, left_subscriptions} = Map.get(now, name, {[], []}),
          gone = {timers -- left_timers, subscriptions -- left_subscriptions},
          gone != {[], []},
          into: %{},
          do: {name, gone}

    each_agent(instance, gone, fn agent, _class, {timers, subscriptions} ->
      Timers.withdraw(instance, agent, timers)
      Subscriptions.withdraw(instance, agent, subscriptions)
    end)
  end

  @doc "Gives living agents what their classes declare, and did not in `before`."
  @spec add(Instance.t(), t()) :: :ok
  def add(instance, before) do
    changed =
      for {name, declared} <- read(instance), declared != before[name], into: %{}, do: {name, declared}

    each_agent(instance, changed, fn agent, class, _declared ->
      Timers.declare(instance, agent, class)
      Subscriptions.declare(instance, agent, class)
    end)
  end

  defp each_agent(_instance, classes, _action) when classes == %{}, do: :ok

  # Those that are not there yet, or are being restarted, get it as they start.
  defp each_agent(instance, classes, action) do
    for %{status: status, class: class} = row when is_map_key(classes, class) <- Address.all(instance),
        status in [:running, :asleep, :parked],
        do: action.({row.id, row.handle}, class, classes[class])

    :ok
  end
end
