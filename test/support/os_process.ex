defmodule Pyre.OSProcess do
  @moduledoc false

  # Processes of the operating system, as /proc shows them. A zombie counts as dead: who reaps it is not our affair.

  import ExUnit.Assertions
  import Pyre.Eventually

  @doc "Is it there, and no zombie?"
  @spec alive?(pos_integer()) :: boolean()
  def alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> state(stat) not in ["Z", "X"]
      {:error, _reason} -> false
    end
  end

  @doc "Fails unless the process is gone soon."
  @spec assert_os_pid_exited(pos_integer(), pos_integer()) :: true
  def assert_os_pid_exited(os_pid, timeout \\ 5_000) do
    eventually(fn -> not alive?(os_pid) end, timeout)
  rescue
    ExUnit.AssertionError -> flunk("the process #{os_pid} still runs: #{inspect(command(os_pid))}")
  end

  @doc "All processes that have this text in their environment: children inherit it, wherever they went."
  @spec with_environment(String.t()) :: [pos_integer()]
  def with_environment(text) do
    for entry <- File.ls!("/proc"),
        {os_pid, ""} <- [Integer.parse(entry)],
        {:ok, environment} <- [File.read("/proc/#{entry}/environ")],
        String.contains?(environment, text),
        alive?(os_pid),
        do: os_pid
  end

  @doc "Sends a signal."
  @spec signal(pos_integer(), String.t()) :: :ok
  def signal(os_pid, name) do
    {_output, 0} =
      System.cmd("/bin/kill", ["-s", name, "--", Integer.to_string(os_pid)], stderr_to_stdout: true)

    :ok
  end

  @doc "What it was started with."
  @spec command(pos_integer()) :: String.t()
  def command(os_pid) do
    case File.read("/proc/#{os_pid}/cmdline") do
      {:ok, line} -> String.replace(line, <<0>>, " ")
      {:error, reason} -> inspect(reason)
    end
  end

  # The name before the state stands in parentheses and may itself hold some.
  defp state(stat), do: stat |> String.split(") ") |> List.last() |> String.first()
end
