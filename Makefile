# `make repro` and `make test` work on a fresh machine with Python 3.11-3.13, git and make; they set up what they need.
PYTHON ?= python3
BIN := .venv/bin
# Telemetry is off for every tool, also for those that start before our own code could switch it off.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
# The stages' `python` is the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
UV := $(shell sed -n 's/^uv==\([^ ;]*\).*/\1/p' requirements.lock)
# A .venv that was moved or copied here, or whose Python is gone, runs nothing, or another checkout's code.
FOREIGN := $(shell test -x $(BIN)/python && grep -qsF -- " $$(pwd -P)/.venv" .venv/pyvenv.cfg || echo foreign)

.DEFAULT_GOAL := help
.PHONY: foreign help setup repro summary web app shipped test test-all swift-test lint format types doctor lock deps clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(BIN)/.ready ## make .venv from requirements.lock

$(BIN)/.ready: requirements.lock pyproject.toml $(FOREIGN)
	@test -z "$(FOREIGN)" || { test ! -e .venv || echo ".venv was not made here: making it anew" >&2; rm -rf .venv; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $$($(PYTHON) --version) found, Python 3.11 to 3.13 needed; do: make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

repro: setup ## run the whole pipeline, end with a registered Core ML file and a summary
	$(BIN)/dvc repro || { echo "error: dvc repro stopped; its message is above, \`make doctor\` looks for the cause" >&2; exit 1; }
	@$(BIN)/pocketaffect summary

summary: setup ## show what the last run made
	@$(BIN)/pocketaffect summary

web: setup ## fetch from npm what the page runs on (once; it then works without internet)
	@$(BIN)/pocketaffect web

app: web ## serve the music interface on this machine
	@$(BIN)/pocketaffect serve

shipped: setup ## make the network that comes with pocketaffect again: make shipped DATA=your FER2013 and FER+
	$(BIN)/python -m pocketaffect.shipped.make "$(DATA)"

test: setup ## the fast tests
	$(BIN)/pytest

test-all: setup ## all tests
	$(BIN)/pytest -m '' --durations=20 --durations-min=5

swift-test: setup ## the kit's tests under Swift, where there is one
	@if command -v swift >/dev/null; then $(BIN)/pytest -n 0 -m slow tests/kit/test_swift.py; \
	  else echo "no swift on the PATH (swift.org/install): the kit's tests were not run" >&2; fi

lint: setup ## style, common mistakes and misspellings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files -z | xargs -0 $(BIN)/codespell

format: setup ## fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## strict type check
	$(BIN)/mypy

doctor: setup ## look for what could be wrong here
	@$(BIN)/pocketaffect doctor

lock: setup ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet --output-file requirements.lock

deps: setup ## write what code each stage depends on into dvc.yaml, from the imports
	$(BIN)/python -m pocketaffect.provenance.deps

clean: ## remove the environment and what runs left behind; not mlruns
	rm -rf .venv .work out sample data dvc_plots
