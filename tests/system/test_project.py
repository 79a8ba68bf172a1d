"""The project keeps to what it says of itself: environment, Makefile, layers, sizes, and the generated parts of its pages."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

import ssl_core
from ssl_core.lab.page.tables import page_tables
from ssl_core.lab.runs import records
from ssl_core.lab.runs.files import REFERENCE, ROOT
from ssl_core.lab.runs.fingerprint import SCIENCE
from ssl_core.lab.tools import bench

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = sorted(
    page
    for folder in (".", "data", "notebooks", "outputs/reference", "ssl_core", "tests")
    for page in (ROOT / folder).glob("*.md")
)
PAGES += [ROOT / "ssl_core" / "lab" / "README.md"]
GENERATED = {page: page.read_text() for page in (ROOT / "README.md", REFERENCE / "README.md")}
MODULES = sorted((ROOT / "ssl_core").rglob("*.py"))


def test_environment_yml_installs_from_pyproject():
    text = (ROOT / "environment.yml").read_text()
    conda = yaml.safe_load(text)
    python, pip, packages = conda["dependencies"]
    assert python == f"python{PROJECT['requires-python']}" and pip == "pip"
    assert packages["pip"] == ["--editable .[lab,test]"]
    assert "# - --extra-index-url https://download.pytorch.org/whl/cpu\n" in text
    with_cpu = yaml.safe_load(text.replace("# - --extra-index-url", "- --extra-index-url"))
    assert with_cpu["dependencies"][-1]["pip"] == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "--editable .[lab,test]",
    ]


def test_each_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in (
        PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"] + PROJECT["optional-dependencies"]["dev"]
    ):
        assert re.search(rf'^    "{re.escape(requirement)}",  # \w', text, re.MULTILINE), requirement


def test_science_does_not_know_the_lab():
    science = {ROOT / "ssl_core" / f"{name.replace('.', '/')}.py" for name in SCIENCE}
    others = {path for path in MODULES if "lab" not in path.parts and path != ROOT / "ssl_core" / "__init__.py"}
    for path in science | others:
        assert not re.search(r"\blab\b|papermill|pandas|matplotlib", path.read_text()), path


# A Python in which only the packages of `dependencies` can be imported, and what these import themselves is not asked for.
ALONE = """
import sys
from importlib.machinery import ModuleSpec
extras = {extras!r}

class Absent:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in extras else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {{spec.name!r}}", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Absent())
"""


def alone(program, tmp_path):
    """Runs a program where no package of the extra `lab` can be imported, from a folder outside the project."""
    names = [re.split(r"[=<>]", each)[0] for each in PROJECT["optional-dependencies"]["lab"]]
    modules = {"beautifulsoup4": "bs4"}
    extras = {modules.get(name, name.replace("-", "_")) for name in names} - {"torch", "jinja2"}  # PyTorch brings the other
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ALONE.format(extras=sorted(extras)) + program]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)


def test_the_estimator_needs_no_package_of_the_lab(tmp_path):
    program = """
from dataclasses import replace
import numpy as np
import ssl_core
from ssl_core.datasets import load
assert not {"sklearn", "torchvision", "pandas"} & set(sys.modules), "import ssl_core takes little time"
_, digits = load("digits")
few = np.where(np.arange(200) < 50, digits["y"][:200], -1)
short = replace(ssl_core.RECIPES["supervised"], epochs=1, steps_per_epoch=2)
print(ssl_core.SemiSupervisedClassifier(short).fit(digits["x"][:200, 0], few).predict(digits["x_test"][:9, 0]).shape)
print(load("mnist")[1]["x"].shape)
"""
    result = alone(program, tmp_path)
    assert result.stdout.split("\n")[:2] == ["(9,)", "(60000, 1, 28, 28)"], result.stderr


def test_the_lab_says_which_package_it_lacks(tmp_path):
    result = alone("from ssl_core.lab.__main__ import main; main(['sweep'])", tmp_path)
    said = r"sweep: the package \w+ is not installed: `make setup`, in a clone of the project, installs all"
    assert re.fullmatch(said, result.stderr.strip()), result.stderr


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_is_whole(tmp_path):
    """Built as an index would get it, checked, and imported from where pip puts it."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "ssl_core", clone / "ssl_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)

    def run(*arguments, **more):
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False, **more)

    built = run("-m", "build", "--outdir", str(tmp_path / "dist"), str(clone))
    if "Could not find a version" in built.stdout + built.stderr or "connection" in (built.stdout + built.stderr).lower():
        pytest.skip("no package index can be reached: " + built.stdout.strip()[-200:])
    assert built.returncode == 0, built.stdout + built.stderr
    wheel, sdist = sorted((tmp_path / "dist").iterdir(), key=lambda path: path.suffix != ".whl")
    checked = run("-m", "twine", "check", "--strict", str(wheel), str(sdist))
    assert checked.returncode == 0, checked.stdout
    run("-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "there"), str(wheel))
    program = "import ssl_core; print(ssl_core.__file__, ssl_core.__version__); from ssl_core import SemiSupervisedClassifier"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "there")}
    result = run("-c", program, env=environment)
    assert result.stdout.split() == [str(tmp_path / "there" / "ssl_core" / "__init__.py"), ssl_core.__version__], result.stderr
    assert (tmp_path / "there" / "ssl_core" / "py.typed").exists() and wheel.stat().st_size < 1e6


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "ssl_core")))
def test_module_is_small(path):
    """At most 400 lines a module, 50 a function, and six positional arguments beside `self`."""
    assert len(path.read_text().splitlines()) <= 400
    for function in functions(path):
        arguments = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        assert function.end_lineno - function.lineno < 50, function.name
        assert len(arguments) - (arguments[:1] in (["self"], ["cls"])) <= 6, function.name


