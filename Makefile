# MALICE for QGIS. `make help` lists the targets; nothing needs to be installed by hand beforehand.
#
# MALICE_TESTDATA: a folder with models/ (the published encoders) and data/ (real images). Tests that need it
# are skipped, visibly, without it; the demo then downloads the encoders.

PYTHON ?= python3
export PYTHON
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Relative on purpose: make cannot handle targets with spaces, a checkout's path may have some.
RUN := .venv/bin/python
STAMP := .venv/.set-up
BENCH_ARGS ?=
DEMO_ARGS ?=
MODELS_ARGS ?=
LOCK_ARGS ?=

.PHONY: help setup demo models test acceptance lint bench docs translate package validate lock deploy clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '%-11s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## virtual environment .venv with everything for development

$(STAMP): pyproject.toml tools/setup.sh
	@bash tools/setup.sh
	@touch $(STAMP)

demo: setup ## a simulated scene, its embedding by QGIS, and a picture: demo/demo.png
	@bash tools/demo.sh $(DEMO_ARGS)

models: setup ## the models for trying out, malice-sim and malice-aux-sim, trained from a seed: hours (MODELS_ARGS)
	@$(RUN) tools/models.py $(MODELS_ARGS)

test: setup ## the quick tests, what CI runs: the engine's, then the plugin's in QGIS (installed where it may be)
	@$(RUN) -m pytest -m "not acceptance" --ignore=tests/qgis \
		--numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
	@bash tools/qgis_tests.sh

acceptance: setup ## the long checks
	@$(RUN) -m pytest -m acceptance --ignore=tests/qgis
	@bash tools/qgis_tests.sh -m acceptance

lint: setup ## ruff and mypy; on the plugin, the scanners that plugins.qgis.org runs
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m bandit --quiet --recursive malice_qgis
	@$(RUN) -m flake8 --select=QGS malice_qgis
	@.venv/bin/detect-secrets-hook $$(git ls-files malice_qgis metadata.txt)

bench: setup ## speed and memory against the published way; needs MALICE_TESTDATA
	@$(RUN) benchmarks/speed.py $(BENCH_ARGS)

docs: setup ## the documentation as a website: build/docs
	@$(RUN) -m mkdocs build --strict --site-dir build/docs
	@echo "build/docs/index.html"

translate: setup ## the plugin's texts into malice_qgis/i18n/*.ts; says which lack a translation
	@$(RUN) tools/translate.py

package: setup ## wheel and source archive of the engine, zip of the plugin, in dist/
	@rm -rf build dist
	@$(RUN) -m build --outdir dist .
	@bash tools/plugin.sh package

validate: package ## what plugins.qgis.org and reviewers run, on the zip (makes .venv-validate)
	@$(RUN) tools/validate.py dist/malice_qgis-$$(sed -n 's/^version=//p' metadata.txt).zip

lock: ## the lock files of the engine the plugin sets up, anew (LOCK_ARGS=--upgrade: the newest releases)
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet 'uv>=0.9,<1'
	@.venv-lock/bin/python tools/lock.py $(LOCK_ARGS)

deploy: setup ## the plugin into a QGIS profile (PROFILE=folder), pointed at .venv
	@bash tools/plugin.sh deploy

clean: ## removes what the targets wrote, but not .venv
	@rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find malice_core tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
