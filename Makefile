# Two commands on a fresh machine: `make quickstart`, `make test`. Both are safe to repeat, also in a path with spaces.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# several hundred modules would be compiled again by every process that tests start
export PYTHONDONTWRITEBYTECODE :=

PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-slow test-thorough coverage lint types docs clean

quickstart: .venv/.installed
	$(BIN)/searchkit run studies/quickstart.py

# COVERAGE: further options of pytest, such as the floor of coverage that .ci/run asks for
test: .venv/.installed-test
	$(PYTEST) -m "not slow" $(COVERAGE)

test-slow: .venv/.installed-test
	$(PYTEST) -m slow

# properties on many more examples than `make test` takes
test-thorough: .venv/.installed-test
	$(PYTEST) --hypothesis-profile=thorough -m "hypothesis and not slow"

# the same tests, and the floor of pyproject.toml
coverage:
	$(MAKE) test COVERAGE="--cov --cov-report=term:skip-covered"

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/.installed-test
	$(BIN)/mypy

# the site in build/docs; a warning or a link that leads nowhere fails
docs: .venv/.installed-test
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	$(BIN)/python docs/links.py build/docs

# torch first and by name: an open range would pull the newest build with several GB of CUDA packages
.venv/.installed: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt torch==2.13.0
	$(PIP) install --constraint constraints.txt --editable .
	touch "$@"

.venv/.installed-test: .venv/.installed
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	touch "$@"

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
