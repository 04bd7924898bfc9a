# ScamTap. `make demo` on a fresh machine shows the whole thing; `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?=
ENGINE ?=
TRITON := .venv-triton

.DEFAULT_GOAL := help
.PHONY: help install install-dev install-train weights demo test test-gateways test-slow gateways-install check fmt \
  retrain bench fuzz clean triton-install triton test-triton
# Real gateways and brokers that tests talk to, from Debian; all are started by the tests, on loopback.
PEERS := rtpengine-daemon kamailio kamailio-utils-modules kamailio-tls-modules sip-tester redis-server ffmpeg \
  baresip-core openssl

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

# A stamp per set of extras: nothing is done again until pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.installed

# The CPU build of torch first: the newest one drags in gigabytes of CUDA.
$(VENV)/.installed-train: pyproject.toml | $(BIN)/python
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -e '.[train,bench,dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-dev

install: $(VENV)/.installed ## the venv .venv with everything `scamtap` needs (again: no-op)

install-dev: $(VENV)/.installed-dev ## the same, and what the tests and checks need

install-train: $(VENV)/.installed-train ## the same, and torch, transformers, a synthesiser (to retrain)

weights: install ## fetch and build the models once (about 650 MB, into the user's cache and models/)
	$(BIN)/scamtap models pull

ifeq ($(ENGINE),triton)
demo: triton-install
endif
demo: weights ## two live calls over RTP: a scam is warned of before its ask, a bank call is left alone (ENGINE=triton too)
ifeq ($(ENGINE),triton)
	$(BIN)/python -m pip install -q -e '.[triton]'
	$(BIN)/python -m inference.triton -- $(BIN)/scamtap demo $(DEMO)
else
	$(BIN)/scamtap demo $(if $(ENGINE),--engine $(ENGINE)) $(DEMO)
endif

# Its own venv: under NumPy 2 its tensors come out wrong, without a word.
$(TRITON)/.installed:
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install -q nvidia-pytriton==0.7.0 'numpy<2' 'onnxruntime>=1.22'
	@touch $@

triton-install: $(TRITON)/.installed ## a real tritonserver (24.10, CPU only; not the GPU image) in .venv-triton, 450 MB

triton: weights triton-install ## serve models/ with it on 127.0.0.1:8001; then: scamtap serve --engine triton://127.0.0.1
	$(BIN)/python -m inference.triton

test-triton: install-dev triton-install ## against that real server: batching, reloads, crashes, hangs, TLS
	@$(BIN)/scamtap models pull --quiet || echo "no weights: tests that need them will skip"
	$(BIN)/python -m pytest -m triton tests/triton

test: install-dev ## the tests (installs what it needs, fetches the weights if it can)
	@$(BIN)/scamtap models pull --quiet || echo "no weights: tests that need them will skip"
	$(BIN)/python -m pytest

gateways-install: ## the real gateways and brokers that test-gateways talks to (Debian packages; root or sudo)
	@for package in $(PEERS); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  run=; [ "$$(id -u)" = 0 ] || run=sudo; \
	  $$run apt-get update -qq && $$run env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
	    apt-get install -y -qq --no-install-recommends $$missing; \
	fi

test-gateways: install-dev ## against real rtpengine, Kamailio, SIPp, Redis, NATS (make gateways-install)
	@$(BIN)/scamtap models pull --quiet || echo "no weights: tests that need them will skip"
	$(BIN)/python -m pytest -m gateway

test-slow: install-train ## the long ones: parity with transformers, and everything else
	$(BIN)/scamtap models pull --quiet
	$(BIN)/python -m pytest -m 'slow or not slow' --timeout 1800

check: install-dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: install-dev ## format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: weights ## packet plane against plain C, codecs, websockets, VAD, speech against faster-whisper
	$(BIN)/python benchmarks/rtp.py
	$(BIN)/python benchmarks/codecs.py
	$(BIN)/python benchmarks/websocket.py
	$(BIN)/python benchmarks/vad.py
	$(BIN)/python -m pip install -q -e '.[bench]'
	$(BIN)/python benchmarks/speech.py

fuzz: install-dev ## coverage-guided fuzzing of everything that reads bytes, half a minute each
	$(BIN)/python -m pip install -q -e '.[fuzz]'
	for target in tests/fuzz/fuzz_*.py; do $(BIN)/python $$target -max_total_time=30 || exit 1; done

retrain: install-train weights ## learn a new script from the shipped model in minutes: table, gates, a candidate
	$(BIN)/scamtap-train retrain --scripts datasets/new/heat_grant.yaml --no-voice --quick --work out/retrain

clean: ## remove what was built here (not the user's weight cache)
	rm -rf $(VENV) $(TRITON) .venv-ci build .pytest_cache .mypy_cache .ruff_cache .hypothesis models/speech*/*/model.onnx \
	  models/scam_intent*/*/model.onnx
