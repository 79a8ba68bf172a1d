"""`certify` on copies of the project under version control of their own: nothing of it is replaced, most probes are left out."""

import json
import os
import re
import subprocess
import sys

import pytest

from ssl_core.lab.__main__ import main

CERTIFIED = "ssl_core/lab/runs/certified.json"
CHEAP = ("recipe published", "label noise")  # probes on scikit-learn's digits, which need no download


def git(project, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=project, check=True, capture_output=True)


def python(project, *arguments):
    command, environment = [sys.executable, *arguments], os.environ | {"PYTHONPATH": str(project)}
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def fingerprint(project):
    program = "from ssl_core.lab.runs import fingerprint, spec; print(fingerprint.fingerprint(spec.Run(50, 'published', 0)))"
    return python(project, "-c", program)[1]


def change(project, file, pattern, replacement):
    path = project / "ssl_core" / file
    text = path.read_text()
    changed = re.sub(pattern, replacement, text)
    assert changed != text
    path.write_text(changed)


@pytest.fixture
def committed(project):
    """The copy of the project, with a few cheap probes and one commit."""
    with (project / "ssl_core" / "lab" / "runs" / "certify.py").open("a") as file:
        # A recipe without a graph makes numbers with label noise in seconds.
        noise = 'PROBES["label noise"] | {"recipe": "supervised"}'
        file.write(f'\nPROBES = {{"recipe published": PROBES["recipe published"], "label noise": {noise}}}\n')
    git(project, "init", "-q")
    git(project, "add", "ssl_core", "notebooks", "pyproject.toml")
    git(project, "commit", "-qm", "before")
    return project


def test_renamed_variable_keeps_finished_runs(committed):
    before = fingerprint(committed)
    change(committed, "train.py", r"\bmeans\b", "mean_losses")
    assert fingerprint(committed) != before
    status, output = python(committed, "-m", "ssl_core.lab", "certify", "--since", "HEAD")
    assert status == 0, output
    for name in CHEAP:
        assert f"certify: {name}: the same" in output
    assert f"certify: {len(CHEAP)} probes give the same numbers as at HEAD; runs finished with that code stay finished" in output
    assert fingerprint(committed) == before
    status, output = python(committed, "-m", "ssl_core.lab", "certify", "--since", "HEAD")
    assert status == 0 and "the digest is the same already; nothing to do" in output


def test_changed_number_voids_finished_runs(committed):
    before, certified = fingerprint(committed), (committed / CERTIFIED).read_text()
    change(committed, "data.py", r"default_rng\(\[seed, 1\]\)", "default_rng([seed, 2])")
    status, output = python(committed, "-m", "ssl_core.lab", "certify", "--since", "HEAD")
    assert status == 1 and "Traceback" not in output
    assert "certify: recipe published: the same" in output and "certify: label noise: DIFFERENT" in output
    assert "certify: other numbers than at HEAD: label noise; finished runs are void" in output
    assert (committed / CERTIFIED).read_text() == certified and fingerprint(committed) != before


def test_some_probes_certify_nothing(committed):
    before = json.loads((committed / CERTIFIED).read_text())
    change(committed, "train.py", r"\bmeans\b", "mean_losses")
    status, output = python(committed, "-m", "ssl_core.lab", "certify", "--since", "HEAD", "--probes", "published")
    assert status == 0 and "certify: only some probes were run; nothing is certified" in output
    assert json.loads((committed / CERTIFIED).read_text()) == before


def test_unknown_commit_is_named():
    with pytest.raises(SystemExit, match=r"certify: since='nowhere': must be a commit"):
        main(["certify", "--since", "nowhere"])
