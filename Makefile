# What a person, and CI, runs. Needs Python >= 3.11 with its headers, a C compiler and make; nothing else.
#
#   make run       set up once, then a demonstration session       make test     set up once, then the tests
#   make check     format, lint, types, layering, build, a smoke of the benchmarks, instructions of the core, tests
#   make bench     figures, beside their peers                    make performance   the same into docs/performance.md
#   make nightly   the long tests                                  make clean    remove what was built
#   make sanitize  unit and property tests of a build with bounds checks, assertions, AddressSanitizer and UBSan
#   make bench-quick   each figure and peer once, small            make gate     instructions of the core against the baseline
#   make smoke         each benchmark for a moment: a result that differs from its peer's fails it
#
# Work is done once: a stamp file in the virtual environment says what is already there.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORE := $(wildcard ext/*.pyx ext/*.pxd ext/*.h) setup.py

# The core is built by `.built` alone, so that a changed .pyx rebuilds that module and nothing else;
# RISKWIRE_ONLY=- tells setup.py to leave it out of the editable install.
# A plain path, not an import hook: the hook costs each start 20 ms.
INSTALL := RISKWIRE_ONLY=- $(PIP) install --no-build-isolation --config-settings editable_mode=compat --editable

# Many tests wait for processes more than they compute: two at a time, those of a file by one process, in their order.
# ARGS="-n 0": all by one process, as `python -m pytest` does.
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test check lint format bench bench-quick bench-peers performance smoke gate sanitize nightly ready everything \
    clean distclean
.DELETE_ON_ERROR:

run: ready
	@$(BIN)/riskwire demo $(ARGS)

test: ready
	@$(BIN)/python -m pytest $(TOGETHER) $(ARGS)

check: lint smoke gate test

lint: ready $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest --concise --ignore-missing-stub --ignore-disjoint-bases --ignore-unused-allowlist \
	    --allowlist .ci/stubtest-allow $(patsubst ext/%.pyx,ext.%,$(wildcard ext/*.pyx))
	@$(BIN)/python -m pytest -q tests/unit/test_layering.py

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: ready $(VENV)/.bench
	@$(BIN)/python -m bench $(ARGS)

bench-quick: ready $(VENV)/.bench
	@$(BIN)/python -m bench --quick $(ARGS)

# The page of figures and its plots, measured again; about 15 minutes, on a quiet machine.
performance: ready $(VENV)/.bench
	@$(BIN)/python -m bench --json bench.json $(ARGS)
	@$(BIN)/python -m bench table bench.json --write docs/performance.md

# Results are what is looked at; each process it needs starts and ends in a second or two.
smoke: ready $(VENV)/.bench
	@$(BIN)/python -m bench --smoke $(ARGS)

# NautilusTrader and openpit, in an environment of their own: they are large, and pin what riskwire uses too.
bench-peers: $(VENV)-peers/.installed

$(VENV)-peers/.installed:
	@$(PYTHON) -m venv $(VENV)-peers
	@$(VENV)-peers/bin/python -m pip --disable-pip-version-check --quiet install nautilus_trader openpit
	@touch $@

gate: ready
	@$(BIN)/python -m bench gate $(ARGS)

# In build/sanitize, beside the ordinary build and without touching it. ARGS: other tests than these.
sanitize: $(VENV)/.installed
	@sh .ci/sanitize "$(abspath $(BIN))/python" $(ARGS)

nightly: ready
	@$(BIN)/python -m pytest -o addopts=--strict-markers -m "nightly or not nightly" --timeout 3600 $(ARGS)
	@$(MAKE) --no-print-directory sanitize ARGS="tests --timeout 3600"

ready: $(VENV)/.created
	@$(MAKE) --no-print-directory -j2 $(VENV)/.installed $(VENV)/.built $(VENV)/.compiled

# For who needs it all, as CI does: one call of pip in place of three, and the core is built meanwhile.
everything: $(VENV)/.created
	@$(MAKE) --no-print-directory -j2 $(VENV)/.all $(VENV)/.built $(VENV)/.compiled

$(VENV)/.created:
	@sh .ci/prerequisites "$(PYTHON)"
	@echo "riskwire: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install 'setuptools>=77' 'cython>=3.1' wheel
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@echo "riskwire: installing what it and its tests need"
	@$(INSTALL) '.[test]'
	@touch $@

$(VENV)/.built: $(CORE) $(VENV)/.created
	@echo "riskwire: building the core (about a minute, once; afterwards only what changed)"
	@$(BIN)/python setup.py build_ext --inplace >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	@touch $@

# As pip does for a wheel; where Python may not write byte code itself, each start would compile 100 modules: 0.1 s.
$(VENV)/.compiled: $(wildcard engine/*.py engine/*/*.py feeds/*.py) $(VENV)/.created
	@$(BIN)/python -m compileall -q engine feeds
	@touch $@

$(VENV)/.all: pyproject.toml $(VENV)/.created
	@echo "riskwire: installing what it, its tests, checks and benchmarks need"
	@$(INSTALL) '.[test,dev,bench]'
	@touch $(VENV)/.installed $(VENV)/.dev $(VENV)/.bench $@

$(VENV)/.dev: pyproject.toml $(VENV)/.created
	@$(INSTALL) '.[test,dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.created
	@$(INSTALL) '.[test,bench]'
	@touch $@

clean:
	rm -rf build dist *.egg-info ext/*.c ext/*.so ext/*.html .hypothesis .pytest_cache .mypy_cache .ruff_cache .benchmarks
	rm -f $(VENV)/.built $(VENV)/.compiled $(VENV)/.installed $(VENV)/.dev $(VENV)/.bench $(VENV)/.all
	find engine ext feeds tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(VENV)-peers
