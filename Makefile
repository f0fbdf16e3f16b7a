# The paper and everything it rests on. Plain `make` lists what can be asked for.
#
#   DATA=DIR             raw tables, one folder per site (default: the twin, made on the way)
#   SITES="chi_tacc ..." only these sites (default: all)
#   CONFIG=FILE          the sites' entries (default: data/sites.yaml)
#   BUCKET=1h            the length over which usage is averaged (default: 1d)
#   JOBS=N               steps at once (default 2; `-j N` does the same)
#
# Another choice of DATA, SITES, CONFIG or BUCKET has folders of its own under build/choices, with output/
# and book/ in them as here; `make book` names them. The pages last asked for stand at book/_build/html.

PYTHON ?= python3
JOBS ?= 2
TWIN := data/twin
DATA ?= $(TWIN)
SITES_YAML := data/sites.yaml
CONFIG ?= $(SITES_YAML)
BUCKET ?= 1d
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # without kept bytecode every start of Python costs a second more

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR .SECONDARY .SUFFIXES .SECONDEXPANSION:
UNASKED := --no-builtin-rules $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
MAKEFLAGS += $(UNASKED)
# --- which sites, and where goes what is made of them -----------------------------------------
# The sites that a file marks with `twin: true` and the like.
marked = $(shell awk -F: '/^[a-z]/ {site = $$1} /^ +$(1): *true/ {print site}' $(2))
ALL_SITES := $(sort $(call marked,twin,$(SITES_YAML)))
IS_TWIN := $(filter $(TWIN),$(DATA))
SITES ?= $(or $(if $(IS_TWIN),$(ALL_SITES)),$(sort $(patsubst $(DATA)/%/,%,$(dir $(wildcard $(DATA)/*/*.parquet)))))
TRUTH := $(if $(IS_TWIN),$(SITES),$(filter $(patsubst $(DATA)/%/truth/intervals.parquet,%,$(wildcard $(DATA)/*/truth/intervals.parquet)),$(SITES)))
NEEDS_SITES := $(filter book pdf crate run notebooks lab lab-notebooks verify record output/% build/% book/%,$(MAKECMDGOALS))
$(if $(strip $(SITES)),,$(if $(NEEDS_SITES),$(error No site in DATA=$(DATA): expected $(DATA)/<site>/<schema>.<table>.parquet)))

# ONE is the folder of what is made of one site, by DATA, CONFIG and BUCKET; ALL, of what is made of all SITES.
folder = build/choices/$(notdir $(DATA))-$(shell printf '%s' '$(1)' | cksum | cut -d' ' -f1)/
CHOICE := $(DATA):$(CONFIG):$(BUCKET)
ONE := $(if $(filter-out $(TWIN):$(SITES_YAML):1d,$(CHOICE)),$(call folder,$(CHOICE)))
ALL := $(if $(subst .$(ALL_SITES).,,.$(ONE)$(strip $(SITES)).),$(call folder,$(CHOICE):$(strip $(SITES))))
OUT := $(ALL)output
HTML := $(ALL)build/html$(if $(BOOK_URL),-published)
PDF := $(ALL)build/pdf
# For recipes: before them, not every make knows of a -j on its command line.
AT_ONCE = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),$(JOBS))
# Steps that run side by side share the cores: threads that wait for each other cost a sixth.
THREADS = $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN) / $(AT_ONCE) )); echo $$(( n > 1 ? n : 1 )))
# --- what depends on what ---------------------------------------------------------------------
LOCK := $(VENV)/lock.done
READY := $(VENV)/package.done
LAB_READY := $(VENV)/lab.done
PIPELINE := $(shell find src/chameleon_usage -name '*.py' -not -path '*/viz/*') $(CONFIG)
DRAWS_NOTHING := $(patsubst %,paper/%.py,__main__ bench checksums claims crate external html lab metrics pdf seconds steps)
FIGURES := $(filter-out $(DRAWS_NOTHING),$(wildcard src/chameleon_usage/viz/*.py paper/*.py paper/figures/*.py paper/words/*.j2)) data/events.yaml
TEXT := $(wildcard book/*.* book/_ext/*.py book/assets/* data/se*.csv $(addprefix data/,bench.json nightly.json ranges.json)) book/metrics.md
# What takes longest begins first, so that none is left to run alone: the largest sites, and the ablation, for a page of all.
LARGE := $(call marked,large,$(CONFIG))
LARGEST_FIRST := $(filter $(LARGE),$(SITES)) $(filter-out $(LARGE),$(SITES))
USAGE_OF_ONE := $(LARGEST_FIRST:%=$(ONE)output/%/usage_timeline.parquet)
USAGE := $(LARGEST_FIRST:%=$(OUT)/%/usage_timeline.parquet)
COMBINED := $(OUT)/combined/usage_timeline.parquet
ABLATION := $(patsubst %,$(ONE)output/ablation/%/ablation.parquet,$(or $(filter $(call marked,ablation,$(CONFIG)),$(TRUTH)),$(firstword $(TRUTH))))
# Which outputs a page of several sites reads, if not the usage of all.
READ_BY_cross_site := $(COMBINED)
READ_BY_real_record := $(filter $(patsubst %,$(OUT)/%/usage_timeline.parquet,$(shell awk -F'"' '/^published_sites/ {print $$2}' notebooks/real_record.py)),$(USAGE))
READ_BY_validation := $(USAGE) $(ABLATION)
OF_ALL := $(patsubst %,$(ALL)book/notebooks/%.ipynb,$(if $(TRUTH),validation validation_appendix) cross_site real_record real_appendix)
NOTEBOOKS := $(OF_ALL) $(LARGEST_FIRST:%=$(ONE)book/notebooks/%.ipynb) book/notebooks/facts.ipynb
FIGURES_OF_ONE := $(SITES:%=$(ONE)output/plots/%_stack.svg)
PLACES := -p data_dir $(DATA) -p config $(CONFIG) -p output_dir
# What was asked for stands under book/_build, a copy that can be published as it is.
show = test "$$(cat book/_build/$(1).of 2>/dev/null)" = $(<D) -a ! $< -nt book/_build/$(1)/$(<F) || { rm -rf book/_build/$(1); \
	mkdir -p book/_build; cp -r $(<D) book/_build/$(1); echo $(<D) > book/_build/$(1).of; }; \
	echo "The paper: book/_build/$(1)/$(<F). Its tables: $(OUT)"
.PHONY: help book pdf crate test data external run notebooks lab lab-notebooks verify record bench bench-extract bench-kernels clean
help: ## list these targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@sed -n '/^#$$/,/^$$/s/^#//p' $(firstword $(MAKEFILE_LIST))
book: $(HTML)/index.html ## everything needed, then the paper as HTML (BOOK_URL=https://... if it is to stand there)
	@$(call show,html)
pdf: $(PDF)/chameleon-usage.pdf ## the same as PDF: the paper, and its supplement
	@$(call show,pdf)
crate: $(COMBINED) $(NOTEBOOKS) $(FIGURES_OF_ONE) ## the outputs with all that made them, as an RO-Crate
	python -m paper crate $(ALL)build/crate/chameleon-usage.zip --output $(OUT) --data-dir $(DATA) --config $(CONFIG) --bucket $(BUCKET) $(SITES)
test: $(READY) ## the quick tests, style and types
	ruff check . && ruff format --check --quiet .
	mypy --no-error-summary & types=$$!; POLARS_MAX_THREADS=$(THREADS) pytest -q -n $(AT_ONCE) --dist worksteal -p no:nbval -m "not slow and not real"; wait $$types
data: $(SITES:%=$(TWIN)/%/manifest.json) ## the twin: simulated raw tables and their truth
external: $(READY) ## public files that need no database, to data/external; FROM=DIR takes them from there
	python -m paper external $(FROM:%=--from %)
run: $(USAGE) $(COMBINED) ## the pipeline: output tables
notebooks: $(NOTEBOOKS) $(FIGURES_OF_ONE) ## the notebooks, and the figures under output/plots
lab: lab-notebooks ## JupyterLab with the notebooks, each paired with a script; FLAGS=--no-browser and the like
	IPYTHONDIR=$(CURDIR)/build/ipython jupyter lab -y --LabApp.app_settings_dir=$(CURDIR)/paper/jupyterlab --ServerApp.root_dir=$(CURDIR) $(FLAGS) $(ALL)build/lab/site.ipynb
lab-notebooks: $(LAB_READY) $(USAGE) $(COMBINED) $(ABLATION)
	python -m paper lab $(ALL)build/lab site facts $(notdir $(OF_ALL:.ipynb=)) -p site $(firstword $(LARGEST_FIRST)) -p sites "$(SITES)" $(PLACES) $(OUT)
verify: $(COMBINED) $(NOTEBOOKS) $(FIGURES_OF_ONE) ## contracts, laws and, for the default choice, recorded checksums
	chameleon-usage check --output $(OUT) --config $(CONFIG) $(SITES:%=--site %)
	$(if $(ALL),,python -m paper checksums)
record: $(NOTEBOOKS) $(FIGURES_OF_ONE) ## record the checksums of the default choice's results, after a meant change
	$(if $(ALL),$(error Only the default choice is recorded: leave out DATA, SITES, CONFIG and BUCKET))python -m paper checksums --record
bench: $(SITES:%=$(TWIN)/%/manifest.json) ## time and memory of the pipeline, site by site, for the page of the book
	PYTHONPATH=tests python tests/bench/pipeline.py $(if $(ALL),,--record) --data-dir $(DATA) --jobs $(AT_ONCE) $(LARGEST_FIRST)
bench-extract: $(READY) ## rows per second and memory of extraction, against MariaDB's own client
	PYTHONPATH=tests python tests/bench/extract.py
bench-kernels: $(READY); python tests/bench/kernels.py ## intervals per second of the interval functions
clean: ## remove everything made, but not the environment
	rm -rf build output $(TWIN) book/_build book/notebooks book/metrics.md
# --- the environment: by uv, the fast way, itself from the lock; where uv cannot reach the index, pip takes the lock
by_lock = { test -x $(VENV)/bin/uv || sed -n '/^uv==/,/[^\\]$$/p' requirements.txt | $(VENV)/bin/python -m pip install -q --require-hashes -r /dev/stdin; } \
	&& $(VENV)/bin/uv --system-certs pip $(1) -q --python $(VENV)/bin/python --require-hashes $(2) $< \
	|| { $(VENV)/bin/python -m ensurepip > /dev/null && $(VENV)/bin/python -m pip install -q --require-hashes -r $<; }
$(LOCK): requirements.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(call by_lock,sync)
	rm -f $(READY) && touch $@
$(LAB_READY): requirements-lab.txt $(LOCK) | $(READY)
	$(call by_lock,install,-r)
	touch $@
$(READY): pyproject.toml $(LOCK)
	$(VENV)/bin/uv pip install -q --offline --python $(VENV)/bin/python --no-deps --no-build-isolation -e . \
		|| { $(VENV)/bin/python -m ensurepip > /dev/null && $(VENV)/bin/python -m pip install -q --no-deps --no-build-isolation -e .; }
	touch $@
# --- data, pipeline, notebooks, book: results depend on the lock, and not on the package's metadata -----------
$(TWIN)/%/manifest.json: $(wildcard src/chameleon_twin/*.py) data/calibration.yaml $(LOCK) | $(READY)
	chameleon-twin make --site $* --data-dir $(TWIN)
# The twin's years are the paper's; of other data all that they cover is counted.
WINDOW := $(if $(IS_TWIN),--start 2016-01-01 --end 2026-01-01)
# A site's tables: all files of its folder; the twin's manifest stands for a folder yet to be made.
tables = $(shell find -L $(DATA)/$(1) -not -path '*/truth*' \( -name '*.parquet' -o -name '*.json' -o -name '*.csv' \) 2>/dev/null)
$(USAGE_OF_ONE): $(ONE)output/%/usage_timeline.parquet: $(PIPELINE) $(LOCK) $(if $(IS_TWIN),$(TWIN)/%/manifest.json) $$(call tables,$$*) | $(READY)
	$(if $(word 2,$(SITES)),POLARS_MAX_THREADS=$(THREADS)) chameleon-usage run --site $* --data-dir $(DATA) --output $(ONE)output --config $(CONFIG) $(WINDOW) --bucket $(BUCKET)
ifneq ($(ONE),$(ALL))
$(USAGE): $(OUT)/%/usage_timeline.parquet: $(ONE)output/%/usage_timeline.parquet
	mkdir -p $(OUT) && for name in $* ablation; do ln -sfn ../../../../$(ONE)output/$$name $(OUT)/$$name; done
endif
$(COMBINED): $(USAGE)
	chameleon-usage combine --output $(OUT) $(SITES:%=--site %)
$(ABLATION): $(ONE)output/ablation/%/ablation.parquet: paper/ablation.py $(ONE)output/%/usage_timeline.parquet
	python -m paper ablation --site $* --data-dir $(DATA) --output $(ONE)output --config $(CONFIG) --bucket $(BUCKET)
# Pattern rules, so that the figures count as made by the notebook, together with it.
$(ONE)book/notebooks/%.ipynb $(ONE)output/plots/%_stack.svg $(ONE)output/plots/%_stack.png: notebooks/site.py $(FIGURES) $(ONE)output/%/usage_timeline.parquet
	python -m paper run site $(ONE)book/notebooks/$*.ipynb -p site $* $(PLACES) $(ONE)output
$(OF_ALL): $(ALL)book/notebooks/%.ipynb: notebooks/%.py $(FIGURES) $$(or $$(READ_BY_$$*),$(USAGE)) data/calibration.yaml $(patsubst %,data/%.csv,errors halves seeds thresholds) data/facts.yaml $(wildcard data/real/*)
	python -m paper run $* $@ -p sites "$(if $(filter validation%,$*),$(TRUTH),$(SITES))" $(PLACES) $(OUT)
book/notebooks/facts.ipynb: notebooks/facts.py $(FIGURES) data/facts.yaml data/calibration.yaml book/references.bib $(LOCK) | $(READY)
	python -m paper run facts $@
book/metrics.md: paper/metrics.py src/chameleon_usage/models/metrics.py | $(READY)
	python -m paper metrics $@
$(HTML)/index.html: $(TEXT) $(NOTEBOOKS) $(FIGURES_OF_ONE) $(patsubst %,paper/%.py,claims html seconds steps) src/chameleon_usage/viz/render.py
	python -m paper html $(@D) $(NOTEBOOKS) $(BOOK_URL:%=--url %)
$(PDF)/chameleon-usage.pdf: $(HTML)/index.html paper/pdf.py paper/pdf.typ
	python -m paper pdf $(HTML) $@
