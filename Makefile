# This file contains all commands for developers; CI uses them too. `make` without a target lists them.

PYTHON ?= python3
BIN := .venv/bin
STATIC := pulltrace/server/static/index.html
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
ARGS ?=
PORT ?= 8080
# Most tests wait for other programs, so there are more workers than cores.
WORKERS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2) + 1)))
# On some machines, Python is configured not to write bytecode files. Without these files, each test worker would
# compile all tests and modules again.
unexport PYTHONDONTWRITEBYTECODE
# NPM is the path of npm, or empty if the installed Node cannot run the page's tools.
NPM := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null && command -v npm)
NO_NPM := npm with Node 20.19 or newer was not found

.DEFAULT_GOAL := help
.PHONY: help install demo free-port cluster unit coverage test lint lint-python lint-web format web web-test parts stubs pins schema chart chart-readme licences docs bench soak fuzz reliability snapshotters phases clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .make/venv .make/web ## Create a virtual environment with the pulltrace command and the built page

demo: $(if $(findstring --port,$(ARGS)),,free-port) install ## Run a live dashboard with a simulated cluster: http://127.0.0.1:8080 (PORT=8090 ARGS="--nodes 30 --speed 2")
	@exec $(BIN)/pulltrace demo $(if $(findstring --port,$(ARGS)),,--port $(PORT)) $(ARGS)

# The port is checked first, because the installation may take minutes.
free-port:
	@$(CHECK_PYTHON)
	@error=$$($(PYTHON) -c '$(BIND)' $(PORT)) || { echo "demo: port $(PORT): $$error; choose another one: make demo PORT=8090"; exit 1; }

BIND = import socket, sys; sys.excepthook = lambda kind, error, where: print(getattr(error, "strerror", "") or error); \
  s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1])))

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "install: Pulltrace needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }

cluster: install .make/dev parts ## Run a one-node cluster with a real kubelet, and a dashboard for it: http://127.0.0.1:8080 (as root; PORT=8090)
	@exec $(BIN)/python -m tests.real.local_cluster $(PORT)

# Tests that start programs, use real components or try random examples for a long time are excluded.
UNIT := tests/agent tests/server tests/contract tests/test_images.py tests/test_logs.py tests/test_settings.py
NOT_UNIT := $(addprefix tests/,agent/test_process.py agent/test_invariants.py server/test_run.py server/test_tls.py server/test_traces.py server/test_metrics.py \
  server/api/test_openapi.py server/pulls/test_lives.py server/pulls/test_invariants.py)

unit: .make/dev .make/npm ## Run the fast tests between edits: they need no root, only Python and Node
	@EXAMPLES_PROFILE=quick $(BIN)/python -m pytest -q -n $(WORKERS) $(addprefix --ignore=,$(NOT_UNIT)) \
	  -m "not real and not cluster and not browser and not chart and not kubelet" $(UNIT) $(ARGS)
	@$(if $(NPM),cd web && npm test --silent,echo "unit: $(NO_NPM), so the dashboard's unit tests do not run")

coverage: .make/dev ## Show which lines the fast tests execute, as a table and in htmlcov/
	EXAMPLES_PROFILE=quick $(BIN)/python -m coverage run -m pytest -q -p no:xdist $(addprefix --ignore=,$(NOT_UNIT)) \
	  -m "not real and not cluster and not browser and not chart and not kubelet" $(UNIT) $(ARGS)
	$(BIN)/python -m coverage report --skip-covered
	$(BIN)/python -m coverage html --quiet

# The tests with a real kubelet spend most of their time waiting for it, so they run alongside the other tests.
test: install .make/dev parts web-test ## Run every test except those of `make reliability` and `make phases`; installs what they need
	@$(if $(ARGS),,$(BIN)/python -m pytest -n 3 tests/kubelet --ignore tests/kubelet/test_phases.py >.make/kubelet.log 2>&1 & kubelet=$$!;) \
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore tests/faults --ignore tests/kubelet $(ARGS); result=$$?; \
	$(if $(ARGS),,wait $$kubelet || result=1; cat .make/kubelet.log;) exit $$result

lint: lint-python lint-web ## Check the style, types and import rules

lint-python: .make/dev
	$(BIN)/ruff check
	$(BIN)/ruff check --preview --select PLR0916
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-web: .make/npm
	$(if $(NPM),cd web && npm run --silent check,@echo "lint: $(NO_NPM), so the dashboard's sources are not checked")

format: .make/dev ## Format the sources
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

web: .make/web ## Build the page into pulltrace/server/static

web-test: .make/npm ## Run the page's unit tests and check its size
	@$(if $(NPM),cd web && npm test --silent && npm run --silent budget,echo "web-test: $(NO_NPM), so the dashboard's unit tests do not run")

parts: .make/dev ## Install containerd, kube-apiserver, Helm, Chromium … for the tests that use the real programs
	@$(BIN)/python -m tests.real.parts $(if $(CI),--require)

