# SPDX-License-Identifier: Apache-2.0
# make demo   the arm does what it is told, from a fresh clone on (sets everything up first)
# make test   all tests
# make lint   ruff and mypy
# make model  the default model from nothing, into models/rt2-tiny; goes on where it was stopped
# make model CONFIG=rt2-tiny-gpu   the same on a GPU
# make results  the default model's figures in docs/results.md, anew: an hour on two cores; goes on too
# make setup  .venv with ROS 2, torch, MuJoCo and this package; again only when their versions change
# make clean  remove what make made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint model results clean

PYTHON ?= python3
# `make demo INSTRUCTION="pick up the banana" SEED=7`; taken from the environment by the shell, so
# that quotes in an instruction stay what they are.
export INSTRUCTION SEED
# The environment stands on its own: what a sourced ROS distribution puts here would shadow its wheels.
unexport PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION
# CPU builds of torch for machines without an NVIDIA GPU; the plain ones bring gigabytes of CUDA.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)
PYTEST_ARGS ?=
CONFIG ?= rt2-tiny

VENV := .venv
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/python -m pip
STAMP := $(VENV)/.setup-done

help:
	@sed -n '/^# make/s/^# //p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py CMakeLists.txt package.xml constraints.txt $(wildcard msg/*.msg) \
		$(wildcard scripts/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit( \
	  f"make setup: {sys.executable} is Python {v[0]}.{v[1]}; ROS 2 wheels exist for 3.10 to 3.13: " \
	  "make setup PYTHON=python3.12")'
	@[[ $$(uname -m) == x86_64 ]] || { echo "make setup: this machine is $$(uname -m); ROS 2 wheels exist" \
	  "for x86_64: take a ROS 2 distribution and colcon (README.md, Use it)" >&2; exit 1; }
	@scripts/system_packages.sh $(PYTHON)
	@[[ -x $(VENV)/bin/python ]] || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -q -c constraints.txt --upgrade pip
	@echo 'Installing ROS 2, torch and MuJoCo into $(VENV): some minutes the first time'
	@$(PIP) install -q -c constraints.txt --group build
	@$(PIP) install -q -c constraints.txt --retries 1 torch \
	  $(addprefix --extra-index-url ,$(TORCH_INDEX))
	@$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[ros,sim,train,bench,dev]'
	@touch $@

demo: setup
	$(VENV)/bin/rt2 demo $${INSTRUCTION:+--instruction "$$INSTRUCTION"} $${SEED:+--seed "$$SEED"}

test: setup
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

model: setup
	$(VENV)/bin/rt2 train --config $(CONFIG) --export models/rt2-tiny --half

# Of this commit: what was played by other code or weights is not gone on with.
EVAL = $(VENV)/bin/rt2 eval --results --policy rt2-tiny --out out/eval-$(shell git rev-parse --short HEAD)
UNSEEN := unseen-objects unseen-backgrounds unseen-environments

results: setup
	$(EVAL) --episodes 200 $(addprefix --suite ,seen $(UNSEEN) emergent)
	$(EVAL) --episodes 100 --suite instructions --suite gripper
	$(EVAL) --questions 500
	for less in '--blind language' '--blind image' --without-plan; do \
	  $(EVAL) --episodes 100 --suite seen --suite emergent/reasoning $$less; \
	done
	$(EVAL) --episodes 60 --suite seen --ros
	$(EVAL) --episodes 30 --suite robustness

clean:
	rm -rf $(VENV) build install log out rt2_ros.egg-info rt2_ros/msg rt2_ros/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
