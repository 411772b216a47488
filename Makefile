# Each target sets up what it needs in .venv and is quick when run again.
#   make app         open the page
#   make test        run the tests
#   make check       lint, format, types
#   make bench       measure the bundled checkpoint against the committed prompts
#   make train-tiny  train the bundled checkpoint again (resumes where it stopped)
#   make colossalai  add the optional colossalai layer
#   make test-colossalai  test that layer and bitsandbytes, in an environment of its own (.venv-colossalai)
#   make audit       ask the advisories about every installed package (needs the net)
#   make clean       remove caches and what running left behind, keep .venv and outputs

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help app test check format bench train-tiny colossalai test-colossalai audit clean distclean python-path

VENV ?= .venv
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
COLOSSALAI := $(VENV)/.colossalai-installed
PYTEST := $(VENV)/.pytest-installed

# The first Python from 3.11 to 3.14 that can make an environment. Another one: make PYTHON=/path/to/python test
FIND_PYTHON := for p in $(PYTHON) python3 python3.12 python3.13 python3.11 python3.14 python; do \
	  command -v "$$p" >/dev/null 2>&1 && "$$p" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
	    >/dev/null 2>&1 && command -v "$$p" && break; \
	done

PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check --quiet

help:
	@sed -n '2,11p' Makefile | sed 's/^# \{0,1\}//'

python-path:
	@$(FIND_PYTHON) || { \
	  echo "No Python from 3.11 to 3.14 with the venv module was found."; \
	  echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 ..."; \
	  exit 1; } >&2

$(PY):
	@python="$$($(MAKE) --no-print-directory --silent python-path)" && \
	  echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)

$(RUNTIME): requirements.txt pyproject.toml | $(PY)
	@echo "Installing requirements.txt into $(VENV): one to a few minutes, this time only"
	@$(PIP_INSTALL) -r requirements.txt
	@$(PIP_INSTALL) --quiet --no-deps --editable .
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	@echo "Installing requirements-dev.txt into $(VENV)"
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

$(PYTEST): requirements-dev.txt $(RUNTIME)
	@$(PIP_INSTALL) $$(grep -E '^pytest(-timeout)?==' requirements-dev.txt)
	@touch $@

$(COLOSSALAI): requirements-colossalai.txt $(RUNTIME)
	$(PIP_INSTALL) --no-deps -r requirements-colossalai.txt
	@touch $@

app: $(RUNTIME)
	$(PY) app.py $(ARGS)

check: $(DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(DEV)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Without a browser everything else still runs, and the last lines say what was not.
test: $(DEV)
	@browser="$$($(PY) scripts/setup_browser.py)" || exit 1; marks=(); \
	if [ -z "$$browser" ]; then marks=(-m "not browser"); fi; \
	OMP_NUM_THREADS=1 OPENSORA_BROWSER="$$browser" \
	  $(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile "$${marks[@]}" $(ARGS); status=$$?; \
	if [ -z "$$browser" ]; then \
	  echo; \
	  echo "NOT RUN: the browser tests in tests/browser (they open the page, generate and play a video):"; \
	  echo "no Chromium was found or could be installed. Install Chromium or Chrome and run make test again."; \
	fi; exit $$status

bench: $(DEV)
	$(PY) benchmarks/adherence.py $(ARGS)

# PROCESSES=2 trains the denoiser in two processes at once.
PROCESSES ?= 1
DENOISER := configs/diffusion/train/tiny.py

train-tiny: $(DEV)
	$(PY) scripts/vae/train.py configs/vae/train/tiny.py --export assets/tiny/vae
	$(PY) scripts/text/train.py configs/text/train/tiny.py --export assets/tiny/t5
	$(PY) scripts/diffusion/encode.py $(DENOISER)
	$(PY) -m torch.distributed.run --standalone --nproc_per_node $(PROCESSES) \
	  scripts/diffusion/train.py $(DENOISER) --export assets/tiny/stdit
	$(PY) scripts/reranker/train.py configs/reranker/train/tiny.py --export assets/tiny/reranker

colossalai: $(COLOSSALAI)
	$(PY) -c "import colossalai; print('colossalai', colossalai.__version__)"

# An environment of its own: the one of make test stays free of packages that were made for another torch.
OWN := .venv-colossalai

test-colossalai:
	@$(MAKE) --no-print-directory VENV=$(OWN) $(OWN)/.pytest-installed $(OWN)/.colossalai-installed
	OMP_NUM_THREADS=1 OPENSORA_REQUIRE_COLOSSALAI=1 \
	  $(OWN)/bin/python -m pytest tests/acceleration/shardformer tests/models/test_text_precision.py $(ARGS)

# Of everything that is installed, not only what is named; pip-audit has an environment of its own.
AUDIT := .venv-audit

audit: $(RUNTIME)
	@test -x $(AUDIT)/bin/pip-audit || { $(PY) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip install --disable-pip-version-check --quiet pip-audit==2.10.1; }
	@$(PY) -m pip freeze --exclude-editable | sed -E 's/ @ .*-([0-9][^-]*)-(cp|py).*$$/==\1/; s/\+cpu$$//' > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit -r $(AUDIT)/installed.txt --no-deps --disable-pip --strict $(ARGS)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './$(OWN)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(OWN) $(AUDIT)
