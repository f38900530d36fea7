# Every target that needs the environment (re)creates it from requirements.lock if it is missing or out of date. FORMAT=onnx
# adds the packages of requirements-extras.lock, and targets for development add those of requirements-dev.lock, too.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
READY_EXTRAS := $(VENV)/.ready-extras
READY_DEV := $(VENV)/.ready-dev
READY_EXPORT = $(if $(filter onnx,$(FORMAT)),$(READY_EXTRAS),$(READY))
# uv installs the same lock file in a quarter of the CPU time; UV= selects pip.
UV ?= $(shell command -v uv)
INSTALL = $(if $(UV),$(UV) pip install --quiet --python $(VENV)/bin/python,$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check)
LAB := $(VENV)/bin/gan-lab
# The pages of runs show their commands in the form in which they were started.
export GAN_LAB_STARTED_BY := make
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: help setup extras train dry-run inspect-data evaluate score sample identify reconstruct interpolate translate project directions export import publish probe report judge benchmark study book compare runs zoo explain sweep sweep-check sweep-report slurm doctor docker docker-train container-test test test-portable configuration demo docs check bench bench-evaluation bench-processes bench-page bench-live bench-quality bench-start bench-threads bench-growth bench-book bench-sequential gpu-check clean

help:  ## show this help
	@echo "Start with: make train EXP=cgan. ARGS takes key=value overrides, such as ARGS='run.seed=1'."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## create the environment (other targets do so when needed; test, check and docs add their tools)

extras: $(READY_EXTRAS)  ## add ONNX, Hugging Face datasets and Parquet, TensorBoard, and MP4 files to the environment (0.5 GB)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is required. Set PYTHON=..." >&2; exit 2; }
	@echo "Creating $(VENV) from requirements.lock (takes a few minutes, once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(if $(wildcard $(READY_EXTRAS)),$(INSTALL) -r requirements-extras.lock)
	@touch $@ $(wildcard $(READY_EXTRAS))

$(READY_EXTRAS): $(READY) requirements-extras.lock
	@echo "Adding the packages of requirements-extras.lock"
	@$(INSTALL) -r requirements-extras.lock
	@touch $@

$(READY_DEV): $(READY_EXTRAS) requirements-dev.lock
	@echo "Adding the tools of requirements-dev.lock"
	@$(INSTALL) -r requirements-dev.lock
	@touch $@

train: $(READY)  ## EXP=cgan [ARGS=...]: train or resume, and score; without EXP: list the experiments
	@exec $(LAB) train $(EXP) $(ARGS)

dry-run: $(READY)  ## EXP=cgan [ARGS=...]: dry run: config, networks, measured iteration time, expected total time
	@exec $(LAB) dry-run $(EXP) $(ARGS)

inspect-data: $(READY)  ## EXP=dcgan ARGS="data.name=folder data.root=photos": layout, count, sizes, modes, contact sheet
	@exec $(LAB) inspect-data $(EXP) $(ARGS)

evaluate: $(READY)  ## RUN=runs/cgan/seed0 [ARGS="data.root=..."]: score a run on the test set
	@exec $(LAB) evaluate $(RUN) $(ARGS)

score: $(READY)  ## FAKES=samples REALS=photos [METRICS=fid,kid,prdc,is] [EXTRACTOR=inception] [OUT=scores.json]: score folders, .zip or .npz files of images
	@exec $(LAB) score "$(FAKES)" "$(REALS)" $(if $(METRICS),--metrics $(METRICS)) $(if $(EXTRACTOR),--extractor $(EXTRACTOR)) \
	  $(if $(OUT),--out "$(OUT)") $(ARGS)

