# Two commands: `make quickstart` sets up and runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
# Where torch alone comes from, if not from where pip looks. Without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu
# saves the GPU libraries, 2.5 GB to download, that torch from PyPI brings along.
TORCH_INDEX ?=
# Processes that the tests run in, of at most 8: a number, or logical for one per processor; 0 is none besides pytest itself.
WORKERS ?= logical
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart install test test-slow sweep lint style browser site audit clean
.DEFAULT_GOAL := quickstart

quickstart: $(VENV)/.installed
	$(BIN)/stepsynth models pull
	$(BIN)/stepsynth run examples/shop/config.yaml --out $(OUT)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch)
	$(PIP) --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

# The page is opened in a real browser; without one (and without the rights to install it) that test says so and skips.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || echo "no Chromium here: the browser test will be skipped"

lint: style
	$(BIN)/mypy

style: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy works while the tests wait for something; what it says is shown after them, and what failed is named last.
test: style browser
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6
	@said=$$(mktemp) || exit; \
	$(BIN)/mypy >"$$said" 2>&1 & types=$$!; \
	trap 'kill $$types 2>/dev/null; rm -f "$$said"' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal; tested=$$?; \
	wait $$types; typed=$$?; \
	echo "mypy:"; cat "$$said"; \
	test $$tested = 0 || echo "make test: pytest failed" >&2; \
	test $$typed = 0 || echo "make test: mypy failed" >&2; \
	exit $$((tested || typed))

test-slow: $(VENV)/.test-installed browser
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6 qwen2.5-coder-0.5b qwen2.5-coder-1.5b
	$(BIN)/python -m pytest -m slow

# The tests that train, over seeds, threads and instruction sets; goes on where it was stopped.
sweep: $(VENV)/.test-installed
	$(BIN)/stepsynth models pull smollm2-135m minilm-l6
	$(BIN)/python tests/sweep.py --save benchmarks/results/sweep.json

# The documentation as a site in site/, strictly: a broken link fails. Its search needs a server: python3 -m http.server -d site
site: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

$(VENV)/.docs-installed: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

# Known vulnerabilities in the versions that are tested; needs the package index.
audit: $(VENV)/.test-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) runs site .mypy_cache .pytest_cache .ruff_cache
