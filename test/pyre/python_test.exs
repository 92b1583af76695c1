defmodule Pyre.PythonTest do
  # Not beside others: PATH is the node's.
  use Pyre.Case, async: false

  alias Pyre.{Error, Python}

  setup do
    folder = workspace()
    path = System.get_env("PATH")
    on_exit(fn -> System.put_env("PATH", path) end)
    File.mkdir!(Path.join(folder, "first"))
    File.mkdir!(Path.join(folder, "second"))
    System.put_env("PATH", Enum.map_join(["first", "second"], ":", &Path.join(folder, &1)))
    # Where there is no `.venv`.
    here = File.cwd!()
    File.cd!(folder)
    on_exit(fn -> File.cd!(here) end)
    {:ok, folder: folder}
  end

  defp script(folder, name, status) do
    path = Path.join(folder, name)
    File.write!(path, "#!/bin/sh\nexit #{status}\n")
    File.chmod!(path, 0o755)
    path
  end

  test "a script of that name that can't run it is passed over, in favour of the same name further on", %{
    folder: folder
  } do
    script(folder, "first/python3.13", 127)
    script(folder, "first/python3.11", 127)
    works = script(folder, "second/python3.11", 0)
    script(folder, "first/python3", 0)
    assert {:ok, found} = Python.find(nil)
    assert Path.basename(Path.dirname(found)) == "second"
    assert File.read!(found) == File.read!(works)
  end

  test "where there is none, that is said" do
    assert {:error, %Error{kind: :worker_start, message: "no Python was found; " <> _rest}} = Python.find(nil)
  end

  test "one that is named has to be there" do
    assert {:error, %Error{message: message}} = Python.find("/nowhere/python")
    assert message =~ ~s(the option :python names "/nowhere/python")
  end
end
