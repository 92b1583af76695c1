defmodule Pyre.Application do
  @moduledoc false

  # The standalone node: one instance from `config :pyre, instance: [...]`. Where that is absent, as in a host
  # application that starts its own instances, nothing is started.

  use Application

  alias Pyre.Telemetry

  @impl Application
  def start(_type, _args) do
    Telemetry.detect()

    children =
      case Application.get_env(:pyre, :instance) do
        nil -> []
        opts -> [{Pyre, opts}, {Pyre.CodeLoading, opts[:name]}]
      end

    Supervisor.start_link(children, strategy: :one_for_one)
  end
end
