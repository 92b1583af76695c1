defmodule Pyre.PythonError do
  @moduledoc """
  What the Python code of an agent raised.

      {:error, %Pyre.PythonError{type: "ValueError", message: "negative size"}}

    * `:type` - the name of the Python exception's class
    * `:message` - what the exception said
    * `:traceback` - the Python traceback as text; empty for an expected refusal
    * `:expected` - `true` where the handler refused on purpose: `raise Reject(...)`, or an exception listed in
      `@handler(raises=...)`. The agent has not been restarted then
    * `:data` - what `Reject` carried, or `nil`

      iex> Exception.message(%Pyre.PythonError{type: "ValueError", message: "negative size"})
      "ValueError: negative size"
  """

  @enforce_keys [:type]
  defexception [:type, :data, message: "", traceback: "", expected: false]

  @typedoc "The fields are explained above."
  @type t :: %__MODULE__{
          type: String.t(),
          message: String.t(),
          traceback: String.t(),
          expected: boolean(),
          data: term()
        }

  @doc false
  @impl Exception
  @spec message(t()) :: String.t()
  def message(%__MODULE__{type: type, message: ""}), do: type
  def message(%__MODULE__{type: type, message: message}), do: "#{type}: #{message}"
end
