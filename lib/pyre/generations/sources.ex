defmodule Pyre.Generations.Sources do
  @moduledoc false

  # The `.py` files of the agents' directories as they were when a generation began, so that each of its interpreters runs the same
  # code, whenever it is started (priv/python/pyre/_pinned.py). Pure functions over files; Pyre.Generations says when.

  # Directories in which no agent's code lies.
  @skipped ~w(__pycache__ node_modules site-packages)
  # A directory with this file is a virtual environment.
  @venv "pyvenv.cfg"
  # Links may lead round in circles.
  @deepest 20
  @most_files 20_000

  @typedoc "The files of one directory by their paths in it, with size and time: what is looked at for a change."
  @type listing :: [{Path.t(), [{Path.t(), non_neg_integer(), integer()}]}]

  @doc "What is there now. A directory that is missing has no files."
  @spec scan([Path.t()]) :: {:ok, listing()} | {:error, String.t()}
  def scan(directories) do
    listing = for directory <- directories, do: {directory, directory |> files("", 0) |> Enum.sort()}

    if listing |> Enum.map(fn {_directory, files} -> length(files) end) |> Enum.sum() <= @most_files,
      do: {:ok, listing},
      else:
        {:error,
         "there are more than #{@most_files} Python files in #{Enum.join(directories, ", ")}: name directories that hold agents alone"}
  end

  defp files(_root, _under, depth) when depth > @deepest, do: []

  defp files(root, under, depth) do
    case File.ls(Path.join(root, under)) do
      {:ok, names} -> Enum.flat_map(names, &entry(root, Path.join(under, &1), &1, depth))
      {:error, _gone} -> []
    end
  end

  defp entry(_root, _path, "." <> _hidden, _depth), do: []
  defp entry(_root, _path, name, _depth) when name in @skipped, do: []

  defp entry(root, path, name, depth) do
    case File.stat(Path.join(root, path), time: :posix) do
      {:ok, %File.Stat{type: :directory}} ->
        if File.exists?(Path.join([root, path, @venv])), do: [], else: files(root, path, depth + 1)

      {:ok, %File.Stat{type: :regular, size: size, mtime: mtime}} ->
        if Path.extname(name) == ".py", do: [{path, size, mtime}], else: []

      _gone_or_special ->
        []
    end
  end

  @doc "Copies what was found under `target`, a directory each; gives the pairs of a directory and its copy."
  @spec copy(listing(), Path.t()) :: {:ok, [{Path.t(), Path.t()}]} | {:error, String.t()}
  def copy(listing, target) do
    pairs =
      for {{directory, _files}, at} <- Enum.with_index(listing),
          File.dir?(directory),
          do: {directory, Path.join(target, Integer.to_string(at))}

    Enum.each(pairs, fn {directory, copy} ->
      File.mkdir_p!(copy)
      {_directory, files} = List.keyfind!(listing, directory, 0)
      for {path, _size, _mtime} <- files, do: copy_file(Path.join(directory, path), Path.join(copy, path))
    end)

    {:ok, pairs}
  rescue
    error in File.Error -> {:error, Exception.message(error)}
  end

  # One that is gone in this instant was deleted.
  defp copy_file(from, to) do
    case File.read(from) do
      {:ok, source} ->
        File.mkdir_p!(Path.dirname(to))
        File.write!(to, source)

      {:error, :enoent} ->
        :ok

      {:error, reason} ->
        raise File.Error, reason: reason, action: "read", path: from
    end
  end

  @doc "A number that tells one set of copies from another, by what the files hold."
  @spec fingerprint([{Path.t(), Path.t()}]) :: binary()
  def fingerprint(pairs) do
    for {directory, copy} <- pairs, {path, _size, _mtime} <- copy |> files("", 0) |> Enum.sort() do
      [directory, 0, path, 0, File.read!(Path.join(copy, path)), 0]
    end
    |> then(&:erlang.md5/1)
  end
end
