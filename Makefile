PYTHON ?= python3
BIN = .venv/bin
ROOMS = $(patsubst %/__init__.py,%,$(wildcard attribution/*/__init__.py))
MODULES = $(subst /,.,$(ROOMS) $(basename $(wildcard attribution/[a-z]*.py)))
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile  # a process for each of two cores

.PHONY: app test slow lint docs

app: .venv/app
	$(BIN)/python app.py

test: .venv/test
	$(PYTEST) -m "not slow"

slow: .venv/test
	$(PYTEST) -m slow

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/test
	$(BIN)/pdoc attribution $(MODULES) --output-directory docs/api

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/app: .venv/bin/python requirements.txt pyproject.toml
	$(PIP) -r requirements.txt
	$(PIP) --no-deps -e .
	touch $@

.venv/test: .venv/app tests/requirements.txt
	$(PIP) -r tests/requirements.txt
	touch $@
