# make demo   the video uploader with everything embedded      make test   the tests
PYTHON ?= python3
PORT   ?= 8000
VENV   := .venv/bin
# More arguments for pytest, or for the benchmark: make test ARGS="tests/reporting -k retry"
ARGS   ?=
# Minutes of make fuzz, for all targets together
MINUTES ?= 60

# Processes that run tests at the same time: tests mostly wait for programs that they start.
JOBS   ?= 4
PYTEST := $(VENV)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder
# The tests of the hub that depend on the server. A cluster needs 7.0.
HUB    := tests/gateway/test_presence.py tests/gateway/test_catching_up.py tests/gateway/test_reaper.py
# The unit tests: those of rooms that need no browser and no web server, without the files that start clusters, demos or
# many workers.
FAST   := tests/protocol tests/reporting tests/store tests/cli tests/processes tests/test_api.py tests/test_channels.py \
          tests/test_events.py tests/test_signing.py tests/test_tokens.py tests/test_structure.py \
          tests/test_public_names.py $(addprefix --ignore=tests/,cli/test_demo.py cli/test_doctor.py \
          reporting/test_in_a_worker.py reporting/test_worker_metrics.py reporting/test_resilience.py reporting/test_tqdm.py \
          store/redis/test_cluster.py store/redis/test_sentinel.py store/redis/test_server_states.py \
          store/test_presence_model.py store/test_workflow.py)
# Unset it: programs start faster from compiled modules.
export PYTHONDONTWRITEBYTECODE :=
export FAST_TESTS := $(FAST)

.PHONY: help demo check test test-all servers versions matrix chaos faults soak simulate fuzz lint types format bench bench-quick bench-page docs docs-serve docs-pictures reference lock audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run the demo on http://127.0.0.1:8000 (PORT=… moves it)
	@$(PYTHON) tools/prepare.py demo
	@exec $(VENV)/jobpush demo --port $(PORT)

check: lint types ## Check style and types, and run the fast tests (under a minute)
	@$(VENV)/python -m pytest -q -n 2 $(FAST) $(ARGS)

test: ## Run the tests: one member of each matrix (eight minutes on two cores)
	@$(PYTHON) tools/prepare.py test
	@$(PYTEST) $(ARGS)

test-all: ## Run every server, topology, pool, broker, Python and set of versions (hours)
	@$(PYTHON) tools/prepare.py test
	@LIFECYCLE_MATRIX=full FAULTS=full TEST_ALL=1 $(PYTEST) $(ARGS)
	@$(MAKE) --no-print-directory servers versions

versions: ## Run the fast tests on each Python of this machine, and on the lowest and newest dependencies
	@$(PYTHON) tools/prepare.py check
	@$(PYTHON) tools/versions.py

servers: ## Run the tests of the store and of the hub on Redis 6.2, 7.0 and 8.2 and on Valkey 9
	@$(PYTHON) tools/prepare.py test
	@$(PYTHON) tools/prepare.py servers
	@JOBPUSH_TEST_SERVERS=all $(PYTEST) tests/store $(ARGS)
	@JOBPUSH_TEST_SERVER=redis-6.2 $(PYTEST) $(HUB) $(ARGS)
	@for server in redis redis-8.2 valkey; do JOBPUSH_TEST_SERVER=$$server $(PYTEST) $(HUB) tests/gateway/test_cluster.py $(ARGS) || exit; done

matrix: ## Try every end of a task with every Celery, pool and broker (half an hour)
	@$(PYTHON) tools/prepare.py test
	@LIFECYCLE_MATRIX=full $(VENV)/python -m pytest tests/lifecycle/test_endings.py $(ARGS)

chaos: ## Run 2,000 tasks of all kinds on workers that are killed
	@$(PYTHON) tools/prepare.py test
	@LIFECYCLE_CHAOS=2000 $(VENV)/python -m pytest tests/lifecycle/test_chaos.py $(ARGS)

faults: ## Break Redis, gateways and workers for longer, with 10,000 idle pages on one process (ten minutes)
	@$(PYTHON) tools/prepare.py test
	@TEST_ALL=1 FAULTS=full $(VENV)/python -m pytest tests/faults -s $(ARGS)

soak: ## Run everything at once for half an hour, and break something every few seconds
	@$(PYTHON) tools/prepare.py test
	@TEST_ALL=1 SOAK_MINUTES=30 $(VENV)/python -m pytest tests/faults/test_soak.py -s $(ARGS)

simulate: ## Check the guarantees after 5,000 random sequences of faults, in simulated time
	@$(PYTHON) tools/prepare.py test
	@SIMULATION_SEQUENCES=5000 $(VENV)/python -m pytest tests/simulation $(ARGS)

fuzz: ## Fuzz every parser of untrusted input, guided by coverage, for an hour (MINUTES=… for less)
	@$(PYTHON) tools/prepare.py fuzz
	@nice $(VENV)/python -m tests.fuzz $(MINUTES)

lint: ## Check the style
	@$(PYTHON) tools/prepare.py check
	@$(VENV)/ruff check . && $(VENV)/ruff format --check .

types: ## Check the types
	@$(PYTHON) tools/prepare.py check
	@$(VENV)/mypy

format: ## Format the code and fix what ruff can fix
	@$(PYTHON) tools/prepare.py check
	@$(VENV)/ruff check --fix . ; $(VENV)/ruff format .

bench: ## Measure jobpush beside its peers, and write docs/performance.md (twelve minutes)
	@$(PYTHON) tools/prepare.py bench
	@$(VENV)/python -m tests.benchmarks --write $(ARGS)

bench-quick: ## Take a first look at the same (a minute)
	@$(PYTHON) tools/prepare.py bench
	@$(VENV)/python -m tests.benchmarks --quick $(ARGS)

bench-page: ## Measure what long lists and logs cost a page, and write docs/performance.md (five minutes)
	@$(PYTHON) tools/prepare.py bench
	@$(VENV)/python -m tests.benchmarks.page_costs --write

docs: ## Build the documentation into build/site
	@$(PYTHON) tools/prepare.py docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict --quiet --site-dir build/site

reference: ## Write the reference pages of the documentation from the code
	@$(PYTHON) tools/prepare.py docs
	@$(VENV)/python tools/reference.py

docs-serve: ## Serve the documentation on http://127.0.0.1:8001 and rebuild it on changes
	@$(PYTHON) tools/prepare.py docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs serve --dev-addr 127.0.0.1:8001

docs-pictures: ## Make the pictures of the documentation from the running demo (two minutes)
	@$(PYTHON) tools/prepare.py test
	@$(VENV)/python tools/pictures.py

lock: ## Write down today's newest versions for the demo
	@$(PYTHON) tools/prepare.py lock

audit: ## Check the locked versions for known vulnerabilities (needs the advisory database; not in CI)
	@$(PYTHON) tools/prepare.py audit
	@.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement tools/demo-constraints.txt

clean: ## Remove the environments and all build output
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
