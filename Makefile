# What people run. Each target installs what it needs, and may be broken off and run again at any time.

ADDRESS ?= localhost
PORT ?= 8501
PYTHON ?=
PIP_ARGS ?=
TORCH_INDEX ?=
LOCK_ARGS ?=
JOBS ?= 2
export PYTHON PIP_ARGS TORCH_INDEX

VENV := .venv/bin/python
INSTALL := sh scripts/install.sh

.DEFAULT_GOAL := help
.PHONY: help install app test test-slow bench lint lock sbom audit clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: ## install what the page and the library need into .venv
	@$(INSTALL) app

app: install ## serve the page at http://localhost:8501 (ADDRESS=..., PORT=...)
	@exec $(VENV) -m come app --address $(ADDRESS) --port $(PORT)

test: ## run the tests but the slow ones, a browser's included (JOBS=2 at a time)
	@$(INSTALL) dev
	@$(INSTALL) browser
	@$(VENV) -m pytest -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: ## run the slow tests: the bundled model, whole visits
	@$(INSTALL) dev
	@$(INSTALL) browser
	@$(VENV) -m pytest -m slow -n $(JOBS) --dist loadfile --no-loadscope-reorder

bench: ## print the benchmark tables, and draw docs/images/scaling.svg anew
	@$(INSTALL) dev
	@$(INSTALL) browser
	@$(VENV) -m benchmarks

lint: ## check style, formatting, types and which way imports point
	@$(INSTALL) dev
	@$(VENV) -m ruff check
	@$(VENV) -m ruff format --check
	@$(VENV) -m mypy
	@.venv/bin/lint-imports --no-logo

lock: ## write the lock files anew, after an edit of requirements*.txt (LOCK_ARGS=--upgrade: the newest versions)
	@$(INSTALL) tools
	@$(VENV) scripts/lock.py $(LOCK_ARGS)

sbom: install ## list what is installed, with versions, licenses and hashes: build/sbom.json (CycloneDX)
	@$(INSTALL) tools
	@$(VENV) scripts/sbom.py

audit: ## look for known weaknesses of what the lock files name; says so where their list cannot be reached
	@$(INSTALL) tools || { echo "Skipped: its tool cannot be installed."; exit 0; }; sh scripts/audit.sh

clean: ## remove .venv and caches; runs and converted models stay
	rm -rf .venv .venv-tools .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
