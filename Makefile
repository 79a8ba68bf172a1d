# `make` alone lists what can be made. Everything is set up on the way, in .venv and data/.

LABELS  ?= 6000 2000 1000 500 250 50
RECIPES ?= supervised published best
SEEDS   ?= 0
DATA    ?= mnist
DRAW    ?= random
OUTPUTS ?= outputs
JOBS    ?=
DEVICE  ?= auto
SET     ?=
N       ?= 50
SINCE   ?= HEAD
SCHEDULER ?=
RUN     ?=
IMAGES  ?=
TARGET  ?= 0.99
ONNX    ?=
LAB     ?=

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
SWEEP   := $(BIN)/python -m ssl_core.lab.sweep --data "$$DATA" --draw "$$DRAW" $${JOBS:+--jobs "$$JOBS"} --device "$$DEVICE" --scheduler "$$SCHEDULER"
# Through the environment: a value with a quote in it then reaches the program, which says what is wrong with it.
export LABELS RECIPES SEEDS DATA DRAW OUTPUTS JOBS DEVICE SCHEDULER SET N SINCE RUN IMAGES TARGET ONNX

VARIABLES := LABELS RECIPES SEEDS DATA DRAW OUTPUTS JOBS DEVICE SCHEDULER SET N SINCE RUN IMAGES TARGET ONNX LAB PYTHON
UNKNOWN   := $(filter-out $(VARIABLES),$(foreach v,$(.VARIABLES),$(if $(filter command line,$(origin $(v))),$(v))))
ifneq ($(strip $(UNKNOWN)),)
$(error unknown variable $(strip $(UNKNOWN)): allowed is $(VARIABLES))
endif

.DEFAULT_GOAL := help
.PHONY: help setup sweep results label-next predict lab site test test-faults test-browser smoke ablation trust reference bench certify clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-13s %s\n' "$$name" "$$what"; done
	@echo
	@echo '  variables of make sweep, with their values now:'
	@echo "    LABELS=\"$$LABELS\" RECIPES=\"$$RECIPES\" SEEDS=\"$$SEEDS\""
	@echo "    DATA=$$DATA (or a folder of images: DATA=path/to/it) DRAW=$$DRAW OUTPUTS=$$OUTPUTS JOBS=$${JOBS:-number of cores} DEVICE=$$DEVICE"

setup: $(READY)  ## make .venv with everything that is needed, and fetch the data

sweep: $(READY)  ## train LABELS × RECIPES × SEEDS, then build the results page; finished runs are kept
	@$(SWEEP) --labels "$$LABELS" --recipes "$$RECIPES" --seeds "$$SEEDS" --outputs "$$OUTPUTS"

results: $(READY)  ## build outputs/results.html again, without training; other prices in SET="wage_per_hour=30"
	@$(BIN)/python -m ssl_core.lab.page --outputs "$$OUTPUTS" --data "$$DATA" --draw "$$DRAW" --set "$$SET"

label-next: $(READY)  ## which N images to label next, without any label: outputs/label_next.csv and .png
	@$(BIN)/python -m ssl_core.lab.choose --number "$$N" --data "$$DATA" --outputs "$$OUTPUTS"

predict: $(READY)  ## what the finished run RUN=outputs/… says of the images in IMAGES=folder, or of those it had no label of
	@$(BIN)/python -m ssl_core.lab.predict --run "$$RUN" --images "$$IMAGES" --target "$$TARGET" --onnx "$$ONNX"

lab: $(READY)  ## explore in JupyterLab, in copies of the notebooks; more options for it in LAB="--no-browser --port 8899"
	@$(BIN)/python -m ssl_core.lab lab
	@MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 $(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/outputs/lab/notebooks/train.ipynb $(LAB)

site: $(READY)  ## build a static site of executed notebooks and results: outputs/site/index.html (five minutes)
	@$(BIN)/python -m ssl_core.lab site

test: $(READY)  ## run all tests
	@$(BIN)/python -m pytest tests

test-faults: $(READY)  ## kill sweeps at a hundred random moments, and other faults; see that nothing is lost (half an hour)
	@KILLS=100 $(BIN)/python -m pytest -n0 -s --timeout 3600 tests/test_faults.py tests/test_cluster.py

test-browser: $(READY)  ## the results page and the notebooks in a headless Chromium (apt install chromium)
	@$(BIN)/python -m pytest -n0 -rs tests/test_browser.py tests/test_browser_lab.py

smoke: $(READY)  ## the whole path in about a minute, a few steps a run, into outputs/smoke
	@$(SWEEP) --labels '1000 50' --recipes "$$RECIPES" --seeds 0 --outputs outputs/smoke --smoke

ablation: $(READY)  ## what each ingredient of the recipes is worth: outputs/ablation.html (three hours on two cores)
	@$(SWEEP) --study ablation --outputs "$$OUTPUTS"

label-studies: $(READY)  ## which images to label, label noise, accuracy without test images: outputs/label_studies.html (two hours)
	@$(SWEEP) --study draws label_noise cross_validation --outputs "$$OUTPUTS"

trust: label-studies  ## the former name of label-studies

reference: $(READY)  ## make everything that the pages show, and renew outputs/reference (eight hours on two cores)
	@$(BIN)/python -m ssl_core.lab reference --outputs "$$OUTPUTS" $${JOBS:+--jobs "$$JOBS"} --device "$$DEVICE" --scheduler "$$SCHEDULER"

bench: $(READY)  ## how fast it is, beside what the machine can do: outputs/bench.json (twenty minutes; nothing else may run)
	@$(BIN)/python -m ssl_core.lab.bench --outputs "$$OUTPUTS"

certify: $(READY)  ## keep what the code of SINCE=commit finished, if a few steps of each recipe show that no number changed
	@$(BIN)/python -m ssl_core.lab.certify --since "$$SINCE"

clean:  ## remove .venv, caches and fetched data; results stay
	rm -rf $(VENV) data/MNIST data/FashionMNIST data/graphs data/folders .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment that is complete has the stamp; one that is not is made anew.
$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo 'setup: $(PYTHON) is not there; install it: apt install python3 python3-venv'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'setup: needs Python 3.11 or newer; name one with PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'setup: this Python lacks its venv module; install it: apt install python3-venv'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo 'setup: installing into $(VENV), about 6 GB: one minute to ten'
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[test]'
	$(BIN)/python -c 'from ssl_core.fetch import fetch; fetch("mnist")'
	@touch $@
