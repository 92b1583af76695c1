defmodule Pyre.Faults.MemoryTest do
  # Promise: whatever an interpreter writes, the BEAM's memory stays bounded. Alone, since it is the node's that is measured.
  use Pyre.Case, async: false

  @moduletag :fault
  @bound_bytes 100_000_000

  defp boot(worker) do
    env = [{"TEST_PYTHON", python()}, {"TEST_WORKER", fixture("workers/#{worker}.py")}]
    boot_pyre!(python: fixture("workers/impostor"), env: env)
  end

  defp last_error(pyre), do: eventually(fn -> hd(Pyre.workers(pyre)).last_error end)

  # By how much the node's memory grew at most while this ran.
  defp peak(function) do
    before = :erlang.memory(:total)
    me = self()
    sampler = spawn_link(fn -> sample(me, before) end)
    result = function.()
    send(sampler, :stop)
    assert_receive {:peak, peak}
    {result, peak - before}
  end

  defp sample(to, peak) do
    receive do
      :stop -> send(to, {:peak, max(peak, :erlang.memory(:total))})
    after
      2 -> sample(to, max(peak, :erlang.memory(:total)))
    end
  end

  test "a huge length is refused before anything is allocated" do
    {error, grown} = peak(fn -> "announces_2_gb" |> boot() |> last_error() end)
    assert error.message =~ "announces 2147483647 bytes"
    assert grown < @bound_bytes
  end

  test "a compressed term is refused unopened" do
    {error, grown} = peak(fn -> "sends_compressed" |> boot() |> last_error() end)
    assert error.message =~ "broke the protocol"
    assert grown < @bound_bytes
  end

  test "of 300 MB of frames that nobody understands only the first is looked at" do
    {error, grown} = peak(fn -> "floods_the_protocol" |> boot() |> last_error() end)
    assert error.message =~ "nobody understands"
    assert grown < @bound_bytes
  end

  test "300 MB on standard output block their writer, and are told in a few lines" do
    pyre = start_pyre!()
    {:ok, id} = Pyre.start_agent(pyre, "Noise")
    {reply, grown} = peak(fn -> Pyre.call(pyre, id, :flood, %{megabytes: 300}, timeout: 25_000) end)
    assert reply == {:ok, "done"}
    assert grown < @bound_bytes
    eventually(fn -> Pyre.info(pyre).counters.log_lines_dropped > 10_000 end)
    assert [%{deaths: 0}] = Pyre.workers(pyre)
  end
end
