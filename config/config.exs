# For this repository's own runs. A host's configuration is its own, and the library reads none of it.
import Config
config :logger, :console, metadata: [:pyre, :worker, :agent_id]
# Its release is a node by itself, with the options that environment variables give.
config :pyre, standalone: config_env() == :prod