def make(*arguments, cwd=ROOT):
    # Not as a part of the `make` that runs these tests.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=cwd, env=alone, check=False)


def test_make_alone_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = make().stdout
    assert {"setup", "sweep", "results", "lab", "test", "smoke", "ablation", "clean", "help"} <= set(targets)
    assert {"test-fast", "check", "site", "label-studies", "trust"} <= set(targets)
    assert set(targets) == set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert all(re.search(rf"^  make {target} +\w", listed, re.MULTILINE) for target in targets)


def test_make_refuses_an_unknown_variable():
    result = make("help", "LABEL=50")
    assert result.returncode != 0 and "unknown variable LABEL: must be one of LABELS RECIPES SEEDS" in result.stderr
    result = make("help", "TORCH=gpu")
    assert result.returncode != 0 and "TORCH='gpu': must be cpu, or nothing" in result.stderr


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
        shutil.copy(ROOT / name, tmp_path)
    if python:
        (tmp_path / "python").write_text(python)
        (tmp_path / "python").chmod(0o755)
    result = make("setup", f"PYTHON={tmp_path}/python", cwd=tmp_path)
    assert result.returncode != 0 and message in result.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("torch", ["cpu", ""])
def test_setup_takes_the_cpu_build_where_it_can(tmp_path, torch, reachable):
    """Nothing is installed: a Python that only notes what it is asked to do."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    notes = tmp_path / "notes"
    fake = f"""#!/bin/sh
echo "$@" >> {notes}
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
    *urlopen*) exit {0 if reachable else 1};;
esac
"""
    (tmp_path / "python").write_text(fake)
    (tmp_path / "python").chmod(0o755)
    result = make("setup", f"PYTHON={tmp_path}/python", f"TORCH={torch}", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    index = "https://download.pytorch.org/whl/cpu"
    (install,) = [line for line in notes.read_text().splitlines() if "pip install" in line]
    assert (f"--extra-index-url {index}" in install) == (torch == "cpu" and reachable)
    assert install.endswith("--editable .[lab]") and (tmp_path / ".venv" / ".ready").exists()
    assert (f"setup: TORCH=cpu: {index} cannot be reached" in result.stdout) == (torch == "cpu" and not reachable)


def test_pages_show_the_reference_tables():
    tables = {place: table for place, table in page_tables(records.read_table(REFERENCE / "results.csv")).items() if table}
    assert "results" in tables
    for place, table in tables.items():
        shown = [f"<!-- {place} -->\n{table}\n<!-- end of {place} -->" in text for text in GENERATED.values()]
        marked = [f"<!-- {place} -->" in text for text in GENERATED.values()]
        assert any(shown) and shown == marked, place
    for figure in ("accuracy.png", "ablation.png") if "ablation" in tables else ("accuracy.png",):
        assert (REFERENCE / figure).stat().st_size > 10_000
        assert any(re.search(rf"\]\((outputs/reference/)?{figure}\)", text) for text in GENERATED.values()), figure


def test_reference_pages_have_no_warning_and_no_path_of_a_machine():
    for page in sorted(REFERENCE.glob("*.html")):
        text = page.read_text()
        assert '<pre class="stderr">' not in text and str(ROOT) not in text, page


def test_reference_rows_are_current():
    """Today's code, or a version of former_fingerprints, would make each row again, or `make certify` found no difference."""
    table = records.read_table(REFERENCE / "results.csv")
    assert len(table) >= 400 and table["current"].all(), table.loc[~table["current"], ["data", "recipe", "n_labels", "seed"]]


def test_reference_page_shows_the_benchmark():
    measured = json.loads((REFERENCE / "bench.json").read_text())
    content = f"<!-- bench -->\n{bench.table(measured)}\n\n{bench.sentences(measured)}\n<!-- end of bench -->"
    assert content in GENERATED[REFERENCE / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_front_page_is_short():
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text())
    assert len(text.split()) <= 900
