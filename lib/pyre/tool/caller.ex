defmodule Pyre.Tool.Caller do
  @moduledoc """
  Who asked for a tool.

    * `:instance` - the instance's name, for `Pyre.call/5`
    * `:agent`, `:class` - the agent, and its class
    * `:handler` - the handler that asked; `"on_start"`, say, in a hook
    * `:message` - the message's id: unique in the agent, and the same when the message is run again. `nil` in a hook
    * `:tenant` - the key of an agent that was started with `isolation: {:tenant, key}`, else `nil`
    * `:deadline` - when it is ended, an instant of `System.monotonic_time(:millisecond)`
  """

  @enforce_keys [:instance, :agent, :class, :handler, :deadline]
  defstruct [:instance, :agent, :class, :handler, :message, :tenant, :deadline]

  @typedoc "Who asked; the fields are explained above."
  @type t :: %__MODULE__{
          instance: Pyre.instance(),
          agent: Pyre.id(),
          class: String.t(),
          handler: String.t(),
          message: pos_integer() | nil,
          tenant: String.t() | nil,
          deadline: integer()
        }
end
