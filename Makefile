# The two commands: `make demo` and `make test`. Both make the environment if it is not there.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

BIN := $(VENV)/bin
CORE := $(VENV)/.corrigenda-core
DEV := $(VENV)/.corrigenda-dev
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test quick check lint types clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(CORE) ## edit a fact in the embedded model, see what moved, take it back
	@$(BIN)/corrigenda demo

test: $(DEV) ## run every test
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal

quick: $(DEV) ## run the tests that take seconds
	@$(PYTEST) -q -n $(WORKERS) --dist worksteal -m "not slow"

check: lint types test ## ruff, pyright and every test

lint: $(DEV) ## ruff
	@$(BIN)/ruff check .

types: $(DEV) ## pyright
	@$(BIN)/pyright

clean: ## remove caches and built files, not the environment
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis .cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  "corrigenda needs Python 3.11 or later; this is %d.%d. Use make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# The stamps are renewed, and the package installed again, only when what it asks for has changed.
$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(CORE) $@
