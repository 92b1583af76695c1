defmodule Pyre.LogProbe do
  @moduledoc false

  # A handler of :logger that sends what one instance logs to a test: `{:logged, level, text, metadata}`.

  @doc "From now on the calling process gets what this instance logs."
  @spec attach(atom()) :: :ok
  def attach(instance) do
    :ok = :logger.add_handler(handler(instance), __MODULE__, %{config: %{instance: instance, to: self()}})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(handler(instance)) end)
  end

  @doc false
  @spec log(:logger.log_event(), :logger.handler_config()) :: term()
  def log(%{level: level, msg: message, meta: %{pyre: instance} = meta}, %{
        config: %{instance: instance, to: to}
      }),
      do: send(to, {:logged, level, text(message), meta})

  def log(_event, _config), do: :ok

  defp handler(instance), do: :"#{__MODULE__}.#{instance}"

  defp text({:string, text}), do: IO.chardata_to_string(text)
  defp text({:report, report}), do: inspect(report)
  defp text({format, arguments}), do: format |> :io_lib.format(arguments) |> IO.chardata_to_string()
end
