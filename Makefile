# Every target that runs something sets up what it needs first: `make run` and `make test` work in a fresh clone.

SHELL := /bin/bash
PY := .venv/bin/python -m

# Elixir reads file names and prints text as UTF-8, and warns where the locale says otherwise.
ifeq ($(findstring UTF-8,$(LC_ALL)$(LC_CTYPE)$(LANG)),)
export LC_ALL := C.UTF-8
endif

.DEFAULT_GOAL := help
# The suites and the linters build in the same places.
.NOTPARALLEL:
.PHONY: help setup run test check lint check-elixir check-python dialyzer format bench bench-faults bench-peers bench-scale bench-quick chaos release matrix clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: system packages, the virtual environment, the tools of `make check`
	@scripts/setup.sh check

run: ## run the example fleet on this machine; AGENTS=dir for your own, SECONDS=n to end by itself
	@scripts/setup.sh run
	@scripts/run.sh $(if $(SECONDS),--seconds $(SECONDS)) $(if $(AGENTS),--agents "$(AGENTS)")

test: ## run both test suites, ExUnit and pytest
	@scripts/setup.sh test
	@status=0; mix test || status=1; $(PY) pytest || status=1; exit $$status

check: test lint ## everything that must be green before a change is sent

lint: check-elixir check-python ## `make check` without the tests

check-elixir: dialyzer ## format, warnings, compile cycles, dialyzer
	mix lint

check-python: ## ruff, mypy --strict
	@scripts/setup.sh test
	$(PY) ruff check
	$(PY) ruff format --check
	$(PY) mypy

dialyzer: ## types of the Elixir code; the first run reads OTP and takes minutes
	@scripts/setup.sh check
	MIX_ENV=dev mix compile
	elixir scripts/dialyze.exs

format: ## format both languages
	@scripts/setup.sh test
	mix format
	$(PY) ruff check --fix
	$(PY) ruff format

# What `make bench` measures, and the plots of it.
BENCHES := start bridge payloads casts spawn memory workers claims python stream timers plots

bench: ## measure everything but what follows: a quarter of an hour; writes bench/results/
	@scripts/setup.sh test
	@for name in $(BENCHES); do mix pyre.bench $$name || exit 1; done

bench-faults: ## measure how soon agents answer after a crash, a kill, a block: ten minutes
	@scripts/setup.sh test
	@for name in fairness recovery plots; do mix pyre.bench $$name || exit 1; done

bench-peers: ## measure other ways to run agents in Python, under one workload; installs them into _build/bench
	@scripts/setup.sh test
	@for name in peers plots; do mix pyre.bench $$name || exit 1; done

bench-scale: ## measure a thousand to a million agents: takes about 4 GB
	@scripts/setup.sh test
	@for name in scale sleep plots; do mix pyre.bench $$name || exit 1; done

bench-quick: ## compare with the baseline in a minute; fails where we are less than half as good
	@scripts/setup.sh test
	@mix pyre.bench quick

chaos: ## kill, stop and flood interpreters under load for SECONDS=n (60), and check that nothing is lost
	@scripts/setup.sh run
	@mix pyre.chaos $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

release: ## build a release that runs where there is no Elixir, into _build/release
	@scripts/setup.sh run
	@MIX_ENV=prod mix release --overwrite --quiet --path _build/release
	@echo "built _build/release; try it: PYRE_AGENTS=priv/python/examples/hello _build/release/bin/pyre start"

matrix: ## run both suites over the versions of Elixir, OTP and Python that are supported; LEGS="here trixie pythons"
	@scripts/matrix.sh $(LEGS)

clean: ## remove what was built, the virtual environment too
	rm -rf _build .venv .plt cover .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find priv test bench -name __pycache__ -type d -prune -exec rm -rf {} +
