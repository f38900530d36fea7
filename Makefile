# Every target sets itself up: the environment is made from requirements.lock when it is missing or out of date.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
LAB := $(VENV)/bin/gan-lab

.PHONY: help setup train show evaluate sample test check bench clean

help:  ## this list
	@echo "make train EXP=cgan is all that a first run needs. ARGS= takes key=value overrides, such as ARGS='run.seed=1'."
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## make the environment (every other target does so when it must)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; name it by PYTHON=..." >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock (some minutes, once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

train: $(READY)  ## EXP=cgan [ARGS=...]: train, or go on training, and score; without EXP: list the experiments
	@exec $(LAB) train $(EXP) $(ARGS)

show: $(READY)  ## EXP=cgan [ARGS=...]: the dry run: config, networks, one measured iteration, expected time
	@exec $(LAB) show $(EXP) $(ARGS)

evaluate: $(READY)  ## RUN=runs/cgan/seed0: score a run on held-out images
	@exec $(LAB) evaluate $(RUN) $(ARGS)

sample: $(READY)  ## RUN=runs/cgan/seed0 [N=64] [CLASS=7] [SEED=0]: draw images into one PNG
	@exec $(LAB) sample $(RUN) $(if $(N),--n $(N)) $(if $(CLASS),--label $(CLASS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

test: $(READY)  ## everything that must hold
	@$(VENV)/bin/python -m pytest $(ARGS)

check: $(READY)  ## ruff and mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

bench: $(READY)  ## training speed against two plain loops, interleaved
	@exec $(VENV)/bin/python -m benchmarks.throughput $(ARGS)

clean:  ## remove the environment and the caches, but no run and no data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
