# Everything a developer does, by name. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help install run test check lint fmt types proto proto-check bench bench-guard evaluate docs pictures deploy deploy-check images fuzz audit sbom lock clean chaos soak

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# the tree itself comes first, so that checks see what is in it and not what is installed
export PYTHONPATH := $(CURDIR):$(CURDIR)/protos
# measurements of real links, where they lie beside the checkout; tests that want them skip elsewhere
TRACES_DIR ?= $(realpath ../shared/data)
ifneq ($(TRACES_DIR),)
export TRACES_DIR
endif
# two processes: what fits the smallest machine that tests run on
PYTEST ?= $(BIN)/python -m pytest -n 2 --dist loadscope
SERVE ?= --demo
SECONDS ?= 60
PROTOS := $(sort $(wildcard protos/pba/v1/*.proto))

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## ?/  make \1\t/' | expand -t 22

run: $(VENV)/run ## Install what serving needs and serve simulated links (SERVE= for none)
	$(BIN)/pba serve $(SERVE)

install: $(VENV)/dev ## Install everything that developing needs

test: $(VENV)/dev ## Run every test (PYTEST= to run them otherwise, T= for some of them)
	$(PYTEST) $(T)

check: lint types proto-check test ## Everything that CI checks

lint: $(VENV)/dev ## Check style, formatting, which module knows which, and the contract where npx is
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@if command -v npx >/dev/null; then npx --yes @bufbuild/buf@1.75.0 lint protos && echo "the contract passes buf"; \
	else echo "SKIPPED: buf lint of the contract, which needs npx"; fi

fmt: $(VENV)/dev ## Format, and mend what can be mended safely
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/dev ## Check types
	$(BIN)/mypy

proto: $(VENV)/dev ## Generate the Python of the contract
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
		--python_out=protos --grpc_python_out=protos --mypy_out=protos --mypy_grpc_out=protos $(PROTOS)

proto-check: $(VENV)/dev ## Check that the generated Python is that of the contract
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
		--python_out="$$fresh" --grpc_python_out="$$fresh" --mypy_out="$$fresh" --mypy_grpc_out="$$fresh" $(PROTOS) && \
	for file in $$(cd "$$fresh" && find . -name '*.py*'); do \
		diff -u "protos/$$file" "$$fresh/$$file" || { echo "the contract's Python is stale: make proto"; exit 1; }; \
	done && echo "the contract's Python is current"

bench: $(VENV)/dev ## Measure everything that is said of speed and size, and refresh benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

bench-guard: $(VENV)/dev ## Fail where a ratio fell far below what make bench found last; half a minute
	$(BIN)/python -m benchmarks.guard

chaos: $(VENV)/dev ## Break everything under load, look for what was acknowledged, and write the table into docs/reliability.md
	$(BIN)/python -m tests.chaos --write

soak: $(VENV)/dev ## Run under load for 35 minutes, look for leaks, and write the table into docs/reliability.md
	$(BIN)/python -m tests.chaos.soak --write

evaluate: $(VENV)/dev ## Score the shipped model and all that serves around it on the development traces
	@test -f "$(TRACES_DIR)/dev.parquet" || { echo "TRACES_DIR names no folder with dev.parquet"; exit 1; }
	$(BIN)/pba evaluate --data $(TRACES_DIR)/dev.parquet

docs: $(VENV)/dev ## Write the pages that are generated
	$(BIN)/python -m pba_service.settings_page > docs/.page && mv docs/.page docs/configuration.md
	$(BIN)/python -m docs.reference_page
	$(BIN)/python -m docs.capacity_page
	$(BIN)/python -m docs.metrics_page > docs/.page && mv docs/.page docs/metrics.md

pictures: $(VENV)/dev ## Photograph the console and the live table, from simulated links; needs chromium
	$(BIN)/python -m docs.pictures.make

deploy: $(VENV)/dev ## Make the dashboards and the operator's rules from code
	$(BIN)/python -m deploy.generate

deploy-check: $(VENV)/dev ## Render and validate manifests, test alerts, ask every panel of a real Prometheus; needs kubectl, prometheus, promtool
	DEPLOY_CHECK=1 $(BIN)/python -m pytest tests/deploy

images: ## Build all container images, and run the server's (docker, podman, or buildah as root)
	docker/build.sh
	docker/check.sh

fuzz: $(VENV)/security ## Give hostile input to everything that reads any (SECONDS= for each target, FUZZ= for some of them)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(FUZZ)

audit: $(VENV)/security ## Look for known faults in the locked dependencies
	.ci/audit $(BIN)

sbom: $(VENV)/security ## Write what is inside the service's image, as CycloneDX, to build/sbom.json
	mkdir -p build
	$(BIN)/cyclonedx-py requirements --of JSON --sv 1.6 --pyproject pyproject.toml --output-file build/sbom.json \
		.ci/requirements-server.lock

lock: $(VENV)/dev ## Resolve the locked dependencies anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --upgrade --quiet \
		--output-file .ci/requirements-run.lock pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --upgrade --quiet \
		--constraint .ci/requirements-run.lock --extra tracing --output-file .ci/requirements-server.lock pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --upgrade --quiet \
		--constraint .ci/requirements-server.lock --extra train --output-file .ci/requirements-train.lock pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --upgrade --quiet \
		--constraint .ci/requirements-train.lock --extra dev --output-file .ci/requirements-dev.lock pyproject.toml
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --python-version 3.11 --upgrade --quiet \
		--constraint .ci/requirements-dev.lock --extra security --output-file .ci/requirements-security.lock pyproject.toml

clean: ## Remove the environment and what tools leave behind
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "PBA needs Python 3.11 or later; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Dependencies as locked, by hash; then PBA itself, in place.
$(VENV)/run: .ci/requirements-run.lock pyproject.toml | $(BIN)/python
	@echo "Installing what serving needs into $(VENV) ..."
	$(BIN)/pip install --disable-pip-version-check --require-hashes -r .ci/requirements-run.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/dev: .ci/requirements-dev.lock $(VENV)/run
	@echo "Installing what developing needs, TensorFlow included, into $(VENV); this takes a minute or two ..."
	$(BIN)/pip install --disable-pip-version-check --require-hashes -r .ci/requirements-dev.lock
	@touch $@

$(VENV)/security: .ci/requirements-security.lock $(VENV)/dev
	$(BIN)/pip install --disable-pip-version-check --require-hashes -r .ci/requirements-security.lock
	@touch $@
