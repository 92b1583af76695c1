defmodule Mix.Tasks.Compile.PyreCodec do
  @shortdoc false

  @moduledoc """
  Builds the interpreters' codec in C (`c_src/codec.c`), at the end of `mix compile`.

  It needs a C compiler (`CC`, `cc` or `gcc`) and the headers of a CPython, 3.11 or newer; what it builds serves every later one. Where either is
  missing nothing fails: the interpreters use the codec in Python then, and this says once how to get the faster one. `mix compile --force` tries again.
  """

  use Mix.Task.Compiler

  @source "c_src/codec.c"
  @target "priv/python/pyre/_codec_c.abi3.so"
  @flags ~w(-O2 -std=c11 -Wall -Wextra -fPIC -shared -s)
  @remedy "Debian: apt-get install gcc libc6-dev python3-dev; then mix compile --force"

  @impl Mix.Task.Compiler
  def run(argv) do
    if "--force" in argv or stale?(), do: build(), else: {:noop, []}
  end

  @impl Mix.Task.Compiler
  def manifests, do: [manifest()]

  @impl Mix.Task.Compiler
  def clean do
    _built = File.rm(@target)
    _told = File.rm(manifest())
    :ok
  end

  defp stale? do
    missing? = Mix.Utils.stale?([@source], [@target])
    missing? and File.read(manifest()) != {:ok, fingerprint()}
  end

  defp build do
    _told = File.rm(manifest())
    with {:error, reason} <- build_or_error(), do: give_up(reason)
    {:ok, []}
  end

  # The manifest says for which source it was told: once is enough.
  defp give_up(reason) do
    # One for an older source must not outlive it.
    _older = File.rm(@target)
    told = "the codec in C is not built, and the one in Python serves: #{reason}"
    Mix.shell().info("pyre: #{told} (#{@remedy})")
    File.mkdir_p!(Path.dirname(manifest()))
    File.write!(manifest(), fingerprint())
  end

  defp build_or_error do
    with {:ok, compiler} <- compiler(), {:ok, headers} <- headers(), do: compile(compiler, headers)
  end

  defp compiler do
    named = System.get_env("CC", "") |> String.split() |> List.first()

    case Enum.find_value([named, "cc", "gcc"], &(&1 && System.find_executable(&1))) do
      nil -> {:error, "there is no C compiler"}
      compiler -> {:ok, compiler}
    end
  end

  defp headers do
    with {:ok, python} <- python(),
         {text, 0} <- System.cmd(python, ["-c", "import sysconfig; print(sysconfig.get_path('include'))"]),
         directory = String.trim(text),
         true <- File.exists?(Path.join(directory, "Python.h")) do
      {:ok, directory}
    else
      _missing -> {:error, "the headers of Python are missing"}
    end
  end

  defp python, do: Pyre.Python.find(System.get_env("PYRE_PYTHON"))

  # Under another name first: an interpreter may have the old one open, and two builds may run at a time.
  defp compile(compiler, headers) do
    unfinished = "#{@target}.#{System.pid()}"

    case System.cmd(compiler, @flags ++ ["-I", headers, "-o", unfinished, @source], stderr_to_stdout: true) do
      {_warnings, 0} ->
        File.rename(unfinished, @target)

      {text, _status} ->
        _begun = File.rm(unfinished)
        lines = String.split(text, "\n", trim: true)
        {:error, Enum.find(lines, List.first(lines), &(&1 =~ "error"))}
    end
  end

  defp fingerprint, do: @source |> File.read!() |> :erlang.md5() |> Base.encode16()
  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.pyre_codec")
end
