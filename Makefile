# Each target sets up what it needs: `make demo` on a fresh machine is enough. CONTRIBUTING.md explains them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -q
# Workers with one thread of torch each: more threads than cores would wait for each other. Tests wait for loopback
# servers and starting processes a sixth to a third of their time, so that a third worker fills both cores of a machine.
WORKERS := OMP_NUM_THREADS=1 $(PYTEST) --dist loadfile
BOTH := $(WORKERS) -n 2

.PHONY: demo test test-slow test-pipelines test-native test-endurance test-all check fix bench hooks clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(READY)  ## six seconds twice with the embedded model: a tune continued, and a song whose notes are then transcribed
	$(BIN)/jukebox generate experiment=demo
	$(BIN)/jukebox generate experiment=demo run.name=waltz prompt=none song.artist="guitar and voice" song.genre=waltz
	$(BIN)/jukebox transcribe audio=[outputs/waltz]

test: $(READY)  ## fast tests
	$(WORKERS) -n 3 -m "not slow"

test-slow: test-pipelines test-native  ## end to end with real servers and killed processes; parity of the native engine

test-pipelines: $(READY)
	$(WORKERS) -n 3 -m "slow and not endurance"

test-native: $(READY)
	$(BOTH) -m "not slow" --engine native tests/parity tests/property/test_decode_property.py

test-endurance: $(READY)  ## clusters, deployments, trainings, graphs, a soak; property tests with other examples each time
	$(BOTH) -m endurance
	$(BOTH) --hypothesis-profile explore tests/property tests/unit/pipelines/cli/test_weights_settings.py

test-all: test test-slow test-endurance  ## everything

check: $(READY)  ## lint, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

fix: $(READY)  ## applies the automatic fixes of lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## prints a table, and one line of JSON last
	$(BIN)/python -m benchmarks

hooks: $(READY)  ## installs the pre-commit hooks
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) build dist outputs .mypy_cache .ruff_cache .pytest_cache .hypothesis
