"""The check that a change of the code changes no number, on copies of the project under version control of their own."""

import os
import subprocess
import sys

import pytest

from ssl_core.lab import certify, runs


@pytest.fixture
def committed(project):
    """The copy of the project, with one commit."""
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    for arguments in (("init", "-q"), ("add", "ssl_core", "notebooks", "pyproject.toml"), ("commit", "-qm", "before")):
        subprocess.run([*git, *arguments], cwd=project, check=True, capture_output=True)
    return project


def python(project, *arguments):
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout + result.stderr


def fingerprint(project):
    return python(project, "-c", "from ssl_core.lab.runs import Run; print(Run(50, 'published', 0).fingerprint)")[1]


def test_a_change_of_no_number_keeps_finished_runs(committed):
    """The real thing: a variable of the training loop gets another name, and both versions train."""
    before = fingerprint(committed)
    path = committed / "ssl_core" / "train.py"
    text = path.read_text()
    path.write_text(text.replace("taken", "of_each_step"))
    assert path.read_text() != text
    status, said = python(committed, "-m", "ssl_core.lab.certify", "--since", "HEAD", "--recipes", "published")
    assert status == 0 and "certify: what `published` learns is the same as at HEAD" in said, said
    assert fingerprint(committed) == before


def test_any_other_change_voids_them(monkeypatch, tmp_path):
    learned = iter([{"best": ("weights", 1), "published": ("weights", 2)}, {"best": ("weights", 1), "published": ("others", 2)}])
    monkeypatch.setattr(certify, "numbers", lambda *_: next(learned))
    monkeypatch.setattr(certify, "command", lambda *_: "an earlier digest")
    monkeypatch.setattr(certify, "code_of", lambda commit, folder: folder)
    monkeypatch.setattr(runs, "CERTIFIED", tmp_path / "same.json")
    runs.CERTIFIED.write_text("{}")
    with pytest.raises(SystemExit, match=r"certify: other numbers than at v1: published; finished runs are void"):
        certify.main(["--since", "v1"])
    assert runs.CERTIFIED.read_text() == "{}"


def test_a_commit_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match=r"certify: since='nowhere': must be a commit"):
        certify.main(["--since", "nowhere"])
