# Two commands on a fresh machine with Python 3.11+, pip and make: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
ENVIRONMENT ?= local
VIZ_PORT ?= 4141
MLFLOW_PORT ?= 5000
WORKERS ?= 2
DETECTOR ?= latest
export KEDRO_DISABLE_TELEMETRY := 1
# An option that make was given: shells have a HOST and a PORT of their own, which ask for nothing.
asked = $(if $(filter command,$(origin $(1))),--$(2)=$($(1)))

.PHONY: run students test test-long faults lint format mlflow serve viz benchmark docs clean

run: .venv/installed  ## MKD on the embedded textures: scores, heat maps, an MLflow run
	$(BIN)/kedro run --env=$(ENVIRONMENT)

students: .venv/installed  ## Uninformed Students on the embedded textures, teachers included
	$(BIN)/kedro run --env=$(ENVIRONMENT) --pipelines=uninformed_students

test: .venv/dev  ## all tests but the long ones, a file at a time on each of WORKERS processes
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

test-long: .venv/dev  ## the tests that `make test` leaves out for their length
	$(BIN)/python -m pytest -m long

faults: .venv/dev  ## killed processes and servers, locked databases; KDAD_KILLS=30 kills each pipeline 30 times
	$(BIN)/python -m pytest -m faults

lint: .venv/dev  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/ty check src

format: .venv/dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

mlflow: .venv/installed  ## compare runs at http://127.0.0.1:$(MLFLOW_PORT)
	$(BIN)/python -m kdad.project.tracking_ui --env=$(ENVIRONMENT) --port=$(MLFLOW_PORT)

serve: .venv/installed  ## DETECTOR (latest, a folder, an exported file, runs:/ID, models:/name@champion) at http://HOST:PORT
	$(BIN)/python -m kdad.serving "$(DETECTOR)" --env=$(ENVIRONMENT) $(call asked,HOST,host) $(call asked,PORT,port)

viz: .venv/installed  ## the DAG at http://127.0.0.1:$(VIZ_PORT)/?types=nodes
	$(BIN)/kedro viz run --no-browser --port=$(VIZ_PORT) --include-hooks

benchmark: .venv/dev  ## measures everything and writes docs/lab/benchmarks.md; ANOMALIB=python of an environment that holds it
	$(BIN)/python benchmarks/write_page.py $(if $(ANOMALIB),--anomalib=$(ANOMALIB))

docs: .venv/docs  ## the documentation in site/; its search needs `python -m http.server -d site`
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kdad needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements-dev.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
	@touch $@

.venv/docs: requirements-docs.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-docs.lock
	@touch $@

clean:  ## remove what runs have made; keeps .venv and data/01_raw
	rm -rf mlruns site data/.locks data/0[2-8]_*/*
