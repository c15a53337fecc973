# Begin with `make run` and `make test`; `make help` lists all targets.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
INTERNAL_PORT ?= $(shell echo $$(($(PORT) + 1)))
STATE ?= .tierserve
MODELS ?= $(STATE)/models
VALUES ?=
SECONDS ?= 600
SEED ?=
JOBS ?= 2
DATABASE ?= sqlite
ARGS ?=

BIN := .venv/bin
SERVE := $(BIN)/python -m server serve --state $(STATE) --models $(MODELS) $(if $(VALUES),--values $(VALUES)) \
	--set server.host=$(HOST) --set server.port=$(PORT) --set server.internalPort=$(INTERNAL_PORT) $(ARGS)
TESTED := TIERSERVE_MODELS=$(abspath $(MODELS))
SPREAD := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
BUILT := $(MODELS)/.built
BUILDER := $(wildcard model/build/*.py model/defaults/*/*) model/description.py model/images.py

# Without bytecode each start takes a second longer, and most of it is of .venv.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run timm model models images test test-faults soak hostile foreign test-cluster test-one cluster-parts cluster cluster-down lint format networks architectures bench compare moving-picture docs lock audit clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  make run takes PORT= HOST= STATE= VALUES=file ARGS='--set key=value'"
	@echo "  make test, test-faults, test-cluster and test-one take pytest's options: ARGS='-k word -x'"

run: .venv/.run $(BUILT) ## Set up, build the models the first time, and serve on 127.0.0.1:8080
	@exec $(SERVE)

models: $(BUILT) ## Build the default models

timm: .venv/.timm ## Install torch and timm: to build other networks than the two default ones, and for runtime: timm

model: .venv/.run ## Build your own model: ARGS='best.pth.tar --name flowers --data photos'
	@$(BIN)/tierserve model build --output $(MODELS) $(ARGS)

images: .venv/.test $(BUILT) ## Build the container images of server and worker with buildah, as root
	@$(BIN)/python -m tests.cluster.images --models $(MODELS) $(ARGS)

test: .venv/.test $(BUILT) ## Set up, and run every test that needs no cluster, in JOBS=2 processes
	@$(TESTED) OMP_NUM_THREADS=1 $(BIN)/pytest -m "not cluster and not faults" $(SPREAD) $(ARGS)

foreign: .venv/.test ## Install the clients of Triton and KServe, 370 MB in ~/.cache, for the tests of make test that use them
	@$(BIN)/python -m tests.foreign >/dev/null

test-faults: .venv/.test $(BUILT) ## Test under injected faults of servers, workers, disks and connections, in JOBS=2 processes
	@$(TESTED) $(BIN)/pytest -m faults tests/faults --numprocesses $(JOBS) --dist worksteal $(ARGS)

soak: .venv/.test $(BUILT) ## Inject random faults for SECONDS=600, with SEED= DATABASE=sqlite|postgresql
	@$(TESTED) $(BIN)/python -m tests.faults run --seconds $(SECONDS) --database $(DATABASE) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

hostile: .venv/.test $(BUILT) ## Attack a server for SECONDS=600, then send it mutated requests and pictures, with SEED=
	@$(TESTED) $(BIN)/python -m tests.hostile run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-cluster: cluster-parts ## Test on JOBS=2 two-node Kubernetes; needs root and Go, the first run takes 20 minutes more
	@$(TESTED) $(BIN)/pytest -m cluster tests/e2e tests/cluster tests/images tests/chart tests/monitoring $(SPREAD) $(ARGS)

test-one: .venv/.test $(BUILT) ## Run one test of any suite: TEST=tests/e2e/test_quota.py::test_name
	@[ -n "$$TEST" ] || { echo "Name the test: make test-one TEST=tests/e2e/test_quota.py::test_name"; exit 2; }
	@! $(BIN)/pytest --collect-only -qq -m cluster "$$TEST" >/dev/null 2>&1 || $(MAKE) --no-print-directory cluster-parts
	@$(TESTED) $(BIN)/pytest "$$TEST" $(ARGS)

