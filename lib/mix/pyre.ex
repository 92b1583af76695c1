defmodule Mix.Pyre do
  @moduledoc false

  # What the tasks `mix pyre.*` have in common: their command line, the names that they take, and the files that they make from
  # priv/templates.

  alias Pyre.Suggestion

  @app_name ~r/^[a-z][a-z0-9_]*$/
  @agent_name ~r/^[A-Za-z][A-Za-z0-9_]*$/
  # An import of it must fit into a line.
  @longest_file 40
  # Each would be one application with another one's modules.
  @taken_apps ~w(pyre elixir mix iex ex_unit eex logger kernel stdlib)

  @doc "The options and arguments of a task; `:help` where it was asked for, which has been printed then."
  @spec command_line!([String.t()], module(), keyword()) :: {keyword(), [String.t()]} | :help
  def command_line!(argv, task, switches) do
    {opts, rest, invalid} =
      OptionParser.parse(argv, strict: [help: :boolean] ++ switches, aliases: [h: :help])

    case {opts[:help], invalid} do
      {true, _invalid} ->
        Mix.shell().info(moduledoc(task))
        :help

      {_no, []} ->
        {opts, rest}

      {_no, [{option, _value} | _more]} ->
        Mix.raise("#{wrong(option, switches)}; see mix help #{Mix.Task.task_name(task)}")
    end
  end

  defp moduledoc(task) do
    {:docs_v1, _line, _language, _format, %{"en" => doc}, _metadata, _docs} = Code.fetch_docs(task)
    doc
  end

  defp wrong(option, switches) do
    known = for {name, _type} <- switches, do: "--" <> String.replace(Atom.to_string(name), "_", "-")

    if option in known,
      do: "the value of #{option} is missing or wrong",
      else: "unknown option #{option}#{Suggestion.hint(option, known)}"
  end

  @doc "The only argument of a task, or its usage."
  @spec one!([String.t()], String.t()) :: String.t()
  def one!([argument], _usage), do: argument
  def one!([], usage), do: Mix.raise("an argument is missing; usage: #{usage}")

  def one!([_first, extra | _rest], usage),
    do: Mix.raise("unexpected argument #{inspect(extra)}; usage: #{usage}")

  @doc "The name of an application, as the last part of a path gives it."
  @spec app!(Path.t()) :: String.t()
  def app!(path) do
    app = path |> Path.expand() |> Path.basename()

    cond do
      not (app =~ @app_name) ->
        Mix.raise(
          "#{inspect(app)} can't be the name of an application: expected small letters, digits and _, such as my_app"
        )

      app in @taken_apps ->
        Mix.raise("an application #{app} is there already; take another name")

      true ->
        app
    end
  end

  @doc "The name of a module, by default the application's."
  @spec module!(String.t() | nil, String.t()) :: String.t()
  def module!(given, app) do
    module = given || Macro.camelize(app)

    cond do
      not (module =~ ~r/^[A-Z]\w*(\.[A-Z]\w*)*$/) ->
        Mix.raise("#{inspect(module)} can't be the name of a module; expected one such as MyApp")

      Code.ensure_loaded?(Module.concat([module])) ->
        Mix.raise("a module #{module} is there already; take another name, or say --module")

      true ->
        module
    end
  end

  @doc "The file and the class of an agent, from either's name: `order_desk` and `OrderDesk` mean the same."
  @spec agent!(String.t()) :: {String.t(), String.t()}
  def agent!(name) do
    unless name =~ @agent_name,
      do:
        Mix.raise(
          "#{inspect(name)} can't be the name of an agent: expected one such as order_desk or OrderDesk"
        )

    {file, class} = {Macro.underscore(name), Macro.camelize(name)}
    length = String.length(file)

    if length > @longest_file,
      do:
        Mix.raise("#{inspect(file)} is too long for a file: #{length} characters of at most #{@longest_file}")

    if file == "pyre" or taken_in_python?(file),
      do: Mix.raise("#{file}.py would hide what Python or Pyre has by that name; take another one")

    {file, class}
  end

  # A keyword can't be imported, and tests of a `queue.py` would get Python's.
  @taken "import keyword, sys; sys.exit(sys.argv[1] in {*keyword.kwlist, *sys.stdlib_module_names})"

  defp taken_in_python?(file) do
    case Pyre.Python.find(nil) do
      {:ok, python} ->
        match?({_output, 1}, System.cmd(python, ["-I", "-c", @taken, file], stderr_to_stdout: true))

      {:error, _none} ->
        false
    end
  end

  @doc "Where Pyre's sources are, seen from a directory: relative where both are below one directory that is not the root."
  @spec source_seen_from(Path.t()) :: Path.t()
  def source_seen_from(directory) do
    source = source()
    seen_from(Path.split(source), Path.split(Path.expand(directory)), source)
  end

  @doc "Where Pyre's sources are."
  @spec source() :: Path.t()
  def source do
    if Mix.Project.config()[:app] == :pyre, do: File.cwd!(), else: Mix.Project.deps_paths()[:pyre]
  end

  defp seen_from(["/", same | to], ["/", same | from], _absolute), do: climb(to, from)
  defp seen_from(_to, _from, absolute), do: absolute

  defp climb([same | to], [same | from]), do: climb(to, from)
  defp climb(to, from), do: Path.join(Enum.map(from, fn _part -> ".." end) ++ to)

  @doc "Makes files from templates: pairs of a template below priv/templates, and the file's path."
  @spec make([{Path.t(), Path.t()}], keyword()) :: :ok
  def make(files, assigns) do
    templates = Path.join(:code.priv_dir(:pyre), "templates")

    for {template, path} <- files do
      made? = Mix.Generator.copy_template(Path.join(templates, template <> ".eex"), path, assigns)
      if made? and Path.extname(path) in [".ex", ".exs"], do: format(path)
    end

    :ok
  end

  # How long its lines are depends on the names.
  defp format(path), do: File.write!(path, [path |> File.read!() |> Code.format_string!(), ?\n])

  @doc "Refuses a directory that holds something."
  @spec empty!(Path.t()) :: :ok
  def empty!(directory) do
    case File.ls(directory) do
      {:ok, []} -> :ok
      {:error, :enoent} -> :ok
      {:ok, _files} -> Mix.raise("#{directory} is there already, and is not empty")
      {:error, reason} -> Mix.raise("#{directory} can't be used: #{:file.format_error(reason)}")
    end
  end
end
