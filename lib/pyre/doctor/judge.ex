defmodule Pyre.Doctor.Judge do
  @moduledoc false

  # Decides what the facts mean, and says how to mend what is not as it should be. Pure.

  alias Pyre.Doctor
  alias Pyre.Doctor.Facts

  @least_elixir "1.14.0"
  @least_otp 25
  # The BEAM's own, and a dozen per interpreter; an agent's sockets and files come on top, in the interpreter.
  @least_files 256
  @good_files 4_096
  @pipe_bytes 1_048_576
  @page_bytes 4_096
  # A BEAM with its code, and an interpreter with its imports, before any agent.
  @beam_bytes 67_108_864
  @interpreter_bytes 33_554_432
  # Of the 108 bytes of a socket's address: `/pyre-PID-TIME/stderr-N`, and the end.
  @longest_directory 70

  @spec machine(Facts.machine(), pos_integer()) :: [Doctor.finding()]
  def machine(facts, workers) do
    List.flatten([
      elixir(facts),
      encoding(facts),
      directory(facts),
      files(facts),
      pipes(facts, workers),
      memory(facts, workers),
      setpriv(facts),
      variables(facts)
    ])
  end

  defp elixir(%{elixir: elixir, otp: otp}) do
    what = "Elixir #{elixir} on OTP #{otp}"

    if Version.compare(elixir, @least_elixir) == :lt or otp < @least_otp,
      do:
        wrong("#{what} is too old", "install Elixir #{@least_elixir} or newer, on OTP #{@least_otp} or newer"),
      else: ok(what)
  end

  defp encoding(%{utf8: true}), do: []

  defp encoding(%{utf8: false}),
    do: warning("file names are not read as UTF-8", "set LC_ALL=C.UTF-8, or another UTF-8 locale")

  defp directory(%{directory: nil}),
    do:
      wrong(
        "neither /dev/shm nor the directory for temporary files may be written to",
        "point TMPDIR to one that may"
      )

  defp directory(%{directory: directory}) when byte_size(directory) > @longest_directory,
    do:
      wrong(
        "the path #{directory} is #{byte_size(directory)} bytes long; local sockets below it can have at most #{@longest_directory}",
        "point TMPDIR to a shorter one"
      )

  defp directory(%{directory: directory}), do: ok("sockets and flight recorders go into #{directory}")

  defp files(%{open_files: files}) when is_integer(files) and files < @least_files,
    do: wrong("a process may open #{files} files; at least #{@least_files} are needed", more_files())

  defp files(%{open_files: files}) when is_integer(files) and files < @good_files,
    do: warning("a process may open #{files} files; agents with connections soon need more", more_files())

  defp files(%{open_files: nil}), do: []
  defp files(%{open_files: :infinity}), do: ok("a process may open any number of files")
  defp files(%{open_files: files}), do: ok("a process may open #{files} files")

  defp more_files, do: "ulimit -n #{@good_files}, or LimitNOFILE= in the unit"

  # Only slower: an interpreter takes what it gets. Who is root has no bound.
  defp pipes(%{root: true}, _workers), do: []

  defp pipes(%{pipe_bytes: bytes}, _workers) when is_integer(bytes) and bytes < @pipe_bytes,
    do:
      warning(
        "a pipe has at most #{bytes} bytes; large messages pass more slowly",
        "sysctl -w fs.pipe-max-size=#{@pipe_bytes}"
      )

  defp pipes(%{user_pipe_pages: pages}, workers) when is_integer(pages) and pages > 0 do
    needed = 2 * (workers + 1) * div(@pipe_bytes, @page_bytes)

    if pages < needed,
      do:
        warning(
          "pipes of one user have at most #{pages} pages, and those of #{workers + 1} interpreters have #{needed}; large messages pass more slowly",
          "sysctl -w fs.pipe-user-pages-soft=#{needed}"
        ),
      else: []
  end

  defp pipes(_unknown, _workers), do: []

  defp memory(%{available_bytes: nil}, _workers), do: []

  defp memory(%{available_bytes: bytes}, workers) do
    needed = @beam_bytes + (workers + 1) * @interpreter_bytes
    what = "#{mb(bytes)} of memory are free"
    need = "#{workers} workers and a spare begin with #{mb(needed)}"

    cond do
      bytes < needed -> wrong("#{what}, and #{need}", "run fewer workers (`workers:`), or end something else")
      bytes < 2 * needed -> warning("#{what}, and #{need}", "run fewer workers (`workers:`)")
      true -> ok(what)
    end
  end

  defp setpriv(%{setpriv: true}), do: []

  defp setpriv(%{setpriv: false}),
    do:
      warning(
        "there is no setpriv: an interpreter that is stuck in C outlives a killed BEAM for a moment",
        "install util-linux"
      )

  defp variables(%{variables: :ok}), do: []
  defp variables(%{variables: {:error, sentence}}), do: wrong(sentence, "set it right, or unset it")

  @spec sockets({Path.t(), :ok | :listening | {:error, String.t()}} | nil) :: [Doctor.finding()]
  def sockets(nil), do: []
  def sockets({path, :ok}), do: [ok("an operator's commands would come in at #{path}")]
  def sockets({path, :listening}), do: [ok("a node takes an operator's commands at #{path}")]

  def sockets({path, {:error, reason}}),
    do: [
      wrong(
        "an operator's commands can't come in at #{path}: #{reason}",
        "name another path (PYRE_CONTROL), of at most 100 bytes, in a directory that only you may write to"
      )
    ]

  @doc "`shared` are the directories of agents that others may write to."
  @spec directories([Path.t()]) :: [Doctor.finding()]
  def directories(shared) do
    for directory <- shared,
        do:
          warning(
            "others may write to #{directory}, and so run their code in this node",
            "chmod go-w #{directory}"
          )
  end

  ## The interpreter, and what it finds

  @spec python(Facts.python(), [Path.t()]) :: [Doctor.finding()]
  def python({:error, sentence}, _directories),
    do: [
      wrong(
        sentence,
        "mix pyre.install makes .venv with all that is needed; --python names another interpreter"
      )
    ]

  def python({:ok, found}, directories) do
    %{"python" => version, "executable" => executable, "packages" => packages} = found
    listed = for {name, version} when is_binary(version) <- packages, do: "#{name} #{version}"

    List.flatten([
      ok("Python #{version} (#{executable}) with #{Enum.join(listed, ", ")}"),
      loop(found),
      codec(found),
      problems(found["problems"]),
      classes(Enum.map(found["classes"], & &1["name"]), directories)
    ])
  end

  defp loop(%{"loop" => "uvloop"}), do: []

  defp loop(%{"loop" => loop, "executable" => executable}),
    do:
      warning("the event loop is that of #{loop}; uvloop's is faster", "#{executable} -m pip install uvloop")

  defp codec(%{"codec" => "c"}), do: []

  defp codec(_found),
    do:
      warning(
        "the wire's codec is the one in Python; the one in C makes messages cheaper",
        "apt-get install gcc libc6-dev python3-dev, then mix compile --force"
      )

  defp problems(problems) do
    for %{"file" => file, "error" => error} <- problems do
      wrong("#{file}: #{error}", mend_import(error))
    end
  end

  defp mend_import("ModuleNotFoundError: No module named " <> name),
    do: "install the package that has #{name} into that Python, or correct the import"

  defp mend_import("no such directory" <> _path), do: "make it, or name another one (PYRE_AGENTS, `agents:`)"
  defp mend_import(_other), do: "correct the file; the others run meanwhile"

  defp classes(_none, []), do: []

  defp classes([], directories),
    do:
      warning(
        "no agent class was found in #{Enum.join(directories, ", ")}",
        "an agent is a subclass of pyre.Agent in a .py file there; mix pyre.gen.agent NAME makes one"
      )

  defp classes(names, _directories), do: ok("agent classes: #{Enum.join(Enum.sort(names), ", ")}")

  ## A running instance

  @spec instance(map()) :: [Doctor.finding()]
  def instance(facts) do
    List.flatten([
      health(facts.health),
      Enum.map(facts.workers, &worker/1),
      problems(facts.info.problems),
      classes(facts.info.classes, ["its directories"]),
      Enum.map(facts.quarantine, &quarantined/1),
      Enum.map(facts.terminated, &terminated/1),
      paused(facts.info.paused),
      letters(facts.dead_letters)
    ])
  end

  defp health(%{status: :ready}), do: ok("the instance is ready")

  defp health(%{status: status, reasons: reasons}),
    do: wrong("the instance is #{status}: #{Enum.join(reasons, "; ")}", mend_health(status))

  defp mend_health(:draining), do: "nothing new is taken; start another node"
  defp mend_health(:starting), do: "wait for it; where it lasts, see the log for what an interpreter printed"

  defp worker(%{worker: no, status: :failed, last_error: error}),
    do:
      wrong(
        "worker #{no} can't be started: #{message(error)}",
        "it is tried again and again; mend what it says"
      )

  defp worker(%{worker: no, deaths: deaths, last_error: error}) when deaths > 0,
    do:
      warning(
        "worker #{no} has lost #{interpreters(deaths)}#{last(error)}",
        "ctl quarantine tells which agents did it, the log how"
      )

  defp worker(_sound), do: []

  defp interpreters(1), do: "an interpreter"
  defp interpreters(count), do: "#{count} interpreters"

  # Forgotten as soon as the next one is ready.
  defp last(nil), do: ""
  defp last(error), do: ": #{Exception.message(error)}"

  defp message(nil), do: "nothing is known"
  defp message(error), do: Exception.message(error)

  defp quarantined(%{id: id, status: :parked}),
    do: wrong("the agent #{id} is parked", "ctl quarantine tells why; once that is mended: ctl unpark #{id}")

  defp quarantined(%{id: id, strikes: strikes}),
    do: warning("the agent #{id} is watched; its strikes: #{strikes}", "ctl quarantine tells why")

  defp terminated(%{id: id}),
    do:
      wrong(
        "the agent #{id} failed too often, and stands still",
        "ctl history #{id} tells why; once that is mended: ctl restart #{id}"
      )

  defp paused([]), do: []

  defp paused(paused),
    do:
      warning(
        "paused: #{Enum.map_join(paused, ", ", &pause/1)}",
        "ctl resume, where nobody needs that any more"
      )

  defp pause({kind, name}), do: "#{kind} #{name}"
  defp pause(all), do: "#{all}"

  defp letters(0), do: []

  defp letters(1),
    do: warning("a message was given up", "ctl dead-letters tells which and why, retries and discards")

  defp letters(count),
    do:
      warning("#{count} messages were given up", "ctl dead-letters tells which and why, retries and discards")

  ## Findings

  defp ok(what), do: %{status: :ok, what: what, mend: nil}
  defp warning(what, mend), do: %{status: :warning, what: what, mend: mend}
  defp wrong(what, mend), do: %{status: :wrong, what: what, mend: mend}

  defp mb(bytes), do: "#{div(bytes, 1_048_576)} MB"
end
