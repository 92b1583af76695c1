defmodule Pyre.Worker.Recycling do
  @moduledoc false

  # When an interpreter is replaced although nothing is wrong with it: against what leaks in long lives. Pure. An atom is
  # larger than any number, so that nothing exceeds `:infinity`.

  @doc "What to do with an interpreter of this age (ms), number of messages, size (bytes) and count of memory errors."
  @spec verdict(map(), non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()) ::
          :keep | {:drain, String.t()} | :kill
  def verdict(config, age, messages, rss, memory_errors) do
    cond do
      config.max_worker_rss != nil and rss > 2 * config.max_worker_rss -> :kill
      config.max_worker_rss != nil and rss > config.max_worker_rss -> {:drain, "it takes #{megabytes(rss)}"}
      memory_errors > 0 -> {:drain, "a handler found no memory (it takes #{megabytes(rss)})"}
      age > config.max_worker_age -> {:drain, "it is #{div(age, 1_000)} s old"}
      messages >= config.max_worker_messages -> {:drain, "it has taken #{messages} messages"}
      true -> :keep
    end
  end

  defp megabytes(bytes), do: "#{div(bytes, 1_048_576)} MB"
end
