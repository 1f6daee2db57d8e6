# Everything runs in .venv, made from pyproject.toml. PYTHON=python3.11 chooses the interpreter it is made with.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo reports pages study early test test-faults mutants lab lint

# A line fails when any part of it does, not only the last.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON  ?= python3
PROFILE ?= demo
# Students made at a time. More than one pays where a profile has a number of threads that leaves processors free.
JOBS    ?= 1
# More for every notebook, such as PAPERMILL_ARGS="-p data FOLDER"; it does not make Make run anything again.
PAPERMILL_ARGS ?=
# Mutants tried of each of four rooms; a larger number goes on from a smaller one.
SAMPLE  ?= 30
VENV    := .venv
BIN     := $(VENV)/bin
ENV     := $(VENV)/.installed
OUT     := reports/$(PROFILE)
PARAMS  := params/$(PROFILE).yaml
SOURCES := $(wildcard fairkd/*.py fairkd/*/*.py params/datasets/*.yaml)
PUBLISH := reports/publish.py $(wildcard reports/markup.py reports/template/*.*)

# How long OpenMP threads that wait spin before they sleep. The default, for long, makes two programs on two cores 13
# times slower; not at all makes one alone 2.6 times slower. This little costs one alone 4 %.
export GOMP_SPINCOUNT ?= 1000
# glibc keeps memory that is freed at every training step instead of giving it back: 9 % of the time with MiniLM.
export MALLOC_MMAP_THRESHOLD_ ?= 33554432
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
# The kernel named python3 is this .venv's, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1 \2/p' Makefile | sed 's/^\(  make [a-z-]*\) /\1\t/' | expand -t 18

env: $(ENV)  ## the .venv with the project and its tests installed

$(ENV): pyproject.toml
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[test]'
	@touch $@

demo:  ## the four notebooks on the embedded data, published as reports/demo/index.html
	@$(MAKE) --no-print-directory reports PROFILE=demo JOBS=$(shell nproc 2>/dev/null || echo 1)

# Which students there are stands in the profile, so Make learns it in a second call, once there is a .venv.
reports: $(ENV)  ## the same for any params/NAME.yaml: make reports PROFILE=NAME; does what is not done yet
	@students=$$($(BIN)/python reports/publish.py students $(PARAMS)) && mkdir -p $(OUT) && \
	$(MAKE) --no-print-directory -j $(JOBS) pages STUDENTS="$$students"

TEACHER  := $(OUT)/01_teacher.ipynb
RUNS     := $(STUDENTS:%=$(OUT)/02_student-%.ipynb)
ANALYSIS := $(OUT)/03_analysis.ipynb
FIGURES  := $(OUT)/04_figures.ipynb
EXAMPLES := $(OUT)/08_examples.ipynb
ALL      := $(TEACHER) $(RUNS) $(ANALYSIS) $(FIGURES) $(EXAMPLES)

pages: $(OUT)/index.html
	@echo "Published: $(OUT)/index.html"

# Papermill keeps the notebook of a run that failed; the final name is for a run that ended well.
# What the kernel says while it trains is shown; through a pipe, since papermill would cut off a log file it reopens.
define papermill
	@echo "$(2)"
	@rm -f $(@:.ipynb=.failed.ipynb)
	@$(BIN)/papermill $(1) $(@:.ipynb=.running.ipynb) -k python3 $(3) $(PAPERMILL_ARGS) \
	  --progress-bar --stdout-file /dev/stderr --stderr-file /dev/stderr 2>&1 | cat || { \
	  [ ! -f $(@:.ipynb=.running.ipynb) ] || { \
	    mv $(@:.ipynb=.running.ipynb) $(@:.ipynb=.failed.ipynb); \
	    echo "Failed. What ran, and the error: $(@:.ipynb=.failed.ipynb)" >&2; }; \
	  exit 1; }
	@mv $(@:.ipynb=.running.ipynb) $@
endef

$(ALL): $(PARAMS) $(SOURCES) | $(ENV)

$(TEACHER): notebooks/01_teacher.ipynb
	$(call papermill,$<,Teacher,-p profile $(PARAMS))

$(RUNS): $(OUT)/02_student-%.ipynb: notebooks/02_student.ipynb $(TEACHER)
	$(call papermill,$<,Student $*,-p profile $(PARAMS) -r student '$*')

$(ANALYSIS): notebooks/03_analysis.ipynb $(RUNS)
	$(call papermill,$<,Analysis,-p profile $(PARAMS))

$(FIGURES): notebooks/04_figures.ipynb $(ANALYSIS)
	$(call papermill,$<,Figures,-p profile $(PARAMS))

$(EXAMPLES): notebooks/08_examples.ipynb $(FIGURES)
	$(call papermill,$<,Examples,-p profile $(PARAMS))

$(OUT)/05_study.ipynb: notebooks/05_study.ipynb $(PARAMS) $(SOURCES) | $(ENV)
	@mkdir -p $(OUT)
	$(call papermill,$<,Study,-p profile $(PARAMS))

$(OUT)/07_early_exit.ipynb: notebooks/07_early_exit.ipynb $(PARAMS) $(SOURCES) | $(ENV)
	@mkdir -p $(OUT)
	$(call papermill,$<,Early exit,-p profile $(PARAMS))

$(ALL:.ipynb=.html) $(OUT)/05_study.html $(OUT)/07_early_exit.html: %.html: %.ipynb $(PUBLISH)
	@$(BIN)/python reports/publish.py html $< $@

$(OUT)/index.html: $(ALL:.ipynb=.html)
	@$(BIN)/python reports/publish.py index $(OUT)

study: $(OUT)/05_study.html  ## methods x seeds of a profile: make study PAPERMILL_ARGS="-y 'seeds: [0, 1, 2]'"
	@$(BIN)/python reports/publish.py index $(OUT)
	@echo "Published: $<"

early: $(OUT)/07_early_exit.html  ## who pays for an early answer, of a profile's students
	@$(BIN)/python reports/publish.py index $(OUT)
	@echo "Published: $<"

# The benchmark's times differ from run to run; the unit tests run its notebook in small.
test: $(ENV)  ## unit tests, then the committed notebooks run again and compared (nbval)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile
	@$(MAKE) --no-print-directory demo  # whose runs 03 and 04 read
	$(BIN)/python -m pytest -p tests.notebooks.nbval_stderr --nbval notebooks --ignore notebooks/06_benchmark.ipynb \
	  --nbval-sanitize-with tests/notebooks/nbval_sanitize.cfg -n auto --dist loadfile

test-faults: $(ENV)  ## processes killed, files damaged, data dirty, parameters wrong: a table, half an hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults.py

mutants: $(ENV)  ## SAMPLE small faults each in exits, weighting, evaluation and training: does a test notice? takes hours
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(SAMPLE)

lab: $(ENV)  ## JupyterLab on the notebooks; the demo first, which 03, 04 and 08 read, where there is none yet
	@[ -e reports/demo/index.html ] || $(MAKE) --no-print-directory demo
	$(BIN)/jupyter lab notebooks

lint: $(ENV)  ## ruff over code and notebooks
	$(BIN)/ruff check

# What readers get. The browser is the system's chromium; playwright would otherwise fetch one of its own.
.PHONY: site test-browser
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

site: $(ENV)  ## all published pages, their index and the API in one folder: reports/site
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,site]'
	@$(BIN)/python reports/gather.py site reports/site
	@echo "Gathered: reports/site/index.html"

# The demo is made where there is none, since its pages are looked at and 03 and 04 read its runs.
test-browser: $(ENV)  ## every page and the notebooks in JupyterLab, in a headless browser
	@[ -e reports/demo/index.html ] || $(MAKE) --no-print-directory demo
	@$(MAKE) --no-print-directory site
	@[ -n "$(CHROMIUM)" ] || { echo "chromium is missing: apt-get install chromium, or CHROMIUM=FILE" >&2; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test,site,browser]'
	CHROMIUM="$(CHROMIUM)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser/check_pages.py tests/browser/check_lab.py
