# All targets for a fresh machine with Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test ray-test pictures bench quality coverage coverage-any saved gpu-check rebuild-demo thorough mutants faults clean

demo: $(VENV)/.app  ## Install into .venv and open the app on the bundled checkpoint; without a terminal, print the same walk.
	@$(BIN)/tui-pruner demo

test: $(VENV)/.test  ## Install with the test extra; lint, types, architecture, tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 3 --dist loadfile --ignore tests/ray
	@$(MAKE) --no-print-directory ray-test

ray-test: $(VENV)/.ray  ## Install the ray extra; a scan on a Ray cluster of two nodes, one of which is lost. A minute.
	$(BIN)/pytest tests/ray

saved: $(VENV)/.test  ## Use every family's pruned file with stock Ultralytics alone; twenty minutes; writes docs/saved-files.md.
	@$(BIN)/python -m tests.saved.report docs/saved-files.md

coverage: $(VENV)/.test  ## Cut and prove every group of every architecture; hours, resumable; writes docs/coverage.md.
	@$(BIN)/python -m tests.coverage.report

coverage-any: $(VENV)/.test  ## Cut and prove the networks of torchvision, and of timm if installed; an hour, resumable; writes docs/coverage-any.md.
	@$(BIN)/python -m tests.coverage_any.report

bench: $(VENV)/.test  ## Speed and memory as ratios within one run; a report, not a test.
	@$(BIN)/python -m tests.bench.report

quality: $(VENV)/.test  ## Accuracy of our plans, a uniform cut and torch-pruning's pruner after the same recovery; hours on two cores; QUALITY="--coco-model ..." adds models.
	@$(BIN)/python -m benchmarks.quality $(QUALITY)

gpu-check: $(VENV)/.test  ## Every kind of job on the CPU and on the first GPU; writes gpu-check.json, to send to the maintainers. Without a GPU: status 2.
	@$(BIN)/python -m tests.gpu.check gpu-check.json

thorough: $(VENV)/.test  ## Tests marked thorough; 2,000 random models under random plans, new ones in every run; a scan and a compression killed at random moments.
	$(BIN)/pytest -m thorough -n 3 --dist loadfile --timeout 7200 --ignore tests/ray
	TUI_PRUNER_PROPERTY=thorough $(BIN)/pytest -m "" -s --timeout 7200 tests/core/test_random_models.py tests/core/test_families.py tests/core/test_torch_pruning_agrees.py tests/cli/test_scanning.py tests/cli/test_compress_killed.py

faults: $(VENV)/.test  ## Fault injection: malformed and hostile files, fuzzed plans, kills; half an hour.
	@$(BIN)/python -m tests.faults

mutants: $(VENV)/.test  ## Break each rule and each adapter, one at a time; a test must fail each time; half an hour.
	@$(BIN)/python -m tests.mutation.report

pictures: $(VENV)/.test  ## Take the README's pictures from the real app, and the animated one of a whole cut; two minutes.
	@$(BIN)/python assets/screenshots.py
	@$(BIN)/python assets/cast.py

rebuild-demo: $(VENV)/.test  ## Draw the scenes and train the bundled checkpoint again (half an hour on two cores).
	$(BIN)/pip install -q scikit-learn
	$(BIN)/python assets/build_demo.py --out assets/demo

$(VENV)/.app: pyproject.toml | $(VENV)
	$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)
	$(BIN)/pip install -q -e '.[test]'
	@touch $@ $(VENV)/.app

$(VENV)/.ray: $(VENV)/.test
	$(BIN)/pip install -q -e '.[test,ray]'
	@touch $@

$(VENV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip

clean:  ## Remove what the targets above created.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
