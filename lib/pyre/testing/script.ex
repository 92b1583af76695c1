defmodule Pyre.Testing.Script do
  @moduledoc false

  # What a scripted worker says: classes with their handlers, and functions. Pure: checks what the test wrote, and finds in it.

  alias Pyre.Error

  @enforce_keys [:classes, :functions]
  defstruct [:classes, :functions]

  @type answer :: :manual | (... -> term())
  @type handler :: %{answer: answer(), interleave: boolean(), idempotent: boolean()}
  @type class :: %{
          handlers: %{String.t() => handler()},
          state: [{String.t(), {:default, term()} | :required}],
          autostart: [{String.t(), map()}]
        }
  @type t :: %__MODULE__{classes: %{String.t() => class()}, functions: %{String.t() => handler()}}

  @class_options [:state, :autostart]
  @handler_options [:interleave, :idempotent]
  @hooks ["on_start", "on_stop"]

  @doc "Checks what `:agents` and `:functions` are, or raises an `ArgumentError` that says what is expected."
  @spec new!(term(), term()) :: t()
  def new!(agents, functions) do
    classes = for {name, class} <- pairs!(agents, ":agents", "classes"), do: class!(name!(name), class)
    %__MODULE__{classes: Map.new(classes), functions: handlers!(functions, ":functions")}
  end

  defp class!(name, {handlers, options}) do
    where = "the class #{inspect(name)} in :agents"
    options = options!(options, @class_options, where)

    {name,
     %{
       handlers: handlers!(handlers, where),
       state: options |> Keyword.get(:state, []) |> fields!(where),
       autostart: options |> Keyword.get(:autostart, false) |> autostart!(name)
     }}
  end

  defp class!(name, handlers), do: class!(name, {handlers, []})

  defp handlers!(handlers, where) do
    for {name, handler} <- pairs!(handlers, where, "handlers"), into: %{} do
      {name!(name), handler!(handler, "#{name!(name)} of #{where}")}
    end
  end

  defp handler!({answer, options}, where) do
    options = options!(options, @handler_options, where)
    flag? = fn option -> Keyword.get(options, option, false) == true end

    %{
      answer: answer!(answer, where),
      interleave: flag?.(:interleave),
      idempotent: flag?.(:idempotent)
    }
  end

  defp handler!(answer, where), do: handler!({answer, []}, where)

  defp answer!(:manual, _where), do: :manual

  defp answer!(answer, _where)
       when is_function(answer, 1) or is_function(answer, 2) or is_function(answer, 3),
       do: answer

  defp answer!(other, where) do
    raise ArgumentError,
          "expected the handler #{where} to be :manual or a function of (args), (args, state) or (args, state, message), " <>
            "got: #{inspect(other, limit: 5)}"
  end

  # As defstruct has them: a name alone has no default.
  defp fields!(fields, _where) when is_map(fields),
    do: for({field, default} <- fields, do: {name!(field), {:default, default}})

  defp fields!(fields, where) when is_list(fields) do
    for field <- fields do
      case field do
        {name, default} -> {name!(name), {:default, default}}
        name when is_atom(name) or is_binary(name) -> {name!(name), :required}
        other -> fields!(other, where)
      end
    end
  end

  defp fields!(other, where) do
    raise ArgumentError,
          "expected :state of #{where} to be fields with their defaults, such as [:article, pieces: 3], got: #{inspect(other, limit: 5)}"
  end

  defp autostart!(false, _class), do: []
  defp autostart!(true, class), do: [{class, %{}}]
  defp autostart!(id, _class) when is_binary(id), do: [{id, %{}}]

  defp autostart!(ids, class) when is_map(ids) do
    for {id, args} <- ids do
      if is_binary(id) and is_map(args), do: {id, args}, else: no_autostart!({id, args}, class)
    end
  end

  defp autostart!(other, class), do: no_autostart!(other, class)

  @spec no_autostart!(term(), String.t()) :: no_return()
  defp no_autostart!(other, class) do
    raise ArgumentError,
          "expected :autostart of #{class} to be true, an id, or a map from ids to start arguments, got: #{inspect(other, limit: 5)}"
  end

  defp pairs!(pairs, _where, _what) when is_map(pairs) and not is_struct(pairs), do: Map.to_list(pairs)

  defp pairs!(pairs, where, what) do
    if is_list(pairs) and Enum.all?(pairs, &match?({_name, _value}, &1)) do
      pairs
    else
      raise ArgumentError,
            "expected #{where} to be a map of #{what}, by their names, got: #{inspect(pairs, limit: 5)}"
    end
  end

  defp options!(options, known, where) do
    unless Keyword.keyword?(options) and Keyword.keys(options) -- known == [] do
      raise ArgumentError,
            "expected the options of #{where} to be some of #{Enum.map_join(known, ", ", &inspect/1)}, " <>
              "got: #{inspect(options, limit: 5)}"
    end

    options
  end

  defp name!(name) when is_binary(name), do: name

  defp name!(name) when is_atom(name) and name not in [nil, true, false],
    do: name |> Atom.to_string() |> String.replace_prefix("Elixir.", "")

  defp name!(other),
    do: raise(ArgumentError, "expected a name to be an atom or a string, got: #{inspect(other, limit: 5)}")

  @doc "What an interpreter says of its classes when it is ready (docs/wire.md)."
  @spec info(t()) :: map()
  def info(%__MODULE__{classes: classes}) do
    %{
      classes: for({name, class} <- classes, do: describe(name, class)),
      problems: [],
      packages: %{},
      loop: "Pyre.Testing"
    }
  end

  defp describe(name, %{handlers: handlers} = class) do
    %{
      name: name,
      module: "Pyre.Testing",
      file: "Pyre.Testing",
      doc: "",
      autostart: for({id, args} <- class.autostart, do: [id, args]),
      timers: [],
      on_start: is_map_key(handlers, "on_start"),
      on_stop: is_map_key(handlers, "on_stop"),
      handlers:
        for({handler, spec} <- handlers, handler not in @hooks, into: %{}, do: {handler, flags(spec)}),
      state: for({field, default} <- class.state, into: %{}, do: {field, parameter(default)})
    }
  end

  defp flags(spec) do
    %{
      kind: "async",
      stream: false,
      interleave: spec.interleave,
      readonly: spec.interleave,
      idempotent: spec.idempotent,
      params: %{},
      open: true
    }
  end

  defp parameter(default), do: %{type: "anything", required: default == :required, scalar: nil}

  @doc "The state that an agent begins with: the defaults of its fields, and its start arguments."
  @spec initial_state(t(), String.t(), map()) :: map()
  def initial_state(%__MODULE__{classes: classes}, class, args) do
    defaults =
      for {field, {:default, value}} <- Map.fetch!(classes, class).state, into: %{}, do: {field, value}

    Map.merge(defaults, args)
  end

  @doc "Is the class scripted?"
  @spec class?(t(), String.t()) :: boolean()
  def class?(%__MODULE__{classes: classes}, class), do: is_map_key(classes, class)

  @doc "What is scripted for a handler, or the error that says what to do."
  @spec handler(t(), String.t(), String.t()) :: {:ok, handler()} | {:error, Error.t()}
  def handler(%__MODULE__{classes: classes}, class, name) do
    %{handlers: handlers} = Map.fetch!(classes, class)

    case handlers do
      %{^name => handler} ->
        {:ok, handler}

      %{} ->
        {:error,
         Error.new(
           :unknown_handler,
           "no handler #{inspect(name)} is scripted for the class #{inspect(class)}: add it to :agents of Pyre.Testing " <>
             "(scripted: #{names(handlers)})"
         )}
    end
  end

  @doc "What is scripted for a function that `Pyre.run/5` names, or the error that says what to do."
  @spec function(t(), String.t()) :: {:ok, handler()} | {:error, Error.t()}
  def function(%__MODULE__{functions: functions}, name) do
    case functions do
      %{^name => handler} ->
        {:ok, handler}

      %{} ->
        {:error,
         Error.new(
           :unknown_handler,
           "no function #{inspect(name)} is scripted: add it to :functions of Pyre.Testing (scripted: #{names(functions)})"
         )}
    end
  end

  defp names(handlers) when handlers == %{}, do: "none"
  defp names(handlers), do: handlers |> Map.keys() |> Enum.sort() |> Enum.join(", ")
end
