defmodule Pyre.Agent.Tools do
  @moduledoc false

  # What a running handler asks of the tools that the BEAM offers. Runs in the agent's process, and waits for nothing: the answer comes as
  # a message.

  alias Pyre.{Address, Error, Instance}
  alias Pyre.Tool.{Caller, Runs, Spec, Table}
  alias Pyre.Wire.MsgPack

  # As long as a use of a tool may take that nothing else limits.
  @longest_ms 86_400_000

  @doc "Has a tool run for a message; whoever waits for the token is told."
  @spec run(Pyre.Agent.t(), pos_integer(), map(), {binary(), binary(), non_neg_integer()}) ::
          :ok | {:error, Error.t()}
  def run(%{instance: instance} = state, token, message, {name, body, timeout_ms}) do
    with {:ok, spec} <- Table.fetch(instance, name) do
      deadline = deadline(spec, message, timeout_ms)

      # What came in a frame would keep the whole frame alive for as long as it waits.
      Runs.enter(instance, token, self(), %{
        tool: spec.name,
        body: :binary.copy(body),
        deadline: deadline,
        caller: caller(state, message, deadline)
      })
    end
  end

  # Its own time, the time that the handler gives it, and never longer than somebody waits for the handler.
  defp deadline(spec, message, timeout_ms) do
    own = if is_integer(spec.timeout), do: spec.timeout, else: @longest_ms
    wanted = Instance.now_ms() + if(timeout_ms == 0, do: own, else: min(own, timeout_ms))
    if message.deadline > 0, do: min(wanted, message.deadline - 1), else: wanted
  end

  defp caller(%{instance: instance} = state, message, deadline) do
    %Caller{
      instance: instance.name,
      agent: state.id,
      class: state.class,
      handler: handler(message),
      message: id(message.key),
      tenant: tenant(instance, state.id),
      deadline: System.monotonic_time(:millisecond) + deadline - Instance.now_ms()
    }
  end

  defp handler(%{kind: hook}) when hook in [:on_start, :on_stop], do: Atom.to_string(hook)
  # What came in a frame, or lies in a row.
  defp handler(message), do: :binary.copy(message.handler)

  defp id({_handle, hook, _seq}) when is_atom(hook), do: nil
  defp id({_handle, _lane, seq}), do: seq

  defp tenant(instance, id) do
    with {:ok, %{opts: opts}} <- Address.fetch(instance, id), {:tenant, key} <- opts[:isolation] do
      key
    else
      _none -> nil
    end
  end

  @doc "What the agent is told of the tools."
  @spec list(Instance.t()) :: binary()
  def list(instance) do
    {:ok, body} = instance |> Table.all() |> Enum.map(&Spec.outline/1) |> MsgPack.encode()
    body
  end
end
