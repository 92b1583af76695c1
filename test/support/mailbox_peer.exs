# The real mailbox of a real agent, driven line by line from test/python/test_mailbox.py. The agent stands at a gate while messages are
# put, cancelled and expire; then it is let through them.
#
#     put N PRIORITY TIMEOUT_MS   ->  ok
#     cancel N                    ->  cancelled | already_done | not_found
#     run                         ->  one line for each message, "N ok" or "N kind", in the order of N; then "order N N N"; and stands again
Logger.configure(level: :error)

defmodule MailboxPeer do
  @pyre MailboxPeer.Pyre

  def main do
    folder = Path.join(System.tmp_dir!(), "pyre-mailbox-#{System.pid()}")
    File.mkdir_p!(folder)
    {:ok, supervisor} = Pyre.start_link(name: @pyre, agents: "test/fixtures/agents", workers: 1, spare: false)
    :ok = Pyre.await_ready(@pyre, 30_000)
    {:ok, "m"} = Pyre.start_agent(@pyre, "Listener", id: "m")
    loop(%{folder: folder, gate: nil, round: 0, requests: %{}, seen: 0} |> stand())
    Supervisor.stop(supervisor)
    File.rm_rf!(folder)
  end

  defp loop(state) do
    case IO.gets("") do
      :eof -> :ok
      line -> line |> String.split() |> obey(state) |> loop()
    end
  end

  defp obey(["put", n, priority, timeout], state) do
    opts = [priority: String.to_existing_atom(priority), timeout: String.to_integer(timeout)]
    {:ok, request} = Pyre.call_async(@pyre, "m", :also, %{topic: n}, opts)
    IO.puts("ok")
    put_in(state.requests[String.to_integer(n)], request)
  end

  defp obey(["cancel", n], state) do
    IO.puts(Pyre.cancel(state.requests[String.to_integer(n)]))
    state
  end

  defp obey(["run"], state) do
    File.write!(Path.join(state.folder, "#{state.round}.open"), "")
    {:ok, nil} = Pyre.await(state.gate)

    for {n, request} <- Enum.sort(state.requests) do
      case Pyre.await(request) do
        {:ok, nil} -> IO.puts("#{n} ok")
        {:error, error} -> IO.puts("#{n} #{error.kind}")
      end
    end

    {:ok, heard} = heard()
    IO.puts(Enum.join(["order" | heard |> Enum.drop(state.seen) |> Enum.map(&List.last/1)], " "))
    stand(%{state | requests: %{}, seen: length(heard), round: state.round + 1})
  end

  defp heard do
    with {:ok, state, _revision} <- Pyre.state(@pyre, "m"), do: {:ok, Map.get(state || %{}, "heard", [])}
  end

  defp stand(%{folder: folder, round: round} = state) do
    args = %{folder: folder, name: Integer.to_string(round)}
    {:ok, gate} = Pyre.call_async(@pyre, "m", :stand, args, timeout: 60_000)
    entered(Path.join(folder, "#{round}.entered"), 2_000)
    %{state | gate: gate}
  end

  defp entered(_path, 0), do: raise("the agent did not come to its gate")
  defp entered(path, left), do: File.exists?(path) || (Process.sleep(5) && entered(path, left - 1))
end

MailboxPeer.main()
