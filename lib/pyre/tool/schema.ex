defmodule Pyre.Tool.Schema do
  @moduledoc false

  # The declaration of a tool's arguments: whether it makes sense, what it says as JSON Schema, and whether arguments that came over the
  # wire fit it. What the JSON Schema allows is what is taken. Pure.

  alias Pyre.Error

  @options [:type, :required, :default, :doc]
  @scalars %{string: "string", integer: "integer", float: "number", boolean: "boolean"}
  @words %{
    string: "a string",
    integer: "an integer",
    float: "a number",
    boolean: "true or false",
    map: "a map",
    list: "a list"
  }

  @type mismatch :: {path :: String.t(), problem :: String.t()}

  ## The declaration

  @doc "Raises an `ArgumentError` that names the argument where the declaration makes no sense."
  @spec validate!(term(), String.t()) :: :ok
  def validate!(schema, tool) do
    unless Keyword.keyword?(schema),
      do: raise(ArgumentError, "expected the schema of #{tool} to be a keyword list, got: #{shown(schema)}")

    names = Keyword.keys(schema)

    with [twice | _more] <- names -- Enum.uniq(names),
         do: raise(ArgumentError, "the schema of #{tool} has the argument #{inspect(twice)} twice")

    Enum.each(schema, fn {name, opts} -> validate_argument!(opts, "#{inspect(name)} of #{tool}") end)
  end

  defp validate_argument!(opts, argument) do
    unless Keyword.keyword?(opts) and Keyword.has_key?(opts, :type) and Keyword.keys(opts) -- @options == [],
      do:
        raise(
          ArgumentError,
          "expected the argument #{argument} to be declared by :type, and :required, :default or :doc, got: #{shown(opts)}"
        )

    {doc, required} = {opts[:doc], Keyword.get(opts, :required, false)}

    unless (doc == nil or text?(doc)) and is_boolean(required),
      do:
        raise(
          ArgumentError,
          "expected :doc of #{argument} to be a string and :required a boolean, got: #{shown(opts)}"
        )

    validate_type!(opts[:type], argument)
    if Keyword.has_key?(opts, :default), do: validate_default!(opts, argument, required)
  end

  defp validate_default!(_opts, argument, true),
    do: raise(ArgumentError, "the argument #{argument} is required: its :default would never be taken")

  defp validate_default!(opts, argument, false) do
    case load(opts[:type], wire(opts[:default]), "") do
      {:ok, _value} ->
        :ok

      {:error, {_path, problem}} ->
        raise ArgumentError, "the :default of #{argument} does not fit: #{problem}"
    end
  end

  defp validate_type!(type, _argument) when is_map_key(@words, type) or type == :any, do: :ok
  defp validate_type!({:list, type}, argument), do: validate_type!(type, argument)
  defp validate_type!({:map, schema}, argument), do: validate!(schema, argument)

  defp validate_type!({:in, [_one | _more] = values} = type, argument) do
    unless Enum.all?(values, &(is_binary(&1) or is_integer(&1) or name?(&1))), do: wrong_type!(type, argument)
  end

  defp validate_type!(other, argument), do: wrong_type!(other, argument)

  @spec wrong_type!(term(), String.t()) :: no_return()
  defp wrong_type!(type, argument) do
    raise ArgumentError,
          "expected the :type of #{argument} to be one of :string, :integer, :float, :boolean, :map, {:map, schema}, :list, " <>
            "{:list, type}, {:in, [strings, integers or atoms]} or :any, got: #{shown(type)}"
  end

  ## JSON Schema

  @doc "The declaration as JSON Schema."
  @spec json(Pyre.Tool.schema()) :: map()
  def json(schema) do
    %{
      "type" => "object",
      "properties" => Map.new(schema, fn {name, opts} -> {Atom.to_string(name), property(opts)} end),
      "required" => for({name, opts} <- schema, opts[:required] == true, do: Atom.to_string(name)),
      "additionalProperties" => false
    }
  end

  defp property(opts) do
    type = json_type(opts[:type])
    type = if opts[:doc], do: Map.put(type, "description", opts[:doc]), else: type
    if Keyword.has_key?(opts, :default), do: Map.put(type, "default", wire(opts[:default])), else: type
  end

  defp json_type(:any), do: %{}
  defp json_type(:map), do: %{"type" => "object"}
  defp json_type(:list), do: %{"type" => "array"}
  defp json_type({:map, schema}), do: json(schema)
  defp json_type({:list, type}), do: %{"type" => "array", "items" => json_type(type)}
  defp json_type({:in, values}), do: %{"enum" => Enum.map(values, &wire/1)}
  defp json_type(scalar), do: %{"type" => Map.fetch!(@scalars, scalar)}

  ## Arguments

  @doc "The arguments as the tool gets them, or the error that names the first one that doesn't fit."
  @spec check(Pyre.Tool.schema(), term(), String.t()) :: {:ok, %{atom() => term()}} | {:error, Error.t()}
  def check(schema, args, tool) do
    with {:error, {path, problem}} <- load({:map, schema}, args, "") do
      message = "the arguments of the tool #{inspect(tool)} don't fit: #{problem}"
      {:error, Error.new(:invalid_args, message, %{argument: path})}
    end
  end

  defp load({:map, schema}, value, path) when is_map(value) and not is_struct(value) do
    names = for {name, _opts} <- schema, do: Atom.to_string(name)

    case Map.keys(value) -- names do
      [] -> load_fields(schema, value, path)
      [unknown | _more] -> {:error, {below(path, unknown), unknown(below(path, unknown), names)}}
    end
  end

  defp load({:map, _schema}, value, path), do: mismatch(path, @words.map, value)

  defp load({:list, type}, values, path) when is_list(values) do
    values
    |> Enum.with_index()
    |> collect([], fn {value, index}, loaded ->
      with {:ok, value} <- load(type, value, "#{path}[#{index}]"), do: {:ok, [value | loaded]}
    end)
    |> then(fn result -> with {:ok, loaded} <- result, do: {:ok, Enum.reverse(loaded)} end)
  end

  defp load({:list, _type}, value, path), do: mismatch(path, @words.list, value)

  defp load({:in, values}, value, path) do
    case Enum.find(values, :none, &(wire(&1) === value)) do
      :none -> mismatch(path, "one of #{Enum.map_join(values, ", ", &inspect(wire(&1)))}", value)
      found -> {:ok, found}
    end
  end

  defp load(:any, value, _path), do: {:ok, value}
  defp load(:float, value, _path) when is_number(value), do: {:ok, value * 1.0}

  defp load(type, value, path),
    do: if(fits?(type, value), do: {:ok, value}, else: mismatch(path, Map.fetch!(@words, type), value))

  defp fits?(:string, value), do: text?(value)
  defp fits?(:integer, value), do: is_integer(value)
  defp fits?(:boolean, value), do: is_boolean(value)
  defp fits?(:map, value), do: is_map(value) and not is_struct(value)
  defp fits?(:list, value), do: is_list(value)
  defp fits?(:float, _value), do: false

  defp load_fields(schema, given, path) do
    collect(schema, %{}, fn {name, opts}, loaded ->
      name_text = Atom.to_string(name)
      load_field(Map.fetch(given, name_text), {name, opts}, below(path, name_text), loaded)
    end)
  end

  defp load_field({:ok, value}, {name, opts}, place, loaded) do
    with {:ok, value} <- load(opts[:type], value, place), do: {:ok, Map.put(loaded, name, value)}
  end

  defp load_field(:error, {name, opts}, place, loaded) do
    cond do
      opts[:required] == true -> {:error, {place, "#{named(place)} is missing (#{words(opts[:type])})"}}
      Keyword.has_key?(opts, :default) -> {:ok, Map.put(loaded, name, opts[:default])}
      true -> {:ok, loaded}
    end
  end

  defp collect(items, start, function) do
    Enum.reduce_while(items, {:ok, start}, fn item, {:ok, loaded} ->
      case function.(item, loaded) do
        {:ok, loaded} -> {:cont, {:ok, loaded}}
        error -> {:halt, error}
      end
    end)
  end

  ## Words

  defp mismatch(path, expected, value),
    do: {:error, {path, "#{named(path)} must be #{expected}, got: #{shown(value)}"}}

  defp unknown(path, []), do: "#{named(path)} is unknown; it takes none"
  defp unknown(path, names), do: "#{named(path)} is unknown; it takes #{Enum.join(names, ", ")}"

  defp named(""), do: "the value"
  defp named(path), do: inspect(path)

  defp below("", name) when is_binary(name), do: name
  defp below(path, name) when is_binary(name), do: "#{path}.#{name}"
  defp below(path, name), do: below(path, inspect(name, limit: 5))

  defp words({:in, values}), do: "one of #{Enum.map_join(values, ", ", &inspect(wire(&1)))}"
  defp words({:map, _schema}), do: @words.map
  defp words({:list, _type}), do: @words.list
  defp words(:any), do: "anything"
  defp words(type), do: Map.fetch!(@words, type)

  defp text?(value), do: is_binary(value) and String.valid?(value)
  defp name?(value), do: is_atom(value) and value not in [nil, true, false]

  # As it comes out of Python: an atom has become a string.
  defp wire(value) when is_atom(value) and value not in [nil, true, false], do: Atom.to_string(value)
  defp wire(values) when is_list(values), do: Enum.map(values, &wire/1)

  defp wire(map) when is_map(map) and not is_struct(map),
    do: Map.new(map, fn {key, value} -> {wire(key), wire(value)} end)

  defp wire(value), do: value

  defp shown(value), do: inspect(value, limit: 5, printable_limit: 100)
end
