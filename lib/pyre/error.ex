defmodule Pyre.Error do
  @moduledoc """
  What Pyre itself has to report: an unknown agent, a full mailbox, a worker that died.

      {:error, %Pyre.Error{kind: :overloaded} = error} = Pyre.call(MyApp.Pyre, "root", :check)

      if Pyre.Error.retryable?(error), do: ..., else: Logger.error(Exception.message(error))

  What the Python code of an agent raised is a `Pyre.PythonError` instead.

  The kinds are a closed set, and Python knows the same ones (`pyre.errors`):

  | kind | had the work begun? | is a retry safe? |
  |---|---|---|
  | `invalid_args` `invalid_id` `unknown_handler` `unknown_class` `encode` `too_large` | no | no |
  | `not_found` `already_started` `stopped` `terminated` `parked` | no | no |
  | `overloaded` `rate_limited` `budget_exhausted` `stopping` `worker_start` `not_ready` | no | yes |
  | `deadline` | no: it expired in the queue | yes |
  | `timeout` | yes; `details.committed` is `true`, `false` or `:unknown` | if the handler is idempotent |
  | `worker_down` `agent_down` `restarted` | `details.begun` | if it had not begun, or is idempotent |
  | `cancelled` `deadlock` `stale_activation` | | no |
  | `decode` `protocol` `internal` | | no: a fault to report |

  `details` is a map. The keys that Pyre gives a meaning are atoms: `:retry_after_ms`, `:begun`, `:committed`,
  `:idempotent`, `:chain`, `:argument`, `:path`, `:limit`, `:size`, `:kind`. Any other key that comes out of Python
  stays a string.
  """

  alias Pyre.PythonError
  alias Pyre.Wire.MsgPack

  @never [
    :invalid_args,
    :invalid_id,
    :unknown_handler,
    :unknown_class,
    :encode,
    :too_large,
    :not_found,
    :already_started,
    :stopped,
    :terminated,
    :parked,
    :cancelled,
    :deadlock,
    :stale_activation,
    :decode,
    :protocol,
    :internal
  ]
  @always [:overloaded, :rate_limited, :budget_exhausted, :stopping, :worker_start, :not_ready, :deadline]
  @unless_begun [:worker_down, :agent_down, :restarted]
  @if_idempotent [:timeout]

  @kinds @never ++ @always ++ @if_idempotent ++ @unless_begun
  @kinds_by_name Map.new(@kinds, &{Atom.to_string(&1), &1})

  @detail_keys [
    :retry_after_ms,
    :begun,
    :committed,
    :idempotent,
    :chain,
    :argument,
    :path,
    :limit,
    :size,
    :kind
  ]
  @details_by_name Map.new(@detail_keys, &{Atom.to_string(&1), &1})

  @enforce_keys [:kind, :message]
  defexception [:kind, :message, details: %{}]

  @typedoc "What went wrong; see the table above. The set is closed."
  @type kind ::
          unquote(Enum.reduce(Enum.reverse(@kinds), fn kind, union -> {:|, [], [kind, union]} end))

  @typedoc "The kind for programs, the message for people, and what else is known."
  @type t :: %__MODULE__{kind: kind(), message: String.t(), details: map()}

  @doc """
  Makes an error of one of the `kinds/0`.

      iex> Pyre.Error.new(:not_found, ~s(no agent "desk"))
      %Pyre.Error{kind: :not_found, message: ~s(no agent "desk"), details: %{}}
  """
  @doc since: "0.1.0"
  @spec new(kind(), String.t(), map()) :: t()
  def new(kind, message, details \\ %{})

  def new(kind, message, details) when kind in @kinds and is_binary(message) and is_map(details),
    do: %__MODULE__{kind: kind, message: message, details: details}

  @doc """
  All kinds there are.

      iex> :overloaded in Pyre.Error.kinds()
      true
  """
  @doc since: "0.1.0"
  @spec kinds() :: [kind()]
  def kinds, do: @kinds

  @doc """
  Whether sending the same message again can neither do the work twice nor fail for the same reason for sure.

      iex> Pyre.Error.retryable?(Pyre.Error.new(:overloaded, "10000 messages wait"))
      true
      iex> Pyre.Error.retryable?(Pyre.Error.new(:worker_down, "the worker died", %{begun: true}))
      false
  """
  @doc since: "0.1.0"
  @spec retryable?(t() | PythonError.t()) :: boolean()
  def retryable?(%__MODULE__{kind: kind}) when kind in @always, do: true

  def retryable?(%__MODULE__{kind: kind, details: details}) when kind in @unless_begun,
    do: details[:begun] == false or details[:idempotent] == true

  def retryable?(%__MODULE__{kind: kind, details: details}) when kind in @if_idempotent,
    do: details[:idempotent] == true

  def retryable?(%__MODULE__{}), do: false
  def retryable?(%PythonError{}), do: false

  @doc false
  # The error that a decoded error body of the wire stands for. It comes from an interpreter: anything may be
  # missing or of another type, and no atom is made of it.
  @spec from_body(term()) :: t() | PythonError.t()
  def from_body(%{"kind" => name} = body) do
    details = known_details(body["details"])

    case @kinds_by_name do
      %{^name => kind} -> new(kind, text(body["message"]), details)
      _unknown -> new(:internal, text(body["message"]), Map.put(details, :kind, name))
    end
  end

  def from_body(%{"type" => type} = body) do
    %PythonError{
      type: text(type),
      message: text(body["message"]),
      traceback: text(body["traceback"]),
      expected: body["expected"] == true,
      data: body["data"]
    }
  end

  def from_body(other),
    do: new(:internal, "an interpreter sent an error that is none: #{inspect(other, limit: 5)}")

  @doc false
  # The reverse: a map that MsgPack can encode, whatever the details hold.
  @spec to_body(t() | PythonError.t()) :: %{String.t() => term()}
  def to_body(%__MODULE__{} = error) do
    %{
      "kind" => Atom.to_string(error.kind),
      "message" => text(error.message),
      "details" => Map.new(error.details, fn {key, value} -> {text(key), encodable(value)} end)
    }
  end

  def to_body(%PythonError{} = error) do
    %{
      "type" => text(error.type),
      "message" => text(error.message),
      "traceback" => text(error.traceback),
      "expected" => error.expected,
      "data" => encodable(error.data)
    }
  end

  ## Helpers

  defp known_details(details) when is_map(details), do: Map.new(details, &known_detail/1)
  defp known_details(_other), do: %{}

  defp known_detail({"committed", "unknown"}), do: {:committed, :unknown}
  defp known_detail({key, value}), do: {Map.get(@details_by_name, key, key), value}

  defp text(nil), do: ""
  defp text(atom) when is_atom(atom), do: Atom.to_string(atom)
  defp text(value) when is_binary(value), do: if(String.valid?(value), do: value, else: inspect(value))
  defp text(value), do: inspect(value, limit: 5)

  defp encodable(value) do
    case MsgPack.encode(value) do
      {:ok, _binary} -> value
      {:error, _error} -> inspect(value, limit: 20, printable_limit: 500)
    end
  end
end
