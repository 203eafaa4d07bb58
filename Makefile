# Everything starts from a clone, python3.11, pip, make and git.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Nothing the project runs calls home; Prefect's database stays in the clone.
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PREFECT_HOME = $(CURDIR)/.prefect

.PHONY: demo test test-slow test-flows up down lint format venv clean

demo: $(VENV)/.installed
	$(BIN)/segflow demo

test: $(VENV)/.installed
	$(BIN)/pytest -q -n 2 --dist worksteal

test-slow: $(VENV)/.installed
	$(BIN)/pytest -q -m slow

# Schedules that fire, workers that are killed: a real server and a real worker.
test-flows: $(VENV)/.installed
	$(BIN)/pytest -q -m slow tests/flows/test_deployment.py

up: $(VENV)/.installed
	deploy/single-machine.sh up

down:
	deploy/single-machine.sh down

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .prefect build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
