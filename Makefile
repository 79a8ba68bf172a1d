# `make` alone lists the targets. Each sets up what it needs, in .venv and data/.

VARIABLES := LABELS RECIPES SEEDS WRONG_LABELS CLUSTERS FEATURES PRECISION DATA SIDE DRAW OUTPUTS JOBS DEVICE SCHEDULER SET N SINCE RUN IMAGES TARGET ONNX FROM APPLY A B WORTH LAB TORCH PYTHON
# Only what is given to make counts, as in `make sweep DATA=folder`: DATA or N can be in a shell for another reason. `make -e` takes it.
FOUND := $(foreach v,$(VARIABLES),$(if $(filter environment,$(subst t o,t-o,$(origin $(v)))),$(v)))
$(foreach v,$(FOUND),$(eval FOUND_$(v) := $$(value $(v))))

LABELS  = 6000 2000 1000 500 250 50
RECIPES = supervised published best
SEEDS   = 0
WRONG_LABELS = 0
CLUSTERS =
FEATURES =
PRECISION = auto
DATA    = mnist
SIDE    =
DRAW    = random
OUTPUTS = outputs
JOBS    =
DEVICE  = auto
SET     =
N       = 50
SINCE   = HEAD
SCHEDULER =
RUN     =
IMAGES  =
TARGET  = 0.99
ONNX    =
FROM    =
APPLY   =
A       =
B       =
WORTH   = 0.1
LAB     =
TORCH   =
PYTHON  = python3

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
DEV     := $(VENV)/.ready-dev
COMMAND := $(BIN)/python -m ssl_core.lab
SWEEP   := $(COMMAND) sweep --data "$$DATA" --side "$$SIDE" --draw "$$DRAW" $${JOBS:+--jobs "$$JOBS"} --device "$$DEVICE" --scheduler "$$SCHEDULER"
PYTEST  := $(BIN)/python -m pytest
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0
CPU_INDEX := https://download.pytorch.org/whl/cpu
# Through the environment: a value with a quote in it then reaches the program, which says what is wrong with it.
export LABELS RECIPES SEEDS WRONG_LABELS CLUSTERS FEATURES PRECISION DATA SIDE DRAW OUTPUTS JOBS DEVICE SCHEDULER SET N SINCE RUN IMAGES TARGET ONNX FROM APPLY A B WORTH

# The code of this folder, read as UTF-8; nothing of another Python or another project.
export PYTHONPATH := $(CURDIR)
export PYTHONUTF8 := 1
unexport PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT

UNKNOWN   := $(filter-out $(VARIABLES),$(foreach v,$(.VARIABLES),$(if $(filter command line,$(origin $(v))),$(v))))
ifneq ($(strip $(UNKNOWN)),)
$(error unknown variable $(strip $(UNKNOWN)): must be one of $(VARIABLES))
endif
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH='$(TORCH)': must be cpu, or nothing)
endif
ifeq ($(MAKELEVEL),0)
GOAL := $(or $(filter-out help,$(firstword $(MAKECMDGOALS))),sweep)
$(foreach v,$(FOUND),$(if $(subst <$($(v))>,,<$(FOUND_$(v))>),$(info $(v)=$(FOUND_$(v)) from the environment is not used; give it to make: make $(GOAL) $(v)=…)))
endif

.DEFAULT_GOAL := help
.PHONY: help setup sweep results label-next check-labels predict export-labels import-labels compare-labels duplicates lab site test test-fast test-faults test-browser check smoke ablation label-studies label-strategies label-errors frontier future-work peers pools own-labels trust reference bench certify clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-16s %s\n' "$$name" "$$what"; done
	@echo
	@echo '  variables of make sweep, with their values now:'
	@echo "    LABELS=\"$$LABELS\" RECIPES=\"$$RECIPES\" SEEDS=\"$$SEEDS\""
	@echo "    WRONG_LABELS=\"$$WRONG_LABELS\" (the fractions of labels to replace by other classes, to see what they cost)"
	@echo "    CLUSTERS=$${CLUSTERS:-one a class} (with LABELS=0, which needs no label)"
	@echo "    FEATURES=$$FEATURES (instead of our own: torchvision:mobilenet_v2, a file .onnx, or a table .npy, .csv, .parquet)"
	@echo "    PRECISION=$$PRECISION (float32, bfloat16, or auto: the faster one here)"
	@echo "    DATA=$$DATA (or a folder of images: DATA=path/to/it) SIDE=$${SIDE:-as it fits the images} DRAW=$$DRAW OUTPUTS=$$OUTPUTS JOBS=$${JOBS:-number of cores} DEVICE=$$DEVICE"
	@echo "    SCHEDULER=$${SCHEDULER:-none} (the address of a Dask scheduler whose workers do the runs)"

setup: $(READY)  ## make .venv and fetch MNIST; TORCH=cpu takes PyTorch's smaller build without CUDA

