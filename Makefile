# Everything the project needs is installed into .venv by the targets that need it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint bench accuracy torture storm campaign clean

demo: .venv/runtime
	$(BIN)/swarm demo

# Much of it waits for processes to start: one more worker than two cores have. Which tests one worker takes together,
# and in which order, tests/conftest.py says.
WORKERS ?= 3
test: .venv/dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/swarm bench boot
	$(BIN)/swarm bench hub
	$(BIN)/swarm bench kernels
	$(BIN)/swarm bench discrete
	$(BIN)/swarm bench lanes
	$(BIN)/swarm bench fast
	$(BIN)/swarm bench gate
	$(BIN)/swarm bench ticks
	$(BIN)/swarm bench consensus

# A hundred times the messages that `make test` sends.
torture: .venv/dev
	RISKSWARM_TORTURE_MESSAGES=100000000 $(BIN)/python -m pytest --timeout=3600 tests/cluster/lanes/test_torture.py

# Committees of four and of seven on real Ray; of each, KILLS lives of voters are ended under load.
KILLS ?= 100
storm: .venv/dev
	RISKSWARM_TORTURE_KILLS=$(KILLS) $(BIN)/python -m pytest --timeout=3600 tests/consensus/test_killed_voters.py

# Storms of new seeds over the consensus core, for MINUTES; a seed that fails is printed.
MINUTES ?= 10
campaign: .venv/dev
	$(BIN)/python -m consensus.simulator.campaign --minutes $(MINUTES)

# About two hours of one core; a run that was stopped goes on where it stopped.
accuracy: .venv/dev
	$(BIN)/swarm bench accuracy --docs docs

clean:
	rm -rf .venv build *.egg-info

.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt pip
	$(PIP) install --constraint constraints.txt --editable .
	$(BIN)/python -m compileall -q actors cluster consensus hive swarm
	$(BIN)/python -m actors.warm
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) install --constraint constraints.txt --group dev
	@touch $@
