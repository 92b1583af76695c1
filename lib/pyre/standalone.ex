defmodule Pyre.Standalone do
  @moduledoc false

  # The instance of a node that runs Pyre and nothing else: that of `config :pyre, instance: [...]`, or in a release of Pyre itself the one that the
  # environment variables describe. Not in config/runtime.exs: to evaluate that loads most of Elixir's compiler, a tenth of the time to the first reply.

  alias Pyre.{Environment, Snapshot}

  # The exit status for a command line or an environment that can't be meant (sysexits.h, EX_USAGE).
  @usage 64

  @levels %{"" => :info, "debug" => :debug, "info" => :info, "warning" => :warning, "error" => :error}

  @doc "Is this node Pyre's alone?"
  @spec node?() :: boolean()
  def node?, do: Application.get_env(:pyre, :instance) != nil or release?()

  @doc "The options of the instance, with its name; nil where the host application starts its own ones."
  @spec options() :: keyword() | nil
  def options do
    cond do
      opts = Application.get_env(:pyre, :instance) -> opts
      release?() -> from_environment(System.get_env())
      true -> nil
    end
  end

  # Only this repository's configuration says so, so a host's release is none.
  defp release?, do: Application.get_env(:pyre, :standalone, false) and System.get_env("RELEASE_NAME") != nil

  defp from_environment(environment) do
    with {:ok, level} <- level(Map.get(environment, "PYRE_LOG_LEVEL", "")),
         :ok = Logger.configure(level: level),
         {:ok, options} <- Environment.options(environment),
         checked when checked in [:ok, :none] <- Snapshot.check(options[:snapshot]) do
      if options[:agents], do: [name: Pyre] ++ options
    else
      # Here, for a sentence in place of a crash report.
      {:error, sentence} when is_binary(sentence) -> refuse(sentence)
      {:error, error} -> refuse(Exception.message(error))
    end
  end

  defp level(text) do
    with :error <- Map.fetch(@levels, text),
         do: {:error, "PYRE_LOG_LEVEL is #{inspect(text)}; expected debug, info, warning or error"}
  end

  @spec refuse(String.t()) :: no_return()
  defp refuse(sentence) do
    IO.puts(:stderr, sentence)
    System.halt(@usage)
  end
end
