defmodule Pyre.Tool.Spec do
  @moduledoc false

  # A tool as the instance knows it: what was offered, checked and completed. Pure.

  alias Pyre.{Options, Tool}
  alias Pyre.Wire.MsgPack

  @max_name_bytes 255

  @enforce_keys [:name, :run]
  defstruct [:name, :run, :description, :schema, :json, :timeout, :max_concurrency, :max_waiting]

  @type t :: %__MODULE__{
          name: String.t(),
          run: function(),
          description: String.t(),
          schema: Tool.schema(),
          json: map(),
          timeout: timeout(),
          max_concurrency: pos_integer() | :infinity,
          max_waiting: non_neg_integer()
        }

  @doc "The tools of a list; each name once."
  @spec all!([Tool.entry()]) :: [t()]
  def all!(entries) do
    specs = Enum.map(entries, &new!/1)
    names = Enum.map(specs, & &1.name)

    with [twice | _more] <- names -- Enum.uniq(names),
         do: raise(ArgumentError, "two tools have the name #{inspect(twice)}")

    specs
  end

  @doc "The tool that was offered; raises an `ArgumentError` where it is none."
  @spec new!(Tool.entry()) :: t()
  def new!(module) when is_atom(module) and module not in [nil, true, false], do: of_module(module, [])
  def new!({module, opts}) when is_atom(module) and is_list(opts), do: of_module(module, opts)
  def new!({name, function}) when is_function(function), do: of_function(name, function, [])
  def new!({name, function, opts}) when is_function(function), do: of_function(name, function, opts)

  def new!(other) do
    raise ArgumentError,
          "expected a tool to be a module, {module, options} or {name, function, options}, got: " <>
            inspect(other, limit: 5, printable_limit: 100)
  end

  defp of_module(module, opts) do
    unless Code.ensure_loaded?(module) and function_exported?(module, :run, 2) and
             function_exported?(module, :description, 0),
           do:
             raise(
               ArgumentError,
               "expected #{inspect(module)} to be a Pyre.Tool: a module with description/0 and run/2"
             )

    opts = Options.validate!(:tool, opts)

    for told <- [:description, :schema], opts[told] not in [nil, []] do
      raise ArgumentError,
            "the tool #{inspect(module)} tells its #{told} by itself: it can't be an option too"
    end

    name = opts[:name] || own_name(module)
    schema = if function_exported?(module, :schema, 0), do: module.schema(), else: []
    make(name, Function.capture(module, :run, 2), module.description(), schema, opts)
  end

  defp own_name(module) do
    if function_exported?(module, :name, 0),
      do: module.name(),
      else: module |> Module.split() |> List.last() |> Macro.underscore()
  end

  defp of_function(name, function, opts) do
    opts = Options.validate!(:tool, opts)

    if opts[:name],
      do: raise(ArgumentError, "the tool #{inspect(name)} has its name already: it takes no :name")

    run =
      cond do
        is_function(function, 2) ->
          function

        is_function(function, 1) ->
          fn args, _caller -> function.(args) end

        true ->
          raise ArgumentError,
                "expected the function of the tool #{inspect(name)} to take args, or args and caller"
      end

    make(name, run, opts[:description] || "", opts[:schema], opts)
  end

  defp make(name, run, description, schema, opts) do
    unless is_binary(name) and String.valid?(name) and byte_size(name) in 1..@max_name_bytes,
      do:
        raise(
          ArgumentError,
          "expected a tool's name to be 1 to #{@max_name_bytes} bytes of UTF-8, got: #{inspect(name, printable_limit: 50)}"
        )

    unless is_binary(description) and String.valid?(description),
      do:
        raise(
          ArgumentError,
          "expected the description of the tool #{inspect(name)} to be text, got: #{inspect(description, limit: 5)}"
        )

    Tool.Schema.validate!(schema, "the tool #{inspect(name)}")

    spec = %__MODULE__{
      name: name,
      run: run,
      description: description,
      schema: schema,
      json: Tool.Schema.json(schema),
      timeout: opts[:timeout],
      max_concurrency: opts[:max_concurrency],
      max_waiting: opts[:max_waiting]
    }

    with {:error, error} <- spec |> outline() |> MsgPack.encode(),
         do:
           raise(
             ArgumentError,
             "what the tool #{inspect(name)} tells of itself can't travel: #{error.message}"
           )

    spec
  end

  @doc "What an agent is told of it."
  @spec outline(t()) :: %{String.t() => term()}
  def outline(spec), do: %{"name" => spec.name, "description" => spec.description, "schema" => spec.json}
end
