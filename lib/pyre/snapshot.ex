defmodule Pyre.Snapshot do
  @moduledoc false

  # What a node leaves for its successor, where it is given a file for it (the option `:snapshot`): agents, committed states, messages
  # without a caller, timers, escalations, dead letters, groups, pauses, strikes. Written by Pyre.State at the very end of a shutdown, when
  # nobody changes a table any more, and read by the next one before anybody looks.
  #
  # The file: "PYRESNAP", a version (16 bits), then frames <<size::32, crc32::32, term::binary>>: the header
  # `%{now: ms, wall: ms, counters: %{}}`, for each table batches `{table, rows}`, and last `{:end, number of rows}`. It is written beside
  # its place, synced, and renamed, so it is there whole or not at all. It is read once: two nodes that continue from one
  # snapshot would both run its messages. What was read is kept as FILE.restored.
  #
  # A table's own module says what of a row is carried over (`carry/1`: no process of this node), and how its instants are
  # moved to the successor's clock (`shift/2`).

  require Logger

  alias Pyre.Agent.{Commits, Quarantine, Restarts}
  alias Pyre.Escalations.Table, as: Escalations
  alias Pyre.Events.Subscriptions
  alias Pyre.{Address, Classes, Error, Group, Instance, Limits, Mailbox, Monitors, Timers}

  @magic "PYRESNAP"
  @version 2
  @batch 1_000
  @max_frame 1_073_741_824

  @typep frame :: term()

  # Agents come before messages, which are counted into their rows, and after the names of their classes.
  defp tables do
    [
      classes: Classes.Names,
      agents: Address,
      commits: Commits,
      mailbox: Mailbox,
      timers: Timers,
      timer_index: {Timers, :index},
      restarts: Restarts,
      quarantine: Quarantine,
      groups: Group.Table,
      monitors: Monitors,
      dead_letters: nil,
      paused: nil,
      steps: nil,
      history: nil,
      escalations: Escalations,
      subscriptions: Subscriptions,
      limits: Limits
    ]
  end

  defp carry({Timers, :index}, row), do: row
  defp carry(nil, row), do: row
  defp carry(owner, row), do: owner.carry(row)

  defp shift({Timers, :index}, row, ms), do: Timers.shift_index(row, ms)

  defp shift(owner, row, ms) when owner in [Timers, Mailbox, Restarts, Quarantine, Escalations],
    do: owner.shift(row, ms)

  defp shift(_owner, row, _ms), do: row

  ## Writing

  @doc "Writes the snapshot of an instance whose processes have all ended."
  @spec write(Instance.t(), Path.t()) :: {:ok, non_neg_integer()} | {:error, String.t()}
  def write(instance, path) do
    beside = path <> ".new"

    with :ok <- File.mkdir_p(Path.dirname(path)),
         {:ok, file} <- :file.open(beside, [:write, :raw, :binary, {:delayed_write, 1_048_576, 1_000}]),
         :ok <- close_to_others(beside),
         {:ok, count} <- write_all(file, instance),
         :ok <- :file.datasync(file),
         :ok <- :file.close(file),
         :ok <- File.rename(beside, path),
         :ok <- sync_directory(path) do
      {:ok, count}
    else
      {:error, reason} -> {:error, "the snapshot #{path} could not be written: #{:file.format_error(reason)}"}
    end
  end

  # Before anything is in it: states are nobody else's business. What is no file of ours (a device, a pipe) keeps its mode.
  defp close_to_others(path) do
    case File.lstat(path) do
      {:ok, %File.Stat{type: :regular}} -> File.chmod(path, 0o600)
      {:ok, _other} -> :ok
      error -> error
    end
  end

  defp write_all(file, instance) do
    header = %{now: Instance.now_ms(), wall: System.os_time(:millisecond), marks: Instance.marks(instance)}

    with :ok <- :file.write(file, <<@magic, @version::16>>),
         :ok <- write_frame(file, header),
         {:ok, count} <- write_tables(file, instance),
         :ok <- write_frame(file, {:end, count}),
         do: {:ok, count}
  end

  defp write_tables(file, instance) do
    Enum.reduce_while(tables(), {:ok, 0}, fn {name, owner}, {:ok, count} ->
      case write_table(file, name, owner, Map.fetch!(instance, name)) do
        {:ok, rows} -> {:cont, {:ok, count + rows}}
        error -> {:halt, error}
      end
    end)
  end

  # In batches: a copy of all tables at once may not fit into memory.
  defp write_table(file, name, owner, table) do
    :ets.safe_fixtable(table, true)
    write_batches(file, {name, owner}, :ets.match_object(table, :_, @batch), 0)
  after
    :ets.safe_fixtable(table, false)
  end

  defp write_batches(_file, _table, :"$end_of_table", count), do: {:ok, count}

  defp write_batches(file, {name, owner} = table, {rows, continuation}, count) do
    carried = for row <- rows, carried = carry(owner, row), carried != nil, do: carried

    with :ok <- write_frame(file, {name, carried}),
         do: write_batches(file, table, :ets.match_object(continuation), count + length(carried))
  end

  @spec write_frame(:file.fd(), frame()) :: :ok | {:error, term()}
  defp write_frame(file, term) do
    body = :erlang.term_to_binary(term)
    :file.write(file, [<<byte_size(body)::32, :erlang.crc32(body)::32>>, body])
  end

  # The new name is on the disk only when its directory is.
  defp sync_directory(path) do
    with {:ok, directory} <- :file.open(Path.dirname(path), [:read, :raw, :directory]) do
      _not_everywhere = :file.sync(directory)
      :file.close(directory)
    end
  end

  ## Reading

  @doc "Is there a snapshot, and can it be read? Looks at every byte of it."
  @spec check(Path.t() | nil) :: :none | :ok | {:error, Error.t()}
  def check(nil), do: :none

  def check(path) do
    if File.exists?(path), do: path |> read(:ok, fn _frame, :ok -> :ok end) |> checked(path), else: :none
  end

  defp checked({:ok, :ok}, _path), do: :ok

  defp checked({:error, reason}, path) do
    {:error,
     Error.new(
       :decode,
       "the snapshot #{path} is refused: #{reason}; it is left as it is. Start Pyre in the version that wrote it, or move it " <>
         "away to begin without what it holds"
     )}
  end

  @doc "Fills the tables of a new instance from the snapshot, where there is one, and puts that away."
  @spec restore(Instance.t(), Path.t() | nil) :: :ok | {:error, Error.t()}
  def restore(instance, path) do
    with :ok <- check(path) do
      {:ok, %{count: count}} = read(path, %{shift: 0, count: 0, gone: gone()}, &fill(instance, &1, &2))
      :ok = File.rename(path, path <> ".restored")
      Logger.info("#{count} rows were restored from #{path}", pyre: instance.name)
    else
      :none -> :ok
      error -> error
    end
  end

  # Agents and groups whose process has ended are what supervisors start anew; so each gets a process that has.
  defp gone do
    {pid, monitor} = spawn_monitor(fn -> :ok end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, _reason} -> pid
    end
  end

  defp fill(instance, %{now: now, wall: wall, marks: marks}, state) do
    Instance.put_marks(instance, marks)
    # A clock that was set back is none that ran backwards.
    elapsed = max(System.os_time(:millisecond) - wall, 0)
    %{state | shift: Instance.now_ms() - (now + elapsed)}
  end

  defp fill(_instance, {:end, _count}, state), do: state

  defp fill(instance, {name, rows}, state) do
    owner = Keyword.fetch!(tables(), name)
    rows = for row <- rows, do: owner |> shift(row, state.shift) |> revive(name, state.gone)
    :ets.insert(Map.fetch!(instance, name), rows)
    if name == :mailbox, do: Mailbox.count_in(instance, rows)
    if name == :subscriptions, do: Subscriptions.count_in(instance, rows)
    %{state | count: state.count + length(rows)}
  end

  defp revive(row, :agents, gone), do: Address.put_gone(row, gone)
  defp revive(row, :groups, gone), do: Group.Table.put_gone(row, gone)
  defp revive(row, _table, _gone), do: row

  # Calls `function` with each frame. The file is its user's own, and was made by this module: its terms are trusted once
  # they are whole.
  defp read(path, state, function) do
    with {:ok, file} <- :file.open(path, [:read, :raw, :binary, {:read_ahead, 1_048_576}]) do
      try do
        with :ok <- read_version(:file.read(file, byte_size(@magic) + 2)),
             do: read_frames(file, state, function, 0)
      after
        :file.close(file)
      end
    else
      {:error, reason} -> {:error, "it can't be read: #{:file.format_error(reason)}"}
    end
  end

  defp read_version({:ok, <<@magic, @version::16>>}), do: :ok

  defp read_version({:ok, <<@magic, other::16>>}),
    do: {:error, "it has version #{other}, and this is version #{@version}"}

  defp read_version(_other), do: {:error, "it is no snapshot of Pyre's"}

  defp read_frames(file, state, function, count) do
    case read_frame(file) do
      {:ok, {:end, ^count} = frame} -> {:ok, function.(frame, state)}
      {:ok, {:end, other}} -> {:error, "#{count} of its #{other} rows are there"}
      {:ok, frame} -> read_frames(file, function.(frame, state), function, count + rows(frame))
      error -> error
    end
  end

  defp rows({_table, rows}), do: length(rows)
  defp rows(_header), do: 0

  defp read_frame(file) do
    with {:ok, <<size::32, crc::32>>} when size <= @max_frame <- :file.read(file, 8),
         {:ok, body} when byte_size(body) == size <- :file.read(file, size),
         ^crc <- :erlang.crc32(body) do
      {:ok, :erlang.binary_to_term(body)}
    else
      :eof -> {:error, "its end is missing"}
      _broken -> {:error, "it is damaged"}
    end
  end
end
