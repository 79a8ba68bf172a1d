"""Other packages on the same labels: their environments, programs that fail, hang or answer nonsense, and what is shown."""

import ast
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score

from ssl_core import data
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files
from ssl_core.lab.studies import peers
from ssl_core.lab.studies.peers import PEERS, Cell, Peer
from ssl_core.lab.studies.study import Results

ANY = Results(pd.DataFrame({"any": [1]}))
CELL = Cell("label spreading (scikit-learn)", "mnist", 50, 0)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A peer with a program of our own, in an environment of its own; a function of the program's text."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setattr(peers, "PROGRAMS", folder)
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "environments")

    def of(text, requirements="", argument=""):
        (folder / "mine.py").write_text(f'"""Mine."""\n\n{text}\n')
        (folder / "mine.txt").write_text(requirements)
        peer = Peer("mine", "mine", argument)
        monkeypatch.setattr(peers, "PEERS", {**PEERS, "mine": peer})
        peers.key.cache_clear()
        return peer

    yield of
    peers.key.cache_clear()


def answers(peer, **more):
    """What its program makes of the cell, by this Python."""
    return peers.predicted(replace(CELL, peer="mine"), peer, Path(sys.executable), **more)


def test_programs_are_small_and_named_after_no_package():
    for name, peer in PEERS.items():
        tree = ast.parse(peer.source.read_text())
        assert ast.get_docstring(tree) and 5 <= peer.lines <= 80, name
        assert peer.program == peers.OURS or peer.requirements.read_text().strip(), name
        imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert peer.program not in imported, "it would import itself"
    programs = {path.stem for path in peers.PROGRAMS.glob("*.py")}
    assert programs == {peer.program for peer in PEERS.values()}, "each is run"


def test_task_has_the_projects_own_draws_and_no_class_of_the_rest(images, tmp_path):
    for n, draw in ((50, "random"), (10, "class-balanced")):
        cell = replace(CELL, n_labels=n)
        y = peers.write_task(cell, tmp_path / "task.npz")
        split = data.split(images.y, n, 0, draw)
        with np.load(tmp_path / "task.npz") as task:
            assert set(task) == {"x_labeled", "y_labeled", "x_unlabeled", "x_test", "n_classes", "seed"}
            assert (task["x_labeled"] == images.x.values[split.labeled, 0].numpy()).all()
            assert (task["y_labeled"] == images.y[split.labeled].numpy()).all() and (task["n_classes"], task["seed"]) == (10, 0)
            assert len(task["x_unlabeled"]) == 60_000 - n and task["x_test"].shape == (10_000, 28, 28)
            pixels = torch.from_numpy(task["x_test"][:100]).float() / 255
        torch.testing.assert_close((pixels - 0.1306) / 0.3081, images.x_test[:100, 0], atol=1e-5, rtol=0)
        assert (y == images.y_test.numpy()).all()


@pytest.mark.slow
def test_answers_seconds_and_memory_are_measured(program, images):
    text = """
import sys, time
import numpy as np
task = np.load(sys.argv[1])
rows = np.ones((100, 1000, 1000))  # 0.8 GB
start = time.process_time()
while time.process_time() - start < 1:
    pass
np.save(sys.argv[2], np.full(len(task["x_test"]), int(sys.argv[3])))"""
    held = np.ones(300_000_000)  # 2.4 GB of this process, which do not count
    found = answers(program(text, argument="7"))
    del held
    assert float(found["accuracy"]) == pytest.approx(accuracy_score(images.y_test, [7] * 10_000), abs=1e-6)
    assert 1 <= float(found["cpu"]) < 15 and 0.8 < float(found["memory"]) < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('of no use')", "ended with status 1: ValueError: of no use"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with status -9: it told nothing"),
        ("pass", "no predictions: "),
        ("import sys, numpy; numpy.save(sys.argv[2], numpy.zeros(3))", r"predictions of shape (3,): must be (10000,)"),
        ("import sys; open(sys.argv[2], 'w').write('seven')", "no predictions: "),
    ],
)
def test_a_program_that_fails_is_told(program, text, said):
    peer = program(text)
    with pytest.raises(RuntimeError) as error:
        answers(peer)
    assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_with_its_children(program, tmp_path):
    pid = tmp_path / "pid"
    text = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "600"])
