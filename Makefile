# make demo   the video uploader with everything embedded      make test   all tests
PYTHON ?= python3
PORT   ?= 8000
VENV   := .venv/bin
# More words for pytest, or for the benchmark: make test ARGS="tests/reporting -k retry"
ARGS   ?=
# Minutes of make fuzz, for all targets together
MINUTES ?= 60

.PHONY: help demo test matrix chaos faults soak simulate fuzz lint types format bench bench-quick lock audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run the demo on http://127.0.0.1:8000 (PORT=… moves it)
	@$(PYTHON) tools/prepare.py demo
	@exec $(VENV)/jobpush demo --port $(PORT)

test: ## Run all tests: units, Redis, Celery, a real browser
	@$(PYTHON) tools/prepare.py test
	@$(VENV)/python -m pytest $(ARGS)

matrix: ## Try every ending of a task with every Celery, pool and broker (half an hour)
	@$(PYTHON) tools/prepare.py test
	@LIFECYCLE_MATRIX=full $(VENV)/python -m pytest tests/lifecycle/test_endings.py $(ARGS)

chaos: ## Run 2,000 tasks of all kinds on workers that are killed meanwhile
	@$(PYTHON) tools/prepare.py test
	@LIFECYCLE_CHAOS=2000 $(VENV)/python -m pytest tests/lifecycle/test_chaos.py $(ARGS)

faults: ## Break Redis, gateways and workers for longer, with 10,000 idle pages on one process (ten minutes)
	@$(PYTHON) tools/prepare.py test
	@FAULTS=full $(VENV)/python -m pytest tests/faults -s $(ARGS)

soak: ## Run all at once for half an hour, with something broken every few seconds
	@$(PYTHON) tools/prepare.py test
	@SOAK_MINUTES=30 $(VENV)/python -m pytest tests/faults/test_soak.py -s $(ARGS)

simulate: ## Check the guarantees after 5,000 random sequences of faults, in simulated time
	@$(PYTHON) tools/prepare.py test
	@SIMULATION_SEQUENCES=5000 $(VENV)/python -m pytest tests/simulation $(ARGS)

fuzz: ## Feed all that comes from outside with whatever reaches new code, for an hour (MINUTES=… for less)
	@$(PYTHON) tools/prepare.py fuzz
	@nice $(VENV)/python -m tests.fuzz $(MINUTES)

lint: ## Check the style
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/ruff check . && $(VENV)/ruff format --check .

types: ## Check the types
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/mypy

format: ## Write the code the way the style wants it
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/ruff check --fix . ; $(VENV)/ruff format .

bench: ## Measure jobpush beside its peers, and write docs/performance.md (twelve minutes)
	@$(PYTHON) tools/prepare.py bench
	@$(VENV)/python -m tests.benchmarks --write $(ARGS)

bench-quick: ## Take a first look at the same (a minute)
	@$(PYTHON) tools/prepare.py bench
	@$(VENV)/python -m tests.benchmarks --quick $(ARGS)

lock: ## Write down today's newest versions for the demo
	@$(PYTHON) tools/prepare.py lock

audit: ## Ask whether a version of the lock has a known hole (needs the network's advisories; not in CI)
	@$(PYTHON) tools/prepare.py audit
	@.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement tools/demo-constraints.txt

clean: ## Remove .venv and all that tools left behind
	rm -rf .venv .venv-celery54 .venv-bench .venv-audit .venv-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
