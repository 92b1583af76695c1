defmodule Pyre.Testing.Answer do
  @moduledoc false

  # What a scripted function or a test answers, as DONE has it: status, body, state. Pure, but for the function that it runs.

  require Pyre.Wire, as: Wire

  alias Pyre.{Error, PythonError}
  alias Pyre.Testing.Message
  alias Pyre.Wire.{Body, MsgPack}

  @type t :: {status :: non_neg_integer(), body :: binary(), state :: binary() | []}
  @type result ::
          {:reply, term()} | {:reply, term(), map()} | {:fail, Exception.t()} | {:error, Error.t()}

  # An interpreter refuses these before any code of the user's runs.
  @refused [:invalid_args, :unknown_handler, :deadline]

  @doc """
  Runs a scripted function; `emit` takes each value of a stream. What the function raises, throws or exits with is a failure, as an exception
  is in Python.
  """
  @spec run(function(), Message.t(), (term() -> :ok)) :: term()
  def run(function, message, emit) do
    function |> apply_to(message) |> streamed(message, emit)
  rescue
    error -> {:fail, python_error(error, Exception.format(:error, error, __STACKTRACE__))}
  catch
    kind, reason -> {:fail, python_error(ErlangError.exception(original: {kind, reason}), "")}
  end

  defp apply_to(function, message) do
    case function do
      function when is_function(function, 1) -> function.(message.args)
      function when is_function(function, 2) -> function.(message.args, message.state)
      function when is_function(function, 3) -> function.(message.args, message.state, message)
    end
  end

  defp streamed({:stream, values}, %Message{kind: :stream}, emit) do
    Enum.each(values, emit)
    {:reply, nil}
  end

  defp streamed({:stream, values, state}, %Message{kind: :stream}, emit) do
    Enum.each(values, emit)
    {:reply, nil, state}
  end

  defp streamed({:reply, _value} = result, %Message{kind: :stream} = message, _emit),
    do: no_stream(result, message)

  defp streamed({:reply, _value, _state} = result, %Message{kind: :stream} = message, _emit),
    do: no_stream(result, message)

  defp streamed(result, _message, _emit), do: result

  @spec no_stream(term(), Message.t()) :: no_return()
  defp no_stream(result, message) do
    raise ArgumentError,
          "#{name(message)} is read as a stream: it must return {:stream, values} or {:stream, values, state}, " <>
            "got: #{inspect(result, limit: 10)}"
  end

  @doc "A result as DONE has it. A state that can't travel, or a result of another shape, is a failure that says so."
  @spec to_done(term(), Message.t(), boolean()) :: t()
  def to_done(result, message, interleave?)
  def to_done({:reply, value}, %Message{}, _interleave?), do: reply(value, {:ok, []})

  def to_done({:reply, _value, _state}, %Message{} = message, true),
    do: misuse("#{name(message)} interleaves, and so can't change the state: return {:reply, value}")

  def to_done({:reply, value, state}, %Message{class: class}, _interleave?)
      when class != nil and is_map(state) and not is_struct(state),
      do: reply(value, Body.args(state))

  def to_done({:fail, %PythonError{expected: true} = error}, _message, _interleave?),
    do: {Wire.status_rejected(), Body.error(error), []}

  def to_done({:fail, %Error{kind: kind} = error}, _message, _interleave?) when kind in @refused,
    do: {Wire.status_refused(), Body.error(error), []}

  def to_done({:fail, %struct{} = error}, _message, _interleave?) when struct in [PythonError, Error],
    do: {Wire.status_failed(), Body.error(error), []}

  def to_done({:fail, error}, _message, _interleave?) when is_exception(error),
    do: {Wire.status_failed(), Body.error(python_error(error, "")), []}

  def to_done(other, message, _interleave?) do
    misuse(
      "#{name(message)} must return {:reply, value}, {:reply, value, state} with a map, {:fail, exception}, or, where it is read " <>
        "as a stream, {:stream, values}, got: #{inspect(other, limit: 10)}"
    )
  end

  defp reply(value, {:ok, state}) do
    case MsgPack.encode(value) do
      {:ok, body} -> {Wire.status_done(), body, state}
      {:error, error} -> {Wire.status_failed(), Body.error(error), []}
    end
  end

  defp reply(_value, {:error, error}), do: {Wire.status_failed(), Body.error(error), []}

  defp misuse(text),
    do: {Wire.status_failed(), Body.error(python_error(%ArgumentError{message: text}, "")), []}

  defp name(%Message{class: nil, handler: function}), do: "the function scripted for #{function}"

  defp name(%Message{class: class, handler: handler}),
    do: "the function scripted for the handler #{inspect(handler)} of #{inspect(class)}"

  defp python_error(%struct{} = error, traceback),
    do: %PythonError{type: inspect(struct), message: Exception.message(error), traceback: traceback}
end
