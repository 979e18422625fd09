# Two commands: `make quickstart` sets up and runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart

.PHONY: quickstart install test test-slow sweep lint browser audit clean
.DEFAULT_GOAL := quickstart

quickstart: $(VENV)/.installed
	$(BIN)/stepsynth models pull
	$(BIN)/stepsynth run examples/shop/config.yaml --out $(OUT)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The page is opened in a real browser; without one (and without the rights to install it) that test says so and skips.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || echo "no Chromium here: the browser test will be skipped"

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.test-installed browser lint
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6
	$(BIN)/python -m pytest

test-slow: $(VENV)/.test-installed browser
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6
	$(BIN)/python -m pytest -m slow

# The tests that train, over seeds, threads and instruction sets; goes on where it was stopped.
sweep: $(VENV)/.test-installed
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6
	$(BIN)/python tests/sweep.py --save benchmarks/results/sweep.json

# Known vulnerabilities in the versions that are tested; needs the package index.
audit: $(VENV)/.test-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) runs .mypy_cache .pytest_cache .ruff_cache
