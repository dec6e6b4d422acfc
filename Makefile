# Each target sets up what it needs (a .venv pinned by constraints.txt) and is instant to repeat.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: quickstart test test-all lint wheel clean
.DEFAULT_GOAL := quickstart

quickstart: $(READY)
	$(BIN)/bloomery run recipes/quickstart.yaml

test: $(READY)
	$(BIN)/python -m pytest -m "not wide"

test-all: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# The wheel, built and tried in an empty environment of its own.
wheel: $(READY)
	$(BIN)/python scripts/try_wheel.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bloomery needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once, a few minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist .wheel src/*.egg-info .pytest_cache .ruff_cache
