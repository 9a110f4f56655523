# make demo: the main job, end to end.  make test: the tests.  Both set everything up on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
# tests at a time: one a core of a small machine; three on two cores take longer than two, as each Ray has a dozen processes
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
# Ray's workers run 15 steps nicer than their driver, at 19 at most: from 0 they would starve beside the other tests
NICE := nice -n 15
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: setup demo test test-slow test-long simulations check bench scale gpu mutants docs browser pictures tables clean help

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# Bytecode is written as modules are first imported: compiling all of the 24,000 files takes longer than a study's start.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

setup: .venv/.installed  ## the environment, from pinned constraints; a second call does nothing

.venv/.runs: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "asdbench needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/.installed: .venv/.runs
	$(PIP) --editable '.[dev,postgres,hf,yamnet]'
	@touch $@

demo: .venv/.runs  ## generated recordings, two small backbones, Top-M against Top-1, the leaderboard
	$(BIN)/asdbench demo

test: setup  ## the default tests
	$(NICE) $(PYTEST) -n $(WORKERS)

test-slow: setup  ## the slow tests alone: real studies, kills, eight drivers, full disks, two hosts
	$(NICE) $(PYTEST) -n $(WORKERS) -m "slow and not long"

test-long: setup simulations  ## what CI leaves out of the slow tests: twenty kills in each kind of store, the demonstration, all simulations
	$(NICE) $(PYTEST) -n $(WORKERS) -m long --ignore tests/harness/statistics --ignore tests/harness/gate

simulations: setup  ## how often every printed interval holds the truth, and how often a gate is fooled: an hour
	$(NICE) $(PYTEST) -n $(WORKERS) -m long tests/harness/statistics tests/harness/gate

docs: .venv/.docs  ## the site of docs/ into site/; a link that leads nowhere stops it
	$(BIN)/python docs/reference_pages.py
	$(BIN)/zensical build --clean --strict

.venv/.docs: .venv/.installed
	$(PIP) --editable '.[docs]'
	@touch $@

browser:  ## Chromium for the tests of pages, on Debian or Ubuntu as root; without it they are skipped
	@command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; }

pictures: setup  ## the pictures of the docs, from the database of the demonstration
	$(BIN)/python docs/pictures.py --study demo

tables: .venv/.installed  ## do the studies give the tables of the pages? The demonstration; with DATA=ROOT the real ones, too
	$(BIN)/asdbench demo
	$(BIN)/python docs/tables.py demo
	$(if $(DATA),$(BIN)/asdbench study run real --data "$(DATA)")
	$(if $(DATA),$(BIN)/asdbench study run real-tuned --data "$(DATA)")
	$(if $(DATA),$(BIN)/asdbench study run real-labeled --data "$(DATA)")
	$(if $(DATA),$(BIN)/python docs/tables.py real real-tuned real-labeled)

check: setup  ## lint, formatting, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## the speed table, row by row against named references; ROWS="knn labels" measures some
	ROWS="$(ROWS)" $(PYTEST) -m speed tests/speed -s

scale: setup  ## time and memory of every stage up to 150,000 clips and 100,000 trials; SIZES="1000 10000", ROWS="index labels"
	ROWS="$(ROWS)" $(if $(SIZES),SIZES="$(SIZES)") $(if $(TRIALS),TRIALS="$(TRIALS)") $(PYTEST) -m scale tests/scale -s

# without `setup`: it needs torch, torchaudio, numpy, pandas, scikit-learn, ray, transformers and pytest, and no network
gpu:  ## on a machine with a GPU: is it right and how fast is it there; then `python docs/gpu_table.py` prints the table
	$(GPU_PYTHON) -m pytest -o addopts="-q --strict-markers --import-mode=importlib" -m gpu tests/gpu -s -rs

mutants: setup  ## changes of the code that makes numbers, one at a time: does a test notice? An hour; ROOMS=labeling, MUTANTS="--random 50 --seed 1"
	$(BIN)/python -m tests.mutants $(ROOMS) $(MUTANTS)

clean:  ## remove what runs left behind; recordings and weights stay
	[ ! -d .asdbench ] || find .asdbench -mindepth 1 -maxdepth 1 ! -name weights -exec rm -rf {} +
	rm -rf mlflow.db* optuna.db* mlartifacts
