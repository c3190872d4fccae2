# Every target makes its own environment: nothing to set up first. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= build

.DEFAULT_GOAL := help
.PHONY: help demo lab test check browser bench live notebooks pictures clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "make %-10s %s\n", $$1, $$2}'

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "botbook needs Python 3.11 or newer: make PYTHON=python3.12 ..."'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run,dev]'
	touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run,dev,browser]'
	touch $@

$(VENV)/.lab: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run,lab]'
	touch $@

demo: $(VENV)/.run ## the main job, headless, on the embedded world; leaves a page and says where
	$(BIN)/botbook demo --out $(OUT)/demo.html

lab: $(VENV)/.lab ## JupyterLab with the notebooks
	$(BIN)/jupyter lab notebooks/00-start.ipynb

test: $(VENV)/.dev ## every test that needs no real peer
	$(BIN)/python -m pytest -q

check: $(VENV)/.dev ## style, types and import directions
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(VENV)/.dev ## run every notebook from top to bottom
	kept=$$(mktemp -d); trap 'rm -rf "$$kept"' EXIT; \
	BOTBOOK_STORE="$$kept/journal.sqlite" $(BIN)/python -m pytest -q --nbmake --nbmake-timeout=120 notebooks

pictures: $(VENV)/.dev ## draw the pictures of docs/metrics.md anew
	$(BIN)/python -m tests.plots.gallery

# A browser that is there, or that CHROMIUM names; else Debian's own, where we may install it.
browser: $(VENV)/.browser ## the tests in a real browser; pictures go to build/browser
	@command -v "$${CHROMIUM:-chromium}" chromium-browser google-chrome google-chrome-stable >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } \
	  || { echo "make browser needs Chromium: install it, or name one: make browser CHROMIUM=/path/to/it" >&2; exit 1; }
	$(BIN)/python -m pytest -q -m browser tests/browser

bench: $(VENV)/.dev ## speed, as ratios against peers in the same run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'miti-agent-sdk==0.1.4'
	$(BIN)/python -m tests.bench

live: $(VENV)/.dev ## against official SDKs, real peers and an old kernel; installs them itself
	$(BIN)/python -m pytest -q -m live tests/live tests/kernel

clean: ## remove what the other targets made
	rm -rf $(VENV) $(OUT) .live .pytest_cache .mypy_cache .ruff_cache .hypothesis
