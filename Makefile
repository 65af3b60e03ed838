# Everything a checkout does. `make help` lists it; nothing has to be installed first
# but Python 3.11 or newer, Go 1.24 or newer and make.
SHELL := /bin/sh
PY := .venv/bin/python
STAMP := .venv/.installed
WORKERS ?= 3
PYTEST := $(PY) -m $(if $(RUNS),tests.repeat $(RUNS),pytest) -q
# Containers set it to stay small. Here hundreds of processes would compile all that they import,
# and each pytest worker would rewrite every test's assertions again.
unexport PYTHONDONTWRITEBYTECODE
# What is not Python, each a target of its own; tests/cluster/assets.py says what and why.
ASSETS := control-plane helm prometheus node-binaries coredns
NODE := helm node-binaries coredns
# By the path: the unit tests need nothing, and of the stories only those in tests/e2e/node a node.
TESTED := $(if $(filter-out tests/unit%,$(or $(T),tests)),control-plane helm prometheus)
STORIES := control-plane $(if $(filter-out tests/e2e/test_%,$(or $(T),tests/e2e)),$(NODE) node-images)

.DEFAULT_GOAL := help
.PHONY: help install assets $(ASSETS) node-images demo test proofs e2e fuzz audit lint format generate verify bench \
    bench-peers image node lock clean

##@ Try it
demo: install $(if $(HEADWATER_CLUSTER),,control-plane) ## Play the product's story on a real control plane (KEEP=1 leaves it running)
	@$(PY) -m demo

##@ Work on it
install: $(STAMP) ## Make .venv from the lock file
$(STAMP): scripts/venv.sh pyproject.toml requirements/dev.txt requirements/uv.txt requirements/anthropic-old.txt
	@PYTHON="$(PYTHON)" scripts/venv.sh
	@touch $@

assets: $(ASSETS) ## Find or build all that the targets need beside Python, each once
$(ASSETS): install
	@$(PY) -m tests.cluster.assets $@

node-images: $(NODE)
	@$(PY) -m tests.cluster.images

test: install $(TESTED) ## Run the tests, on a real kube-apiserver (T=tests/unit for a part, RUNS=10 to repeat them)
	@$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not e2e and not slow" $(or $(T),tests)

proofs: install $(TESTED) ## Run the tests that take long: rollouts, crashes, failover, outages
	@$(PYTEST) -n $(WORKERS) --dist loadgroup -m slow $(or $(T),tests/integration)

e2e: install $(STORIES) ## Run the whole stories, on a real node where one can run
	@$(PYTEST) -n 2 --dist loadgroup --timeout 3600 -m e2e $(or $(T),tests/e2e)

FUZZ := .venv-fuzz/bin/python
fuzz: install ## Search for bytes that crash the sidecar or bring it off the contract (MINUTES=2)
	@test -x $(FUZZ) || $(PY) -m uv venv -q -p $(PY) .venv-fuzz
	@$(PY) -m uv pip sync -q -p $(FUZZ) --require-hashes requirements/fuzz.txt
	@for target in request bundle placing; do PYTHONPATH=operator:. \
	    $(FUZZ) -m fuzz $$target $(or $(MINUTES),2) || exit 1; done

AUDIT := .venv-audit/bin/pip-audit
audit: install ## Ask the registry which pinned packages have a known vulnerability (AUDIT_FLAGS="-s osv" asks OSV)
	@test -x $(AUDIT) || $(PY) -m uv venv -q -p $(PY) .venv-audit
	@$(PY) -m uv pip sync -q -p .venv-audit/bin/python --require-hashes requirements/audit.txt
	@# Strict: a package of which the service knows nothing is not taken for a good one.
	@for lock in requirements/*.txt; do echo "$$lock:"; \
	    $(AUDIT) --strict --require-hashes --disable-pip --progress-spinner off $(AUDIT_FLAGS) -r $$lock || failed=1; \
	done; test -z "$$failed"

lint: install ## ruff, mypy strict, import-linter
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: install ## Format the code and mend what ruff can mend
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

generate: install helm ## Write crds/, docs/reference/, deploy/ and the generated parts of charts/
	@$(PY) -m headwater.resources.generate crds docs/reference
	@$(PY) -m charts.generate

verify: install helm ## Fail when a generated file is stale
	@$(PY) -m headwater.resources.generate --check crds docs/reference
	@$(PY) -m charts.generate --check

bench: install control-plane $(NODE) ## Measure, print a table, write build/bench.json
	@$(PY) -m bench

PEERS := build/peers
bench-peers: install ## Measure the sidecar beside nginx, LiteLLM and Portkey (installs the two into build/peers)
	@test -x $(PEERS)/litellm/bin/python || $(PY) -m uv venv -q -p $(PY) $(PEERS)/litellm
	@$(PY) -m uv pip install -q -p $(PEERS)/litellm/bin/python 'litellm[proxy]'
	@mkdir -p $(PEERS)/portkey # with a newer server it answers every stream with a 500
	@echo '{"overrides": {"@hono/node-server": "~1.13.8"}}' > $(PEERS)/portkey/package.json
	@npm install --silent --no-audit --no-fund --prefix $(PEERS)/portkey @portkey-ai/gateway
	@$(PY) -m bench.peers

image: ## Build both images with docker, podman or buildah (BASE=… and TAG=… as you like)
	@scripts/image.sh

node: ## Install what a node needs beside what is built (root, Debian)
	@scripts/node.sh

##@ Look after it
COMPILE := $(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header
lock: install ## Write the lock files anew from pyproject.toml and *.in
	@$(COMPILE) pyproject.toml --extra operator --extra otel --extra plot requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) requirements/anthropic-old.in -o requirements/anthropic-old.txt
	@# What an image has is what the tests were run with.
	@for role in sidecar operator; do \
	    $(COMPILE) pyproject.toml --extra $$role -c requirements/dev.txt -o requirements/$$role.txt; done
	@$(COMPILE) pyproject.toml --extra sidecar requirements/fuzz.in -c requirements/dev.txt \
	    -o requirements/fuzz.txt
	@$(COMPILE) requirements/audit.in -o requirements/audit.txt
	@$(COMPILE) requirements/image.in -o requirements/image.txt
	@$(COMPILE) tests/e2e/node/application/requirements.in -c requirements/dev.txt \
	    -o tests/e2e/node/application/requirements.txt

clean: ## Remove what make made in this checkout (the Kubernetes binaries stay in the cache)
	rm -rf .venv .venv-anthropic-old .venv-fuzz .venv-audit build dist .mypy_cache .ruff_cache .pytest_cache

help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
