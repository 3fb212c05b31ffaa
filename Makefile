# Everything a developer types, and CI runs the same. `make` alone lists it.

PYTHON ?= python3
BIN := .venv/bin
STATIC := pulltrace/server/static/index.html
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
ARGS ?=
# npm, where it comes with a Node that the page's tools run on.
NPM := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2>/dev/null && command -v npm)
NO_NPM := no npm with Node 20.19 or newer here

.DEFAULT_GOAL := help
.PHONY: help install demo cluster test lint format web web-test parts stubs pins schema chart chart-readme licences docs bench soak fuzz reliability clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .make/venv .make/web ## A virtual environment with the pulltrace command, and the built page in it

demo: install ## A living dashboard with a simulated cluster: http://127.0.0.1:8080 (ARGS="--nodes 30 --speed 2")
	@exec $(BIN)/pulltrace demo $(ARGS)

cluster: install .make/dev parts ## A one-node cluster with a real kubelet, and the dashboard beside it: http://127.0.0.1:8080 (as root)
	@exec $(BIN)/python -m tests.real.local_cluster

test: install .make/dev parts web-test ## Every test but those of `make reliability`; installs what they need
	$(BIN)/python -m pytest -n 5 --dist worksteal --ignore tests/faults --ignore tests/kubelet $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest tests/kubelet)

lint: .make/dev .make/npm ## Style, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(NPM),cd web && npm run --silent check,@echo "lint: $(NO_NPM), so the page's sources are not checked")

format: .make/dev ## Put the sources into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

web: .make/web ## Build the page into pulltrace/server/static

web-test: .make/npm ## The page's unit tests and its size
	$(if $(NPM),cd web && npm test --silent && npm run --silent budget,@echo "web-test: $(NO_NPM), so the page's unit tests do not run")

parts: .make/dev ## containerd, kube-apiserver, Helm, Chromium … for the tests that use real ones
	$(BIN)/python -m tests.real.parts $(if $(CI),--require)

stubs: .make/dev ## Generate the gRPC stubs from our .proto files
	$(BIN)/python -m tests.real.stubs

schema: .make/dev ## Make docs/schemas/pull-event-v1.json from pulltrace/wire.py
	$(BIN)/python .github/scripts/event_schema.py

reliability: .make/dev ## Do every fault to real processes and write docs/reliability.md's table
	$(BIN)/python -m tests.faults.table

fuzz: .make/dev ## Fuzz all that reads what others wrote, a minute each (ARGS="--seconds 600 report"), then the API by its own document
	$(BIN)/python -m tests.fuzz $(ARGS)
	EXAMPLES=500 $(BIN)/python -m pytest --timeout 1200 tests/server/api/test_openapi.py

chart: .make/dev ## Lint the chart and test it: rendering, alerts, a real API server, releases
	$(BIN)/python -m pytest tests/chart tests/release $(ARGS)

chart-readme: .make/dev ## Make the chart's README from its values
	$(BIN)/python .github/scripts/chart_readme.py

licences: .make/dev ## Make docs/licences.md, the licence of all that is shipped
	$(BIN)/python .github/scripts/licences.py

docs: .make/dev ## The site, strictly, into site/; and what it says, held against the code
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python -m pytest tests/docs $(ARGS)

pins: .make/dev ## Refresh requirements/*.txt, the hashed pins of images and CI
	@for half in agent server all; do $(PIN) --extra $$half -o requirements/$$half.txt; done
	@$(PIN) --extra all --group test --group lint --group fuzz --group chart --group release --group docs -o requirements/dev.txt

# No index lines, and a pin for every Python we support.
PIN := $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml

.make/venv: pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "install: Pulltrace needs Python 3.11 or newer; set PYTHON=python3.x"; exit 1; }
	@echo "install: Python packages into .venv (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "install: $(PYTHON) makes no virtual environment (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@mkdir -p .make && touch $@

.make/dev: .make/venv
	@echo "install: tools for tests and lint"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# Without npm nothing is marked as done: the next run looks again.
.make/npm: web/package-lock.json
	@mkdir -p .make
	$(if $(NPM),@echo "install: npm packages" && cd web && npm ci --silent --no-audit --no-fund && touch ../$@,@echo "install: $(NO_NPM)")

.make/web: .make/npm $(WEB_SOURCES)
	$(if $(NPM),@echo "install: building the page" && cd web && npm run --silent build && touch ../$@,@echo "install: so the server will say that its page is not built")

bench: .make/dev ## Load the server, beside a naive one; figures go to bench/README.md (ARGS=--short: a smoke, ARGS='--soak 10': ten minutes)
	$(BIN)/python -m bench $(ARGS)

soak: .make/dev ## Half an hour of faults from a seed, all invariants held all the time (ARGS="--minutes 10 --seed 3")
	$(BIN)/python -m tests.soak $(ARGS)

clean: ## Remove all that was built or installed here
	rm -rf .venv .make web/node_modules pulltrace/server/static dist site
