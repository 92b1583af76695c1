defmodule Pyre.Events.Topic do
  @moduledoc false

  # Topics are words with dots between them; in a pattern `*` stands for one word, and `**`, at its end, for any further ones.
  # priv/python/pyre/_topics.py says the same.

  alias Pyre.Error

  @most_bytes 255

  @type words :: [binary()]

  @doc "The words of a topic; one that is none is refused."
  @spec parse(term()) :: {:ok, words()} | {:error, Error.t()}
  def parse(topic) do
    with {:ok, words} <- words(topic, "a topic"),
         nil <- Enum.find(words, &String.contains?(&1, "*")) do
      {:ok, words}
    else
      {:error, error} -> {:error, error}
      _word -> refuse("a topic has no *, a pattern has: got #{inspect(topic)}")
    end
  end

  @doc "The words of a pattern; one that is none is refused."
  @spec parse_pattern(term()) :: {:ok, words()} | {:error, Error.t()}
  def parse_pattern(pattern) do
    with {:ok, words} <- words(pattern, "a pattern") do
      cond do
        Enum.any?(words, &(String.contains?(&1, "*") and &1 not in ["*", "**"])) ->
          refuse("in a pattern * stands for a whole word: got #{inspect(pattern)}")

        "**" in Enum.drop(words, -1) ->
          refuse("in a pattern ** comes last: got #{inspect(pattern)}")

        true ->
          {:ok, words}
      end
    end
  end

  defp words(text, what) when is_binary(text) and byte_size(text) in 1..@most_bytes do
    words = String.split(text, ".")

    if String.valid?(text) and "" not in words,
      do: {:ok, words},
      else: refuse("#{what} is words with dots between them, such as \"orders.paid\": got #{inspect(text)}")
  end

  defp words(other, what),
    do:
      refuse(
        "#{what} is a string of 1 to #{@most_bytes} bytes, got: #{inspect(other, limit: 5, printable_limit: 50)}"
      )

  defp refuse(message), do: {:error, Error.new(:invalid_args, message)}

  @doc "Has a pattern to be compared with each topic? One without stars is found by its name."
  @spec wild?(words()) :: boolean()
  def wild?(words), do: "*" in words or "**" in words

  @doc "Does a topic match a pattern?"
  @spec match?(words(), words()) :: boolean()
  def match?(["**"], _words), do: true
  def match?(["*" | pattern], [_word | words]), do: __MODULE__.match?(pattern, words)
  def match?([word | pattern], [word | words]), do: __MODULE__.match?(pattern, words)
  def match?(pattern, words), do: pattern == [] and words == []
end
