# make demo: train a small recogniser on the speech that ships with the project and evaluate it
# make test: run all tests      make lint: style and types

PYTHON ?= python3
BIN := .venv/bin
RUN := $(shell date +%m%d_%H%M%S)
DEMO := saved/demo

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/python train.py -c hw_asr/configs/demo.json --set trainer.wandb_run=$(RUN)
	$(BIN)/python scripts/language_model/build.py --config hw_asr/configs/demo.json --order 3 --discount-fallback -o $(DEMO)/lm.arpa
	$(BIN)/python test.py -r saved/models/demo/$(RUN)/model_best.pth -c hw_asr/configs/demo_test.json -o $(DEMO)/output.json --report $(DEMO)/report.html

test: .venv/installed
	$(BIN)/python -m unittest discover

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10-3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv saved
