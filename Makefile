# Every command of the project. `make help` lists them.
PYTHON  ?= python3
VENV    := .venv
PY      := $(VENV)/bin/python
READY   := $(VENV)/.ready
PEERS_READY := .peers/.ready
MATHJAX := book/static/vendor/tex-svg-full.js
CHAPTER ?= $(wildcard book/*.ipynb)

# Whatever Jupyter, IPython, Matplotlib or pip want to remember stays inside the clone.
STATE := $(CURDIR)/$(VENV)/state
export JUPYTER_CONFIG_DIR  := $(STATE)/jupyter-config
export JUPYTER_DATA_DIR    := $(STATE)/jupyter-data
export JUPYTER_RUNTIME_DIR := $(STATE)/jupyter-runtime
export JUPYTER_CONFIG_PATH := $(CURDIR)/tools/jupyter
export JUPYTER_PATH        := $(CURDIR)/tools/jupyter
export IPYTHONDIR          := $(STATE)/ipython
export MPLCONFIGDIR        := $(STATE)/matplotlib
export PYTHONNOUSERSITE    := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_CACHE_DIR    := 1

ifeq ($(OS),Windows_NT)
$(error On Windows, run these commands inside WSL: see "Windows" in README.md)
endif

.DEFAULT_GOAL := help
.PHONY: help book html pdf setup test lab exercises assign grade gradescope pack bench sweep execute format check clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

book: html ## build the book, serve it on this machine and print the address
	@$(PY) tools/serve.py _build/html

html: $(MATHJAX) ## build the book into _build/html
	@# A page that warned once is not read again, so a failed build is thrown away whole.
	@$(VENV)/bin/jupyter-book build book -W --keep-going -n || { rm -rf _build; exit 1; }

pdf: html ## print the whole book into _build/html/book.pdf, which the pages then link to
	@$(PY) tools/pdf.py _build/html _build/html/book.pdf

test: $(MATHJAX) ## run every test: library, notebooks, pages in a browser
	@OMP_NUM_THREADS=1 $(PY) -m pytest --nbval-lax --nbval-current-env -n auto --maxprocesses 8 --dist loadscope

setup: $(MATHJAX) ## make .venv and install everything into it
	@echo "Ready: $(VENV)"

lab: $(READY) ## open the chapters in JupyterLab
	@$(PY) tools/names.py
	@$(PY) -m jupyter trust $(CHAPTER)
	@$(PY) -m jupyter lab --FileContentsManager.preferred_dir=book $(LAB_FLAGS)

exercises: $(READY) ## open the graded exercises in JupyterLab, in copies that are yours: exercises/mine
	@mkdir -p exercises/mine
	@for set in exercises/student/*.ipynb; do mine=exercises/mine/$${set##*/}; [ -e $$mine ] || cp $$set $$mine; done
	@$(PY) tools/names.py
	@$(PY) -m jupyter lab --FileContentsManager.preferred_dir=exercises/mine $(LAB_FLAGS)

assign: $(READY) ## build student notebooks, solutions and autograders from exercises/NN_name
	@$(PY) tools/assign.py

grade: $(READY) ## mark a folder of submissions: make grade SET=5 FROM=folder
	@[ -n "$(SET)" ] && [ -n "$(FROM)" ] || { echo "Say which set, and where the notebooks are: make grade SET=5 FROM=folder"; exit 2; }
	@$(PY) tools/assign.py $(SET)
	@$(PY) -m tools.grade $(SET) "$(FROM)" $(GRADE_FLAGS)

gradescope: $(READY) ## make the zip that Gradescope marks a set with: make gradescope SET=5
	@[ -n "$(SET)" ] || { echo "Say which set: make gradescope SET=5"; exit 2; }
	@$(PY) tools/assign.py $(SET)
	@$(PY) -m tools.gradescope $(SET)

pack: html ## write the teacher's pack: goals, mistakes, exam questions and slides of each chapter
	@$(PY) -m tools.pack

bench: $(READY) $(if $(PEERS),$(PEERS_READY)) ## time a training step against its products; PEERS=1: beside other libraries
	@# glibc would hand freed pages back and fault them in again at every step: that would be timed as well.
	@MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=1000000000 \
	  $(if $(PEERS),.peers/bin/python,$(PY)) -m benchmarks.$(if $(PEERS),peers,speed) $(BENCH_FLAGS)

sweep: $(READY) ## does each claim hold under other seeds? make sweep SEEDS=5 (THREADS=1 CHAPTER=book/01_....ipynb)
	@$(PY) tools/sweep.py --seeds $(or $(SEEDS),5) --threads $(or $(THREADS),1) $(CHAPTER)

execute: $(READY) ## run the chapters again and store their outputs (one: CHAPTER=book/01_....ipynb)
	@OMP_NUM_THREADS=1 $(PY) -m jupyter nbconvert --to notebook --execute --inplace \
	  --NotebookExporter.preprocessors=nbconvert.preprocessors.CoalesceStreamsPreprocessor \
	  --ExecutePreprocessor.record_timing=False \
	  --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.clear_cell_metadata=False \
	  --ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', ('language_info', 'name')}" \
	  $(CHAPTER)

format: $(READY) ## put code and notebooks into one style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

check: $(READY) ## report what `make format` would change, and lint
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

clean: ## remove what was built (.venv stays: delete it to start anew)
	rm -rf _build build book/static/vendor *.egg-info .pytest_cache .ruff_cache
	find . -name $(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || \
	  { echo "Python 3.11.5 or newer is needed. Name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -r requirements.txt
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	@# Matplotlib lists the machine's fonts once, and would say so in the first chapter that is run.
	@mkdir -p $(STATE) && $(PY) -c 'import matplotlib.font_manager' && touch $@

# The peers see this project's packages, torch above all, and bring only what those lack.
$(PEERS_READY): $(READY)
	$(PYTHON) -m venv .peers
	@$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(.peers/bin/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))')/vaelearn.pth
	.peers/bin/python -m pip install pythae==0.1.2 pyro-ppl==1.9.1
	@touch $@

$(MATHJAX): $(READY)
	@mkdir -p $(@D)
	@cp $(VENV)/lib/python3*/site-packages/sphinx-mathjax-offline/static/mathjax/$(@F) $@
