# make demo   train a network on handwritten digits, end to end
# make test   the tests a change must pass; make test-all adds every Chainer on every Python
# Set PYTHON to choose the interpreter (3.10 or newer) that Rechain itself runs on.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest

.PHONY: demo test test-all lint lock bench clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/digits/submit.py
	@echo; echo "what Chainer reported, as metrics (rechain metrics):"; $(BIN)/rechain metrics
	@echo; echo "what the script made (rechain files):"; $(BIN)/rechain files
	@echo; echo "the run folder, plain files (ls):"; ls -F "$$($(BIN)/rechain show --json | sed -n 's/.*"folder": "\(.*\)".*/\1/p')"
	@echo; echo "try next:"; \
	echo "  $(BIN)/rechain show                                      how it ran, in which environment"; \
	echo "  $(BIN)/rechain run --framework-version 5.1.0 --pip scikit-learn examples/digits/train.py -e 5"; \
	echo "  $(BIN)/rechain runs                                      all runs, newest first"; \
	echo "  $(BIN)/rechain run YOUR_SCRIPT.py --its --own arguments"

test: lint
	$(PYTEST) -m "(fast or engines) and not matrix"

test-all: lint
	$(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet src/rechain/guest
	$(BIN)/mypy --no-error-summary

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/launch.py
	$(BIN)/python benchmarks/environment.py
	$(BIN)/python benchmarks/distributed.py
	$(BIN)/python benchmarks/slurm.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/containers.py

# The locked set of development packages, from this machine's package index; it names none.
lock: $(VENV)/.installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		pyproject.toml requirements/dev.in -o requirements/dev.txt

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Rechain needs Python 3.10 or newer; set PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml dropin/pyproject.toml requirements/dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e dropin
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist
