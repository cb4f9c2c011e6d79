# From a bare clone: `make demo`, `make test`, `make lab`. Everything is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BUILD ?= .build
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
NATIVE = $(VENV)-native

SECS ?= 600

.PHONY: help demo test test-vm check lab notebooks bench soak clean

help:
	@echo "make demo       run the quickstart in a real kernel, print its scores, write it as HTML"
	@echo "make test       ruff, mypy, pytest, and the notebooks with nbval"
	@echo "make test-vm    tests of control groups in a virtual machine (qemu, no KVM; TESTS=...: others)"
	@echo "make lab        open JupyterLab on the notebooks"
	@echo "make bench      measure, print the tables of the README, draw $(BUILD)/latency.png"
	@echo "make soak       ten minutes of all that can happen to a run, and what it leaves behind (SECS=60: one minute)"
	@echo "make notebooks  run the notebooks and save their output"
	@echo "make clean      remove $(VENV), $(NATIVE) and $(BUILD)"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isolated_magic needs Python 3.11 or later; this is %s. Say which to use: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@echo "Installing into $(VENV): a minute or two, the first time."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q isolated_magic
	@touch $@

# Libraries of native code change what others do (pandas uses pyarrow when it is there): an environment of their own
# that lies over the first one.
$(NATIVE)/.installed: $(INSTALLED)
	@$(PYTHON) -m venv --without-pip $(NATIVE)
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
		"$$($(NATIVE)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	@$(BIN)/python -m pip --python $(NATIVE)/bin/python install --quiet --disable-pip-version-check --ignore-installed --editable '.[native]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python notebooks/demo.py $(BUILD)

test: $(INSTALLED) $(NATIVE)/.installed check
	ISOLATED_MAGIC_PICTURES=$(BUILD)/pictures $(BIN)/python -m pytest tests -m "not native"
	$(NATIVE)/bin/python -m pytest tests/test_native.py
	$(BIN)/python -m pytest --nbval notebooks
	$(BIN)/python -m pytest --nbval notebooks  # once more: output must be the same on every run

test-vm: $(INSTALLED)
	$(BIN)/python -m tests.vm.machine $(BUILD)/vm $(TESTS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

notebooks: $(INSTALLED)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

bench: $(INSTALLED)
	@mkdir -p $(BUILD)
	@$(BIN)/python benchmarks/latency.py --write $(BUILD)

soak: $(INSTALLED)
	@$(BIN)/python benchmarks/soak.py --secs $(SECS)

clean:
	rm -rf $(VENV) $(NATIVE) $(BUILD)
