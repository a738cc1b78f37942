# make install | test | demo | docs | lint | clean. Needs only Python >= 3.11, make and gcc.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := $(VENV)/.installed-docs

.PHONY: install test lint demo docs clean
.DEFAULT_GOAL := install

install: $(STAMP)
	@echo "--- $(VENV) is ready"

# The stamp makes a second call instant; a change of the requirements installs anew.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "--- create $(VENV)"; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "finescale needs Python 3.11 or newer")' && \
	  $(PYTHON) -m venv $(VENV); }
	@echo "--- install finescale and what it needs (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[dev]'
	@touch $@

lint: $(STAMP)
	@echo "--- ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "--- mypy"
	@$(BIN)/mypy
	@echo "--- import-linter"
	@$(BIN)/lint-imports

# Two processes of one thread each: faster on two cores than threads that compete. In random order, whose seed is printed.
test: lint
	@echo "--- pytest"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q -n 2

demo: $(STAMP)
	@$(BIN)/finescale demo -o demo-output

$(SITE): $(STAMP)
	@echo "--- install what the site needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt -e '.[docs]'
	@touch $@

# Needs no network. Every warning, such as a link that leads nowhere, fails; all are shown first.
docs: $(SITE)
	@echo "--- sphinx"
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/sphinx-build -b html -d build/doctrees -n -W --keep-going -q docs build/docs

clean:
	rm -rf build dist demo-output docs/auto_examples docs/results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks .coverage htmlcov
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
