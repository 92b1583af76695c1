# For this repository's own runs. A host's configuration is its own, and the library reads none of it.
import Config
config :logger, :console, metadata: [:pyre, :worker, :agent_id]
