# make demo   the video uploader with everything embedded      make test   all tests
PYTHON ?= python3
PORT   ?= 8000
VENV   := .venv/bin
# More words for pytest: make test ARGS="tests/worker -k retry"
ARGS   ?=

.PHONY: help demo test lint types format bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run the demo on http://127.0.0.1:8000 (PORT=… moves it)
	@$(PYTHON) tools/prepare.py demo
	@exec $(VENV)/jobpush demo --port $(PORT)

test: ## Run all tests: units, Redis, Celery, a real browser
	@$(PYTHON) tools/prepare.py test
	@$(VENV)/python -m pytest $(ARGS)

lint: ## Check the style
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/ruff check . && $(VENV)/ruff format --check .

types: ## Check the types
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/mypy

format: ## Write the code the way the style wants it
	@$(PYTHON) tools/prepare.py lint
	@$(VENV)/ruff check --fix . ; $(VENV)/ruff format .

bench: ## Measure progress.update and the way of one event
	@$(PYTHON) tools/prepare.py test
	@$(VENV)/python -m tests.benchmarks

clean: ## Remove .venv and all that tools left behind
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
