PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint docs statistics bench performance clean

demo: .venv/installed          ## the main job: compare normalizations on real digits
	$(BIN)/normlab compare

test: .venv/installed-dev .venv/chromium   ## every test, on both cores
	$(BIN)/pytest -n auto --dist loadfile

lint: .venv/installed-dev      ## style, import contract, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/installed-dev      ## docs/cli.md, made from the program itself
	$(BIN)/typer normlab.cli.app utils docs --name normlab --output docs/cli.md

statistics: .venv/installed-dev ## docs/statistics.md: where the tools in use give wrong numbers, measured now
	$(BIN)/python -m benchmarks.correctness

# Speed first: it stops if the tests of kernels, ops and layers are red, and wants a machine on which nothing else runs.
bench: .venv/installed-dev     ## figures under benchmarks/results/, docs/performance.md
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.bench_lab
	$(BIN)/python -m benchmarks.bench_engine

performance: .venv/installed-dev ## docs/performance.md and its picture again, from the newest results
	$(BIN)/python -m benchmarks.performance

clean:
	rm -rf .venv build dist

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .[dev]
	touch $@

# The browser test drives Debian's Chromium; where it cannot be installed the test says so and is skipped.
.venv/chromium: | .venv/bin/pip
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	  || echo "no chromium here: the browser test will be skipped"
	touch $@
