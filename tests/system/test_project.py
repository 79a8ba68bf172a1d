"""What the project says of itself is so: the environment, the README, the Makefile, the style."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml

from ssl_core.lab import bench, page, runs

PROJECT = tomllib.loads((runs.ROOT / "pyproject.toml").read_text())["project"]
README = (runs.ROOT / "README.md").read_text()


def test_environment_yml_follows_pyproject():
    conda = yaml.safe_load((runs.ROOT / "environment.yml").read_text())
    python, pip, packages = conda["dependencies"]
    assert python == f"python{PROJECT['requires-python']}" and pip == "pip"
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    assert packages["pip"] == [*wanted, "--editable ."]


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=" ".join)
def test_style(arguments):
    result = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], capture_output=True, text=True, cwd=runs.ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_science_does_not_know_the_lab():
    for name in runs.SCIENCE:
        source = (runs.ROOT / "ssl_core" / f"{name}.py").read_text()
        assert not re.search(r"\blab\b|papermill|pandas|matplotlib", source), name


def make(*arguments):
    # Not as a part of the `make` that runs these tests.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=runs.ROOT, env=alone)


def test_make_alone_lists_every_target():
    makefile = (runs.ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = make().stdout
    assert {"setup", "sweep", "results", "lab", "test", "smoke", "ablation", "clean", "help"} <= set(targets)
    assert all(re.search(rf"^  make {target} +\w", listed, re.MULTILINE) for target in targets)


def test_make_refuses_a_variable_that_it_does_not_know():
    result = make("help", "LABEL=50")
    assert result.returncode != 0 and "unknown variable LABEL: must be LABELS RECIPES SEEDS" in result.stderr


@pytest.mark.parametrize(
    "python, message",
    [
        ("#!/bin/sh\ncase $2 in *ensurepip*) exit 1;; esac", "setup: this Python lacks its venv module; install it: apt install"),
        ("#!/bin/sh\ncase $2 in *version_info*) exit 1;; esac", "setup: needs Python 3.11 or newer"),
        ("", "is not there; install it: apt install python3 python3-venv"),
    ],
)
def test_setup_says_what_a_machine_lacks(tmp_path, python, message):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(runs.ROOT / name, tmp_path)
    if python:
        (tmp_path / "python").write_text(python)
        (tmp_path / "python").chmod(0o755)
    result = subprocess.run(["make", "setup", f"PYTHON={tmp_path}/python"], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode != 0 and message in result.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_readme_shows_the_reference_results():
    reference = runs.ROOT / "outputs" / "reference"
    tables = {place: table for place, table in page.readme_tables(pd.read_csv(reference / "results.csv")).items() if table}
    assert "results" in tables
    for place, table in tables.items():
        assert f"<!-- {place} -->\n{table}\n<!-- end of {place} -->" in README
    for figure in ("accuracy.png", "ablation.png") if "ablation" in tables else ("accuracy.png",):
        assert f"outputs/reference/{figure}" in README and (reference / figure).stat().st_size > 10_000


def test_the_readme_shows_what_the_benchmark_measured():
    found = json.loads((runs.ROOT / "outputs" / "reference" / "bench.json").read_text())
    assert f"<!-- bench -->\n{bench.as_table(found)}\n\n{bench.in_words(found)}\n<!-- end of bench -->" in README


def test_the_readmes_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (runs.ROOT / target).exists(), target
