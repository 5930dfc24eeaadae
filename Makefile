# Two commands, `make demo` and `make test`; each sets up all it needs in .venv.
# Needed on the machine: Python 3.11 or newer with venv, make, and a way to PyPI.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test lint pytest browser clean

VENV := .venv
BIN := $(VENV)/bin
# Hundreds of processes are started, and each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# pip must neither ask, nor advise, nor be led astray by the caller's environment.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_REQUIRE_VIRTUALENV=0 $(BIN)/python -m pip --quiet

help:
	@echo 'make demo   the whole thing for real, on loopback, in a temporary folder'
	@echo 'make test   linters, types, import contracts and all tests'

demo: $(VENV)/.runtime
	$(BIN)/mtad demo --contacts 2000

test: lint pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# A process a core and one for what waits, at most 4: each has a Postgres of its own. Linters come first.
pytest: $(VENV)/.dev lint browser
	$(BIN)/pytest -n $$(($$(nproc) + 1)) --maxprocesses 4 --dist worksteal

# The pages are looked at in Chromium. Where we may install it, we do; where not, the tests say that they skip it,
# and where CI is set there is no skipping.
browser:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo 'installing Chromium, for the tests of the pages'; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt="apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120"; \
	  said=$$({ $$apt update; $$apt install --yes --no-install-recommends chromium; } 2>&1) \
	    || { echo "make: apt-get could not install chromium: $$said" >&2; [ -z "$${CI:-}" ]; }; \
	fi

# The stamps: a virtual environment with a pip that knows dependency groups, what
# the daemon needs, what the tests need. A step that was interrupted has no stamp.
# The distribution's Python first: it is built for speed, which
# one compiled at home often is not (5 % less CPU a message, 12 % fewer seconds).
DISTRIBUTION := $(addprefix /usr/bin/,python3.13 python3.12 python3.11 python3)

$(VENV)/.made:
	@found=; \
	for python in $(PYTHON) $(DISTRIBUTION) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'make: no Python 3.11 or newer with the venv module (Debian: apt install python3-venv);' \
	       'name one with make PYTHON=/path/to/python' >&2; \
	  exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$found --version)"; \
	"$$found" -m venv --clear $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.runtime: pyproject.toml $(VENV)/.made
	@echo 'installing what the daemon needs'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	@echo 'installing what the tests need'
	@$(PIP) install --group dev
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
