# For the release only: there the application is one instance, made from environment variables (see Pyre.Environment).
import Config

if System.get_env("RELEASE_NAME") do
  complain = fn sentence ->
    IO.puts(:stderr, sentence)
    System.halt(64)
  end

  levels = %{"" => :info, "debug" => :debug, "info" => :info, "warning" => :warning, "error" => :error}

  case levels[System.get_env("PYRE_LOG_LEVEL", "")] do
    nil ->
      complain.(
        "PYRE_LOG_LEVEL is #{inspect(System.get_env("PYRE_LOG_LEVEL"))}; expected debug, info, warning or error"
      )

    level ->
      config :logger, level: level
  end

  case Pyre.Environment.options(System.get_env()) do
    {:ok, options} ->
      # Here, for a sentence instead of a crash report.
      with {:error, error} <- Pyre.Snapshot.check(options[:snapshot]), do: complain.(Exception.message(error))
      if options[:agents], do: config(:pyre, instance: [name: Pyre] ++ options)

    {:error, sentence} ->
      complain.(sentence)
  end
end