sample: $(READY)  ## RUN=runs/cgan/seed0 [N=64] [CLASS=7 or cat] [SEED=0] [INTERPOLATE=8] [CODE=0]: samples, latent walks or a varied latent code, in one PNG
	@exec $(LAB) sample $(RUN) $(if $(N),--n $(N)) $(if $(CLASS),--label $(CLASS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(INTERPOLATE),--interpolate $(INTERPOLATE)) $(if $(CODE),--code $(CODE)) $(ARGS)

identify: $(READY)  ## PNG=x.png: run, weights, seed and class of an image of the lab, and the command that draws it again
	@exec $(LAB) identify "$(PNG)" $(ARGS)

project: $(READY)  ## RUN=runs/cgan/seed0 [IN=photos] [N=8]: GAN inversion: the latents closest to images, by default test images
	@exec $(LAB) project $(RUN) $(if $(IN),"$(IN)") $(if $(N),--n $(N)) $(if $(CLASS),--label $(CLASS)) $(if $(OUT),--out "$(OUT)") $(ARGS)

directions: $(READY)  ## RUN=runs/dcgan/seed0 [OUT=folder] [CLASS=7]: latent directions: principal components, and directions to classes
	@exec $(LAB) directions $(RUN) $(if $(CLASS),--label $(CLASS)) $(if $(OUT),--folder "$(OUT)") $(ARGS)

reconstruct: $(READY)  ## RUN=runs/vaegan/seed0 [N=32]: test images next to their reconstructions
	@exec $(LAB) reconstruct $(RUN) $(if $(N),--n $(N)) $(ARGS)

interpolate: $(READY)  ## RUN=runs/vaegan/seed0 [N=8]: latent interpolations between test images
	@exec $(LAB) interpolate $(RUN) $(if $(N),--n $(N)) $(ARGS)

translate: $(READY)  ## RUN=runs/cyclegan/seed0 IN=photos/ OUT=out/ [DIRECTION=BtoA] [MASK=mask.png]: translate images of any size; fill holes
	@exec $(LAB) translate $(RUN) "$(IN)" "$(OUT)" $(if $(DIRECTION),--direction $(DIRECTION)) $(if $(MASK),--mask "$(MASK)") $(ARGS)

export: $(READY_EXPORT)  ## RUN=runs/cgan/seed0 [OUT=model] [FORMAT=onnx or torch]: safetensors, config and model card, usable without the lab
	@exec $(LAB) export $(RUN) $(if $(OUT),--out "$(OUT)") $(if $(FORMAT),--format $(FORMAT)) $(ARGS)

import: $(READY_EXPORT)  ## SNAPSHOT=ffhq.pkl OUT=model [FORMAT=onnx]: export a StyleGAN2-ADA snapshot without running its code
	@exec $(LAB) import "$(SNAPSHOT)" $(if $(OUT),--out "$(OUT)") $(if $(FORMAT),--format $(FORMAT)) $(ARGS)

publish: $(READY_EXPORT)  ## RUN=runs/cgan/seed0 TO=folder or TO=hf:owner/name [FORMAT=onnx]: publish export, web page and model card
	@exec $(LAB) publish $(RUN) --to "$(TO)" $(if $(FORMAT),--format $(FORMAT)) $(ARGS)

probe: $(READY)  ## RUN=runs/dcgan/seed0: logistic regression on the discriminator's features
	@exec $(LAB) probe $(RUN) $(ARGS)

report: $(READY)  ## RUN=runs/cgan/seed0 [OUT=page.html]: HTML report of a run; RUN="a b c" compares runs
	@exec $(LAB) report $(RUN) $(if $(OUT),--out "$(OUT)") $(ARGS)

judge: $(READY)  ## DATA=emoji [N=50] [ARGS=...]: sensitivity of each extractor: smallest blur, noise, mode collapse detected
	@exec $(LAB) judge $(DATA) $(if $(N),--n $(N)) $(ARGS)

benchmark: $(READY)  ## [TABLE=families] [ARGS="run.images=50_000"]: train every row of configs/tables/families.yaml, print the table
	@exec $(LAB) benchmark $(or $(TABLE),families) $(ARGS)

study: $(READY)  ## [STUDY=optimum or all] [BUDGET=quick] [WORKERS=2]: test a claim of the literature, write its page; without STUDY: list the studies
	@exec $(LAB) study $(STUDY) $(if $(BUDGET),--budget $(BUDGET)) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

book: $(READY)  ## write docs/studies from its results and from newer ones in runs/studies
	@$(VENV)/bin/python scripts/book.py

compare: $(READY)  ## RUN="runs/gan/seed0 runs/gan/seed1 runs/cgan/seed0": mean and standard deviation over seeds, side by side
	@exec $(LAB) compare $(RUN) $(ARGS)

runs: $(READY)  ## [ROOT=runs] [ARGS="--filter cgan --sort score --page"]: list runs: status, headline score, alerts, age
	@exec $(LAB) runs $(if $(ROOT),"$(ROOT)") $(ARGS)

zoo: $(READY)  ## list the trained models that ship with the package: zoo:digits and others, usable in place of a run
	@exec $(LAB) zoo

explain: $(READY)  ## [SCORE=fd_digits]: meaning, direction and typical range of a score; without SCORE: of all
	@exec $(LAB) explain $(SCORE) $(ARGS)

sweep: $(READY)  ## SWEEP=cgan_lr [WORKERS=2] [TRIALS=20] [BACKEND=local] [STORAGE=postgresql://...]: hyperparameter sweep; without SWEEP: list the sweeps
	@exec $(LAB) sweep $(SWEEP) $(if $(WORKERS),--workers $(WORKERS)) $(if $(TRIALS),--trials $(TRIALS)) \
	  $(if $(BACKEND),--backend $(BACKEND)) $(if $(STORAGE),--storage "$(STORAGE)") $(ARGS)

sweep-check: $(READY)  ## SWEEP=cgan_lr: check values and metric; first halving and expected time
	@exec $(LAB) sweep-check $(SWEEP) $(if $(TRIALS),--trials $(TRIALS)) $(ARGS)

sweep-report: $(READY)  ## SWEEP=cgan_lr [STORAGE=...]: best configuration, parameter importances, history
	@exec $(LAB) sweep-report $(SWEEP) $(if $(STORAGE),--storage "$(STORAGE)") $(ARGS)

slurm: $(READY)  ## EXP=cgan [NODES=2] [GPUS=8] [TIME=04:00:00] [ARGS=...]: write a batch script that requeues and resumes
	@exec $(LAB) slurm $(EXP) $(if $(NODES),--nodes $(NODES)) $(if $(GPUS),--gpus $(GPUS)) $(if $(TIME),--time $(TIME)) $(ARGS)

doctor: $(READY)  ## [ARGS="data.root=/scratch"]: check that this machine can train
	@exec $(LAB) doctor $(ARGS)

docker:  ## build the Docker image gan-lab; needs only Docker
	@exec docker build --tag gan-lab .

docker-train:  ## EXP=cgan [GPUS=all] [ARGS=...]: train in a container, into the same runs/
	@docker image inspect gan-lab >/dev/null 2>&1 || $(MAKE) docker
	@mkdir -p runs data
	@exec docker run --rm --init --user "$$(id -u):$$(id -g)" --read-only --tmpfs /tmp --shm-size 2g \
	  $(if $(GPUS),--gpus $(GPUS)) --env WANDB_API_KEY --env WANDB_MODE --env WANDB_BASE_URL --env WANDB_PROJECT \
	  --env WANDB_ENTITY --env WANDB_TAGS --env WANDB_NOTES --env RUN_ID \
	  --volume "$(CURDIR)/runs:/runs" --volume "$(CURDIR)/data:/data" --volume gan-lab-cache:/cache \
	  gan-lab train $(EXP) $(ARGS)

container-test:  ## build and run the image as root with buildah and podman, without Docker (some minutes)
	@exec scripts/container-test.sh

test: $(READY_DEV)  ## run all tests
	@$(PYTEST) $(ARGS)

# What kernels of another processor could change: losses and weights of every family (golden traces),
# formulas, scores and samples. What they cannot change is tested once, by `make test`.
GOLDEN := tests/contracts/test_families.py::test_five_iterations_follow_the_golden_trace
FORMULAS := $(addprefix tests/unit/test_,$(addsuffix .py,feature_formulas pairwise metrics losses penalties networks seeding sampling))
# bit-equality of a resumed run, with batch norm
RESUMED := 'tests/integration/test_resume.py::test_killed_and_resumed_run_is_bit_equal_to_uninterrupted[dcgan]'

test-portable: $(READY_DEV)  ## rerun CPU-dependent tests without vector instructions and with four threads
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	  $(PYTEST) $(GOLDEN) $(FORMULAS) $(RESUMED) $(ARGS)
	@TEST_THREADS=4 GOMP_SPINCOUNT=0 $(PYTEST) -n 1 $(GOLDEN) tests/unit/test_sampling.py \
	  tests/unit/test_feature_formulas.py $(RESUMED) $(ARGS)

configuration: $(READY)  ## write docs/configuration.md from the config dataclasses
	@$(VENV)/bin/python scripts/configuration.py

demo: $(READY)  ## [EXP=cgan] [ARGS="run.images=30_000"]: train the runs of the demo page (about 20 minutes for all three), for the next `make docs`
	@mkdir -p docs/_extra/demo
	@for exp in $(or $(EXP),cgan dcgan pix2pix); do \
	  $(LAB) train $$exp data.source=sample run.id=demo log.wandb=off $(ARGS) || exit; \
	  cp runs/$$exp/demo/report.html docs/_extra/demo/$$exp.html; \
	done

docs: $(READY_DEV)  ## build the documentation in site/ offline; fails on warnings and broken links
	@$(VENV)/bin/python -m sphinx -E -a -W --keep-going -q -b html docs site
	@echo "site/index.html"

check: $(READY_DEV)  ## ruff, mypy and the prose check
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/python scripts/check_prose.py

bench: $(READY)  ## training speed compared to two plain training loops
	@exec $(VENV)/bin/python -m benchmarks.throughput $(ARGS)

bench-evaluation: $(READY)  ## overhead of an evaluation beyond sampling and feature extraction
	@exec $(VENV)/bin/python -m benchmarks.evaluation $(ARGS)

bench-processes: $(READY)  ## two single-threaded processes compared to one, on two idle cores
	@exec $(VENV)/bin/python -m benchmarks.processes $(ARGS)

bench-book: $(READY)  ## run every current study with the quick budget: the goal is 20 minutes on two idle cores
	@exec $(VENV)/bin/python -m benchmarks.book $(ARGS)

bench-sequential: $(READY)  ## [ARGS=--draw]: wrong decisions and power of group-sequential studies, docs/sequential.md
	@exec $(VENV)/bin/python -m benchmarks.sequential $(ARGS)

bench-page: $(READY_DEV)  ## time per image of the generator in the report page, in Chromium
	@exec $(VENV)/bin/python -m benchmarks.page $(ARGS)

bench-live: $(READY)  ## overhead of grids and pages during training, in CPU seconds
	@exec $(VENV)/bin/python -m benchmarks.live_page $(ARGS)

bench-quality: $(READY)  ## [ARGS="cgan dcgan --budgets 30,60"]: scores of digits after equal CPU seconds, of each family and of a tutorial loop
	@exec $(VENV)/bin/python -m benchmarks.quality $(ARGS)

bench-start: $(READY)  ## CPU seconds of each command, and of a training until its first iteration
	@exec $(VENV)/bin/python -m benchmarks.startup $(ARGS)

bench-threads: $(READY)  ## what busy-waiting threads cost, on idle and on busy cores
	@exec $(VENV)/bin/python -m benchmarks.threads $(ARGS)

bench-growth: $(READY)  ## CPU seconds of folders of 1,000 to 200,000 images: start, labels, fingerprint, near copies
	@exec $(VENV)/bin/python -m benchmarks.growth $(ARGS)

gpu-check: $(READY)  ## on a GPU: correctness and speed, one table
	@exec $(VENV)/bin/python -m benchmarks.gpu $(ARGS)

clean:  ## remove the environment and the caches; keeps runs and data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
