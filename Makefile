# make demo | test | test-slow | torture | docs | lint | format | bench | gpu | clean
# Every target but gpu makes its own virtual environment first: python3 -m venv and plain pip, pinned by constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
READY := $(VENV)/.ready
FULL := $(VENV)/.ready-full
WORKERS ?= 2

# Compiled kernels of Numba live in the environment: between runs, and for processes that tests start.
export NUMBA_CACHE_DIR := $(abspath $(VENV))/numba

.PHONY: demo test test-slow torture docs lint format bench gpu clean

$(READY): pyproject.toml constraints.txt
	@echo "making $(VENV): a few minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@echo "  1/2 torch"
	@$(PIP) torch
	@echo "  2/2 ppl_models and what its tests need"
	@$(PIP) -e '.[test]'
	@touch $@

$(FULL): $(READY)
	@echo "  and what the site, exports and a release need"
	@$(PIP) -e '.[docs,export,release]'
	@touch $@

demo: $(READY)  ## fit the examples, look at one, and hear whether to trust them
	$(BIN)/ppl fit hmm examples/earthquakes.csv --time year --states 3 --force --out runs/demo
	$(BIN)/ppl summary runs/demo
	$(BIN)/ppl forecast runs/demo --steps 5
	$(BIN)/ppl check runs/demo
	$(BIN)/ppl fit gmm examples/iris.csv --target species --components 1 --force --out runs/demo-mixture
	$(BIN)/ppl fit logistic examples/iris.csv --target species --force --out runs/demo-regression

test: $(READY) lint  ## everything that is not slow
	$(BIN)/python -m pytest -q -n $(WORKERS)

test-slow: $(FULL)  ## proofs that take minutes: NUTS, examples, kills, the site
	$(BIN)/python -m pytest -q -n $(WORKERS) -m slow --hypothesis-profile thorough

torture: $(READY)  ## every fault, as often as docs/reliability.md says, which it writes; hours
	$(BIN)/python tests/torture/run.py

docs: $(FULL)  ## the site, in build/site; tutorials are run, ten minutes at first
	$(BIN)/python -m sphinx -W --keep-going -c docs . build/site

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## quality and speed against peers; two hours at most, writes benchmarks/results/
	$(BIN)/python benchmarks/hmm_quality.py --out benchmarks/results/hmm_quality.md
	$(BIN)/python benchmarks/hmm_speed.py --out benchmarks/results/hmm_speed.md
	$(BIN)/python benchmarks/hmm_memory.py --out benchmarks/results/hmm_memory.md
	$(BIN)/python benchmarks/gmm_speed.py --out benchmarks/results/gmm_speed.md
	$(BIN)/python benchmarks/gmm_missing.py --out benchmarks/results/gmm_missing.md
	$(BIN)/python benchmarks/logistic_speed.py --out benchmarks/results/logistic_speed.md
	$(BIN)/python benchmarks/vae_speed.py --out benchmarks/results/vae_speed.md
	$(BIN)/python benchmarks/programs.py --out benchmarks/results/programs.md

gpu:  ## every system on the GPU beside the CPU, and times beside bare PyTorch; eight minutes, with the Python that has CUDA
	$(PYTHON) benchmarks/gpu.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
