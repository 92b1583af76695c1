defmodule Pyre.Release do
  @moduledoc """
  What a release needs beyond Elixir's own: the Python packages.

  In `mix.exs` of the application that is released, this one or a host:

      releases: [my_app: [steps: [:assemble, &Pyre.Release.bundle_python/1]]]

  The packages of Pyre's own `requirements.txt`, and of each application's `priv/python/requirements.txt`, go into `priv/python/site` of Pyre in the release, with nothing in them that depends
  on where the release lies. They are for one version of CPython, that of the interpreter which `mix release` finds (`.venv`, `PYRE_PYTHON`, then
  PATH); with another one an interpreter looks for its own packages, and says so where it has none.
  """

  @doc "A step of `mix release`: puts the Python packages into the release."
  @doc since: "0.1.0"
  @spec bundle_python(map()) :: map()
  def bundle_python(%{path: path} = release) do
    {:ok, python} = with {:error, error} <- Pyre.Python.find(System.get_env("PYRE_PYTHON")), do: raise(error)
    [directory] = path |> Path.join("lib/pyre-*/priv/python") |> Path.wildcard()
    site = Path.join(directory, "site")
    requirements = path |> Path.join("lib/*/priv/python/requirements.txt") |> Path.wildcard()
    _earlier = File.rm_rf!(site)

    run!(
      python,
      ~w(-m pip install --quiet --disable-pip-version-check --no-compile --target) ++
        [site | Enum.flat_map(requirements, &["-r", &1])]
    )

    {tag, 0} = System.cmd(python, ["-c", "import sys; print(sys.implementation.cache_tag)"])
    File.write!(Path.join(site, "made_for.txt"), tag)
    # Start scripts name the interpreter of this machine.
    _scripts = File.rm_rf!(Path.join(site, "bin"))
    remove_caches(directory)

    # Where a release lies its user often can't write, and each interpreter would compile all of it anew. By the sources' hashes: their times change on the way.
    run!(python, ~w(-m compileall -q --invalidation-mode checked-hash -s) ++ [path, directory])
    release
  end

  defp remove_caches(directory),
    do: directory |> Path.join("**/__pycache__") |> Path.wildcard() |> Enum.each(&File.rm_rf!/1)

  defp run!(command, args) do
    case System.cmd(command, args, stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, status} -> raise "#{command} ended with status #{status}: #{String.trim(output)}"
    end
  end

  @doc false
  @spec ctl(Path.t(), [String.t()], String.t()) :: non_neg_integer()
  def ctl(python, argv, name) do
    {_output, status} =
      System.cmd(python, ["-m", "pyre.ctl" | argv],
        into: IO.stream(),
        env: [
          {"PYTHONPATH", Pyre.Python.package_directory()},
          {"PYTHONSAFEPATH", "1"},
          {"PYRE_CTL_NAME", name}
        ]
      )

    status
  end
end