sweep: $(READY)  ## train LABELS × RECIPES × SEEDS, then build the results page; finished runs are kept
	@$(SWEEP) --labels "$$LABELS" --recipes "$$RECIPES" --seeds "$$SEEDS" --label-noise "$$WRONG_LABELS" --clusters "$$CLUSTERS" --features "$$FEATURES" --precision "$$PRECISION" --outputs "$$OUTPUTS"

results: $(READY)  ## build outputs/results.html again, without training; your prices in SET="wage_per_hour=30"
	@$(COMMAND) results --outputs "$$OUTPUTS" --data "$$DATA" --side "$$SIDE" --features "$$FEATURES" --precision "$$PRECISION" --draw "$$DRAW" --set "$$SET"

label-next: $(READY)  ## select the N images to label next, and say what they are worth: outputs/label_next.csv and .png
	@$(COMMAND) label-next --number "$$N" --data "$$DATA" --side "$$SIDE" --outputs "$$OUTPUTS" --run "$$RUN" --worth "$$WORTH" --features "$$FEATURES"

check-labels: $(READY)  ## list the labels of DATA that the others contradict: outputs/label_errors.csv and .png; APPLY=that list
	@$(COMMAND) check-labels --data "$$DATA" --side "$$SIDE" --outputs "$$OUTPUTS" --apply "$$APPLY" --features "$$FEATURES"

predict: $(READY)  ## classify IMAGES=folder, or the run's unlabelled images, with the finished run RUN=outputs/…
	@$(COMMAND) predict --run "$$RUN" --images "$$IMAGES" --target "$$TARGET" --onnx "$$ONNX"

export-labels: $(READY)  ## write tasks for Label Studio: the images of DATA=folder, their labels, and predictions of RUN=outputs/…
	@$(COMMAND) export-labels --data "$$DATA" --run "$$RUN" --outputs "$$OUTPUTS"

import-labels: $(READY)  ## bring labels into the labels.csv of DATA=folder, from Label Studio's JSON or a table in FROM=file
	@$(COMMAND) import-labels --data "$$DATA" --source "$$FROM" --outputs "$$OUTPUTS"

compare-labels: $(READY)  ## compare two people's labels, A=one.csv B=other.csv: agreement, and outputs/disagreements.csv to decide
	@$(COMMAND) compare-labels --a "$$A" --b "$$B" --outputs "$$OUTPUTS"

duplicates: $(READY)  ## list the images of DATA=folder that are there twice, or nearly: outputs/…/duplicates.csv
	@$(COMMAND) duplicates --data "$$DATA" --side "$$SIDE" --outputs "$$OUTPUTS"

lab: $(READY)  ## explore in JupyterLab, in copies of the notebooks; more options for it in LAB="--no-browser --port 8899"
	@$(COMMAND) lab
	@[ "$$(id -u)" != 0 ] || echo 'lab: as root; from outside a container: docker run -p 8888:8888, and LAB="--ip 0.0.0.0 --no-browser"'
	@MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 $(BIN)/python -m jupyterlab --ServerApp.root_dir=. --ServerApp.kernel_spec_manager_class=ssl_core.lab.runs.kernels.OwnKernel --LabApp.default_url=/lab/tree/outputs/lab/notebooks/train.ipynb $(LAB) $$([ "$$(id -u)" != 0 ] || echo --allow-root)

site: $(READY)  ## build a static site of executed notebooks and results: outputs/site/index.html (5 minutes)
	@$(COMMAND) site

test: $(DEV)  ## run all tests
	@$(PYTEST) $(PARALLEL) tests

test-fast: $(DEV)  ## run the tests that need no network, browser, cluster or notebook: under a minute
	@$(PYTEST) $(PARALLEL) -m 'not (slow or network or browser or cluster or notebooks)' tests

test-faults: $(DEV)  ## kill sweeps at 100 random moments, cause other faults, count what is lost (half an hour)
	@KILLS=100 $(PYTEST) -s --timeout 3600 tests/system/test_faults.py tests/system/test_cluster.py

test-browser: $(DEV)  ## test the results page and the notebooks in Chromium, without a window (apt install chromium)
	@$(PYTEST) -rs tests/system/test_browser.py tests/system/test_browser_lab.py tests/system/test_browser_label.py tests/system/test_browser_check.py

