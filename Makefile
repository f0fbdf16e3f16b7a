# The paper and everything it rests on. Plain `make` lists what can be asked for.
#
#   DATA=DIR             raw tables, one folder per site (default: the twin, made on the way)
#   SITES="chi_tacc ..." only these sites (default: all)
#   CONFIG=FILE          the sites' entries (default: data/sites.yaml)
#   JOBS=N               steps at once (default 2; `-j N` does the same)

PYTHON ?= python3
JOBS ?= 2
TWIN := data/twin
DATA ?= $(TWIN)
SITES_YAML := data/sites.yaml
CONFIG ?= $(SITES_YAML)
VENV := .venv
OUT := output
HTML := book/_build/html
PDF := book/_build/pdf/chameleon-usage.pdf

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without kept bytecode every start of Python compiles a second's worth of sources again.
unexport PYTHONDONTWRITEBYTECODE

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.SECONDEXPANSION:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
ifeq (,$(filter -j%,$(MAKEFLAGS)))
MAKEFLAGS += -j$(JOBS)
endif

# --- which sites ------------------------------------------------------------------------------

ALL_SITES := chi_edge chi_tacc chi_uc kvm_tacc
ifeq ($(DATA),$(TWIN))
SITES ?= $(ALL_SITES)
TRUTH := $(SITES)
else
SITES ?= $(patsubst $(DATA)/%/,%,$(sort $(dir $(wildcard $(DATA)/*/*.parquet))))
TRUTH := $(filter $(patsubst $(DATA)/%/truth/intervals.parquet,%,$(wildcard $(DATA)/*/truth/intervals.parquet)),$(SITES))
endif

# Everything made in the tree belongs to one choice of DATA, CONFIG and SITES. When the choice
# changes, what belongs to another one goes first, so that two choices can never mix.
CHOICE := $(DATA):$(CONFIG): $(strip $(SITES))
CHOICE_FILE := build/choice
BUILDING := $(filter book pdf run notebooks verify record $(OUT)/% book/%,$(MAKECMDGOALS))
ifneq (,$(BUILDING))
ifeq (,$(strip $(SITES)))
$(error No site in DATA=$(DATA): expected $(DATA)/<site>/<schema>.<table>.parquet)
endif
KEPT := $(shell cat $(CHOICE_FILE) 2>/dev/null)
ifneq ($(CHOICE),$(KEPT))
ifneq ($(firstword $(CHOICE)),$(firstword $(KEPT)))
$(shell rm -rf $(OUT) book/notebooks)
endif
$(shell rm -rf $(OUT)/combined book/notebooks/{cross_site,validation,real_record}.ipynb $(HTML) $(PDF))
$(foreach site,$(filter-out $(SITES) combined plots ablation,$(notdir $(wildcard $(OUT)/*))),\
	$(shell rm -rf $(OUT)/$(site) book/notebooks/$(site).ipynb $(OUT)/plots/$(site)_*))
$(shell mkdir -p build && printf '%s\n' '$(CHOICE)' > $(CHOICE_FILE))
endif
endif

# For recipes: before them, not every make knows of a -j on its command line.
AT_ONCE = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),$(JOBS))
# Steps that run side by side share the cores: threads that wait for each other cost a sixth.
THREADS = $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN) / $(AT_ONCE) )); echo $$(( n > 1 ? n : 1 )))

# --- what depends on what ---------------------------------------------------------------------

LOCK := $(VENV)/lock.done
READY := $(VENV)/package.done
PIPELINE := $(shell find src/chameleon_usage -name '*.py' -not -path '*/viz/*') $(CONFIG)
FIGURES := $(wildcard src/chameleon_usage/viz/*.py) notebooks/build.py
SIMULATOR := $(wildcard src/chameleon_twin/*.py) data/calibration.yaml
PAGES := $(wildcard book/*.md) book/metrics.md book/references.bib

# The largest sites first, so that none is left to run alone.
LARGE := chi_tacc kvm_tacc
LARGEST_FIRST := $(filter $(LARGE),$(SITES)) $(filter-out $(LARGE),$(SITES))
USAGE := $(patsubst %,$(OUT)/%/usage_timeline.parquet,$(LARGEST_FIRST))
COMBINED := $(OUT)/combined/usage_timeline.parquet
# The ablation costs a run of the collector for each correction: one bare-metal site and KVM.
ABLATION := $(patsubst %,$(OUT)/ablation/%/ablation.parquet,$(or $(filter chi_tacc kvm_tacc,$(TRUTH)),$(firstword $(TRUTH))))
NOTEBOOKS := $(SITES) cross_site real_record facts $(if $(TRUTH),validation)
RUN_NOTEBOOKS := $(NOTEBOOKS:%=book/notebooks/%.ipynb) $(SITES:%=$(OUT)/plots/%_stack.svg)
RUN := python notebooks/build.py run
PLACES := -p data_dir $(DATA) -p output_dir $(OUT) -p config $(CONFIG)

.PHONY: help book pdf test data run notebooks verify record bench bench-extract clean

help: ## list these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo '  Options: DATA=DIR (real tables), SITES="chi_tacc ...", CONFIG=FILE, JOBS=N'

book: $(HTML)/index.html ## everything needed, then the paper as HTML
	@echo "The paper: $(HTML)/index.html"

pdf: $(PDF) ## the same paper as one PDF file
	@echo "The paper: $(PDF)"

test: $(READY) ## the quick tests, style and types
	ruff check .
	ruff format --check --quiet .
	mypy --no-error-summary
	POLARS_MAX_THREADS=$(THREADS) pytest -q -n $(AT_ONCE) -m "not slow and not real"

data: $(SITES:%=$(TWIN)/%/manifest.json) ## the twin: simulated raw tables and their truth

run: $(USAGE) $(COMBINED) ## the pipeline: output tables

notebooks: $(RUN_NOTEBOOKS) ## the notebooks, and the figures under output/plots

verify: $(USAGE) $(COMBINED) $(RUN_NOTEBOOKS) ## contracts, laws and, for the default data, recorded checksums
	chameleon-usage check --output $(OUT) --config $(CONFIG) $(SITES:%=--site %)
ifeq ($(CHOICE),$(TWIN):$(SITES_YAML): $(ALL_SITES))
	python notebooks/checksums.py
endif

record: $(RUN_NOTEBOOKS) ## record the checksums of the default build's figures, after a meant change
	python notebooks/checksums.py --record

bench: $(SITES:%=$(TWIN)/%/manifest.json) ## time and memory of the pipeline, site by site
	PYTHONPATH=tests python tests/bench/pipeline.py --data-dir $(DATA) --jobs $(AT_ONCE) $(LARGEST_FIRST)

bench-extract: $(READY) ## rows per second and memory of extraction, against MariaDB's own client
	PYTHONPATH=tests python tests/bench/extract.py

clean: ## remove everything made, but not the environment
	rm -rf build $(OUT) $(TWIN) book/_build book/notebooks book/metrics.md

# --- the environment --------------------------------------------------------------------------

# uv is the fast way; where it cannot reach the index, plain pip takes the same lock.
$(LOCK): requirements.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	{ test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install -q uv; } \
		&& $(VENV)/bin/uv --system-certs pip sync -q --python $(VENV)/bin/python --require-hashes $< \
		|| { $(VENV)/bin/python -m ensurepip -q && $(VENV)/bin/python -m pip install -q --require-hashes -r $<; }
	rm -f $(READY)
	touch $@

$(READY): pyproject.toml $(LOCK)
	$(VENV)/bin/uv pip install -q --offline --python $(VENV)/bin/python --no-deps --no-build-isolation -e . \
		|| { $(VENV)/bin/python -m ensurepip -q && $(VENV)/bin/python -m pip install -q --no-deps --no-build-isolation -e .; }
	touch $@

# --- data, pipeline, notebooks ----------------------------------------------------------------

# Results depend on the lock; on the package's metadata (lint rules and the like) they do not.
$(TWIN)/%/manifest.json: $(SIMULATOR) $(LOCK) | $(READY)
	chameleon-twin make --site $* --data-dir $(TWIN)

# A site's tables: all files of its folder; the twin's manifest stands for a folder yet to be made.
tables = $(shell find -L $(DATA)/$(1) -not -path '*/truth*' \( -name '*.parquet' -o -name '*.json' -o -name '*.csv' \) 2>/dev/null)

$(USAGE): $(OUT)/%/usage_timeline.parquet: $(PIPELINE) $(LOCK) $(if $(filter $(TWIN),$(DATA)),$(TWIN)/%/manifest.json) $$(call tables,$$*) | $(READY)
	$(if $(word 2,$(SITES)),POLARS_MAX_THREADS=$(THREADS)) chameleon-usage run --site $* --data-dir $(DATA) --output $(OUT) --config $(CONFIG)

$(COMBINED): $(USAGE)
	chameleon-usage combine --output $(OUT) $(SITES:%=--site %)

# Pattern rules, so that the figures count as made by the notebook, together with it.
book/notebooks/%.ipynb $(OUT)/plots/%_stack.svg $(OUT)/plots/%_stack.png: notebooks/site.py $(FIGURES) $(OUT)/%/usage_timeline.parquet
	$(RUN) site book/notebooks/$*.ipynb -p site $* $(PLACES)

book/notebooks/cross_site.ipynb: notebooks/cross_site.py $(FIGURES) $(COMBINED)
	$(RUN) cross_site $@ -p sites "$(SITES)" $(PLACES)

$(ABLATION): $(OUT)/ablation/%/ablation.parquet: $(OUT)/%/usage_timeline.parquet
	chameleon-usage ablate --site $* --data-dir $(DATA) --output $(OUT) --config $(CONFIG)

book/notebooks/validation.ipynb: notebooks/validation.py $(FIGURES) $(USAGE) $(ABLATION)
	$(RUN) validation $@ -p sites "$(TRUTH)" $(PLACES)

book/notebooks/real_record.ipynb: notebooks/real_record.py $(FIGURES) $(USAGE) data/calibration.yaml data/facts.yaml $(wildcard data/real/*)
	$(RUN) real_record $@ -p sites "$(SITES)" $(PLACES)

book/notebooks/facts.ipynb: notebooks/facts.py $(FIGURES) data/facts.yaml data/calibration.yaml book/references.bib $(LOCK) | $(READY)
	$(RUN) facts $@

# --- the book ---------------------------------------------------------------------------------

book/metrics.md: notebooks/metrics_page.py src/chameleon_usage/models/metrics.py | $(READY)
	python $< $@

build/static/charts.js: src/chameleon_usage/viz/render.py $(LOCK) | $(READY)
	mkdir -p $(@D)
	python -c 'from chameleon_usage.viz import render; print(render.book_script())' > $@.part
	mv $@.part $@

build/static/tex-svg.js: $(LOCK)
	mkdir -p $(@D)
	cp $$(python -c 'import mathjax; print(mathjax.__path__[0])')/static/mathjax/es5/tex-svg.js $@.part
	mv $@.part $@

# Built aside and put in place whole.
$(HTML)/index.html: $(PAGES) $(RUN_NOTEBOOKS) build/static/charts.js build/static/tex-svg.js \
		book/_config.yml book/_toc.yml $(wildcard book/_ext/*.py book/assets/*)
	rm -rf build/book
	python notebooks/build.py toc build/toc.yml $(NOTEBOOKS)
	jupyter-book build book --toc $(CURDIR)/build/toc.yml --path-output build/book -n -W --keep-going -q
	rm -rf $(HTML)
	mkdir -p $(dir $(HTML))
	rm -f build/book/_build/html/.buildinfo # Sphinx's own note, with a sum over paths
	mv build/book/_build/html $(HTML)
	touch $@

# From the pages, so that numbers and links are theirs.
$(PDF): $(HTML)/index.html notebooks/pdf.py notebooks/pdf.typ
	python notebooks/pdf.py $(HTML) $@
