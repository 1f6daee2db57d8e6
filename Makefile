# Everything runs in .venv, made from pyproject.toml. PYTHON=python3.11 chooses the interpreter it is made with.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo reports study early tune test test-faults test-cluster mutants clean-cache lab lint

# A line fails when any part of it does, not only the last.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON  ?= python3
# A file of params/ without .yaml, or the path of one.
PROFILE ?= demo
# Students made at a time; they share the processors.
JOBS    ?= 1
# More for every notebook, such as PAPERMILL_ARGS="-p data FOLDER".
export PAPERMILL_ARGS ?=
# More for snakemake, such as SNAKEMAKE_ARGS="--workflow-profile params/cluster/slurm" or "--dry-run".
SNAKEMAKE_ARGS ?=
# Mutants tried of each of four rooms; a larger number goes on from a smaller one.
SAMPLE  ?= 30
VENV    := .venv
BIN     := $(VENV)/bin
ENV     := $(VENV)/.installed
# nproc would otherwise count OMP_NUM_THREADS.
PROCESSORS := $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 1)
# As many as JOBS shares make up, each as large as the Snakefile has it: what is left over would be one more job.
CORES   = $(if $(shell [ "$(JOBS)" -ge 1 ] 2>/dev/null && echo yes),,$(error JOBS=$(JOBS): state a number from 1 on)) \
  $$(($(PROCESSORS) > $(JOBS) ? $(PROCESSORS) / $(JOBS) * $(JOBS) : $(JOBS)))
# A job that fails stops only what needs it; what a killed one left is made again.
GRAPH   = PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --snakefile Snakefile --cores $(CORES) \
  --keep-going --rerun-incomplete --nolock --quiet rules host \
  --config 'profile=$(PROFILE)' jobs=$(JOBS) $(SNAKEMAKE_ARGS) --

# How long OpenMP threads that wait spin before they sleep. The default, for long, makes two programs on two cores 13
# times slower; not at all makes one alone 2.6 times slower. This little costs one alone 4 %.
export GOMP_SPINCOUNT ?= 1000
# glibc keeps memory that is freed at every training step instead of giving it back: 9 % of the time with MiniLM.
export MALLOC_MMAP_THRESHOLD_ ?= 33554432
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
# A kernel that JupyterLab or papermill starts by itself has them too.
TUNED := GOMP_SPINCOUNT MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_
# The kernel named python3 is this .venv's, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1 \2/p' Makefile | sed 's/^\(  make [a-z-]*\) /\1\t/' | expand -t 18

env: $(ENV)  ## the .venv with the project and its tests installed

$(ENV): pyproject.toml
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[test]'
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (ipykernel)" \
	  --frozen_modules \
	  $(foreach name,$(TUNED),--env $(name) $($(name))) >/dev/null
	@touch $@

demo:  ## 01 to 04 and 08 on the embedded data, published as reports/demo/index.html
	@$(MAKE) --no-print-directory reports PROFILE=demo JOBS=$(PROCESSORS)

reports: $(ENV)  ## the same for any params/NAME.yaml: make reports PROFILE=NAME; does what is not done yet
	@$(GRAPH) reports

study: $(ENV)  ## methods x seeds of a profile: make study PAPERMILL_ARGS="-y 'seeds: [0, 1, 2]'" JOBS=2
	@$(GRAPH) study

early: $(ENV)  ## who pays for an early answer, of a profile's students
	@$(GRAPH) early

tune: $(ENV)  ## settings of a student by a search over its parameters; the best as a profile in reports/tuned
	@$(GRAPH) tune

# The demo first, whose runs 03, 04 and 08 read. The benchmark's times differ from run to run; the unit tests run its
# notebook in small. One pytest for both, and in the order given: 05_study trains for minutes while unit tests go on.
test: $(ENV)  ## unit tests, and the committed notebooks run again and compared (nbval)
	@$(MAKE) --no-print-directory demo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p tests.notebooks.nbval_stderr --nbval \
	  --nbval-sanitize-with tests/notebooks/nbval_sanitize.cfg --ignore notebooks/06_benchmark.ipynb \
	  notebooks tests -n auto --dist loadfile --no-loadscope-reorder

test-faults: $(ENV)  ## processes killed, files damaged, data dirty, parameters wrong: a table, half an hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults.py

test-cluster: $(ENV)  ## a study on a Slurm of one node, started (and installed) here: killed, resumed, equal to a local one
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,cluster]'
	$(BIN)/python -m pytest -rs tests/cluster/check_study.py

mutants: $(ENV)  ## SAMPLE small faults each in exits, weighting, evaluation and training: does a test notice? takes hours
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(SAMPLE)

clean-cache: $(ENV)  ## delete what is only kept to save time (tokens, states, first epochs), and say what that frees
	@$(BIN)/python -m fairkd cache clean

lab: $(ENV)  ## JupyterLab on the notebooks; the demo first, which 03, 04 and 08 read, where there is none yet
	@[ -e reports/demo/index.html ] || $(MAKE) --no-print-directory demo
	$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)  # as in a container

lint: $(ENV)  ## ruff over code and notebooks
	$(BIN)/ruff check

# What readers get. The browser is the system's chromium; playwright would otherwise fetch one of its own.
.PHONY: site test-browser
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

site: $(ENV)  ## all published pages, their index and the API in one folder: reports/site
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,site]'
	@$(BIN)/python reports/gather.py site reports/site
	@echo "Gathered: reports/site/index.html"

# The demo is made where there is none, since its pages are looked at and 03, 04 and 08 read its runs.
test-browser: $(ENV)  ## every page and the notebooks in JupyterLab, in a headless browser
	@[ -e reports/demo/index.html ] || $(MAKE) --no-print-directory demo
	@$(MAKE) --no-print-directory site
	@[ -n "$(CHROMIUM)" ] || { echo "chromium is missing: apt-get install chromium, or CHROMIUM=FILE" >&2; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,site,browser]'
	CHROMIUM="$(CHROMIUM)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser/check_pages.py tests/browser/check_lab.py
