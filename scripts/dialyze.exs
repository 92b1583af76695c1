# Runs dialyzer over what `mix compile` left in _build/dev, without any package from outside.
#
# What it knows of OTP and Elixir is kept in .plt/, in a file named for their versions: the first run takes a minute, the
# others seconds. `:unknown` is left out, since it would report `:telemetry`, which is there only where the host has it.

defmodule Dialyze do
  @beams "_build/dev/lib/pyre/ebin"
  @applications [:erts, :kernel, :stdlib, :elixir, :logger, :mix]
  @warnings [
    :unmatched_returns,
    :error_handling,
    :missing_return,
    :extra_return,
    # Without :underspecs: a specification is a promise to callers, and may be wider than what today's code happens to take.
    # iodata may end in a binary, which is what the encoders make
    :no_improper_lists
  ]

  def main do
    case run(
           analysis_type: :succ_typings,
           init_plt: plt(),
           files_rec: [charlist(@beams)],
           warnings: @warnings
         ) do
      [] -> IO.puts("dialyzer: no warnings")
      warnings -> report(warnings)
    end
  end

  defp plt do
    path = ".plt/otp-#{otp_version()}-elixir-#{System.version()}.plt"
    unless File.exists?(path), do: build(path)
    charlist(path)
  end

  # Built beside its place and then renamed, so that an interrupted run leaves no half of it.
  defp build(path) do
    IO.puts("dialyzer: reading OTP and Elixir, once; this takes about a minute")
    File.mkdir_p!(Path.dirname(path))
    part = path <> ".part"

    run(
      analysis_type: :plt_build,
      output_plt: charlist(part),
      files_rec: Enum.flat_map(@applications, &ebin/1)
    )

    File.rename!(part, path)
  end

  defp ebin(application) do
    case :code.lib_dir(application) do
      {:error, :bad_name} -> []
      path -> Enum.map(Enum.filter([Path.join(path, "ebin")], &File.dir?/1), &charlist/1)
    end
  end

  # Dialyzer throws what it has to complain of, and prints the rest itself.
  defp run(options) do
    :dialyzer.run(options)
  catch
    {:dialyzer_error, message} -> fail("dialyzer: #{message}")
  end

  defp report(warnings) do
    warnings
    |> Enum.sort_by(fn {_tag, location, _message} -> location end)
    |> Enum.each(&IO.write(:dialyzer.format_warning(&1, filename_opt: :fullpath)))

    fail("dialyzer: #{length(warnings)} warnings")
  end

  defp fail(message) do
    IO.puts(:stderr, message)
    System.halt(1)
  end

  defp otp_version do
    release = System.otp_release()
    version = Path.join([:code.root_dir(), "releases", release, "OTP_VERSION"])
    if File.exists?(version), do: String.trim(File.read!(version)), else: release
  end

  defp charlist(path), do: String.to_charlist(path)
end

Dialyze.main()
