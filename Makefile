# Two commands are all a newcomer needs: `make demo` and `make test`. Each sets itself up.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# uv of one's own where there is one that runs here, else one in a private environment.
UV := $(shell command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1 && command -v uv || echo .tools/bin/uv)
BOOTSTRAP ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import ensurepip, venv' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
LOCK := requirements.lock
# What stands or falls with a release of LiteLLM; CONTRIBUTING.md says what each failure asks for.
LITELLM_TESTS := tests/worker/provider tests/worker/attempts

.PHONY: help setup upgrade-litellm demo docs screenshots test docker-test check audit format lock soak bench clean purge

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: $(VENV)/.installed  ## the environment, in .venv

$(VENV)/.installed: $(LOCK) pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python "$$(cat .python-version)" $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.tools/bin/uv:
	@test -n "$(BOOTSTRAP)" || { echo "make needs uv, or a Python 3 with venv" >&2; exit 1; }
	$(BOOTSTRAP) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

check: setup  ## ruff, strict typing, import contracts, and what runs whenever Python starts
	$(BIN)/python tools/check_pth.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: | $(UV)  ## known vulnerabilities of what is locked (asks the package index)
	$(UV) tool run pip-audit --requirement $(LOCK) --require-hashes --disable-pip

test: setup  ## the whole suite, on real servers and workers
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

docker-test: setup  ## the tests marked `docker`: on the engine that is here, or as root on one of its own
	PYTHONPATH=tools $(BIN)/python -m docker_engine $(BIN)/python -m pytest -m docker tests/docker $(ARGS)

format: setup  ## ruff's formatter and its safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: | $(UV)  ## resolve requirements.lock, and the image's build tools, anew
	$(UV) pip compile --quiet --python-version "$$(cat .python-version)" --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--all-extras --group dev pyproject.toml -o $(LOCK) $(ARGS)
	printf 'dumb-init\nhatchling\nuv\n' | $(UV) pip compile --quiet --python-version "$$(cat .python-version)" --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		-c $(LOCK) - -o docker/build.lock $(ARGS)

upgrade-litellm: | $(UV)  ## move to LiteLLM VERSION: the lock, and the tests that say what it breaks
	@test -n "$(VERSION)" || { echo "make upgrade-litellm VERSION=1.110.2" >&2; exit 2; }
	sed -i.bak -E 's/("litellm(\[[a-z,]+\])?)==[^"]+"/\1==$(VERSION)"/' pyproject.toml
	$(MAKE) lock ARGS="--upgrade-package litellm"
	$(MAKE) setup
	$(BIN)/python -m pytest -q $(LITELLM_TESTS)

demo: setup  ## a guild, a queue, a worker and a model, all on this machine
	@$(BIN)/python examples/demo.py $(if $(MODEL),--model "$(MODEL)")

screenshots: setup  ## docs/images, of what really runs (needs chromium and prometheus); five minutes
	$(BIN)/python tools/demo_picture.py
	$(BIN)/python tools/flower_pictures.py
	$(BIN)/python tools/dashboard_pictures.py

bench: setup  ## this project beside LiteLLM and plain Celery, measured; eleven minutes
	$(BIN)/python -m bench $(ARGS)

docs: setup  ## the pages that are written from the code
	$(BIN)/python tools/settings_page.py
	$(BIN)/python tools/properties_page.py
	$(BIN)/python tools/errors_page.py
	$(BIN)/python tools/commands_page.py

soak: setup  ## random faults for MINUTES (60), by SEED, with a READY_WINDOW
	cd tests && ../$(BIN)/python -m faults.soak --minutes $(or $(MINUTES),60) --seed $(or $(SEED),1) \
		$(if $(READY_WINDOW),--ready-window $(READY_WINDOW))

clean:  ## every cache; the environment stays
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

purge: clean  ## the environment and its tools, too
	rm -rf $(VENV) .tools
