defmodule Pyre.Wire.ETF do
  @moduledoc false

  # The envelopes' codec: the part of Erlang's external term format that docs/wire.md allows, and nothing else. Own
  # code rather than :erlang.binary_to_term/2, since its :safe option still takes compressed terms (194 KB make
  # 200 MB), 107 strings (sixteen-fold), funs, pids and references.
  #
  # One function walks the bytes, tail-recursively, with what is open on an explicit stack: the compiler then keeps
  # one match context and makes no sub-binary but the payloads. Nothing is ever allocated from a count or a length:
  # elements are collected as their bytes are found.

  require Pyre.Wire, as: Wire

  @version 131
  @small_integer 97
  @integer 98
  @small_big 110
  @small_tuple 104
  @nil_tag 106
  @list 108
  @binary 109

  @type envelope :: tuple()

  @doc "The term in `payload`; binaries in it are parts of `payload`, not copies."
  @spec decode(binary()) :: {:ok, term()} | {:error, String.t()}
  def decode(<<@version, rest::binary>>), do: items(rest, 1, [], [], 0)
  def decode(<<byte, _rest::binary>>), do: {:error, "expected version byte 131, got #{byte}"}
  def decode(<<>>), do: {:error, "the term is empty"}

  @doc """
  The bytes of `term`.

  It is the caller's duty to hold only what `decode/1` takes. A list of small integers alone, such as `[1, 2]`, is not
  among it: Erlang writes it as a 107 string. Envelopes have none.
  """
  @spec encode(term()) :: binary()
  def encode(term), do: :erlang.term_to_binary(term, minor_version: 2)

  ## Helpers

  # items(bytes, elements still to come, those found in reverse, what is open around, how deep)

  # The term is complete.
  defp items(<<rest::binary>>, 0, [term], [], _depth), do: finish(rest, term)

  defp items(<<rest::binary>>, 0, found, [{@small_tuple, left, around} | stack], depth),
    do: items(rest, left, [to_tuple(found) | around], stack, depth - 1)

  defp items(<<@nil_tag, rest::binary>>, 0, found, [{@list, left, around} | stack], depth),
    do: items(rest, left, [:lists.reverse(found) | around], stack, depth - 1)

  defp items(<<tag, _rest::binary>>, 0, _found, _stack, _depth),
    do: {:error, "expected a list to end with tag 106, got #{tag}"}

  defp items(<<@small_integer, value, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [value | found], stack, depth)

  defp items(<<@binary, size::32, value::binary-size(size), rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [value | found], stack, depth)

  defp items(<<@integer, value::32-signed, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [value | found], stack, depth)

  defp items(<<@nil_tag, rest::binary>>, left, found, stack, depth),
    do: items(rest, left - 1, [[] | found], stack, depth)

  defp items(<<@small_tuple, _size, _rest::binary>>, _left, _found, _stack, Wire.max_envelope_nesting()),
    do: too_deep()

  defp items(<<@small_tuple, size, rest::binary>>, left, found, stack, depth),
    do: items(rest, size, [], [{@small_tuple, left - 1, found} | stack], depth + 1)

  defp items(<<@list, _size::32, _rest::binary>>, _left, _found, _stack, Wire.max_envelope_nesting()),
    do: too_deep()

  defp items(<<@list, size::32, rest::binary>>, left, found, stack, depth),
    do: items(rest, size, [], [{@list, left - 1, found} | stack], depth + 1)

  defp items(
         <<@small_big, size, 0, value::little-unit(8)-size(size), rest::binary>>,
         left,
         found,
         stack,
         depth
       )
       when size <= 8,
       do: items(rest, left - 1, [value | found], stack, depth)

  defp items(
         <<@small_big, size, 1, value::little-unit(8)-size(size), rest::binary>>,
         left,
         found,
         stack,
         depth
       )
       when size <= 8,
       do: items(rest, left - 1, [-value | found], stack, depth)

  defp items(<<@small_big, size, sign, _rest::binary>>, _left, _found, _stack, _depth)
       when size > 8 or sign > 1,
       do: {:error, "expected an integer of at most 8 bytes, got #{size} bytes with sign #{sign}"}

  defp items(<<tag, _rest::binary>>, _left, _found, _stack, _depth)
       when tag not in [@small_integer, @integer, @small_big, @small_tuple, @nil_tag, @list, @binary],
       do: {:error, "tag #{tag} is not allowed"}

  defp items(<<_rest::binary>>, _left, _found, _stack, _depth), do: {:error, "the term is cut short"}

  defp finish(<<>>, term), do: {:ok, term}
  defp finish(rest, _term), do: {:error, "#{byte_size(rest)} bytes follow the term"}

  defp to_tuple(found), do: found |> :lists.reverse() |> :erlang.list_to_tuple()

  defp too_deep, do: {:error, "the term is nested more than #{Wire.max_envelope_nesting()} levels deep"}
end
