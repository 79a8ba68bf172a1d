"""What the benchmark computes and how its workers answer; no test says how fast anything is."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.lab.runs import files
from ssl_core.lab.runs.fingerprint import fingerprint
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import bench
from ssl_core.recipes import RECIPES

# Of one image, by hand: two operations for each weight and place.
CONV1, CONV2, CONV3 = 2 * 26**2 * 32 * 9, 2 * 11**2 * 64 * 32 * 9, 2 * 3**2 * 64 * 64 * 9
LINEAR = 2 * (576 * 300 + 300 * 10)
DISTORTION = 2 * 2 * (28 * 6 * 6 + 28 * 6 * 28) + 2 * 2 * 2  # two shifts between 6 × 6 knots; a 2 × 2 map of the translation


def test_operations_equal_a_count_by_hand(images):
    run, n_images = bench.training("supervised")
    # Gradients of weights and of inputs cost as much as the way forward, but the images themselves need none.
    assert bench.operations(run) == n_images * (2 * CONV1 + 3 * (CONV2 + CONV3 + LINEAR) + DISTORTION)


@pytest.mark.slow
def test_workers_answer_together():
    with bench.Workers(2, 1, {}) as workers:
        assert workers.ask("operations multiply") == [10 * 2 * bench.SIZE**3] * 2
        assert workers.rate("multiply", 1) > 1e8
        kernels = workers.ask("profile multiply", 1)[0]
    assert kernels[0][0] == "mm" and 0.5 < kernels[0][1] <= 1
    assert all(process.returncode == 0 for process in workers.processes)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_makespan_is_near_the_optimum(jobs):
    best = min(
        max(sum(itertools.compress(jobs, on)), sum(jobs) - sum(itertools.compress(jobs, on)))
        for on in itertools.product((0, 1), repeat=len(jobs))
    )
    assert best <= bench.makespan(jobs, 2) <= 7 / 6 * best  # Graham 1969: the longest first, on two machines
    assert bench.makespan(jobs, 1) == sum(jobs)


def test_seconds_to_an_accuracy_are_those_of_the_first_epoch_that_reached_it(tmp_path):
    history = [{"epoch": epoch, "seconds": 10.0 * epoch} for epoch in range(1, 11)]
    for recipe, curve in {"best": {"1": 0.5, "5": 0.985, "10": 0.99}, "supervised": {"1": 0.4, "5": 0.8, "10": 0.9}}.items():
        run = Run(50, recipe, 0)
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        record = {"fingerprint": fingerprint(run), "run": run.__dict__, "confusion": [[1]], "missing_classes": []}
        record |= dict.fromkeys(("accuracy", "nll", "seconds"), 0)
        (folder / "run.json").write_text(json.dumps(record | {"history": history, "test_accuracy": curve}))
    assert bench.seconds_to(tmp_path) == {
        "best": {"98 %": 50.0, "99 %": 100.0},
        "supervised": {"98 %": None, "99 %": None},
    }


def test_table_has_a_row_per_ratio():
    measured = dict.fromkeys(bench.RATIOS, 1.0)
    table = bench.table(measured).splitlines()
    assert len(table) == 2 + len(bench.RATIOS) and "| 1.00 |" in table[-2] and "| 1.00 |" in table[-1]
    assert all(words in line for words, line in zip(bench.RATIOS.values(), table[2:], strict=True))
    assert len(bench.table({"scaling": 1.0}).splitlines()) == 3


def test_the_reference_can_be_read():
    measured = json.loads((files.REFERENCE / "bench.json").read_text())
    assert len(bench.table(measured).splitlines()) == 2 + len(bench.RATIOS.keys() & measured.keys()) >= 6
    assert "18 runs" in bench.sentences(measured)


@pytest.mark.parametrize("name", ["published", "supervised", "best"])
def test_timed_images_are_those_of_the_recipe(images, name):
    _, n_images = bench.training(name)
    recipe = RECIPES[name]
    labeled, unlabeled = recipe.batch_for(6000, 54_000)
    assert n_images == bench.STEPS * (labeled + (1 + recipe.learns_from_strong) * unlabeled)
