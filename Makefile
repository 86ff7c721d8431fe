# `make help` explains the targets. Variables: PROFILE (which profiles/<PROFILE> runs), PYTHON (a Python 3.11).
PROFILE ?= local
# The first that starts: a version manager's python3.11 may be there and refuse.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c "" 2>/dev/null && echo $$p && exit; done; echo python3)
BNN_MPICC ?=
BNN_CUDA ?=
BNN_CUDA_HOME ?=
BNN_ENGINE ?=

CHECK_PYTHON = "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	{ echo "setup: Python 3.11 is needed, $(PYTHON) is not: apt-get install python3 python3-dev python3-venv," \
	"or name another one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
SNAKEMAKE = snakemake --profile "profiles/$(PROFILE)"
REPORT = results/$(notdir $(PROFILE))/report.html

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export BNN_MPICC BNN_CUDA BNN_CUDA_HOME BNN_ENGINE
# Another Python's packages must not come before those of .venv.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev all_figures cpu_scaling gpu_scaling peer_comparison pruning_full methods time_to_accuracy tuning report plan test lint clean architectures random_networks thorough
MAKEFLAGS += --no-print-directory

help: ## explain the targets
	@echo "make TARGET [PROFILE=name of a folder of profiles/, default: local]"
	@sed -n 's/^\([a-z_]*\):[^#]*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do printf '  %-16s %s\n' "$$name" "$$text"; done
	@echo "Variables of the set-up (more in envs/README.md):"
	@echo "  PYTHON=/path/to/python3.11     the Python to set up with"
	@echo "  BNN_MPICC=/path/to/mpicc       build Horovod against the site's MPI, not the bundled MPICH"
	@echo "  BNN_CUDA=80,90                 with NCCL, for GPUs of these compute capabilities (A100, H100)"
	@echo "  BNN_CUDA_HOME=/path/to/cuda    compile that with a system's CUDA toolkit (V100: CUDA 12.8), or none"
	@echo "  BNN_ENGINE=torch               without Horovod: packages from pip alone, no compiler"
	@echo "  TMPDIR=, XDG_CACHE_HOME=       where Horovod is built, where its wheel is kept"

setup: ## make .venv: pinned packages, Horovod (built once), bnn and campaign
	@$(CHECK_PYTHON); "$(PYTHON)" envs/setup.py

setup-dev:
	@$(CHECK_PYTHON); "$(PYTHON)" envs/setup.py --dev

all_figures: setup ## run the whole campaign, draw the figures, write the report; prints its path last
	@$(SNAKEMAKE) all_figures

cpu_scaling: setup ## the scaling runs on CPUs and their figures
	@$(SNAKEMAKE) cpu_scaling

gpu_scaling: setup ## the scaling runs on GPUs and their figures
	@$(SNAKEMAKE) gpu_scaling

peer_comparison: setup ## step times and memory against bayesian-torch and TFP (downloads 3 GB the first time)
	@$(SNAKEMAKE) peer_comparison

methods: setup ## what each method costs and buys, side by side (20 to 40 minutes; goes on where it was stopped)
	@$(SNAKEMAKE) methods

time_to_accuracy: setup ## training time to an accuracy, BNN against CNN (2 h 40 min on two cores; goes on where it was stopped)
	@$(SNAKEMAKE) time_to_accuracy

tuning: setup ## cycle time, fusion buffer, block size and ranks tried; which is best, beyond noise (goes on where it was stopped)
	@$(SNAKEMAKE) tuning

pruning_full: setup ## pruning at the paper's full size (hours; goes on where it was stopped)
	@$(SNAKEMAKE) pruning_full

report: setup ## the report of what has been measured so far; prints its path last
	@$(SNAKEMAKE) report

plan: setup ## the campaign's cells, node-hours and job scripts; runs nothing
	@campaign plan --profile "profiles/$(PROFILE)"

lint: setup-dev ## ruff, mypy, snakefmt, snakemake --lint, import-linter
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	python .ci/lint_workflow.py --profile "profiles/$(PROFILE)"
	lint-imports

# Tests that computing beside them does not disturb: those that compute, those of the workflow whose runs have one rank,
# and those that wait for emulated schedulers.
# Long ones come first, so that no process is left with one at the end.
BESIDE = tests/numerical tests/fuzz $(wildcard tests/integration/test_*_browser.py tests/integration/test_chaos*.py) \
	$(addprefix tests/integration/test_workflow_,after.py jobs.py methods.py) tests/integration/test_snakemake_site.py \
	$(addprefix tests/integration/test_faults,.py _driver.py _limits.py) tests/integration/test_packing.py \
	workflow/executor/tests tests/unit
# Those that start two ranks and measure nothing: two files at a time, since a rank computes little while it starts.
RANKS = $(addprefix tests/integration/test_,training.py options.py infer_ranks.py two_ranks.py)
EACH_FILE = --dist loadfile --no-loadscope-reorder --durations 25

test: lint ## the linters, then all tests but the thorough ones (set up from nothing too)
	python envs/architectures.py
	@# (one thread each: processes of two threads on two cores wait for each other)
	OMP_NUM_THREADS=1 python -m pytest -m "not thorough" -n 3 $(EACH_FILE) $(BESIDE)
	OMP_NUM_THREADS=1 python -m pytest -m "not thorough" -n 2 $(EACH_FILE) $(RANKS)
	python -m pytest -m "not thorough" --durations 40 tests $(addprefix --ignore ,$(BESIDE) $(RANKS))

thorough: setup-dev ## tests that take minutes over what a shorter test holds, too
	python -m pytest -m thorough --durations 10 tests

architectures: setup-dev ## all published architectures through every command (ten to twenty minutes on two cores)
	python envs/architectures.py
	ARCHITECTURES=all python -m pytest tests/architectures

random_networks: setup-dev ## 2,000 networks put together at random through every stage (hours)
	python tests/numerical/random_networks.py --networks 2000

clean: ## remove .venv and what tools left; keeps results/ and the cached Horovod wheel
	rm -rf .venv .venv.lock .venv-peers .venv-peers.lock .venv-architectures .venv-architectures.lock .setup*.log \
		build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find bnn workflow envs tests -name __pycache__ -type d -prune -exec rm -rf {} +
