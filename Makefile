# Five verbs and two shows. Each sets up what it needs: `make demo` on a fresh machine is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-endurance test-all check fix bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(READY)  ## by the embedded model, six seconds each: a tune continued, and a song from artist, genre and words
	$(BIN)/jukebox generate experiment=demo
	$(BIN)/jukebox generate experiment=demo prompt=none song.artist="guitar and voice" song.genre=waltz

test: $(READY)  ## fast tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)  ## whole pipelines, end to end, real servers, processes killed again and again
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not endurance"
	$(BIN)/python -m pytest -q -m "not slow" --engine native tests/parity tests/property/test_decode_property.py

test-endurance: $(READY)  ## clusters and deployments
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m endurance

test-all: test test-slow test-endurance  ## everything

check: $(READY)  ## lint, types, import contracts, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

fix: $(READY)  ## what the tools can repair by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## prints a table, and one line of JSON last
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist outputs .mypy_cache .ruff_cache .pytest_cache .hypothesis
