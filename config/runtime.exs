# For the release only: there the application is one instance. rel/env.sh.eex sees to it that PYRE_AGENTS is set.
import Config

if System.get_env("RELEASE_NAME") do
  config :logger, level: :info
  if agents = System.get_env("PYRE_AGENTS"), do: config(:pyre, instance: [name: Pyre, agents: agents])
end
