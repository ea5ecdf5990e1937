# Everything a contributor types. Needs Python 3.11+ with venv and pip, git and make; nothing else, and not root.
# All paths are relative, so that the tree may stand anywhere, under a name with spaces too.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet --no-input
CODE := $(wildcard libs services migrations tests tools bench loadtests)
ARGS ?=

# A stamp's name holds what it was made from: the environment the place of the tree (its scripts name it), the
# installation the locked packages and the package list.
PLACE := $(shell pwd -P | cksum | tr -dc 0-9)
LOCKS := $(shell cat requirements/*.txt pyproject.toml | cksum | tr -dc 0-9)
VENV := .venv/made-$(PLACE)
RUNTIME := .venv/runtime-$(LOCKS)
DEV := .venv/dev-$(LOCKS)

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' Makefile

.PHONY: run
run: $(RUNTIME) ## Serve on 127.0.0.1:8765 with SQLite, no other service needed
	exec .venv/bin/agent-mail serve $(ARGS)

.PHONY: test
test: $(DEV) ## Run all tests, on a real PostgreSQL and a real Valkey that it brings (ARGS="-k name" to choose)
	$(PY) -m pytest $(ARGS)

.PHONY: test-fast
test-fast: $(DEV) ## Run what needs no server: rules, transports on SQLite, checks of the repository
	$(PY) -m pytest -m "not postgres and not valkey" $(wildcard tests/unit tests/wire tests/repo) $(ARGS)

.PHONY: lint
lint: $(DEV) ## Check style, format and the direction of imports
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/lint-imports

.PHONY: fix
fix: $(DEV) ## Format, and mend what can be mended
	.venv/bin/ruff check --fix $(CODE)
	.venv/bin/ruff format $(CODE)

.PHONY: types
types: $(DEV) ## Check types, strictly
	.venv/bin/mypy $(CODE)

.PHONY: cluster
cluster: $(DEV) ## Run PostgreSQL, Valkey, three servers, a job worker and a balancer on 127.0.0.1:8765 (ARGS="--port … --workers …")
	PYTHONPATH="$(CURDIR)" exec $(PY) -m tools.cluster $(ARGS)

.PHONY: conformance
conformance: $(DEV) ## Run the official MCP conformance suite against two workers (needs npx, and npm's registry)
	PYTHONPATH="$(CURDIR)" $(PY) -m tests.conformance.run $(ARGS)

.PHONY: bench
bench: $(DEV) ## Measure requests per second against servers of its own (ARGS go to bench/main.py)
	PYTHONPATH="$(CURDIR)" $(PY) bench/main.py $(ARGS)

.PHONY: load
load: $(DEV) ## A short load test of a cluster of its own, or of URL=… (ARGS go to loadtests/run.py)
	PYTHONPATH="$(CURDIR)" $(PY) -m loadtests.run $(if $(findstring command,$(origin URL)),--url "$(URL)") $(ARGS)

.PHONY: wheel
wheel: $(DEV) ## Build the wheel into dist/, install it alone in a clean environment and send it requests
	rm -rf dist
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	$(PY) tools/check_wheel.py dist/*.whl

.PHONY: lock
lock: $(DEV) ## Write requirements/*.txt anew from pyproject.toml (ARGS="--upgrade" for newer versions)
	for set in runtime build dev; do \
	  case $$set in \
	    runtime) from=(pyproject.toml) ;; \
	    build) from=(--group build --constraint requirements/runtime.txt) ;; \
	    dev) from=(pyproject.toml --group dev --constraint requirements/runtime.txt --constraint requirements/build.txt) ;; \
	  esac; \
	  .venv/bin/uv --no-config pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" $(ARGS) \
	    --output-file requirements/$$set.txt "$${from[@]}"; \
	done

.PHONY: migrate
migrate: $(RUNTIME) ## Bring the database of DATABASE_URL to the current schema
	.venv/bin/agent-mail migrate $(ARGS)

.PHONY: env
env: ## Write .env, the token and passwords of docker-compose.yml (FORCE=1 to replace one)
	@FORCE="$(FORCE)" "$(PYTHON)" tools/make_env.py

.PHONY: clean
clean: ## Remove what the other targets made; the data of `make run` stays
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV):
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "Agent Mail needs Python 3.11 or newer, and there is no $(PYTHON) here: say which with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Agent Mail needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" -c 'import platform; print(platform.python_version())'): say which with make PYTHON=..." >&2; exit 1; }
	@echo "Making .venv"
	"$(PYTHON)" -m venv --clear .venv
	@touch $@

# The locked packages first, by hash; then this tree, editable, with the locked build backend.
$(RUNTIME): $(VENV)
	@echo "Installing the locked packages into .venv"
	$(PIP) install --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@rm -f .venv/runtime-* .venv/dev-*
	@touch $@

$(DEV): $(VENV)
	@echo "Installing the locked packages, with those for tests, into .venv"
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@rm -f .venv/runtime-* .venv/dev-*
	@touch $@ $(RUNTIME)
