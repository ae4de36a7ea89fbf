# make demo    real data to a report, from nothing        make bench         timings against the limits of the machine
# make test    the test suite                             make bench-peers   timings beside neural-tangents and torch.compile
# make lint    style, types, import floors                make compile       GPU kernels for sm_80 and sm_90, no GPU needed
# make fuzz    random networks beside a recursion of      make mutants   what tests notice: FILES="..." or SINCE=commit
#              60 digits (NETWORKS=5000 SEED=1)           make faults    files with flipped bits and changed bytes
# make clean   removes what the targets made              make sanitize  the C++ engine under ASan and UBSan
# make bench-limit   each step of a fit beside what the   make bench-baseline   tables beside other libraries: hours
#              machine could do                         make gate      fails if a step is 1.5 times further from that
# make wheel   dist: manylinux wheels for the Pythons     make wheel-test   each wheel in a clean environment without a
#              at hand (PYTHONS="..."), and an sdist            compiler (WHEEL_DEPS=folder keeps dependencies)
# make docs    the site, docs/_build/html/index.html
#
# Every target sets up what it needs. Steps that are up to date are skipped (stamp files in .venv).

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# What the compiled extension is made from: C++, and the Python from which C++ is generated.
CORE_SOURCES := setup.py $(shell find csrc kernreg/codegen kernreg/ir kernreg/nn/base.py kernreg/nn/nonlinearities -type f \
	\( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name '*.inl' \) -not -path 'csrc/generated/*' 2>/dev/null)

PYTHONS ?=
WHEEL_DEPS ?=

NETWORKS ?= 5000
SEED ?= 1

BENCH_DATE := $(shell date -u +%Y%m%dT%H%M%SZ)
BENCH_ARGS ?=
GATE_ARGS ?=
BENCH := OMP_NUM_THREADS=2 KERNREG_NUM_THREADS=2 $(BIN)/python -m pytest --benchmark-only $(BENCH_ARGS)

.PHONY: demo test fuzz faults sanitize mutants lint compile docs bench bench-limit gate bench-peers bench-baseline wheel wheel-test clean

demo: demo-report/report.html
	@echo 'The report is in $<'

demo-report/report.html: $(VENV)/core.stamp $(shell find kernreg -type f -not -path '*/__pycache__/*' -not -name '*.so')
	$(BIN)/kernreg baseline digits --out demo-report --overwrite

test: $(VENV)/core.stamp $(VENV)/test.stamp
	OMP_NUM_THREADS=1 KERNREG_NUM_THREADS=2 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal $(PYTEST_ARGS)

fuzz: $(VENV)/core.stamp $(VENV)/test.stamp
	$(BIN)/python -m tests.differential --networks $(NETWORKS) --seed $(SEED)

faults: $(VENV)/core.stamp $(VENV)/test.stamp
	$(BIN)/python -m tests.faults

sanitize: $(VENV)/core.stamp $(VENV)/test.stamp
	$(BIN)/python -m tests.sanitize

lint: $(VENV)/core.stamp $(VENV)/test.stamp $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

compile: $(VENV)/core.stamp $(VENV)/test.stamp
	PYTHONPATH=. $(BIN)/python benchmarks/compile.py

# Scripts of the gallery run again when they have changed, pages are written again when their sources have.
docs: $(VENV)/core.stamp $(VENV)/docs.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python docs/_ext/check.py docs/_build/html
	@echo 'The site is docs/_build/html/index.html'

bench: $(VENV)/core.stamp $(VENV)/test.stamp
	mkdir -p benchmarks/results
	$(BENCH) benchmarks --ignore=benchmarks/test_peers.py \
		--benchmark-json=benchmarks/results/bench-$(BENCH_DATE).json

bench-peers: $(VENV)/core.stamp $(VENV)/test.stamp $(PEERS)/install.stamp
	mkdir -p benchmarks/results
	$(BENCH) benchmarks/test_peers.py benchmarks/test_peers_images.py --peers-python=$(PEERS)/bin/python \
		--benchmark-json=benchmarks/results/peers-$(BENCH_DATE).json

bench-limit: $(VENV)/core.stamp
	$(BIN)/python -m benchmarks.limit
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.small

gate: $(VENV)/core.stamp
	$(BIN)/python -m benchmarks.gate $(GATE_ARGS)

wheel: $(VENV)/wheel.stamp
	$(BIN)/python -m tools.wheels $(PYTHONS)

wheel-test:
	$(PYTHON) -m tools.wheel_test $(addprefix --reuse=,$(WHEEL_DEPS))

# What has been measured stays in benchmarks/results/tables.jsonl and is not measured again.
bench-baseline: $(VENV)/core.stamp $(VENV)/test.stamp $(VENV)/competitors.stamp
	$(BIN)/python -m benchmarks.tables run --kind regression --folds 0 1
	$(BIN)/python -m benchmarks.tables run --kind classification

# Some minutes per file. MUTANTS is how many are tried of each, 0 for all; TESTS names other tests than the mirrored ones.
mutants: $(VENV)/core.stamp $(VENV)/test.stamp $(VENV)/mutants.stamp
	$(BIN)/python benchmarks/mutants.py $(FILES) $(addprefix --since=,$(SINCE)) \
		$(addprefix --limit=,$(MUTANTS)) $(if $(TESTS),--tests $(TESTS))

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/deps.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) setuptools wheel pybind11
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable .
	touch $@

# An extension that is older than its sources is removed first, so that a build that fails is not hidden by it.
$(VENV)/core.stamp: $(VENV)/deps.stamp $(CORE_SOURCES)
	rm -rf build kernreg/_core*.so
	$(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/deps.stamp
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable '.[test]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/deps.stamp
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@

$(VENV)/wheel.stamp: $(VENV)/deps.stamp
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable '.[wheel]'
	touch $@

$(VENV)/docs.stamp: $(VENV)/deps.stamp
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable '.[docs]'
	touch $@

$(VENV)/mutants.stamp: $(VENV)/deps.stamp
	KERNREG_BUILD_EXT=0 $(PIP_INSTALL) --no-build-isolation --editable '.[mutants]'
	touch $@

$(VENV)/competitors.stamp: benchmarks/competitors-requirements.txt $(VENV)/deps.stamp
	$(PIP_INSTALL) --requirement $<
	touch $@

$(PEERS)/install.stamp: benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist csrc/generated kernreg/_core*.so *.egg-info demo-report \
		docs/_build docs/api docs/gallery \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
