defmodule Pyre.Doctor.Facts do
  @moduledoc false

  # Looks at the machine and at an interpreter; changes nothing, decides nothing. What can't be found out is nil.

  alias Pyre.{Control, Error, Python, State}
  alias Pyre.Wire.MsgPack

  @examine_seconds 60
  # As `timeout` has it.
  @too_late 124

  @type machine :: %{
          elixir: String.t(),
          otp: pos_integer(),
          utf8: boolean(),
          root: boolean(),
          open_files: non_neg_integer() | :infinity | nil,
          pipe_bytes: pos_integer() | nil,
          user_pipe_pages: non_neg_integer() | nil,
          available_bytes: non_neg_integer() | nil,
          directory: Path.t() | nil,
          setpriv: boolean(),
          variables: :ok | {:error, String.t()}
        }

  @type python :: {:ok, map()} | {:error, String.t()}

  @spec machine() :: machine()
  def machine do
    %{
      elixir: System.version(),
      otp: String.to_integer(System.otp_release()),
      utf8: :file.native_name_encoding() == :utf8,
      root: match?({:ok, %File.Stat{uid: 0}}, File.stat("/proc/self")),
      open_files: read("/proc/self/limits", &open_files/1),
      pipe_bytes: read("/proc/sys/fs/pipe-max-size", &integer/1),
      user_pipe_pages: read("/proc/sys/fs/pipe-user-pages-soft", &integer/1),
      available_bytes: read("/proc/meminfo", &available_bytes/1),
      directory: State.base(),
      setpriv: System.find_executable("setpriv") != nil,
      variables: variables()
    }
  end

  defp read(path, parse) do
    case File.read(path) do
      {:ok, text} -> parse.(text)
      {:error, _reason} -> nil
    end
  end

  @doc "The soft limit in the text of /proc/PID/limits."
  @spec open_files(String.t()) :: non_neg_integer() | :infinity | nil
  def open_files(text) do
    case Regex.run(~r/^Max open files\s+(\S+)/m, text) do
      [_line, "unlimited"] -> :infinity
      [_line, count] -> integer(count)
      nil -> nil
    end
  end

  @doc "What /proc/meminfo says that may still be used."
  @spec available_bytes(String.t()) :: non_neg_integer() | nil
  def available_bytes(text) do
    case Regex.run(~r/^MemAvailable:\s+(\d+) kB/m, text) do
      [_line, kibibytes] -> String.to_integer(kibibytes) * 1_024
      nil -> nil
    end
  end

  defp integer(text) do
    case Integer.parse(text) do
      {number, _rest} -> number
      :error -> nil
    end
  end

  defp variables do
    with {:ok, _options} <- Pyre.Environment.options(System.get_env()), do: :ok
  end

  @doc "The directories that more than their owner may write to."
  @spec shared([Path.t()]) :: [Path.t()]
  def shared(directories) do
    for directory <- directories,
        {:ok, %File.Stat{mode: mode}} <- [File.stat(directory)],
        Bitwise.band(mode, 0o022) != 0,
        do: directory
  end

  @doc "Where an operator's commands would come in, and whether they could. A directory that isn't there isn't made."
  @spec control(Path.t() | nil) :: {Path.t(), :ok | :listening | {:error, String.t()}} | nil
  def control(nil), do: nil
  def control(path), do: {path, Control.look(path)}

  @doc "What an interpreter says of itself and of the agents' directories, or why it says nothing."
  @spec python(Path.t() | nil, [Path.t()]) :: python()
  def python(given, directories) do
    case Python.find(given) do
      {:ok, python} -> examine(python, directories)
      {:error, error} -> {:error, Exception.message(error)}
    end
  end

  defp examine(python, directories) do
    file = Path.join(System.tmp_dir!(), "pyre-examine-#{System.pid()}-#{System.unique_integer([:positive])}")

    try do
      {command, argv} = command(python, file, directories)
      command |> System.cmd(argv, stderr_to_stdout: true, env: environment()) |> examined(file, python)
    after
      File.rm(file)
    end
  end

  defp command(python, file, directories) do
    argv = ["-s", Path.join(Python.package_directory(), "pyre/__main__.py"), "--examine", file | directories]

    case System.find_executable("timeout") do
      nil -> {python, argv}
      timeout -> {timeout, ["--kill-after=1", "#{@examine_seconds}", python | argv]}
    end
  end

  defp environment do
    path = Enum.join([Python.package_directory() | List.wrap(System.get_env("PYTHONPATH"))], ":")
    [{"PYTHONPATH", path}, {"PYTHONSAFEPATH", "1"}, {"PYTHONUTF8", "1"}]
  end

  defp examined({_output, 0}, file, _python) do
    with {:ok, body} <- File.read(file),
         {:ok, found} <- MsgPack.decode(body) do
      {:ok, found}
    else
      {:error, %Error{} = error} -> {:error, Exception.message(error)}
      {:error, reason} -> {:error, "it left nothing in #{file}: #{:file.format_error(reason)}"}
    end
  end

  defp examined({_output, @too_late}, _file, python),
    do:
      {:error,
       "#{python} was still importing agent files after #{@examine_seconds} s: one of them waits for something at its import"}

  defp examined({output, status}, _file, python) do
    case output |> String.split("\n", trim: true) |> List.last() do
      nil -> {:error, "#{python} ended with status #{status}"}
      last -> {:error, String.replace_prefix(last, "pyre: ", "")}
    end
  end
end
