defmodule Pyre.Venv do
  @moduledoc false

  # Virtual environments for tests, made offline: real ones, with what interpreters need on their path, and modules of the test's own.

  @doc """
  Makes a virtual environment in a directory, with modules (name to source). With `bare: true` it lacks what interpreters need. Gives its
  Python.
  """
  @spec make!(Path.t(), %{String.t() => String.t()}, keyword()) :: Path.t()
  def make!(directory, modules, opts \\ []) do
    {_output, 0} = System.cmd(Pyre.Case.python(), ["-m", "venv", "--without-pip", directory])
    [site] = Path.wildcard(Path.join(directory, "lib/python3*/site-packages"))
    for {name, source} <- modules, do: File.write!(Path.join(site, name <> ".py"), source)
    unless opts[:bare], do: File.write!(Path.join(site, "needed.pth"), needed() <> "\n")
    Path.join(directory, "bin/python")
  end

  defp needed do
    {path, 0} =
      System.cmd(Pyre.Case.python(), ["-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')"])

    path
  end
end
