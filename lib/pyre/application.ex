defmodule Pyre.Application do
  @moduledoc false

  # Starts the instance of a node that is Pyre alone (Pyre.Standalone). In a host application, which starts its own instances, nothing is
  # started.

  use Application

  alias Pyre.{CodeLoading, Standalone, Telemetry}

  @impl Application
  def start(_type, _args) do
    Telemetry.detect()
    if Standalone.node?(), do: CodeLoading.load(:boot)

    children =
      case Standalone.options() do
        nil -> []
        opts -> [{Pyre, opts}, {CodeLoading, opts[:name]}]
      end

    Supervisor.start_link(children, strategy: :one_for_one)
  end
end
