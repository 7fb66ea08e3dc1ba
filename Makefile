# Everything happens in the virtual environment .venv: `make demo`, `make test`, `make bench`, `make lint`.
PYTHON ?= python3
TORCH ?= torch==2.13.0

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --no-warn-conflicts
# torch is installed first and then pinned for every later call, so that no dependency replaces it
PIP := PIP_CONSTRAINT=$(CURDIR)/$(VENV)/constraints.txt $(INSTALL)
BUILD_REQUIRES := "setuptools>=77" "pybind11>=2.13" ninja
# every core runs tests of its own: threads that wait must not spin in their way
TEST_ENVIRONMENT := OMP_WAIT_POLICY=passive
CXX_SOURCES = $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.c')

.DELETE_ON_ERROR:
.PHONY: help demo test versions bench gpu-check lint format clean
help:
	@echo "make demo    train and query a code search on this machine's Python sources (out/code_search)"
	@echo "make test    build and run the tests; ARGS='-k clip' selects"
	@echo "make versions    the same kernels and losses with the tritons and torches that the README names (installs 25 GB)"
	@echo "make bench   measure against PyTorch on this machine"
	@echo "make gpu-check   on a machine with a GPU, with its own python3: is it right and fast there? (docs/gpu.md)"
	@echo "make lint    ruff, mypy, clang-format; make format applies what they can"
	@echo "make clean   remove the environment and everything built"

demo: $(VENV)/examples.stamp $(VENV)/native.stamp
	$(RUN) examples/code_search.py --out out/code_search $(ARGS)

test: $(VENV)/test.stamp $(VENV)/native.stamp
	$(TEST_ENVIRONMENT) $(RUN) -m pytest -n auto $(ARGS)

# ARGS='triton-3.6.0 torch-2.8.0' selects
versions: $(VENV)/test.stamp $(VENV)/native.stamp
	$(RUN) tests/versions.py $(ARGS)

bench: $(VENV)/bench.stamp $(VENV)/native.stamp
	$(RUN) -m bench $(ARGS)

# no environment is made: a machine with a GPU has a torch for it, and perhaps no network
gpu-check:
	$(PYTHON) setup.py -q build_ext --inplace
	$(PYTHON) -m bench.gpu_check $(ARGS)

lint: $(VENV)/lint.stamp $(VENV)/native.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_SOURCES)

format: $(VENV)/lint.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CXX_SOURCES)

clean:
	rm -rf $(VENV) .versions build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f contrastive_ops/_native*.so contrastive_ops/_cuda*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/constraints.txt:
	@echo "Making $(VENV) with $(TORCH)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) '$(TORCH)' $(BUILD_REQUIRES)
	@$(RUN) -c "from importlib.metadata import version; print('torch==' + version('torch'))" > $@

# without build isolation: the compiled objects in build/ stay valid from call to call
$(VENV)/native.stamp: $(VENV)/constraints.txt setup.py pyproject.toml $(shell find csrc)
	@echo "Building contrastive_ops._native"
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/%.stamp: $(VENV)/constraints.txt pyproject.toml tests/oracles.txt | $(VENV)/native.stamp
	@echo "Installing what '$*' needs"
	@$(PIP) --no-build-isolation --editable '.[$*]'
	@$(if $(filter test,$*),$(PIP) --no-deps --requirement tests/oracles.txt)
	@touch $@
