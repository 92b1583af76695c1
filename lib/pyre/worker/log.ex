defmodule Pyre.Worker.Log do
  @moduledoc false

  # Owns one worker's log socket: raw output of the interpreter and its children, and structured records. Reads one packet at a time, so
  # that a flood blocks its writer, not the BEAM; keeps the last lines for the error that tells of the worker's
  # death; hands on to Logger no more than a bounded number of lines per second.

  use GenServer

  require Logger

  alias Pyre.{Instance, Wire.MsgPack}

  @tail_lines 50
  @line_bytes 4_096
  @lines_per_second 200
  @record_bytes 65_536
  @levels %{
    "debug" => :debug,
    "info" => :info,
    "warning" => :warning,
    "error" => :error,
    "critical" => :critical
  }

  @type option :: {:instance, Instance.t()} | {:worker, pos_integer()} | {:pool, atom()} | {:path, Path.t()}

  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, Map.new(opts))

  @doc "The last lines of raw output since the interpreter was started; empties them."
  @spec take_tail(pid()) :: [String.t()]
  def take_tail(log) do
    GenServer.call(log, :take_tail, 1_000)
  catch
    :exit, _gone_or_busy -> []
  end

  ## Callbacks

  @impl GenServer
  def init(%{instance: instance, worker: worker, pool: pool, path: path}) do
    # That of a predecessor, where there was one.
    _maybe = File.rm(path)
    # By default a packet is 1,460 bytes, which made a flood, and so its blocked writer, seven times slower.
    options = [:binary, ifaddr: {:local, path}, active: false, packet: :raw, buffer: 65_536]
    {:ok, listener} = :gen_tcp.listen(0, options)
    owner = self()
    spawn_link(fn -> accept(listener, owner) end)

    {:ok,
     %{
       instance: instance,
       worker: worker,
       pool: pool,
       listener: listener,
       connections: %{},
       tail: :queue.new(),
       second: 0,
       lines: 0,
       suppressed: 0
     }}
  end

  @impl GenServer
  def handle_call(:take_tail, _from, state),
    do: {:reply, :queue.to_list(state.tail), %{state | tail: :queue.new()}}

  @impl GenServer
  def handle_info({:connected, socket}, state) do
    _closed_later = :inet.setopts(socket, active: :once)
    {:noreply, put_in(state.connections[socket], {:unknown, <<>>})}
  end

  def handle_info({:tcp, socket, data}, state) do
    {kind, buffer} = Map.get(state.connections, socket, {:unknown, <<>>})
    {connection, state} = receive_data(kind, buffer <> data, state)
    _closed = if connection == :broken, do: :gen_tcp.close(socket), else: :inet.setopts(socket, active: :once)
    {:noreply, put_in(state.connections[socket], connection)}
  end

  def handle_info({:tcp_closed, socket}, state), do: {:noreply, close(state, socket)}
  def handle_info({:tcp_error, socket, _reason}, state), do: {:noreply, close(state, socket)}
  def handle_info(:tell_suppressed, state), do: {:noreply, tell_suppressed(state)}

  ## Helpers

  defp accept(listener, owner) do
    with {:ok, socket} <- :gen_tcp.accept(listener) do
      _closed = :gen_tcp.controlling_process(socket, owner)
      send(owner, {:connected, socket})
      accept(listener, owner)
    end
  end

  defp close(state, socket) do
    {connection, state} = pop_in(state.connections[socket])

    case connection do
      {:output, rest} when rest != <<>> -> output_line(rest, state)
      _nothing_left -> state
    end
  end

  defp receive_data(:unknown, <<"o", rest::binary>>, state), do: receive_data(:output, rest, state)
  defp receive_data(:unknown, <<"l", rest::binary>>, state), do: receive_data(:records, rest, state)
  defp receive_data(:unknown, _other, state), do: {:broken, state}
  defp receive_data(:output, data, state), do: lines(data, state)
  defp receive_data(:records, data, state), do: records(data, state)

  defp lines(data, state) do
    case String.split(data, "\n", parts: 2) do
      [line, rest] -> lines(rest, output_line(line, state))
      [long] when byte_size(long) >= @line_bytes -> {{:output, <<>>}, output_line(long, state)}
      [rest] -> {{:output, rest}, state}
    end
  end

  defp output_line(line, state) do
    line = line |> binary_part(0, min(byte_size(line), @line_bytes)) |> printable()
    tail = :queue.in(line, state.tail)
    tail = if :queue.len(tail) > @tail_lines, do: :queue.drop(tail), else: tail
    log(:info, fn -> "worker #{state.worker}: #{line}" end, [], %{state | tail: tail})
  end

  @doc "A line as text, whatever bytes it holds; a copy, since a part of a packet would keep the packet."
  @spec printable(binary()) :: String.t()
  def printable(line),
    do:
      if(String.valid?(line),
        do: :binary.copy(line),
        else: inspect(line, binaries: :as_strings, limit: :infinity)
      )

  defp records(<<size::32, _rest::binary>>, state) when size > @record_bytes, do: {:broken, state}

  defp records(<<size::32, record::binary-size(size), rest::binary>>, state) do
    case MsgPack.decode(record) do
      {:ok, %{"type" => type} = fields} -> records(rest, record(type, fields, state))
      _malformed -> {:broken, state}
    end
  end

  defp records(rest, state), do: {{:records, rest}, state}

  defp record("log", fields, state) do
    level = Map.get(@levels, fields["level"], :info)
    log(level, fn -> text(fields) end, metadata(fields), state)
  end

  defp record("stall", fields, state) do
    message = fn ->
      "#{who(fields)} has held the loop of worker #{state.worker} for #{fields["ran_ms"]} ms; " <>
        "use await, or a plain def handler, which runs in a thread:\n#{fields["stack"]}"
    end

    log(:warning, message, metadata(fields), state)
  end

  defp record("dropped", fields, state), do: count_dropped(state, fields["count"])
  defp record(_newer, _fields, state), do: state

  defp who(%{"agent" => agent, "class" => class, "handler" => handler}) when is_binary(agent),
    do: "handler #{class}.#{handler} of agent #{inspect(agent)}"

  defp who(_fields), do: "something outside any handler"

  defp text(fields) do
    extra =
      for {key, value} <- fields["fields"] || %{},
          do: " #{key}=#{inspect(value, limit: 20, printable_limit: 500)}"

    exception = if fields["exception"], do: "\n#{fields["exception"]}", else: ""
    "#{fields["event"]}#{extra}#{exception}"
  end

  # Names come from Python: only these become keys, so that no atom is made from the wire.
  defp metadata(fields) do
    [
      agent_id: fields["agent"],
      class: fields["class"],
      handler: fields["handler"],
      message_id: fields["message"],
      python_logger: fields["logger"]
    ]
    |> Enum.reject(fn {_key, value} -> is_nil(value) end)
  end

  defp log(level, message, metadata, state) do
    second = System.monotonic_time(:second)
    state = if state.second == second, do: state, else: %{tell_suppressed(state) | second: second, lines: 0}

    if state.lines < @lines_per_second do
      labels = [worker: state.worker, pool: state.pool, pyre: state.instance.name]
      Logger.log(level, message, labels ++ metadata)
      %{state | lines: state.lines + 1}
    else
      # Told a second later at the latest, also where no line follows.
      _timer = state.suppressed == 0 && Process.send_after(self(), :tell_suppressed, 1_000)
      %{state | suppressed: state.suppressed + 1}
    end
  end

  defp tell_suppressed(%{suppressed: 0} = state), do: state

  defp tell_suppressed(state) do
    Logger.warning(
      "worker #{state.worker}: #{state.suppressed} log lines left out, more than #{@lines_per_second} in a second",
      worker: state.worker,
      pyre: state.instance.name
    )

    count_dropped(%{state | suppressed: 0}, state.suppressed)
  end

  defp count_dropped(state, count) when is_integer(count) and count > 0 do
    Instance.count(state.instance, :log_lines_dropped, count)
    state
  end

  defp count_dropped(state, _count), do: state
end
