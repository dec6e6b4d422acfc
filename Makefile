# Each target sets up what it needs (a .venv pinned by constraints.txt) and is instant to repeat.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LLAMA  := $(VENV)/.llama
PEERS  ?= .peers
SIDE   := -n auto --maxprocesses 8 --dist loadfile  # tests run side by side, each file in one process
WITHOUT := llama.cpp could not be compiled here: tests that read GGUF files with it are skipped, and say so

.PHONY: quickstart test test-all llama lint wheel peers-compress peers-corpus peers-duplicates peers-encoding peers-serve peers-train clean
.DEFAULT_GOAL := quickstart

quickstart: $(READY)
	$(BIN)/bloomery run recipes/quickstart.yaml

test: $(READY)
	@$(MAKE) --no-print-directory llama || echo "$(WITHOUT)"
	$(BIN)/python -m pytest $(SIDE) -m "not wide"

test-all: $(READY)
	@$(MAKE) --no-print-directory llama || echo "$(WITHOUT)"
	$(BIN)/python -m pytest $(SIDE)

# llama.cpp's Python package, compiled here (needs a C++ compiler): with it, exported GGUF files are checked by llama.cpp itself.
llama: $(LLAMA)

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

$(LLAMA): $(READY)
	@echo "compiling llama.cpp (once, about four minutes on two cores)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[llama]'
	@touch $(LLAMA)

# Environments of the tools that benchmarks run beside bloomery, whose pins clash with ours: PEERS/NAME from benchmarks/peers/NAME.txt.
peers-compress: $(PEERS)/compress-llmcompressor/.ready $(PEERS)/compress-gptqmodel/.ready
peers-corpus: $(PEERS)/corpus-datatrove/.ready $(PEERS)/corpus-data-juicer/.ready
peers-duplicates: $(PEERS)/duplicates/.ready
peers-serve: $(PEERS)/serve/.ready
peers-train: $(PEERS)/train/.ready

# These lists are complete and nothing is resolved: litgpt asks for an older huggingface_hub than transformers does, and datatrove and
# Data-Juicer import packages that they do not declare.
WHOLE := train corpus-datatrove corpus-data-juicer duplicates
$(WHOLE:%=$(PEERS)/%/.ready): COMPLETE := --no-deps

# One that runs in the process of ours, beside our packages.
peers-encoding: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/peers/encoding.txt

$(PEERS)/%/.ready: benchmarks/peers/%.txt
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo "setting up $(@D) (once, a few minutes)"
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(COMPLETE) -r $<
	@touch $@

clean:
	rm -rf $(VENV) build dist .wheel src/*.egg-info .pytest_cache .ruff_cache
