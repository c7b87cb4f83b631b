# The commands of this repository; each does its own set-up. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The first interpreter of 3.11 to 3.13 (requirements.lock holds for those), `python3` preferred.
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11; do \
  "$$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    2>/dev/null && { command -v "$$python"; break; }; \
  done

.PHONY: help install demo test lint format lock clean

help: ## List the commands.
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1|/' | \
	  while IFS='|' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

install: $(STAMP) ## Build .venv from requirements.lock (does nothing when that is done).

$(STAMP): requirements.lock pyproject.toml
	@[ -x $(PYTHON) ] || { \
	  python="$$($(FIND_PYTHON))"; \
	  [ -n "$$python" ] || { echo 'make: no Python 3.11, 3.12 or 3.13 with venv on PATH' >&2; exit 1; }; \
	  echo "Building $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	$(PYTHON) -m pip install --quiet --no-deps -r requirements.lock
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: install ## Run a study in small on text that Python carries, and write its report.
	$(VENV)/bin/archobj study run t5x_configs/studies/demo.gin

lint: install ## Check style, format and types.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint ## Lint, then run every test that needs neither network nor accelerator.
	$(VENV)/bin/pytest

format: install ## Mend style and format.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock: install ## Write requirements.lock anew from what .venv holds now.
	{ sed '/^#/!d' requirements.lock; \
	  $(PYTHON) -m pip freeze --all --exclude-editable --exclude pip | sort -f; } > $(VENV)/lock
	mv $(VENV)/lock requirements.lock

clean: ## Remove what the tools leave behind (.venv and runs/ stay).
	rm -rf .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
