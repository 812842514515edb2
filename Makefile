# make run: the daemon on what this host has. make test: all that a change must pass.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --use-pep517

# Package, how to tell whether it is there, what is lost without it.
TOOLS := \
	"prometheus: command -v prometheus: tests against a real Prometheus are skipped" \
	"snmpd: command -v snmpd: tests against net-snmp's agent are skipped" \
	"snmp: command -v snmptrap: tests with net-snmp's traps are skipped" \
	"freeipmi-tools: command -v ipmi-dcmi: tests with freeipmi's tool are skipped" \
	"ipmitool: command -v ipmitool: tests with ipmitool are skipped" \
	"gcc: command -v cc || command -v gcc: tests of NVML are skipped" \
	"libc6-dev: test -e /usr/include/stdio.h: tests of NVML are skipped"
PEERS := \
	"prometheus-node-exporter: command -v prometheus-node-exporter: nothing is compared with it" \
	"prometheus-pushgateway: command -v prometheus-pushgateway: client_golang is not measured"
# Debian parts Python from its venv module.
VENV_MODULE := "python3-venv: $(PYTHON) -c 'import ensurepip': Python cannot make $(VENV)"

.PHONY: run test lint format docs golden bench clean

run: $(VENV)/run.stamp
	@$(BIN)/w2t run $(ARGS)

test: lint
	PATH="$$PATH:/usr/sbin" $(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/run.stamp
	$(BIN)/w2t docs docs

golden: $(VENV)/test.stamp
	W2T_GOLDEN=1 $(BIN)/python -m pytest tests/test_recorded.py

bench: $(VENV)/test.stamp
	@.ci/packages $(PEERS)
	@set -e; for file in tests/benchmarks/[a-z]*.py; do \
		$(BIN)/python -m tests.benchmarks.$$(basename $$file .py); done

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"w2t needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@.ci/packages $(VENV_MODULE)
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[grpc]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(BIN)/python
	@.ci/packages $(TOOLS)
	$(PIP) -e '.[grpc,test]'
	@touch $@ $(VENV)/run.stamp
