# Targets with one line each: make help

PYTHON ?= python3
BIN := .venv/bin
RUN := $(shell date +%m%d_%H%M%S)
DEMO := saved/demo

.PHONY: demo test lint reference help clean

demo: .venv/installed ## train a small recogniser on the speech in demo/ and evaluate it (the default)
	$(BIN)/python train.py -c hw_asr/configs/demo.json --set trainer.wandb_run=$(RUN)
	$(BIN)/python scripts/language_model/build.py --config hw_asr/configs/demo.json --order 3 --discount-fallback -o $(DEMO)/lm.arpa
	$(BIN)/python test.py -r saved/models/demo/$(RUN)/model_best.pth -c hw_asr/configs/demo_test.json -o $(DEMO)/output.json --report $(DEMO)/report.html

test: .venv/installed-dev ## run all tests
	$(BIN)/python -m hw_asr.tests.parallel

lint: .venv/installed-dev ## check style, spelling and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

reference: .venv/installed ## write docs/config.md and docs/config.schema.json from the code
	$(BIN)/python scripts/config_reference.py

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1 \2/p' Makefile | while read -r target text; do printf 'make %-10s %s\n' "$$target" "$$text"; done

clean: ## remove .venv and saved
	rm -rf .venv saved

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 15) else "Python 3.10-3.14 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@
