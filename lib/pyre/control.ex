defmodule Pyre.Control do
  @moduledoc false

  # Where an operator's commands come in: a local socket, in a directory that only its user may enter. That permission is all the
  # security there is, and whoever has it may do everything. No distribution, no port, no cookie.
  #
  # A request is one packet, a MessagePack map `{"verb": text, "args": map}`; the answer is one, `{"ok": value}` or
  # `{"error": {"kind", "message"}}`, or, for what goes on, any number of `{"more": value}` before it. The client is
  # priv/python/pyre/ctl.py; Pyre.Control.Verbs does what is asked.

  use GenServer

  require Logger

  alias Pyre.Control.Verbs
  alias Pyre.Error
  alias Pyre.Wire.MsgPack

  @path_bytes 100
  @directory_mode 0o700
  @request_ms 5_000
  @max_packet 16_777_216

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  ## Callbacks

  @impl GenServer
  def init(%{name: name, control: path}) do
    Process.flag(:trap_exit, true)

    case listen(path) do
      {:ok, listener} ->
        owner = self()
        _acceptor = spawn_link(fn -> accept(listener, owner) end)
        {:ok, %{name: name, path: path, listener: listener}}

      {:error, reason} ->
        # An instance whose operator can't reach it still does its work.
        Logger.warning(
          "the control socket #{path} can't be used: #{reason}; commands will not reach this instance",
          pyre: name
        )

        :ignore
    end
  end

  @impl GenServer
  def handle_info({:accepted, socket}, %{name: name} = state) do
    pid = spawn_link(fn -> serve(name, socket) end)
    _closed = with :ok <- :gen_tcp.controlling_process(socket, pid), do: send(pid, :go)
    {:noreply, state}
  end

  def handle_info({:EXIT, _connection, _reason}, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, %{path: path}), do: File.rm(path)

  ## The socket

  @doc "May a node listen there? If not, why, in words."
  @spec check(Path.t()) :: :ok | {:error, String.t()}
  def check(path) do
    path = Path.expand(path)

    with :ok <- short_enough(path),
         :ok <- prepare(Path.dirname(path)),
         :ok <- unused(path) do
      :ok
    else
      {:error, reason} when is_binary(reason) -> {:error, reason}
      {:error, reason} -> {:error, to_string(:file.format_error(reason))}
    end
  end

  @doc "The same for who only wants to know: nothing is made. `:listening` where a node is there already."
  @spec look(Path.t()) :: :ok | :listening | {:error, String.t()}
  def look(path) do
    path = Path.expand(path)

    with :ok <- short_enough(path),
         :ok <- usable(Path.dirname(path)) do
      if unused(path) == :ok, do: :ok, else: :listening
    else
      {:error, reason} when is_binary(reason) -> {:error, reason}
      {:error, reason} -> {:error, to_string(:file.format_error(reason))}
    end
  end

  # A directory that isn't there could be made, where the one above it lets us.
  defp usable(directory) do
    if File.exists?(directory), do: own(directory), else: makeable(directory, Path.dirname(directory))
  end

  defp makeable(directory, above) do
    case File.stat(above) do
      {:ok, %File.Stat{access: access}} when access in [:write, :read_write] -> :ok
      {:ok, _other} -> {:error, "#{directory} is not there, and can't be made"}
      {:error, :enoent} -> makeable(directory, Path.dirname(above))
      error -> error
    end
  end

  defp listen(path) do
    path = Path.expand(path)

    with :ok <- check(path),
         _earlier = File.rm(path),
         {:ok, listener} <- :gen_tcp.listen(0, [:binary, ifaddr: {:local, path}, active: false, packet: 4]) do
      {:ok, listener}
    else
      {:error, reason} when is_binary(reason) -> {:error, reason}
      {:error, reason} -> {:error, to_string(:file.format_error(reason))}
    end
  end

  defp short_enough(path) do
    if byte_size(path) <= @path_bytes, do: :ok, else: {:error, "it is longer than #{@path_bytes} bytes"}
  end

  # One that is there may be shared, as /run/pyre is; one that is made is the user's own.
  defp prepare(directory) do
    case File.mkdir(directory) do
      :ok -> File.chmod(directory, @directory_mode)
      {:error, :eexist} -> own(directory)
      {:error, :enoent} -> with :ok <- prepare(Path.dirname(directory)), do: prepare(directory)
      error -> error
    end
  end

  # In a directory that others may write to, they could put their own socket in its place.
  defp own(directory) do
    case File.stat(directory) do
      {:ok, %File.Stat{type: :directory, mode: mode, uid: uid}} when Bitwise.band(mode, 0o022) == 0 ->
        if uid in [0, our_uid(uid)], do: :ok, else: {:error, "#{directory} is somebody else's"}

      {:ok, %File.Stat{type: :directory}} ->
        {:error, "others may write to #{directory}"}

      {:ok, _file} ->
        {:error, "#{directory} is no directory"}

      error ->
        error
    end
  end

  defp our_uid(default) do
    case File.stat("/proc/self") do
      {:ok, %File.Stat{uid: uid}} -> uid
      _no_proc -> default
    end
  end

  defp unused(path) do
    case :gen_tcp.connect({:local, path}, 0, [:binary, active: false], 1_000) do
      {:ok, socket} ->
        :gen_tcp.close(socket)
        {:error, "another instance listens there"}

      {:error, _nobody} ->
        :ok
    end
  end

  defp accept(listener, owner) do
    with {:ok, socket} <- :gen_tcp.accept(listener) do
      _closed = with :ok <- :gen_tcp.controlling_process(socket, owner), do: send(owner, {:accepted, socket})
      accept(listener, owner)
    end
  end

  ## One connection: one request

  defp serve(name, socket) do
    receive do
      :go -> :ok
    end

    with {:ok, packet} <- :gen_tcp.recv(socket, 0, @request_ms) do
      answer(socket, ask(name, packet, &answer(socket, %{"more" => &1})))
    end

    :gen_tcp.close(socket)
  end

  defp ask(name, packet, more) when byte_size(packet) <= @max_packet do
    case MsgPack.decode(packet) do
      {:ok, %{"verb" => verb, "args" => args}} when is_binary(verb) and is_map(args) ->
        run(name, verb, args, more)

      _other ->
        refusal(:protocol, "expected a map with verb and args")
    end
  end

  defp ask(_name, _packet, _more), do: refusal(:too_large, "a request has at most #{@max_packet} bytes")

  # Whatever goes wrong is the operator's to read, and nobody else's trouble.
  defp run(name, verb, args, more) do
    case Verbs.run(name, verb, args, more) do
      {:ok, value} -> %{"ok" => Verbs.plain(value)}
      {:error, error} -> refusal(kind(error), Exception.message(error))
    end
  rescue
    error in Error -> refusal(error.kind, Exception.message(error))
    error in ArgumentError -> refusal(:invalid_args, Exception.message(error))
    error -> refusal(:internal, Exception.message(error))
  end

  defp kind(%Error{kind: kind}), do: kind
  defp kind(_python_error), do: :python_error

  defp refusal(kind, message), do: %{"error" => %{"kind" => to_string(kind), "message" => message}}

  defp answer(socket, map) do
    case MsgPack.encode(map) do
      {:ok, body} -> :gen_tcp.send(socket, body)
      {:error, error} -> answer(socket, refusal(:encode, Exception.message(error)))
    end
  end
end
