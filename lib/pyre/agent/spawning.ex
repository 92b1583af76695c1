defmodule Pyre.Agent.Spawning do
  @moduledoc false

  # What an interpreter says about the agents and groups that a handler asks for, as options of `start_agent` and `start_group`. It
  # may say anything: what is not in these tables is refused, and no atom is made of it. Pure.

  alias Pyre.Agent.Starter
  alias Pyre.Error
  alias Pyre.Wire.MsgPack

  @agent %{
    "id" => :id,
    "args" => :args,
    "restart" => :restart,
    "on_restart" => :on_restart,
    "max_restarts" => :max_restarts,
    "max_seconds" => :max_seconds,
    "max_mailbox" => :max_mailbox,
    "if_exists" => :if_exists,
    "group" => :group
  }

  @group %{
    "strategy" => :strategy,
    "max_restarts" => :max_restarts,
    "max_seconds" => :max_seconds,
    "agents" => :agents,
    "group" => :group
  }

  @choices Map.new(
             [
               :permanent,
               :transient,
               :temporary,
               :committed,
               :initial,
               :error,
               :return,
               :one_for_one,
               :one_for_all,
               :rest_for_one
             ],
             &{Atom.to_string(&1), &1}
           )
  @chosen [:restart, :on_restart, :if_exists, :strategy]

  @doc "The options of an agent."
  @spec agent(binary()) :: {:ok, keyword()} | {:error, Error.t()}
  def agent(body), do: read(body, &options(&1, @agent))

  @doc "The options of a group. Each agent in it has an id."
  @spec group(binary()) :: {:ok, keyword()} | {:error, Error.t()}
  def group(body) do
    read(body, fn request ->
      opts = options(request, @group)
      agents = opts |> Keyword.get(:agents, []) |> Enum.map(&member/1)
      opts |> Keyword.put(:agents, agents) |> Pyre.Group.Control.options!()
    end)
  end

  defp member([class, request]) when is_binary(class) and is_map(request),
    do: {class, request |> options(@agent) |> Keyword.put_new_lazy(:id, fn -> Starter.make_id(class) end)}

  defp member(other), do: wrong("expected a class and its options, got: #{inspect(other, limit: 5)}")

  defp read(body, function) do
    with {:ok, request} <- MsgPack.decode(body), do: {:ok, function.(request)}
  rescue
    error in ArgumentError -> {:error, Error.new(:invalid_args, Exception.message(error))}
  end

  defp options(request, known) when is_map(request),
    do: for({name, value} <- request, value != nil, do: option(name, value, known))

  defp options(other, _known), do: wrong("expected options, got: #{inspect(other, limit: 5)}")

  defp option(name, value, known) do
    case known do
      %{^name => :agents} when not is_list(value) ->
        wrong("expected :agents to be a list, got: #{inspect(value, limit: 5)}")

      %{^name => option} when option in @chosen ->
        {option, Map.get(@choices, value, value)}

      %{^name => option} ->
        {option, value}

      _unknown ->
        wrong("unknown option #{inspect(name)}, the options are: #{Enum.join(Map.keys(known), ", ")}")
    end
  end

  @spec wrong(String.t()) :: no_return()
  defp wrong(message), do: raise(ArgumentError, message)
end
