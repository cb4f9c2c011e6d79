# From a bare clone: `make demo`, `make test`, `make lab`. Everything is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BUILD ?= .build
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
# uv takes a quarter of its time, but does not read the configuration of pip, which may say where packages come from.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
NATIVE = $(VENV)-native
METRICS = $(VENV)-metrics

SECS ?= 600

# Plugins that take seconds to load, in each worker, and do nothing here (workers do not get the addopts of pyproject.toml).
PYTEST = $(BIN)/python -m pytest
TESTS_ONLY = -p no:opik -p no:nbval
export ISOLATED_MAGIC_PICTURES ?= $(BUILD)/pictures
# Of jobs that run at the same time, each one's output in one piece: make 3.81 of macOS cannot.
JOBS = $(MAKE) --no-print-directory -j3 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Of the tests that an ordinary user has to pass, too: what a limit or a signal may do is not the same for root.
USER_TESTS ?= tests/test_executor.py tests/test_lifecycle.py tests/test_limits.py tests/test_process.py
NOX = $(BIN)/nox --noxfile .ci/noxfile.py --envdir $(abspath $(BUILD))/nox

.PHONY: help demo test test-native test-metrics test-notebooks test-notebooks-again test-all test-others test-user test-vm
.PHONY: quick check lab notebooks site bench soak clean

help:
	@echo "make demo       run the quickstart and a whole dataset in real kernels, print their scores, write them as HTML"
	@echo "make quick      ruff, mypy, and the most telling tests of each subject: an answer within a minute"
	@echo "make test       everything: ruff, mypy, pytest on all cores, and the notebooks with nbval, twice"
	@echo "make test-all   make test on each Python from 3.11 to 3.14 that this machine has (make test-others: quick on the others)"
	@echo "make test-user  for root: the tests of executors, lifetime and limits as an ordinary user"
	@echo "make test-vm    tests of control groups in a virtual machine (qemu, no KVM; TESTS=...: others)"
	@echo "make lab        open JupyterLab on the notebooks"
	@echo "make bench      measure, print the tables of the manual, draw $(BUILD)/latency.png"
	@echo "make soak       ten minutes of all that can happen to a run, and what it leaves behind (SECS=60: one minute);"
	@echo "                draws $(BUILD)/soak_memory.png"
	@echo "make site       the manual as HTML, in $(BUILD)/site"
	@echo "make notebooks  run the notebooks and save their output"
	@echo "make clean      remove $(VENV), $(NATIVE), $(METRICS) and $(BUILD)"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isolated_magic needs Python 3.11 or later; this is %s. Say which to use: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@echo "Installing into $(VENV): a minute, the first time."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) 'uv>=0.9'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]' || $(PIP) --editable '.[dev]'
	@$(BIN)/python -m compileall -q isolated_magic
	@touch $@

# Libraries of native code change what others do (pandas uses pyarrow when it is there): an environment of their own
# that lies over the first one.
$(NATIVE)/.installed: $(INSTALLED)
	@$(PYTHON) -m venv --without-pip $(NATIVE)
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		"$$($(NATIVE)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	@$(BIN)/uv pip install --quiet --python $(NATIVE)/bin/python --compile-bytecode --editable '.[native]'
	@touch $@

# Metric libraries bring other versions of much, and plugins of pytest: they lie over the first environment, too.
$(METRICS)/.installed: $(INSTALLED)
	@$(PYTHON) -m venv --without-pip $(METRICS)
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		"$$($(METRICS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	@$(BIN)/uv pip install --quiet --python $(METRICS)/bin/python --compile-bytecode --editable '.[metrics]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python notebooks/demo.py $(BUILD)

# In three steps: what may run beside other tests, what has to be alone, and what has an environment of its own.
test: $(INSTALLED)
	@$(JOBS) $(NATIVE)/.installed $(METRICS)/.installed check
	$(PYTEST) $(TESTS_ONLY) tests -n auto -m "not native and not metrics and not alone"
	$(PYTEST) $(TESTS_ONLY) tests -m "alone and not native and not metrics"
	@$(JOBS) test-native test-metrics test-notebooks test-notebooks-again

test-native: $(NATIVE)/.installed
	$(NATIVE)/bin/python -m pytest $(TESTS_ONLY) tests/test_native*.py

# Without the plugins of pytest that the libraries bring; that of xdist is named.
test-metrics: $(METRICS)/.installed
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(METRICS)/bin/python -m pytest -p xdist.plugin -n 2 tests/test_metric_libraries*.py

test-notebooks: $(INSTALLED)
	$(PYTEST) --nbval notebooks

# Once more, as outputs must be the same on every run: in a copy, because the notebooks write files.
test-notebooks-again: $(INSTALLED)
	@rm -rf $(BUILD)/again && mkdir -p $(BUILD)/again && cp -R notebooks $(BUILD)/again
	$(PYTEST) -c pyproject.toml -p no:cacheprovider --nbval $(BUILD)/again/notebooks

# An interpreter that this machine lacks is passed over, with a line that says so.
test-all: $(INSTALLED)
	$(NOX) --tags full

test-others: $(INSTALLED)
	$(NOX) --tags others

test-user: $(INSTALLED)
	@.ci/as_user $(BIN)/python $(BIN)/uv $(USER_TESTS)

quick: $(INSTALLED) check
	$(PYTEST) $(TESTS_ONLY) tests -n auto -m quick

test-vm: $(INSTALLED)
	$(BIN)/python -m tests.vm.machine $(BUILD)/vm $(TESTS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

# All but the one that needs a daemon and images.
notebooks: $(INSTALLED)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		$(filter-out notebooks/containers.ipynb,$(wildcard notebooks/*.ipynb))
	$(BIN)/python notebooks/reference_pages.py

site: $(INSTALLED)
	$(BIN)/python -m sphinx -q -W -n --keep-going -c notebooks/site notebooks $(BUILD)/site
	@echo "$(BUILD)/site/index.html"

bench: $(INSTALLED)
	@mkdir -p $(BUILD)
	@$(BIN)/python benchmarks/latency.py --write $(BUILD)

soak: $(INSTALLED)
	@$(BIN)/python benchmarks/soak.py --secs $(SECS) --write $(BUILD)

clean:
	rm -rf $(VENV) $(NATIVE) $(METRICS) $(BUILD)
