# Two commands set up everything: `make quickstart` (a real sweep) and `make test`. Both make .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN := .venv/bin
# Test files side by side; most of their time is the start of processes.
TESTS_AT_ONCE ?= 2

# Each process of a sweep would compile all of ours again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup quickstart test chaos fuzz check bench clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mjlab,wandb,dev]'
	touch $@

quickstart: setup
	$(BIN)/python -m go1_sweep run search_spaces/quickstart.yaml --name quickstart-$$(date +%Y%m%d-%H%M%S)

test: setup
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder

# Sweeps under 200 random faults (half an hour), and 10,000 damaged files and lines (minutes).
chaos: setup
	GO1_SWEEP_CHAOS=200 $(BIN)/python -m pytest -s tests/chaos

fuzz: setup
	GO1_SWEEP_FUZZ=10000 $(BIN)/python -m pytest tests/test_fuzz.py --timeout 1800

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Those that need no GPU; benchmarks/README.md has them all.
bench: setup
	$(BIN)/python benchmarks/next_env.py --rounds 2
	$(BIN)/python benchmarks/trial_overhead.py --num_envs 4 --iterations 12 --rounds 1
	$(BIN)/python benchmarks/driver.py trials --slots 4 --trials 80 --warming_up 10
	$(BIN)/python benchmarks/driver.py reports --slots 4 --trials 32 --warming_up 10
	$(BIN)/python benchmarks/first_iteration.py --num_envs 16

clean:
	rm -rf .venv