stubs: .make/dev ## Generate the gRPC stubs from our .proto files
	$(BIN)/python -m tests.real.stubs

schema: .make/dev ## Generate docs/schemas/pull-event-v1.json and the page's interfaces from the models in pulltrace/server
	$(BIN)/python .github/scripts/event_schema.py
	$(BIN)/python web/scripts/wire_types.py

reliability: .make/dev ## Inject each fault into real processes and write the table in docs/reliability.md
	$(BIN)/python -m tests.faults.table

fuzz: .make/dev ## Fuzz each parser of untrusted data for a minute (ARGS="--seconds 600 report"), then the API from its OpenAPI document
	$(BIN)/python -m tests.fuzz $(ARGS)
	EXAMPLES=500 $(BIN)/python -m pytest --timeout 1200 tests/server/api/test_openapi.py

chart: .make/dev ## Lint the chart and test it: rendering, alerts, a real API server, releases
	$(BIN)/python -m pytest tests/chart tests/release $(ARGS)

chart-readme: .make/dev ## Generate the chart's README from its values, with helm-docs
	@$(BIN)/python -m tests.real.parts --require helm-docs
	$$($(BIN)/python -c 'from tests.real.versions import HELM_DOCS; print(HELM_DOCS.path)') --chart-search-root charts/pulltrace \
	  --sort-values-order file --log-level warning

licences: .make/dev ## Generate docs/licences.md, which lists the licences of everything that is shipped
	$(BIN)/python .github/scripts/licences.py

docs: .make/dev ## Build the site strictly into site/, and compare the docs with the code
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m pytest tests/docs $(ARGS)

pins: .make/dev ## Refresh requirements/*.txt, the hashed pins of images and CI
	@for half in agent "server --extra otel" all; do $(PIN) --extra $$half -o requirements/$${half%% *}.txt pyproject.toml; done
	@$(PIN) --extra all --extra otel --group test --group lint --group fuzz --group chart --group release --group docs \
	  -o requirements/dev.txt pyproject.toml
	@for group in packaging audit; do $(PIN) -c requirements/dev.txt --group pyproject.toml:$$group -o requirements/$$group.txt; done

# The pinned requirements contain no package index URL, and cover every supported version of Python.
PIN := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header

.make/venv: pyproject.toml requirements/all.txt requirements/packaging.txt
	@$(CHECK_PYTHON)
	@printf "install: Python packages into .venv:"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "install: $(PYTHON) cannot make a virtual environment (Debian: apt-get install python3-venv)"; exit 1; }
	@$(call INSTALL,-r requirements/all.txt -r requirements/packaging.txt)
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p .make && touch $@

PIP := $(BIN)/python -m pip install --disable-pip-version-check
# The first installation takes a minute, so the name of each package is printed while pip fetches it.
INSTALL = { $(PIP) --progress-bar off --require-hashes $(1) || echo FAILED; } | { while read -r word name rest; do \
  case $$word in Collecting) printf ' %s' "$${name%%[=;]*}" ;; FAILED) exit 1 ;; esac; done; echo; }

.make/dev: .make/venv requirements/dev.txt
	@printf "install: tools for tests and lint:"
	@$(call INSTALL,-r requirements/dev.txt)
	@touch $@

# Without npm, this step is not marked as done, so the next run looks for npm again.
.make/npm: web/package-lock.json
	@mkdir -p .make
	$(if $(NPM),@echo "install: npm packages" && cd web && npm ci --loglevel error --no-audit --no-fund >/dev/null && touch ../$@,@echo "install: $(NO_NPM)")

.make/web: .make/npm $(WEB_SOURCES)
	$(if $(NPM),@echo "install: building the dashboard" && cd web && $(QUIET_BUILD) && touch ../$@,@echo "install: without npm, the dashboard has no page, only links to tables")

# Vite prints the name of every file and warnings about its own speed, so its output is shown only if the build fails.
QUIET_BUILD := { npm run --silent build >../.make/web.log 2>&1 || { cat ../.make/web.log; exit 1; }; }

bench: .make/dev ## Put load on the server and on a naive one, and write the figures to bench/README.md (ARGS=--short: a short run, ARGS='--soak 10': ten minutes)
	$(BIN)/python -m bench $(ARGS)

soak: .make/dev ## Inject random faults for half an hour, and check all invariants continuously (ARGS="--minutes 10 --seed 3")
	$(BIN)/python -m tests.soak $(ARGS)

snapshotters: .make/dev parts ## Test one-minute pulls for every way in which images reach a real node: containerd's snapshotters, SOCI, stargz
	PULL_SECONDS=60 $(BIN)/python -m pytest -n $(WORKERS) tests/agent/test_real_ways.py $(ARGS)

phases: install .make/dev parts ## Compare the start-up phases of twenty pods with a real kubelet's log, on an idle machine (as root)
	$(BIN)/python -m pytest -s tests/kubelet/test_phases.py $(ARGS)

clean: ## Remove everything that was built or installed here
	rm -rf .venv .make web/node_modules pulltrace/server/static dist site
