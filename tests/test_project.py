"""What the project says of itself is so: the environment, the README, the Makefile, the style."""

import re
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml

from ssl_core.lab import page, runs

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
    return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=runs.ROOT)


def test_make_alone_lists_every_target():
    makefile = (runs.ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = make().stdout
    assert {"setup", "sweep", "results", "lab", "test", "smoke", "clean", "help"} <= set(targets)
    assert all(re.search(rf"^  make {target} +\w", listed, re.MULTILINE) for target in targets)


def test_make_refuses_a_variable_that_it_does_not_know():
    result = make("help", "LABEL=50")
    assert result.returncode != 0 and "unknown variable LABEL: allowed is LABELS RECIPES SEEDS" in result.stderr


def test_the_readme_shows_the_reference_results():
    reference = runs.ROOT / "outputs" / "reference"
    table = page.readme_table(pd.read_csv(reference / "results.csv"))
    assert table in README
    assert "outputs/reference/accuracy.png" in README and (reference / "accuracy.png").stat().st_size > 10_000


def test_the_readmes_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (runs.ROOT / target).exists(), target
