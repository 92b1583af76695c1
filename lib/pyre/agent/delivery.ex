defmodule Pyre.Agent.Delivery do
  @moduledoc false

  # Hands a message over to the agent's worker, and the agent's state with it where the worker has no activation.

  require Pyre.Wire, as: Wire

  alias Pyre.Agent.{Burst, Commits}
  alias Pyre.{Address, Classes, Instance, Mailbox, Worker}
  alias Pyre.Worker.Pool

  @empty_map <<0x80>>

  @doc "Hands a claimed message over; `:closed` where the worker takes none, or its process is another by now."
  @spec deliver(Pyre.Agent.t(), Mailbox.t() | map()) :: {:ok, Pyre.Agent.t()} | :closed
  # The worker is looked at after the claim: a successor that enrols later finds the claimed message and tells us.
  def deliver(%{worker: {_no, pid} = worker} = state, message) do
    if Pool.open?(state.instance, worker) do
      {state, activation} = activation(state)
      Instance.count(state.instance, :delivered, 1 + length(state.burst))
      send_out(pid, message, state, activation)
      {:ok, state}
    else
      :closed
    end
  end

  defp send_out(pid, message, %{burst: []} = state, activation),
    do: Worker.deliver(pid, self(), message.key, wire(message, state), activation)

  defp send_out(pid, message, state, activation) do
    Instance.count(state.instance, :bursts)
    messages = [message | state.burst]
    keys = for message <- messages, do: message.key
    Worker.deliver_burst(pid, self(), keys, {state.handle, state.epoch, Burst.pack(messages)}, activation)
  end

  @doc "The message of a hook, which is no one's: it has no row, and ends with the agent's process."
  @spec hook(Pyre.Agent.t(), :on_start | :on_stop) :: map()
  def hook(state, hook) do
    %{
      key: {state.handle, hook, 0},
      kind: hook,
      handler: <<>>,
      args: @empty_map,
      deadline: 0,
      reply_to: nil,
      attempt: 1
    }
  end

  defp wire(message, state) do
    {state.handle, state.epoch, kind(message.kind), message.handler, message.args, message.deadline,
     extra(message)}
  end

  defp kind(:call), do: Wire.kind_call()
  defp kind(:stream), do: Wire.kind_stream()
  defp kind(:cast), do: Wire.kind_cast()
  defp kind(:timer), do: Wire.kind_timer()
  defp kind(:decision), do: Wire.kind_cast()
  defp kind(:event), do: Wire.kind_cast()
  defp kind(:on_start), do: Wire.kind_on_start()
  defp kind(:on_stop), do: Wire.kind_on_stop()
  defp kind(:on_down), do: Wire.kind_on_down()

  defp extra(%{attempt: 1, key: {_handle, _lane, seq}}), do: seq
  defp extra(%{attempt: attempt, key: {_handle, _lane, seq}}), do: {seq, attempt, 0, [], 0, 0, <<>>}

  defp activation(%{active?: true} = state), do: {state, nil}

  defp activation(%{worker: {no, _pid}} = state) do
    epoch = Address.next_epoch(state.instance, state.id, no)
    args = Address.start_args(state.instance, state.id)
    {committed, _revision, version} = Commits.load(state.instance, state.handle)
    # The code may be another than at the start.
    interleaves? = Classes.interleaves?(state.instance, state.class)
    state = %{state | epoch: epoch, active?: true, interleaves?: interleaves?}
    {state, {state.class, state.id, committed, args, version}}
  end
end
