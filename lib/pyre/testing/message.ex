defmodule Pyre.Testing.Message do
  @moduledoc """
  A message that reached a scripted worker of `Pyre.Testing`.

    * `:id`, `:class` - the agent's
    * `:handler` - the handler's name, a string; `"module.function"` of a `Pyre.run/5`
    * `:args` - the arguments as they travelled: maps have strings as keys, an atom has become a string. A list where `Pyre.run/5` had one
    * `:state` - the state of the agent as the message found it, a map; `nil` of a `Pyre.run/5`
    * `:kind` - `:call`, `:cast`, `:timer`, `:stream`, `:on_start`, `:on_stop`, `:on_down` or `:run`
    * `:attempt` - which try at the message this is, from 1
    * `:outcome` - `:running` until it is answered, then `:replied`, `:failed` (also of a refusal), `:cancelled` (whoever called gave it up)
      or `:lost` (with its worker)
    * `:ref` - names the message
  """

  @enforce_keys [:ref, :handler, :args, :kind]
  defstruct [:ref, :id, :class, :handler, :args, :state, :kind, attempt: 1, outcome: :running]

  @typedoc "What it is."
  @type kind :: :call | :cast | :timer | :stream | :on_start | :on_stop | :on_down | :run
  @typedoc "What became of it."
  @type outcome :: :running | :replied | :failed | :cancelled | :lost
  @typedoc "The message, with the fields above."
  @type t :: %__MODULE__{
          ref: {pid(), pos_integer()},
          id: String.t() | nil,
          class: String.t() | nil,
          handler: String.t(),
          args: map() | list(),
          state: map() | nil,
          kind: kind(),
          attempt: pos_integer(),
          outcome: outcome()
        }
end
