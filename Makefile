# Everything a contributor runs. `make help` lists it.

BIN := .venv/bin
PACKAGES := agents lua serving streams tables tapeline
# Options of `tapeline dev`, of pytest, of the benchmarks: make dev ARGS="--once --json"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup dev test lint unit alerts bench docs lock clean soak overload manifests supply-chain

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: ## .venv from the hashed lock, by uv where there is one, else by pip
	@PYTHON="$(PYTHON)" requirements/setup.sh

dev: setup ## the whole system on this machine; ARGS="--once --json"
	@$(BIN)/tapeline dev $(ARGS)

# Of coverage's ways to count, sys.monitoring slows the tests least; Python 3.11 has none.
COVERAGE_CORE = $(shell $(BIN)/python -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')")
# Most tests of real processes wait for most of their time, so two run at once, each process with servers
# of its own; given servers serve one. The tests of a file stay together.
JOBS ?= $(if $(NT_TEST_REDIS_URL)$(NT_TEST_KAFKA_URL),1,2)
PYTEST = COVERAGE_CORE=$(COVERAGE_CORE) $(BIN)/coverage run -m pytest
test: lint ## lint, types, all tests, coverage gate
	@rm -rf .cache/coverage
	$(PYTEST) --turn alone $(ARGS)
	$(PYTEST) --turn others -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet
	$(BIN)/python -m tests.support.coverage_gate

unit: setup ## unit tests only, no coverage: seconds
	$(BIN)/pytest tests/unit tests/test_layout.py $(ARGS)

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ARGS="--scale 1" as shipped, ARGS="--only worker-killed" for one of them; deploy/prometheus/README.md
alerts: setup ## alerts: promtool's checks, unit tests, and each one fired end to end
	cd deploy/prometheus && promtool check config prometheus.yml && promtool test rules tests/*.yml
	cd deploy/prometheus && amtool check-config alertmanager.yml
	$(BIN)/python -m tests.alerts $(ARGS)

# ARGS="throughput --repeats 5" for one of them, ARGS="all FILE..." with a recording, ARGS=docs to
# write docs/benchmarks.md out of what was found.
bench: setup ## all benchmarks, peers included; ARGS narrows them
	$(BIN)/python -m benchmarks $(ARGS)

# Half an hour with restarts, after half an hour of warm-up; ARGS="--minutes 3 --warm-up-minutes 1".
soak: setup ## an hour at 5,000 records/s, everything restarted every 3 minutes; draws docs/images/soak.svg
	$(BIN)/python -m tests.soak --plot docs/images/soak.svg $(ARGS)

overload: setup ## three times what one worker can take, for 2 minutes; draws docs/images/overload.svg
	$(BIN)/python -m tests.soak overload --plot docs/images/overload.svg $(ARGS)

docs: setup ## regenerate what comes from the code, and build the site into .cache/site/html
	$(BIN)/python -m tapeline.schemas docs/schemas serving/schemas
	$(BIN)/python -m serving.contract_docs docs/api
	$(BIN)/python -m tapeline.config_docs docs/configuration.md
	$(BIN)/python -m tapeline.metrics.docs docs/metrics.md
	$(BIN)/python -m deploy.grafana.boards deploy/grafana/dashboards
	$(BIN)/python -m serving.glossary_made serving/texts
	$(BIN)/python -m serving.mcp.published docs/api/mcp.json
	$(BIN)/python deploy/k8s/prometheus_rule.py
	@requirements/bench.sh docs
	$(BIN)/python -m docs.site

manifests: setup ## overlays by kubeconform, compose files and systemd units by their own tools
	@deploy/k8s/check.sh

# The versions of the core, which is what an image runs (its reader answers /mcp, and all of it may be
# traced), are those of the whole, whatever extras are installed.
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: ## resolve requirements/*.txt anew (needs uv); ARGS="--upgrade"
	@command -v uv >/dev/null || { echo "lock: needs uv on the PATH" >&2; exit 1; }
	$(COMPILE) $(ARGS) --extra dev --extra mcp --extra otel --extra parquet --extra test pyproject.toml requirements/build.in -o requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt --extra mcp --extra otel pyproject.toml -o requirements/core.txt
	$(COMPILE) --constraint requirements/dev.txt requirements/build.in -o requirements/build.txt
	$(COMPILE) $(ARGS) requirements/bench.in -o requirements/bench.txt
	$(COMPILE) $(ARGS) requirements/cryptofeed.in -o requirements/cryptofeed.txt
	$(COMPILE) $(ARGS) requirements/docs.in -o requirements/docs.txt
	$(COMPILE) $(ARGS) requirements/tools.in -o requirements/tools.txt
	@! grep -n '://' requirements/*.txt || { echo "lock: an address got into a lock" >&2; exit 1; }

SBOM := build/supply-chain/tapeline.cdx.json
# ADVISORIES=FILE: weaknesses in the OSV format, looked up without the network.
supply-chain: setup ## licences, SBOM and known weaknesses of what is locked; ARGS=--strict
	@requirements/bench.sh tools
	$(BIN)/python -m supply_chain licences docs/licences.md --check
	$(BIN)/python -m supply_chain sbom $(SBOM)
	.cache/venv-tools/bin/python -m supply_chain.validate $(SBOM)
	$(BIN)/python -m supply_chain audit $(ARGS)

clean: ## remove .venv, caches and build output
	rm -rf .venv .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	rm -rf deploy/kafka-local/lib deploy/kafka-local/target
	rm -f tables/_lane.*.so streams/venues/binance/_wire.*.so
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