cluster-parts: .venv/.test $(BUILT)
	@$(BIN)/python -m tests.cluster binaries --all >/dev/null
	@$(BIN)/python -m tests.cluster.images --models $(MODELS)

cluster: .venv/.test $(BUILT) ## Start a two-node Kubernetes that is ready for helm install; needs root and Go
	@$(BIN)/python -m tests.cluster up --dir $(STATE)/cluster --models $(MODELS)

cluster-down: .venv/.test ## Remove the Kubernetes that make cluster started
	@$(BIN)/python -m tests.cluster down --dir $(STATE)/cluster

lint: .venv/.test ## Run ruff, mypy and import-linter, and check the generated pages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/python -m server.settings.reference --check

format: .venv/.test ## Format the code
	@$(BIN)/ruff check --fix-only . ; $(BIN)/ruff format .

networks: .venv/.test ## Record the networks of the default models from timm, in model/defaults
	@$(BIN)/python -m model.build.recording $(ARGS)

architectures: .venv/.test ## Build a network of each family of timm, for half an hour, and write docs/architectures.md
	@$(BIN)/python -m benchmarks.architectures $(ARGS)

bench: .venv/.test $(BUILT) ## Measure the performance, each figure beside its raw limit
	@$(BIN)/python -m benchmarks --models $(MODELS) $(ARGS)

compare: .venv/.test $(BUILT) ## Compare with other model servers, side by side in one run, for 35 minutes
	@$(BIN)/python -m benchmarks.compare --models $(MODELS) $(ARGS)

moving-picture: .venv/.test $(BUILT) ## Run a scene of a minute, and draw it for the README in docs/pictures/queue.svg
	@$(TESTED) $(BIN)/python -m benchmarks.moving_picture $(ARGS)

docs: .venv/.run ## Generate docs/configuration.md from the schema
	@$(BIN)/python -m server.settings.reference

lock: .venv/.test ## Write the newest versions of all dependencies, and their hashes, into requirements.lock
	@$(BIN)/python -m uv pip compile -q --universal --all-extras --generate-hashes --no-header --no-annotate --upgrade --no-emit-index-url setup.py -o requirements.lock
	@$(BIN)/python -m benchmarks.compare.locking
	@$(BIN)/python -m tests.foreign --lock

audit: .venv/.test ## Ask a database of advisories about every package of requirements.lock
	@$(BIN)/python -m tests.supply.audit $(ARGS)

clean: ## Remove the virtual environment and the state folder
	@[ ! -e $(STATE)/cluster/ready ] || $(BIN)/python -m tests.cluster down --dir $(STATE)/cluster
	rm -rf .venv $(STATE)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making a virtual environment in .venv"
	@$(PYTHON) -m venv --without-pip .venv

define install
@echo "installing $(1)"
@sh docker/install.sh $(BIN) $(BIN)/python -e '.[$(1)]'
endef

.venv/.run: .venv/bin/python setup.py requirements.lock
	$(call install,server$(comma)worker$(comma)build)
	@touch $@

.venv/.timm: .venv/.run setup.py requirements.lock
	$(call install,timm)
	@touch $@

.venv/.test: .venv/bin/python setup.py requirements.lock
	$(call install,server$(comma)worker$(comma)build$(comma)timm$(comma)test$(comma)supply)
# cyclonedx-bom brings it, and jsonschema would import it for a second at each start of a server, for formats of URLs
# that no schema here has.
	@$(BIN)/uv pip uninstall -q --python $(BIN)/python rfc3987-syntax
	@touch .venv/.run .venv/.timm $@

comma := ,

# While the build begins, on one core, Python compiles the modules of the server on another: its first start is two seconds
# shorter.
$(BUILT): $(BUILDER) | .venv/.run
	@$(BIN)/python -c 'import server.app, server.serve_command' >/dev/null 2>&1 &
	@$(BIN)/python -m model build --require int8 --output $(MODELS)
	@touch $@
