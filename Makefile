# Everything the project needs is installed into .venv by the targets that need it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint bench clean

demo: .venv/runtime
	$(BIN)/swarm demo

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/runtime
	$(BIN)/swarm bench boot
	$(BIN)/swarm bench hub

clean:
	rm -rf .venv build *.egg-info

.venv/runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt pip
	$(PIP) install --constraint constraints.txt --editable .
	$(BIN)/python -m actors.risk.warm
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) install --constraint constraints.txt --group dev
	@touch $@
