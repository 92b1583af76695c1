defmodule Pyre.Doctor do
  @moduledoc false

  # What may keep agents from running, and how each is mended: on this machine (`mix pyre.doctor`), or of a running instance
  # (`ctl doctor`). Pyre.Doctor.Facts looks, Pyre.Doctor.Judge decides; what a person reads is made here.

  alias Pyre.Instance
  alias Pyre.Doctor.{Facts, Judge}

  @type finding :: %{status: :ok | :warning | :wrong, what: String.t(), mend: String.t() | nil}

  @doc "Examines the machine, an interpreter and agents' directories, before anything runs."
  @spec machine(keyword()) :: [finding()]
  def machine(opts) do
    workers = opts[:workers] || System.schedulers_online()

    Judge.machine(Facts.machine(), workers) ++
      Judge.sockets(Facts.control(opts[:control])) ++
      Judge.directories(Facts.shared(opts[:agents])) ++
      Judge.python(Facts.python(opts[:python], opts[:agents]), opts[:agents])
  end

  @doc "Examines a running instance, and the machine below it. Asks no interpreter."
  @spec instance(atom()) :: [finding()]
  def instance(name) do
    workers = Pyre.workers(name)

    Judge.machine(Facts.machine(), length(workers)) ++
      Judge.directories(Facts.shared(Instance.fetch!(name).config.agents)) ++
      Judge.instance(%{
        info: Pyre.info(name),
        health: Pyre.health(name),
        workers: workers,
        quarantine: Pyre.quarantine(name),
        terminated: Pyre.agents(name, status: :terminated),
        dead_letters: length(Pyre.dead_letters(name))
      })
  end

  @doc "Is anything wrong?"
  @spec wrong?([finding()]) :: boolean()
  def wrong?(findings), do: Enum.any?(findings, &(&1.status == :wrong))

  @marks %{ok: "ok     ", warning: "warning", wrong: "WRONG  "}

  @doc "The findings as text: a line each, and one more for what mends it."
  @spec text([finding()]) :: String.t()
  def text(findings) do
    lines =
      for %{status: status, what: what, mend: mend} <- findings,
          do: [@marks[status], "  ", what, if(mend, do: ["\n           ", mend], else: []), "\n"]

    IO.iodata_to_binary([lines, "\n", summary(Enum.frequencies_by(findings, & &1.status))])
  end

  defp summary(%{wrong: wrong} = counts), do: "#{wrong} wrong#{warnings(counts)}"
  defp summary(counts), do: "nothing is wrong#{warnings(counts)}"

  defp warnings(%{warning: 1}), do: ", 1 warning"
  defp warnings(%{warning: count}), do: ", #{count} warnings"
  defp warnings(_none), do: ""
end
