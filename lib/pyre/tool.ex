defmodule Pyre.Tool do
  @moduledoc """
  What the BEAM does for agents: a function of the host's, offered under a name with a schema of its arguments.

      defmodule MyApp.CrmLookup do
        @behaviour Pyre.Tool

        @impl true
        def name, do: "crm.lookup"

        @impl true
        def description, do: "Looks a customer up by number."

        @impl true
        def schema, do: [id: [type: :integer, required: true, doc: "the customer's number"]]

        @impl true
        def run(%{id: id}, %Pyre.Tool.Caller{tenant: tenant}) do
          case MyApp.Crm.fetch(tenant, id) do
            nil -> {:error, "there is no customer \#{id}"}
            customer -> {:ok, Map.take(customer, [:name, :city])}
          end
        end
      end

      {Pyre, name: MyApp.Pyre, agents: "agents", tools: [MyApp.CrmLookup, {MyApp.Mailer, max_concurrency: 2}]}

  A handler uses it by its name, `customer = await ctx.tool("crm.lookup", id=3)`, and `await ctx.tools()` tells what there is, each with
  a JSON Schema. A tool may also be a function of its arguments, or of them and the caller:

      {"clock", fn _args -> {:ok, DateTime.utc_now()} end, description: "Tells the time."}

  ## The schema

  A keyword list: for each argument its `:type`, and where they are wanted `:required` (`false` by default), `:default` and `:doc`. The
  arguments are checked before the tool runs, and given to it as a map with these atoms as keys; one that is neither required nor given,
  nor has a default, is not in the map. What doesn't fit is `errors.InvalidArgs` in Python. The types:

    * `:string`, `:integer`, `:float` (an integer is taken too), `:boolean`
    * `:map` - with any keys; `{:map, schema}` - with these
    * `:list` - of anything; `{:list, type}`
    * `{:in, values}` - one of these strings, integers or atoms (an atom travels as a string, and arrives as the atom)
    * `:any`

  ## Options

  As in `{module, options}` or `{name, function, options}`; a module says its name, description and schema by itself, and `:name` there
  overrides its own:

  #{Pyre.Options.docs(:tool)}

  ## What becomes of it

  A tool runs in a supervised task of its own. It ends when it has answered, at its timeout, at the deadline of the message whose handler
  asked, and when that message has ended in whatever way: its time is never longer than anybody waits. What it returns as
  `{:error, reason}`, raises, throws or exits with is `errors.ToolError` in Python (`expected` is true for what it returned), and hurts
  nothing else. It begins only where fewer than `:max_concurrency` of it run; the others wait in the order in which they asked, and beyond
  `:max_waiting` of them it is `errors.Overloaded`.

  It may use `Pyre.call/5` itself. A call that would wait for the very agent that waits for the tool is refused with `:deadlock`; so that
  this is seen, the call must be made by the tool's own process.
  """

  alias Pyre.Tool.Caller

  @typedoc "The type of an argument."
  @type type ::
          :string
          | :integer
          | :float
          | :boolean
          | :map
          | {:map, schema()}
          | :list
          | {:list, type()}
          | {:in, [String.t() | integer() | atom()]}
          | :any

  @typedoc "The declaration of a tool's arguments."
  @type schema :: [
          {name :: atom(), [type: type(), required: boolean(), default: term(), doc: String.t()]}
        ]

  @typedoc "A tool as it is offered: by the option `:tools`, or by `Pyre.add_tool/2`."
  @type entry ::
          module()
          | {module(), keyword()}
          | {name :: String.t(), function()}
          | {name :: String.t(), function(), keyword()}

  @doc "The name by which agents use it; by default the last part of the module's name, as in `crm_lookup`."
  @callback name() :: String.t()

  @doc "What it does, for whoever chooses among tools; a language model, say."
  @callback description() :: String.t()

  @doc "Its arguments."
  @callback schema() :: schema()

  @doc "Runs it. The value must be able to travel, as a call's arguments must."
  @callback run(args :: %{atom() => term()}, Caller.t()) :: {:ok, term()} | {:error, term()}

  @optional_callbacks name: 0, schema: 0
end
