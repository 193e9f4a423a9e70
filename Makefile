# Everything works from a fresh clone with only Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# More than cores: many tests wait for processes and terminals.
WORKERS ?= 4
SLOW_WORKERS ?= 3
# Without it every worker would compile every test anew, and every process of a test every module.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow check format bench screenshots proto clean

# The main job on loopback: signalling server, two agents, relay, traffic, an agent switch.
demo: $(VENV)/.installed
	$(BIN)/rtun demo --seconds 10

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist worksteal

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "slow and not alone" -n $(SLOW_WORKERS) --dist worksteal; together=$$?; \
	  $(BIN)/python -m pytest -m "slow and alone" && exit $$together

# One door for contributors: format, lint, types, import contracts.
check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One table; each row is a ratio measured in the same run.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

screenshots: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[screenshots]"
	$(BIN)/python -m screenshots.make

# Regenerates rtun_core/wire/pb; needed only after a change of the schema. The generator wants an older
# protobuf than the program, hence a virtual environment of its own.
proto:
	$(PYTHON) -m venv $(VENV)-proto
	$(VENV)-proto/bin/python -m pip install --quiet grpcio-tools==1.75.1 mypy-protobuf==3.6.0
	PATH="$(CURDIR)/$(VENV)-proto/bin:$$PATH" python -m grpc_tools.protoc -I. --python_out=. --mypy_out=quiet:. rtun_core/wire/pb/rtun.proto

clean:
	rm -rf $(VENV) $(VENV)-proto build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rtun needs Python 3.11 or newer; $(PYTHON) is older. Say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,check]"
	@touch $@ $(VENV)/.installed
