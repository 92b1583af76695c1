defmodule Pyre.Agent.Burst do
  @moduledoc false

  # Several casts of one agent that wait in a row are handed over at once, run one right after the other, and are committed together:
  # most of what a cast costs is its way. Runs in the agent's process; the first of them is `running`, the others stand in `burst`.
  #
  # A burst is short: it lasts as long as its casts run through without waiting, and all bursts of a turn of the interpreter's loop
  # together two milliseconds. The interpreter then says how many have ended well, and how many come back, since they have not begun; the one between, if any, goes on alone.
  #
  # `ahead` is how many casts the agent may hand over at once. It grows with each burst that runs through, and is halved where the time was
  # over; below 1 it counts those that are handed over alone, after one that parted.

  alias Pyre.Agent.{Commits, Ending}
  alias Pyre.{Error, History, Instance, Mailbox, Telemetry}

  @most 64
  @most_bytes 262_144
  # So many run alone after a burst that came back: where each cast waits for something, every burst would.
  @alone -64
  # What became of a message is told by its worker together with what became of the first.
  @told_ms 1_000
  @nil_body <<0xC0>>

  @type verdict :: {begun? :: boolean(), Error.t(), nil | {:certain | :suspect, map()}}

  @doc "Claims what may run together with this message, which is claimed."
  @spec gather(Pyre.Agent.t(), Mailbox.t()) :: [Mailbox.t()]
  def gather(%{ahead: ahead} = state, %{kind: :cast, deadline: 0, reply_to: nil} = message) when ahead > 1 do
    case alike?(state) && min(ahead - 1, until_fair_turn(state)) do
      most when is_integer(most) and most > 0 ->
        state.instance
        |> Mailbox.following(message.key, most)
        |> claim(state.instance, @most_bytes - byte_size(message.args))

      _alone ->
        []
    end
  end

  def gather(_state, _message), do: []

  # Where messages have priorities, the oldest of all has its turn as often as without bursts.
  defp until_fair_turn(state),
    do: if(Instance.priorities?(state.instance), do: Mailbox.until_fair_turn(state.turn), else: @most)

  # Each of the others looks at every single message: at what it carried, at what runs beside it, at who else may run.
  defp alike?(%{probation?: false, slot: nil, interleaves?: false, beside: []} = state),
    do: not state.instance.config.payloads

  defp alike?(_state), do: false

  defp claim([%{kind: :cast, deadline: 0, reply_to: nil} = message | rest], instance, room)
       when byte_size(message.args) <= room do
    if Mailbox.claim(instance, message.key),
      do: [message | claim(rest, instance, room - byte_size(message.args))],
      else: []
  end

  defp claim(_others, _instance, _room), do: []

  @doc "What BURST carries of each: a MessagePack array of `[handler, args, message's id, attempt]`, which C code reads."
  @spec pack([Mailbox.t(), ...]) :: binary()
  def pack(messages) do
    items =
      for %{handler: handler, args: args, key: {_handle, _lane, seq}, attempt: attempt} <- messages,
          do: [0x94, bin(handler), bin(args), <<0xCF, seq::64, 0xCF, attempt::64>>]

    IO.iodata_to_binary([<<0xDC, length(messages)::16>> | items])
  end

  defp bin(bytes) when byte_size(bytes) < 256, do: [<<0xC4, byte_size(bytes)>> | bytes]
  defp bin(bytes), do: [<<0xC6, byte_size(bytes)::32>> | bytes]

  @doc "A cast ran through alone."
  @spec grow(Pyre.Agent.t()) :: Pyre.Agent.t()
  def grow(%{ahead: ahead} = state) when ahead < 1, do: %{state | ahead: ahead + 1}
  def grow(%{ahead: ahead} = state), do: %{state | ahead: min(ahead + div(ahead, 8) + 1, @most)}

  @doc """
  So many have ended well, `changes` of which have changed the state, and so many come back.

  `:over` where none is left, else the one that is left is `running`.
  """
  @spec done(Pyre.Agent.t(), {non_neg_integer(), non_neg_integer(), binary() | [], non_neg_integer()}) ::
          {:over | :alone, Pyre.Agent.t()}
  def done(%{running: running, burst: burst} = state, {ended, changes, new_state, back}) do
    {over, rest} = Enum.split([running | burst], ended)
    {left, returned} = Enum.split(rest, length(rest) - back)
    _told = over != [] and ended(state, over, changes, new_state)
    for message <- returned, do: Mailbox.unclaim(state.instance, message.key, message.attempt)
    state = %{state | burst: []}

    case {left, returned} do
      {[], []} -> {:over, grow(state)}
      {[], _out_of_time} -> {:over, %{state | ahead: max(max(ended, div(state.ahead, 2)), 2)}}
      {[^running], _returned} -> {:alone, %{state | ahead: @alone}}
      {[message], _returned} -> {:alone, %{state | ahead: @alone, running: message}}
    end
  end

  defp ended(%{instance: instance, handle: handle} = state, messages, changes, new_state) do
    keys = for message <- messages, do: message.key

    _revision =
      is_binary(new_state) && Commits.put_burst(instance, handle, new_state, changes, {keys, @nil_body})

    History.done_together(instance, handle, messages, @nil_body)
    Mailbox.delete_all(instance, state.id, messages)

    Telemetry.enabled?() and for(message <- messages, do: tell(instance.name, state.class, message))
  end

  defp tell(name, class, message),
    do:
      Telemetry.event([:agent, :message], %{count: 1}, %{name: name, class: class, handler: message.handler})

  @doc """
  The worker is gone. Those behind the first go back to the mailbox, or are given up; what is left to be told is of the first, or of
  the one that is to blame.
  """
  @spec lost(Pyre.Agent.t(), verdict()) :: {verdict(), Pyre.Agent.t()}
  def lost(%{running: running, burst: burst} = state, first) do
    verdicts = [{running, first} | for(message <- burst, do: {message, verdict(state, message)})]

    culprit =
      Enum.find(verdicts, hd(verdicts), &match?({_message, {_begun?, _error, {:certain, _evidence}}}, &1))

    {message, {begun?, error, charge}} = culprit
    others = List.delete(verdicts, culprit)
    for other <- others, do: back(state, other)
    charge = charge || Enum.find_value(others, fn {_message, {_begun?, _error, charge}} -> charge end)
    {{begun?, error, charge}, %{state | burst: [], running: message, ahead: @alone}}
  end

  defp verdict(%{worker: {_no, worker}}, %{key: key}) do
    receive do
      {:worker_down, ^key, begun?, error, charge} -> {begun?, error, charge}
    after
      if(Process.alive?(worker), do: @told_ms, else: 0) ->
        {true, Error.new(:worker_down, "the process of the worker ended", %{begun: true}), nil}
    end
  end

  defp back(state, {message, {true, error, _charge}}), do: Ending.interrupted(state, message, error)

  defp back(state, {message, {false, _error, _charge}}) do
    Instance.count(state.instance, :resent)
    Mailbox.unclaim(state.instance, message.key, message.attempt)
  end

  @doc "All but the first go back: the worker has not seen them, or its process is gone and can't say whether it has."
  @spec take_back(Pyre.Agent.t(), :unseen | Error.t()) :: Pyre.Agent.t()
  def take_back(%{burst: []} = state, _seen), do: state

  def take_back(%{burst: burst} = state, :unseen) do
    for message <- burst, do: Mailbox.unclaim(state.instance, message.key, message.attempt)
    %{state | burst: []}
  end

  def take_back(%{burst: burst} = state, error) do
    for message <- burst, do: Ending.interrupted(state, message, error)
    %{state | burst: [], ahead: @alone}
  end
end
