defmodule Pyre.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :pyre,
      version: @version,
      elixir: "~> 1.14",
      description: "Supervised, stateful agents in Python, on Erlang/OTP",
      package: [
        licenses: ["Apache-2.0"],
        files: ~w(c_src lib priv docs mix.exs) ++ Path.wildcard("*.md") ++ ["LICENSE"],
        exclude_patterns: [~r/\.so$/]
      ],
      docs: docs(),
      start_permanent: Mix.env() == :prod,
      elixirc_paths: elixirc_paths(Mix.env()),
      # Ours, which the compiler before it has made: lib/mix/tasks/compile.pyre_codec.ex.
      compilers: Mix.compilers() ++ [:pyre_codec],
      consolidate_protocols: Mix.env() != :test,
      # `def cli` is its successor, from Elixir 1.15 on.
      preferred_cli_env: [check: :test, lint: :test, "pyre.bench": :prod],
      # Called where the host has it.
      xref: [exclude: [:telemetry]],
      aliases: aliases(),
      releases: [pyre: [include_executables_for: [:unix], steps: [:assemble, &bundle_python/1]]],
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger], mod: {Pyre.Application, []}]
  end

  # For ex_doc, where a host has it: Pyre itself depends on nothing.
  defp docs do
    [
      main: "readme",
      extras: Path.wildcard("*.md") ++ Path.wildcard("docs/**/*.md"),
      groups_for_extras: [Guides: ~r"docs/guides/", Decisions: ~r"docs/decisions/"],
      groups_for_modules: [
        "What comes back": [Pyre.Error, Pyre.PythonError, Pyre.Request],
        Values: [Pyre.Bin, Pyre.Ext],
        Tools: [Pyre.Tool, Pyre.Tool.Caller],
        Tests: [Pyre.Testing, Pyre.Testing.Message],
        Operations: [Pyre.Environment, Pyre.Metrics, Pyre.Release, Pyre.Telemetry]
      ]
    ]
  end

  # By name: the module is compiled after this file is read.
  defp bundle_python(release), do: apply(Pyre.Release, :bundle_python, [release])

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  defp aliases do
    [
      lint: [
        "format --check-formatted",
        "compile --warnings-as-errors --force",
        "xref graph --format cycles --label compile-connected --fail-above 0"
      ],
      check: ["lint", "test --warnings-as-errors"]
    ]
  end
end
