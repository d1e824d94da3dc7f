# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GPU_VENV := .venv-eval-gpu
GPU_BIN := $(GPU_VENV)/bin
GPU_READY := $(GPU_VENV)/.ready
# A torchvision is made for one torch.
GPU_PINS := torch==2.14.1 torchvision==0.29.1 open-clip-torch==3.3.0 timm==1.0.31 ftfy==6.3.1
RUN ?= runs/demo
SCENES_RUN ?= runs/scenes
SERVICES ?= runs/services
EVIDENCE ?= runs/evidence
RESULTS ?= benchmarks/results/evidence.json
WORKERS ?= 2

.DEFAULT_GOAL := help
PINS_VENV := .venv-constraints
.PHONY: help setup demo demo-scenes evidence postgres browser services services-stop container-tools images test test-all test-containers test-docs test-gpu test-eval-gpu bench lint format constraints hashes clean

help:  ## What can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

define new_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Python 3.11 is needed; give it with PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(1) \
		|| { echo "no venv module: apt-get install --no-install-recommends python3-venv"; exit 1; }
endef

setup: $(READY)  ## Make .venv with everything in it, the same versions each time

# torch comes first and alone: a CPU build that is there must satisfy what follows, else pip takes a build with CUDA.
$(READY): pyproject.toml constraints.txt
	$(call new_venv,$(VENV))
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet torch
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[kfp,judge,services,triggers,studio,infra,dev]'
	@touch $@

demo: $(READY)  ## Distil, register, evaluate, gate and promote the bundled teacher's student
	$(BIN)/sidlsg run --output $(RUN)

demo-scenes: $(READY)  ## The same of captioned scenes, where text is hard to fit; takes half an hour
	$(BIN)/sidlsg run --recipe scenes --teacher bundled:scenes/tiny-sd --prompts bundled:scenes/prompts/prompts.parquet \
		--held-out bundled:scenes/prompts/held_out.txt --judge bundled:scenes/judge/judge.safetensors \
		--model-name sidlsg-scenes --output $(SCENES_RUN)

# Debian's package; it is not asked for what needs no database.
postgres:
	@command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 \
		|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq --no-install-recommends postgresql >/dev/null; } \
		|| { echo "PostgreSQL is needed: sudo apt-get install --no-install-recommends postgresql"; exit 1; }

# Debian's package too, for the tests of `sidlsg studio`.
browser:
	@command -v chromium >/dev/null \
		|| { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq --no-install-recommends chromium >/dev/null; } \
		|| { echo "Chromium is needed: sudo apt-get install --no-install-recommends chromium"; exit 1; }

services: $(READY) postgres  ## Start MLflow on PostgreSQL with artifacts on S3, all on this machine
	$(BIN)/sidlsg services start --folder $(SERVICES)

services-stop: $(READY)  ## End them; their data stays
	$(BIN)/sidlsg services stop --folder $(SERVICES)

# A file's tests stay together: they share servers and trained networks. Files come in the folders' order, whose last
# ones are short, so that both workers end together. One that takes 15 minutes hangs.
test: $(READY) postgres browser  ## Run the tests of every change, two files at a time
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 900

# Docker's daemon, and what makes a base image of Debian without a registry.
container-tools:
	@missing=; command -v dockerd >/dev/null || missing=" docker.io"; \
	command -v mmdebstrap >/dev/null || missing="$$missing mmdebstrap debian-archive-keyring"; \
	test -z "$$missing" || { test "$$(id -u)" = 0 && apt-get update -qq \
			&& apt-get install -qq --no-install-recommends $$missing >/dev/null; } \
		|| { echo "Docker is needed: sudo apt-get install --no-install-recommends$$missing"; exit 1; }

test-containers: $(READY) container-tools  ## Build the images and run the tiny pipeline in them, as root
	$(BIN)/python -m pytest -m containers tests/containers

images: $(READY)  ## Build the six images of this commit with Docker
	PYTHON=$(BIN)/python images/build.sh

# What `make test` leaves out: real servers, kills and other faults, several processes, the long forms of tests.
test-all: $(READY) postgres browser  ## Run all tests but those of containers and GPUs; takes an hour and a half or more
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --timeout 3600 --hypothesis-profile thorough \
		-m 'not containers and not gpu' tests

test-docs: $(READY)  ## Run every command of every page that can run on one machine
	$(BIN)/python -m pytest -m '' tests/unit/test_docs.py tests/long/test_pages.py tests/long/test_extension_pages.py

test-gpu: $(READY)  ## Run the tests that need a GPU; they fail where none is
	$(BIN)/python -m pytest -m gpu -rP tests/gpu

test-eval-gpu: $(GPU_READY)  ## Run the tests of CLIP's networks; downloads some GB first
	$(GPU_BIN)/python -m pytest tests/eval_gpu

# Apart from .venv, for this torchvision loads beside the build of torch with CUDA alone. Downloads that build with
# NVIDIA's libraries, several GB, 7 GB on the disk; no network's weights are among it, and the tests need no GPU.
$(GPU_READY): pyproject.toml constraints.txt
	$(call new_venv,$(GPU_VENV))
	grep -v '^torch==' constraints.txt > $(GPU_VENV)/constraints.txt
	PIP_CONSTRAINT=$(GPU_VENV)/constraints.txt $(GPU_BIN)/pip install --quiet $(GPU_PINS) \
		--editable '.[kfp,judge,eval-gpu,dev]'
	@touch $@

bench: $(READY)  ## Measure against the released code's way; where a GPU is, at SD1.5's size too
	$(BIN)/python benchmarks/tiny_cpu.py --output benchmarks/results/tiny_cpu.json
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		$(BIN)/python benchmarks/sd15_gpu.py --output benchmarks/results; \
	else \
		echo "no GPU is here: benchmarks/sd15_gpu.py was not run"; \
	fi

evidence: $(READY)  ## Try the method's claims on the bundled scenes and write docs/evidence.md; takes many hours, resumes
	$(BIN)/python benchmarks/evidence --results $(RESULTS) --work $(EVIDENCE) --output docs

lint: $(READY)  ## Check style, format, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/lint-imports

format: $(READY)  ## Put code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints:  ## Resolve the versions in constraints.txt anew; takes an environment of its own, for minutes
	$(call new_venv,$(PINS_VENV))
	$(PINS_VENV)/bin/pip install --quiet torch
	$(PINS_VENV)/bin/pip install --quiet --editable '.[kfp,judge,services,triggers,studio,metrics,infra,lowbit,ray,dev]'
	$(PINS_VENV)/bin/python .ci/constraints.py constraints.txt
	$(MAKE) hashes

# What images and the wheel are built from: every package that is installed, with the digests of its files.
HASHED := curate/requirements evaluate/requirements-published mlflow/requirements serve/requirements \
	train/requirements trigger/requirements wheel
UV_COMPILE = $(PINS_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make hashes' --constraint constraints.txt

hashes:  ## Resolve images/*-hashed.txt anew from constraints.txt; takes minutes
	$(call new_venv,$(PINS_VENV))
	$(PINS_VENV)/bin/pip install --quiet uv
	for file in $(HASHED); do \
		$(UV_COMPILE) images/$$file.txt --output-file images/$$file-hashed.txt || exit 1; \
	done
	$(UV_COMPILE) --no-deps images/executor.txt --output-file images/executor-hashed.txt
	rm -rf $(PINS_VENV)

clean:  ## Delete the environment, caches and the demos' runs
	rm -rf $(VENV) $(GPU_VENV) $(PINS_VENV) .cache .mypy_cache .ruff_cache .pytest_cache $(RUN) $(SCENES_RUN)