open({str(pid)!r}, "w").write(str(child.pid))
time.sleep(600)"""
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^not finished after 3 seconds"):
        answers(program(text), limit=3)
    assert time.monotonic() - start < 30
    time.sleep(0.5)
    status = Path(f"/proc/{pid.read_text()}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_a_program_sees_nothing_of_the_project(program, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(files.ROOT))
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    names = tmp_path / "names"
    text = f"import os\nopen({str(names)!r}, 'w').write(' '.join(os.environ) + ' ' + os.environ['OMP_NUM_THREADS'])"
    with pytest.raises(RuntimeError, match="no predictions"):
        answers(program(text))
    assert "PYTHON" not in names.read_text() and names.read_text().endswith(" 1")


@pytest.mark.slow
def test_environment_is_its_own_and_made_once(program):
    peer = program("import numpy")
    python = peers.environment(peer)
    said = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()) == peers.ENVIRONMENTS / "mine" and Path(sys.prefix) not in python.parents
    made = (python.parent.parent / ".ready").stat().st_mtime_ns
    assert peers.environment(peer) == python and (python.parent.parent / ".ready").stat().st_mtime_ns == made
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    assert peers.environment(PEERS["best (ours)"]) == Path(sys.executable)


@pytest.mark.slow
def test_what_cannot_be_installed_is_left_out_and_told(program, monkeypatch, tmp_path, capsys):
    program("", requirements="./nowhere/at/all")
    monkeypatch.setattr(peers, "TABLE", replace(peers.TABLE, path=tmp_path / "peers.csv"))
    monkeypatch.setattr(peers, "grid", lambda: [replace(CELL, peer="mine", seed=seed) for seed in (0, 1)])
    monkeypatch.setattr(peers, "TABLE", replace(peers.TABLE, grid=peers.grid))
    main(["peers", "--peers", "mine", "--jobs", "1"])
    told = capsys.readouterr().out
    assert "mine: left out, can't be installed (ended with status 1): ERROR:" in told and "0 of 0 cells" in told
    (row,) = peers.TABLE.read().values()
    assert row["problem"].startswith("can't be installed") and not row["accuracy"] and len(peers.TABLE.missing()) == 2, (
        "tried again"
    )
    cells = peers.summarize(ANY, peers.TABLE)
    assert "*mine* failed on `mnist`, M = 50: can" in peers.sentences(cells) and peers.table(cells).empty


def test_failure_of_one_leaves_the_others(program, monkeypatch, tmp_path):
    peer = program("raise SystemExit('no')")
    monkeypatch.setattr(peers, "environment", lambda peer: Path(sys.executable))
    row = peers.measure(replace(CELL, peer="mine"))
    assert (
        row["problem"] == "ended with status 1: no"
        and row["key"] == ""
        and row["accuracy"] == ""
        and row["lines"] == peer.lines == 1
    )


def test_an_unknown_peer_is_refused(capsys):
    with pytest.raises(SystemExit) as error:
        main(["peers", "--peers", "drows"])
    assert str(error.value).startswith("peers: peers='drows': must be one of best (ours), quick (ours)")


def test_table_and_figure_have_all_that_is_measured():
    rows = [
        {"peer": peer, "data": name, "n_labels": n, "seed": seed, "accuracy": 0.9 + 0.01 * seed, "cpu": 60.0, "memory": 1.5}
        for peer in list(PEERS)[:4]
        for name in peers.SETS
        for n in (10, 50)
        for seed in (0, 1)
    ]
    cells = pd.DataFrame(rows).assign(lines=9, problem="", current=True)
    cells.loc[len(cells)] = [
        "self-training (scikit-learn)",
        "mnist",
        10,
        0,
        np.nan,
        np.nan,
        np.nan,
        14,
        "ended with status 1: *no*",
        True,
    ]
    table = peers.table(cells)
    assert table.index.tolist() == list(PEERS)[:4] and table.columns[0] == "mnist, M = 10" and table.shape == (4, 7)
    assert table.iloc[0, 0] == "90.50 ± 0.71 (2)" and set(table["lines"]) == {9} and set(table["GB"]) == {"1.5"}
    drawn = peers.figure(cells)
    assert [axis.get_title() for axis in drawn.axes] == [f"{name}, M = {n}" for name in peers.SETS for n in (10, 50)]
    said = peers.sentences(cells)
    assert "*Poisson learning (GraphLearning)* learns with the test images at hand." in said and re.search(
        r"self-training .*\* failed .*&#42;no&#42;", said
    )


def test_keys_follow_programs_and_what_is_installed(program):
    keys = []
    for text, requirements in (("a = 1", ""), ("a = 2", ""), ("a = 2", "numpy"), ("a = 2", "numpy")):
        program(text, requirements)
        keys.append(peers.key(replace(CELL, peer="mine")))
    assert len(set(keys)) == 3 and keys[2] == keys[3]


@pytest.mark.slow
def test_our_own_program_and_scikit_learns_answer(images, tmp_path, monkeypatch):
    """In this project's environment, which has scikit-learn too, on a few images."""
    y = peers.write_task(replace(CELL, n_labels=1000), tmp_path / "task.npz")
    with np.load(tmp_path / "task.npz") as whole:
        task = dict(whole) | {"x_unlabeled": whole["x_unlabeled"][:500], "x_test": whole["x_test"][:500]}
    np.savez(tmp_path / "few.npz", **task)
    monkeypatch.setitem(PEERS, "published (ours)", replace(PEERS["supervised (ours)"], argument="published"))  # of seconds
    for name, least in (
        ("published (ours)", 0.8),
        ("label spreading (scikit-learn)", 0.8),
        ("self-training (scikit-learn)", 0.7),
    ):
        peer = PEERS[name]
        command = [sys.executable, "-P", str(peer.source), "few.npz", "answer.npy", peer.argument]
        subprocess.run(command, check=True, cwd=tmp_path, env=peers.variables(), capture_output=True)
        assert (np.load(tmp_path / "answer.npy") == y[:500]).mean() > least, name
    assert os.environ.get("OMP_NUM_THREADS") == "1"