check: $(DEV)  ## check style, types, declared imports and spelling; no test is run
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m ruff format --check --quiet .
	@$(BIN)/python -m mypy --no-error-summary
	@$(BIN)/python -m deptry --no-ansi ssl_core
	@$(BIN)/python -m codespell_lib
	@$(BIN)/python -m nbstripout --verify notebooks/*.ipynb

smoke: $(READY)  ## try the whole path in about a minute, a few steps a run, into outputs/smoke
	@$(SWEEP) --labels '1000 50' --recipes "$$RECIPES" --seeds 0 --outputs outputs/smoke --smoke

ablation: $(READY)  ## measure what each ingredient of the recipes is worth: outputs/ablation.html (3 hours on two cores)
	@$(SWEEP) --study ablation --outputs "$$OUTPUTS"

label-studies: $(READY)  ## measure label noise, selection of labels, cross-validation: outputs/label_studies.html (2 hours)
	@$(SWEEP) --study draws label_noise cross_validation --outputs "$$OUTPUTS"

label-strategies: $(READY)  ## measure selections of labels against the field's (.venv/bin/pip install '.[study]'; 30 hours on two cores, resumes)
	@$(COMMAND) label-strategies $${JOBS:+--jobs "$$JOBS"}

label-errors: $(READY)  ## measure which wrong labels ours and others' methods find (.venv/bin/pip install '.[study]'; days on two cores, resumes)
	@$(COMMAND) label-errors $${JOBS:+--jobs "$$JOBS"}

frontier: $(READY)  ## measure how much accuracy each second of `best` buys, on held-out training images (an hour, resumes)
	@$(COMMAND) frontier $${JOBS:+--jobs "$$JOBS"}

future-work: $(READY)  ## measure other clusterings, regularisations and networks than ours, on held-out training images (a day, resumes)
	@$(COMMAND) future-work $${JOBS:+--jobs "$$JOBS"}

peers: $(READY)  ## run other packages on the same labels, each in an environment of its own below outputs/peers (hours, resumes)
	@$(COMMAND) peers $${JOBS:+--jobs "$$JOBS"}

pools: $(READY)  ## measure time and memory of `best` on pools of 60,000, 250,000 and 1,000,000 images (an hour, resumes)
	@$(COMMAND) pools

own-labels: $(READY)  ## check MNIST's own 70,000 labels by networks that did not see them (10 minutes)
	@$(COMMAND) own-labels

trust: label-studies  ## the former name of label-studies

reference: $(READY)  ## train all runs that the pages show, and renew outputs/reference (11 hours on two cores)
	@$(COMMAND) reference --outputs "$$OUTPUTS" $${JOBS:+--jobs "$$JOBS"} --device "$$DEVICE" --scheduler "$$SCHEDULER"

bench: $(READY)  ## measure speed, beside what the machine can do and the version SINCE=commit: outputs/bench.json (20 minutes; nothing else may run)
	@$(COMMAND) bench --since "$$SINCE" --outputs "$$OUTPUTS"

certify: $(READY)  ## keep runs finished by the code of SINCE=commit, if no probe shows a changed number
	@$(COMMAND) certify --since "$$SINCE"

clean:  ## remove .venv, caches, fetched data and the environments of other packages; results are kept
	rm -rf $(VENV) data/MNIST data/FashionMNIST data/animals data/solar-cells data/kana data/graphs data/features data/folders .pytest_cache .ruff_cache .mypy_cache .hypothesis outputs/peers *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp says that the virtual environment is complete; without it, or if its Python is gone, one is made from scratch.
ifneq ($(wildcard $(READY)),)
ifeq ($(shell test -x $(BIN)/python && echo works),)
.PHONY: $(READY)
endif
endif
$(READY): pyproject.toml
	@[ -w . ] && { [ ! -e $(VENV) ] || [ -w $(VENV) ]; } || { echo 'setup: this folder, or $(VENV) in it, cannot be written to: copy the project into a folder of your own'; exit 1; }
	@case $$(uname) in Linux) ;; *) echo "setup: tested on Debian and Ubuntu alone; macOS should work, Windows needs WSL; this is $$(uname)";; esac
	@command -v $(PYTHON) >/dev/null || { echo 'setup: $(PYTHON) is not there; install it: apt install python3 python3-venv'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'setup: needs Python 3.11 or newer; name one with PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'setup: this Python lacks its venv module; install it: apt install python3-venv'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@index='$(if $(TORCH),$(CPU_INDEX))'; size=6; \
	if [ -n "$$index" ]; then \
	    if $(BIN)/python -c "import urllib.request as u; u.urlopen('$$index/torch/', timeout=20)" 2>/dev/null; then size=1.5; \
	    else index=; echo 'setup: TORCH=cpu: $(CPU_INDEX) cannot be reached; PyTorch comes from PyPI, with CUDA'; fi; \
	fi; \
	free=$$(df -Pk . | awk -v size=$$size 'NR == 2 && $$4 < size * 1e6 { printf "%.1f", $$4 / 1e6 }'); \
	if [ -n "$$free" ]; then echo "setup: the packages take about $$size GB, and $$free GB are free here"; exit 1; fi; \
	echo "setup: installing into $(VENV), about $$size GB: 1 to 10 minutes"; \
	$(BIN)/python -m pip install --disable-pip-version-check $${index:+--extra-index-url "$$index"} --editable '.[lab]' || \
	    { echo 'setup: the packages could not be installed, see above; without a network, set PIP_INDEX_URL or PIP_PROXY to what you have'; exit 1; }
	@$(BIN)/python -c 'from ssl_core.datasets import fetch; fetch("mnist")' 2>&1 || { echo 'setup: MNIST could not be fetched, see above'; exit 1; }
	@touch $@

# What only tests and checks need.
$(DEV): $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[lab,test,dev]'
	@touch $@
