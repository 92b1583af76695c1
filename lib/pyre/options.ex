defmodule Pyre.Options do
  @moduledoc false

  # One table drives validation, defaults and documentation of every option. Pure.

  @type type ::
          :pos_integer
          | :non_neg_integer
          | :timeout
          | :pos_timeout
          | :ms
          | :pos_ms
          | :pos_count
          | :bytes
          | :history
          | :events
          | :isolation
          | :atom
          | :string
          | :string_or_nil
          | :directories
          | :map
          | :share
          | :boolean
          | :env
          | :pools
          | :tools
          | :schema
          | {:in, [atom()]}

  @type schema :: [{atom(), {type(), default :: term(), doc :: String.t()}}]

  # A ring begins with room for two; it is one row, which is copied as a whole when it is read.
  @least_history 2
  @most_history 10_000
  # An interpreter with its imports needs about a third of this.
  @least_bytes 67_108_864

  @instance [
    name: {:atom, nil, "the instance's name, the first argument of every function; `Pyre` by default"},
    agents: {:directories, [], "the directory (or a list of them) in which agent files are searched"},
    workers: {:pos_integer, nil, "how many interpreters run; one per core by default"},
    python:
      {:string_or_nil, nil,
       "the interpreter to start; by default `.venv/bin/python` where it exists, else the first Python ≥ 3.11 on PATH"},
    pools:
      {:pools, [],
       "further pools of workers, a list of `{name, options}`, with a Python and packages of their own; see *Pools* below"},
    tools: {:tools, [], "what the BEAM does for agents, a list of tools; see `Pyre.Tool`"},
    env: {:env, [], "environment variables for the interpreters, a list of `{name, value}`"},
    snapshot:
      {:string_or_nil, nil,
       "the file in which a shutdown leaves agents, states, queued casts, timers and dead letters for the next start; none by default: they end with the instance"},
    control:
      {:string_or_nil, nil,
       "the path of a local socket, of at most 100 bytes, on which the instance takes an operator's commands (`mix pyre.ctl`, `bin/pyre ctl`); none by default"},
    watch:
      {:boolean, false,
       "for development: load the agents' code anew as soon as one of their files changes; see `Pyre.reload/2`"},
    limits:
      {:limits, [],
       "what all agents of a class, or of a tenant, may do: a list of `{class | {:tenant, key}, rate: {count, ms}, concurrency: count}`"},
    call_timeout: {:timeout, 5_000, "how long a call waits, in ms, where the call doesn't say"},
    start_timeout: {:pos_ms, 30_000, "how long an interpreter may take to say that it is ready, in ms"},
    drain_timeout: {:ms, 5_000, "how long running handlers may go on at shutdown, in ms"},
    max_runtime: {:timeout, 300_000, "how long the handler of a cast or timer may run, in ms"},
    max_mailbox: {:pos_integer, 10_000, "messages that wait in one agent's mailbox before `overloaded`"},
    max_mailbox_bytes: {:pos_integer, 67_108_864, "bytes of arguments that wait in one agent's mailbox"},
    max_restarts:
      {:non_neg_integer, 3, "restarts of one agent within `:max_seconds` before it is terminated"},
    max_seconds: {:pos_integer, 5, "the period of `:max_restarts`"},
    idle_timeout:
      {:pos_timeout, :infinity,
       "ms without a message after which an agent falls asleep: it keeps all that it has but its process, and the next message wakes it"},
    max_attempts:
      {:pos_integer, 3, "how often a cast is begun before it is given up, where workers die under it"},
    max_dead_letters:
      {:pos_integer, 1_000, "messages kept that were given up; beyond it, or 16 MiB, the oldest is dropped"},
    history:
      {:history, 50,
       "entries kept of what happened to each agent: so many messages that ended well, and so many others"},
    payloads:
      {:boolean, false,
       "keep arguments and replies in the histories too, up to 16 KiB each; else they tell of neither"},
    max_threads: {:pos_integer, 64, "threads for `def` handlers in one interpreter"},
    max_in_flight:
      {:pos_integer, 10_000,
       "messages under way in one interpreter; further ones wait in their mailboxes, but for those that handlers wait for"},
    max_activations: {:pos_integer, 50_000, "agents' objects held by one interpreter"},
    stall_warning: {:pos_ms, 100, "ms that a handler may hold the loop before it is warned about by name"},
    stall_timeout:
      {:pos_timeout, 1_000,
       "ms without progress after which an interpreter is replaced; `:infinity` for breakpoints"},
    spare: {:boolean, true, "keep one interpreter more, warm, that takes the place of one that is lost"},
    max_isolated: {:non_neg_integer, 16, "interpreters beside the shared ones, for agents with `:isolation`"},
    canary_share:
      {:share, 0.1,
       "the part of the agents, more than 0 and at most 1, that tries a new generation of code first; at least one does"},
    canary_period:
      {:ms, 5_000, "ms that they try it before all others get it; with 0, or `:watch`, all get it at once"},
    generation_timeout:
      {:pos_ms, 300_000,
       "ms that what runs may go on after a reload, in an interpreter of older code, before that is ended"},
    strike_decay:
      {:pos_ms, 600_000,
       "ms after which an agent that hurt a worker is trusted again, where it did not do so once more"},
    max_worker_rss:
      {:bytes, nil,
       "resident bytes at which an interpreter is replaced after what runs has ended; at twice as many it is killed"},
    max_worker_age: {:timeout, :infinity, "ms after which an interpreter is replaced"},
    max_worker_messages:
      {:pos_count, :infinity, "messages after which an interpreter is replaced, against leaks"}
  ]

  @pool [
    workers: {:pos_integer, nil, "how many interpreters the pool has"},
    python:
      {:string_or_nil, nil,
       "the interpreter to start; where one of the pool's own directories has a `.venv`, the one in that"},
    env: {:env, [], "environment variables, added to the instance's"},
    agents: {:directories, [], "directories that only this pool looks at, beside the instance's"},
    spare:
      {:boolean, nil,
       "keep one interpreter more, warm; as the instance says in the pool `:default`, else `false`"}
  ]

  @agent [
    id: {:string_or_nil, nil, "the agent's address, 1 to 255 bytes of UTF-8; made up where it is missing"},
    args: {:map, %{}, "the start arguments: the fields of the agent's `State`"},
    restart: {{:in, [:permanent, :transient, :temporary]}, :permanent, "when the agent is restarted"},
    max_restarts: {:non_neg_integer, nil, "as the instance's, for this agent; not in a group"},
    max_seconds: {:pos_integer, nil, "as the instance's, for this agent; not in a group"},
    idle_timeout:
      {:pos_timeout, nil,
       "as the instance's, for this agent, unless that is in a group; its class's by default"},
    on_restart:
      {{:in, [:committed, :initial]}, :committed,
       "the state after a crash: the committed one, or, with `:initial`, made anew from the start arguments, without timers"},
    group: {:string_or_nil, nil, "the group that the agent is put into, at its end"},
    max_mailbox: {:pos_integer, nil, "as the instance's, for this agent"},
    rate_limit: {:rate, nil, "`{count, ms}`: so many messages may come in that time; its class's by default"},
    isolation:
      {:isolation, nil,
       "`:dedicated` for an interpreter of its own, `{:tenant, key}` for one that it shares with this tenant's agents only"},
    meta: {:map, %{}, "anything the host wants to keep with the agent; shown by `Pyre.info/2`"},
    if_exists: {{:in, [:error, :return]}, :error, "`:return` gives the id of an agent that is already there"},
    timeout: {:timeout, 5_000, "how long to wait for `on_start`, in ms"}
  ]

  @group [
    strategy:
      {{:in, [:one_for_one, :one_for_all, :rest_for_one]}, :one_for_one,
       "which of the others are restarted with one that crashed, as in OTP"},
    max_restarts: {:non_neg_integer, 3, "restarts within `:max_seconds` before the group fails"},
    max_seconds: {:pos_integer, 5, "the period of `:max_restarts`"},
    agents:
      {:agents, [],
       "a list of `{class, options}`, with the options of `start_agent/3`; started in this order"},
    group: {:string_or_nil, nil, "the group that this one is put into, at its end"}
  ]

  @tool [
    name: {:string_or_nil, nil, "the name of a module's tool"},
    description: {:string_or_nil, nil, "what a function's tool does"},
    schema: {:schema, [], "the arguments of a function's tool"},
    timeout:
      {:pos_timeout, 30_000, "how long it may take, in ms, the time that it waits for its turn included"},
    max_concurrency: {:pos_timeout, 50, "how many of it run at a time"},
    max_waiting: {:non_neg_integer, 1_000, "how many wait for their turn before `overloaded`"}
  ]

  @budget [per: {{:in, [:total, :minute, :hour, :day]}, :total, "the time in which so much may be spent"}]

  @reload [
    force: {:boolean, false, "load the code anew although no file has changed"},
    trial:
      {:boolean, true,
       "let a share of the agents try it first, for the instance's `:canary_period`; without, all get it at once"},
    timeout: {:timeout, 300_000, "how long to wait for all interpreters to run it, in ms"}
  ]

  @restart [timeout: {:timeout, 5_000, "how long to wait for what runs, and for `on_start`, in ms"}]

  @priority {{:in, [:high, :normal, :low]}, :normal,
             "which of an agent's messages run first; one that waits longest has its turn too"}

  @call [
    timeout: {:timeout, nil, "how long to wait, in ms; the instance's `:call_timeout` by default"},
    priority: @priority,
    start: {:start, nil, "`{class, opts}`: starts the agent first where it is missing"}
  ]

  @call_many [
    timeout:
      {:timeout, nil, "how long all of them may take, in ms; the instance's `:call_timeout` by default"},
    max_concurrency: {:pos_integer, 64, "how many are under way at a time"}
  ]

  @stream [
    timeout:
      {:pos_timeout, nil,
       "how long to wait for the first and for each next chunk, in ms; the instance's `:call_timeout` by default"},
    deadline: {:pos_timeout, nil, "how long the whole stream may take, in ms; for ever by default"},
    start: {:start, nil, "`{class, opts}`: starts the agent first where it is missing"}
  ]

  @cast [
    priority: @priority,
    start: {:start, nil, "`{class, opts}`: starts the agent first where it is missing"}
  ]

  @stop [
    keep: {:boolean, false, "keep the committed state, for an agent started again under this id"},
    timeout: {:timeout, nil, "how long to wait, in ms; `:drain_timeout` plus 5 s by default"}
  ]

  @park [
    reason: {:string_or_nil, nil, "what to tell those who ask why"},
    timeout: {:timeout, nil, "how long to wait, in ms; the instance's `:call_timeout` by default"}
  ]

  @monitor [restarts: {:boolean, false, "also tell of each restart after a crash"}]

  @history [
    limit: {:pos_integer, nil, "so many of the newest; all by default"},
    events: {:events, nil, "a list of events; those of others are left out"}
  ]

  @trace [
    limit: {:pos_timeout, 1_000, "the trace ends after so many entries; `:infinity` for no end"},
    timeout: {:timeout, 60_000, "the trace ends so many ms after it began; `:infinity` for no end"},
    buffer: {:pos_integer, 1_000, "so many entries wait for a slow reader at most"}
  ]

  @put_state [
    expect_revision: {:revision, nil, "only if this is the revision that is committed now"},
    timeout: {:timeout, nil, "how long to wait, in ms; the instance's `:call_timeout` by default"}
  ]

  @run [timeout: {:timeout, nil, "how long to wait, in ms; the instance's `:call_timeout` by default"}]

  @schemas %{
    instance: @instance,
    pool: @pool,
    agent: @agent,
    group: @group,
    restart: @restart,
    call: @call,
    call_many: @call_many,
    stream: @stream,
    cast: @cast,
    stop: @stop,
    park: @park,
    monitor: @monitor,
    reload: @reload,
    budget: @budget,
    history: @history,
    trace: @trace,
    put_state: @put_state,
    run: @run,
    tool: @tool
  }

  @doc "Validates `opts` and fills in the defaults, or raises an `ArgumentError` that names the option."
  @spec validate!(atom(), term()) :: keyword()
  def validate!(name, []), do: defaults(name)

  def validate!(name, opts) do
    schema = Map.fetch!(@schemas, name)

    unless Keyword.keyword?(opts),
      do: raise(ArgumentError, "expected options to be a keyword list, got: #{inspect(opts, limit: 5)}")

    for {key, value} <- opts do
      case List.keyfind(schema, key, 0) do
        nil -> raise ArgumentError, unknown(key, Keyword.keys(schema))
        {_key, {_type, default, _doc}} when value == default -> :ok
        {_key, {type, _default, _doc}} -> check!(key, type, value)
      end
    end

    Keyword.merge(defaults(name), opts)
  end

  @doc "The defaults of a schema."
  @spec defaults(atom()) :: keyword()
  for {name, schema} <- @schemas do
    @defaults Enum.map(schema, fn {key, {_type, default, _doc}} -> {key, default} end)
    def defaults(unquote(name)), do: unquote(Macro.escape(@defaults))
  end

  @doc "The options of a schema as a Markdown list."
  @spec docs(atom()) :: String.t()
  def docs(name) do
    Enum.map_join(Map.fetch!(@schemas, name), "\n", fn {key, {_type, default, doc}} ->
      "  * `:#{key}` - #{doc}#{default_doc(default)}"
    end)
  end

  # What an environment variable can say: names and lists of pairs can't be.
  @in_environment [
                    :pos_integer,
                    :non_neg_integer,
                    :timeout,
                    :pos_timeout,
                    :ms,
                    :pos_ms,
                    :pos_count,
                    :bytes,
                    :boolean
                  ] ++
                    [:directories, :string_or_nil]

  # Made while this is compiled: a node's start reads them, and to write the defaults loads all that `inspect/1` needs.
  @variables (for {key, {type, default, doc}} <- @instance, type in @in_environment do
                default_doc = if default != nil, do: " (default: `#{inspect(default)}`)", else: ""
                {"PYRE_" <> (key |> Atom.to_string() |> String.upcase()), key, type, doc <> default_doc}
              end)

  @doc "The environment variables that stand for options of an instance: name, option, type, meaning."
  @spec variables() :: [{String.t(), atom(), type(), String.t()}]
  def variables, do: @variables

  defp default_doc(nil), do: ""
  defp default_doc(default), do: " (default: `#{inspect(default)}`)"

  defp unknown(key, known) do
    hint = Enum.max_by(known, &String.jaro_distance(to_string(&1), to_string(key)))

    if String.jaro_distance(to_string(hint), to_string(key)) > 0.8,
      do: "unknown option #{inspect(key)}, did you mean #{inspect(hint)}?",
      else: "unknown option #{inspect(key)}, the options are: #{Enum.map_join(known, ", ", &inspect/1)}"
  end

  defp check!(key, type, value) do
    unless valid?(type, value),
      do:
        raise(
          ArgumentError,
          "expected #{inspect(key)} to be #{describe(type)}, got: #{inspect(value, limit: 5, printable_limit: 100)}"
        )
  end

  @doc "Is it a value of that type?"
  @spec valid?(type() | atom(), term()) :: boolean()
  def valid?(type, value)
  def valid?(:pos_integer, value), do: is_integer(value) and value > 0
  def valid?(:non_neg_integer, value), do: is_integer(value) and value >= 0
  def valid?(:timeout, value), do: value == :infinity or (is_integer(value) and value >= 0)
  def valid?(:pos_timeout, value), do: value == :infinity or (is_integer(value) and value > 0)
  def valid?(:ms, value), do: valid?(:non_neg_integer, value)
  def valid?(:pos_ms, value), do: valid?(:pos_integer, value)
  def valid?(:share, value), do: is_number(value) and value > 0 and value <= 1
  def valid?(:pos_count, value), do: valid?(:pos_timeout, value)
  def valid?(:bytes, value), do: is_nil(value) or (is_integer(value) and value >= @least_bytes)
  def valid?(:isolation, {:tenant, key}), do: is_binary(key) and key != ""
  def valid?(:isolation, value), do: value in [nil, :dedicated]
  def valid?(:atom, value), do: is_atom(value) and value not in [nil, true, false]
  def valid?(:string_or_nil, value), do: is_nil(value) or is_binary(value)
  def valid?(:boolean, value), do: is_boolean(value)
  def valid?(:map, value), do: is_map(value) and not is_struct(value)
  def valid?(:revision, value), do: is_integer(value) and value >= 0
  def valid?(:rate, nil), do: true

  def valid?(:rate, {count, ms}),
    do: valid?(:pos_integer, count) and valid?(:pos_integer, ms) and count <= 1_000 * ms

  def valid?(:rate, _value), do: false
  def valid?(:limits, value), do: is_list(value) and Enum.all?(value, &limit?/1)
  def valid?(:pools, value), do: Keyword.keyword?(value)
  def valid?(:tools, value), do: is_list(value)
  def valid?(:schema, value), do: Keyword.keyword?(value)
  def valid?({:in, values}, value), do: value in values
  def valid?(:agents, value), do: is_list(value) and Enum.all?(value, &valid?(:start, &1))
  def valid?(:start, {class, opts}), do: (is_binary(class) or is_atom(class)) and Keyword.keyword?(opts)
  def valid?(:start, _value), do: false

  def valid?(:history, value), do: is_integer(value) and value in @least_history..@most_history
  def valid?(:events, value), do: is_nil(value) or (is_list(value) and Enum.all?(value, &is_atom/1))

  def valid?(:directories, value),
    do: is_binary(value) or (is_list(value) and Enum.all?(value, &is_binary/1))

  def valid?(:env, value), do: is_list(value) and Enum.all?(value, &env_pair?/1)

  defp limit?({whom, limits}) when is_binary(whom) or is_atom(whom), do: limits?(limits)
  defp limit?({{:tenant, key}, limits}) when is_binary(key), do: limits?(limits) and limits[:rate] == nil
  defp limit?(_other), do: false

  defp limits?(limits) do
    Keyword.keyword?(limits) and
      Enum.all?(limits, fn
        {:rate, rate} -> rate != nil and valid?(:rate, rate)
        {:concurrency, count} -> valid?(:pos_integer, count)
        _other -> false
      end)
  end

  defp env_pair?({name, value}), do: is_binary(name) and is_binary(value)
  defp env_pair?(_other), do: false

  @doc "What a value of that type is, in words."
  @spec describe(type() | atom()) :: String.t()
  def describe(type)
  def describe(:pos_integer), do: "a positive integer"
  def describe(:non_neg_integer), do: "a non-negative integer"
  def describe(:timeout), do: "a non-negative integer (milliseconds) or :infinity"
  def describe(:pos_timeout), do: "a positive integer or :infinity"
  def describe(:ms), do: "a non-negative integer (milliseconds)"
  def describe(:pos_ms), do: "a positive integer (milliseconds)"
  def describe(:share), do: "a number more than 0 and at most 1"
  def describe(:pos_count), do: describe(:pos_timeout)
  def describe(:bytes), do: "a number of bytes, at least #{@least_bytes}"
  def describe(:isolation), do: ":dedicated or {:tenant, key}, where the key is a string"
  def describe(:atom), do: "an atom, such as MyApp.Pyre"
  def describe(:string_or_nil), do: "a string"
  def describe(:boolean), do: "true or false"
  def describe(:map), do: "a map"
  def describe(:revision), do: "a revision, a non-negative integer"
  def describe(:rate), do: "{count, milliseconds}, at most 1,000 a millisecond"

  def describe(:limits),
    do: "a list of {class, rate: {count, ms}, concurrency: count}; a {:tenant, key} has no rate"

  def describe(:pools), do: "a list of {name, options}, such as [ml: [workers: 1]]"
  def describe(:tools), do: "a list of tools"
  def describe(:schema), do: "a keyword list of arguments"
  def describe({:in, values}), do: "one of #{Enum.map_join(values, ", ", &inspect/1)}"
  def describe(:agents), do: "a list of {class, options}"
  def describe(:start), do: "{class, options}"
  def describe(:directories), do: "a directory or a list of directories"
  def describe(:env), do: "a list of {name, value}, both strings"
  def describe(:history), do: "an integer from #{@least_history} to #{@most_history}"
  def describe(:events), do: "a list of atoms, such as [:message, :crashed]"
end
