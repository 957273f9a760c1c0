# Two commands from clone to result: `make demo` and `make test`. Each sets up .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test chaos year states lint bench train clean

demo: $(STAMP)
	$(BIN)/frameledger demo --output demo-output

# A file's tests share what they set up, so a file goes to one of the two processes whole.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# 200 rounds of kills, lost nodes, full disks and bad clips, each resumed and checked (30 minutes).
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos --rounds 200 --seed 1

# A schedule of 365 days on a corpus that grows and changes, checked after every run.
year: $(STAMP)
	$(BIN)/python -m tests.year --days 365 --seed 1

# 500 sequences of writing, crashing and cleaning up on the ledger; a few are in `make test`.
states: $(STAMP)
	FRAMELEDGER_STATES=500 $(BIN)/python -m pytest tests/ledger/test_state_machine.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Prints the tables that the README quotes. Slow; sets up a second environment for the peers.
# That of the books of a million videos: .venv/bin/python -m benchmarks books
bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Trains the demo world's two models anew (CPU, under 40 minutes).
train: $(STAMP)
	$(BIN)/python -m pipeline.demo.train

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-output bench-output
