PYTHON ?= python3
BIN := .venv/bin
# Each run of Dagster is a new process: it shall find the package compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo demo-ui run test lint types bench bench-short bench-cluster

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: .venv/.installed  ## create .venv and install the package with its development tools

.venv/.installed: pyproject.toml constraints.txt $(wildcard jetstream_pipeline/*/*.pyx)
	@echo "installing into .venv, which takes a minute"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

demo: install  ## backfill three hours of a simulated network through Dagster and query them
	$(BIN)/jetstream-pipeline demo

demo-ui: install  ## the same, then Dagster's UI over it on 127.0.0.1:3000, until Ctrl-C
	$(BIN)/jetstream-pipeline demo --ui

run: install  ## Dagster's UI and daemon on 127.0.0.1:3000, against the real hosts
	mkdir -p data/dagster
	test -f data/dagster/dagster.yaml || cp jetstream_pipeline/orchestration/dagster.yaml data/dagster/
	DAGSTER_HOME="$(CURDIR)/data/dagster" $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

test: lint types  ## install, then lint, type check and run every test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

bench-short: install  ## the one figure: a whole replay's speed, beside websockets merely receiving (under a minute)
	@$(BIN)/python benchmarks/replay.py --short

bench: install  ## every benchmark (half an hour and 15 GB in data/bench); benchmarks/RESULTS.md has what they said
	$(BIN)/python benchmarks/replay.py
	$(BIN)/python benchmarks/replay.py --compressed
	$(BIN)/python benchmarks/replay.py --wire v2
	$(BIN)/python benchmarks/replay.py --wire v2 --compressed
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/archive.py
	$(BIN)/python benchmarks/layout.py
	$(BIN)/python benchmarks/tables.py --data data/bench
	$(BIN)/python benchmarks/queries.py --data data/bench
	$(BIN)/python benchmarks/queue_batches.py
	$(BIN)/python benchmarks/dagster_backfill.py

bench-cluster: install  ## a cluster on this machine: 200 windows, workers killed, PostgreSQL restarted; then its speed
	$(BIN)/python benchmarks/cluster.py proof
	$(BIN)/python benchmarks/cluster.py throughput
