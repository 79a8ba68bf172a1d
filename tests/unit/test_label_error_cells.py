"""Wrong labels and what finds them: the labels, the methods and the measures, beside scikit-learn and answers that are known."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from sklearn.neighbors import NearestNeighbors

from ssl_core import data, experiment, graph, label_errors
from ssl_core.experiment import Labeling
from ssl_core.lab.runs import files, graph_cache
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import label_error_cells as cells
from ssl_core.lab.studies import label_errors as study
from ssl_core.lab.studies.label_error_cells import Cell
from ssl_core.lab.studies.study import Results

CELL = Cell("digits", "graph", 100, "uniform-20", 0)


@pytest.fixture(scope="module")
def small(ten_groups):
    """The ten groups as images_and_graph has a data set."""
    return ten_groups[:2]


@pytest.fixture
def measured(small, monkeypatch):
    monkeypatch.setattr(cells, "images_and_graph", lambda name: small)
    cells.accuracy_of.cache_clear()
    yield
    cells.accuracy_of.cache_clear()


# --- labels

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=100).map(torch.tensor)


@settings(deadline=None, max_examples=50)
@given(LABELS, st.sampled_from(cells.NOISES), st.integers(0, 5))
def test_noise_is_the_same_each_time_and_as_much_as_it_says(y, noise, seed):
    before, (one, two), (kind, percent) = y.clone(), (4, 9), noise.split("-")
    noisy, share = cells.noisy(y, noise, seed, (one, two), 10), int(percent) / 100
    assert torch.equal(noisy, cells.noisy(y, noise, seed, (one, two), 10)) and torch.equal(y, before)
    moved = {(a, b): int(((y == a) & (noisy == b)).sum()) for a in range(10) for b in range(10) if a != b}
    if kind == "uniform":
        assert sum(moved.values()) == round(share * len(y)) and torch.equal(noisy, data.corrupt_labels(y, share, seed, 10))
        return
    expected = {(one, two): round(share * int((y == one).sum()))}
    if kind == "pair":
        expected[two, one] = round(share * int((y == two).sum()))
    assert {pair: n for pair, n in moved.items() if n} == {pair: n for pair, n in expected.items() if n}


def test_other_seeds_make_other_labels_wrong():
    y = torch.arange(1000) % 10
    for noise in cells.NOISES:
        assert not torch.equal(cells.noisy(y, noise, 0, (4, 9), 10), cells.noisy(y, noise, 1, (4, 9), 10)), noise


# --- methods and measures


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_precision_recall_and_f1_are_those_of_scikit_learn(rows):
    wrong, suspect, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = cells.assess(wrong, suspect, scores)
    if suspect.any():
        assert found["precision"] == pytest.approx(precision_score(wrong, suspect))
    else:
        assert np.isnan(found["precision"])
    if wrong.any():
        assert found["recall"] == pytest.approx(recall_score(wrong, suspect))
        assert found["average_precision"] == pytest.approx(average_precision_score(wrong, scores))
    else:
        assert np.isnan(found["recall"]) and np.isnan(found["average_precision"])
    frame = study.with_f1(pd.DataFrame([found | {"wrong": wrong.sum(), "suspects": suspect.sum()}]))
    expected = f1_score(wrong, suspect) if wrong.any() else np.nan
    assert frame.loc[0, "f1"] == pytest.approx(expected, nan_ok=True)


def test_the_vote_is_that_of_the_nearest_others_weighted_by_similarity():
    random = np.random.default_rng(0)
    features, y = random.random((60, 8)).astype(np.float32), random.integers(0, 3, 60)
    suspect, scores = cells.vote(torch.from_numpy(features), torch.from_numpy(y), 3, k=7)
    distance, index = NearestNeighbors(n_neighbors=8, metric="cosine").fit(features).kneighbors(features)
    for i in range(60):
        assert index[i, 0] == i
        votes = np.bincount(y[index[i, 1:]], 1 - distance[i, 1:], 3)
        assert scores[i] == pytest.approx(1 - votes[y[i]] / votes.sum(), abs=1e-5)
        assert suspect[i] == (votes.argmax() != y[i])


@pytest.mark.parametrize("method", ["graph", "neighbors"])
def test_wrong_labels_in_tight_groups_are_found(method, measured):
    row = cells.measure(replace(CELL, method=method))
    assert row["wrong"] == 20 and float(row["recall"]) >= 0.95 and float(row["average_precision"]) > 0.95
    assert float(row["clean"]) == float(row["corrected"]) == 1 and row["unlabeled"] == 200


def test_the_graph_s_answer_is_that_of_the_check(small, measured):
    labeled, y_l = cells.labels(CELL)
    assert torch.equal(labeled, data.split(small[0].y, 100, 0).labeled)
    suspect, scores = cells.suspects(CELL, labeled, y_l)
    check = label_errors.check(small[1], labeled, y_l, 10)
    assert np.array_equal(suspect, check.suspect) and np.array_equal(scores, check.p_wrong)


def test_as_many_as_are_wrong_are_corrected_the_most_suspect_first(small, measured, monkeypatch):
    labeled, y_l = cells.labels(CELL)
    wrong, corrected = (y_l != small[0].y[labeled]).numpy(), []
    scores = wrong.astype(float)
    scores[np.flatnonzero(wrong)[0]] = -1  # one is missed, a right one is corrected in its place: that changes nothing
    monkeypatch.setattr(cells, "suspects", lambda *_: (wrong, scores))
    monkeypatch.setattr(cells, "accuracy", lambda name, labeled, y_l: corrected.append(y_l) or 0.5)
    cells.measure(CELL)
    left = [int((y != small[0].y[labeled]).sum()) for y in corrected]
    assert left == [20, 1, 0], "before, corrected, clean"


def test_the_accuracy_is_that_of_the_images_without_a_label(small, measured):
    labeled = data.split(small[0].y, 20, 0).labeled
    scores = graph.spread(small[1], labeled, small[0].y[labeled], 10)
    others = np.setdiff1d(np.arange(300), labeled)
    expected = (scores.argmax(dim=1) == small[0].y)[others].double().mean().item()
    assert cells.accuracy("digits", labeled, small[0].y[labeled]) == pytest.approx(expected)


@pytest.mark.parametrize(("method", "recipe"), cells.CLEANLAB.items())
def test_probabilities_are_those_of_the_cross_validation_of_a_run(method, recipe, small, measured, monkeypatch):
    """The labels of each fold are read by a network that is trained as experiment.run trains it, but has not seen them."""
    cell, tasks = replace(CELL, method=method), []
    monkeypatch.setattr(
        cells, "fit", lambda network, task, recipe, seed: tasks.append((task, recipe)) or type("", (), {"model": 0})
    )
    monkeypatch.setattr(cells, "probabilities", lambda model, x, views, augment: torch.full((len(x), 10), float(len(tasks))))
    labeled, y_l = cells.labels(cell)
    p = cells.cross_validated(*small, labeled, y_l, cell.run)
    assert p.shape == (100, 10) and p.sum(axis=1) == pytest.approx(np.ones(100)) and len(tasks) == 5
    for fold, (task, used) in enumerate(tasks, 1):
        expected = experiment.prepare(small[0], Labeling(100, 0, label_noise=0.2, fold=fold), used, small[1])
        assert used == cell.run.settings and used.name == recipe and not used.check_labels
        for name in ("x_l", "y_l", "x_u", "candidates", "class_prior", "held_out", "y_held_out"):
            one, two = getattr(task, name), getattr(expected, name)
            assert (one is None and two is None) or torch.equal(one, two), name


def test_each_probability_is_of_its_own_image(small, monkeypatch):
    images, neighbors = small
    marked = replace(images, x=torch.arange(300.0)[:, None, None, None].expand(300, 1, 28, 28))
    monkeypatch.setattr(cells, "fit", lambda *_: type("", (), {"model": 0}))
    monkeypatch.setattr(cells, "probabilities", lambda model, x, *_: torch.eye(10)[x[:, 0, 0, 0].long() % 10])
    labeled = data.split(images.y, 100, 0).labeled
    run = replace(CELL, method="cleanlab-supervised").run
    p = cells.cross_validated(marked, neighbors, labeled, images.y[labeled], run)
    assert np.array_equal(p.argmax(axis=1), labeled % 10)


def test_cleanlab_is_asked_with_its_defaults():
    """`n_jobs` is one: by default it forks a process a core, of which one that stays keeps the whole suite from ending."""
    filter_, rank = pytest.importorskip("cleanlab.filter"), pytest.importorskip("cleanlab.rank")
    random = np.random.default_rng(0)
    p, y = random.dirichlet(np.ones(4), 200), random.integers(0, 4, 200)
    suspect, scores = cells.cleanlab()(y, p)
    assert np.array_equal(suspect, filter_.find_label_issues(y, p, n_jobs=1)) and suspect.any()
    assert scores == pytest.approx(1 - rank.get_label_quality_scores(y, p))
    assert scores == pytest.approx(1 - p[np.arange(200), y], abs=1e-6)
    ranked = filter_.find_label_issues(y, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    assert scores[ranked] == pytest.approx(np.sort(scores[suspect])[::-1])


@pytest.mark.slow
def test_cleanlab_finds_wrong_labels_by_networks_that_have_not_seen_them(monkeypatch):
    """Real networks, of few steps, on real digits: far better than chance, which is 0.2."""
    pytest.importorskip("cleanlab")
    images = data.load("digits", files.DATA)
    labeled = data.split(images.y, 300, 0).labeled
    y_l = cells.noisy(images.y[labeled], "uniform-20", 0, (4, 9), 10)
    run = replace(CELL, method="cleanlab-supervised", n_labels=300).run
    short = replace(run.settings, epochs=1, tta_views=1)
    monkeypatch.setattr(Run, "settings", property(lambda run: short))
    p = cells.cross_validated(images, None, labeled, y_l, run)
    suspect, scores = cells.cleanlab()(y_l.numpy(), p)
    found = cells.assess((y_l != images.y[labeled]).numpy(), suspect, scores)
    assert min(found.values()) > 0.5, found


def test_without_cleanlab_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    cells.cleanlab.cache_clear()
    with pytest.raises(ValueError, match=r"^method='cleanlab': must have cleanlab: pip install '\.\[study\]'$"):
        cells.command(None)


# --- the table of rows


def made_row(cell, **numbers):
    row = dict.fromkeys(cells.TABLE.columns, 0.5) | {"wrong": 20, "suspects": 20, "unlabeled": 100, "seconds": 2.0}
    return row | {name: getattr(cell, name) for name in vars(cell)} | {"key": cells.key(cell)} | numbers


def test_finished_cells_are_kept_and_stale_ones_measured_again(tmp_path):
    table, stale = replace(cells.TABLE, path=tmp_path / "rows.csv"), replace(CELL, noise="pair-10")
    table.keep(made_row(CELL), CELL)
    table.keep(made_row(stale, key="before"), stale)
    left = table.missing()
    assert set(table.read()) == {CELL, stale} and set(cells.grid()) - set(left) == {CELL}
    table.measure_all([], 1)
    assert table.to_go([CELL, replace(CELL, method="cleanlab-best")], 2) == (2.0 + cells.SECONDS["cleanlab-best"] / 20) / 2


def test_a_cell_that_is_measured_is_not_measured_again(small, measured, tmp_path, capsys):
    table = replace(cells.TABLE, path=tmp_path / "rows.csv", grid=lambda: [CELL, replace(CELL, method="neighbors")])
    table.complete("1")
    assert "0 of 2 cells are finished" in capsys.readouterr().out and table.missing() == []
    rows = table.read()
    assert float(rows[CELL]["recall"]) >= 0.95
    table.complete("1")
    assert "2 of 2 cells are finished" in capsys.readouterr().out and table.read() == rows


def test_a_key_changes_with_what_the_numbers_follow_from(monkeypatch):
    methods = [replace(CELL, method=method) for method in cells.METHODS]
    before = [cells.key(each) for each in methods]
    cells.key.cache_clear()
    for module in (cells.fingerprint, graph_cache):
        monkeypatch.setattr(module, "code_digest", lambda modules=(): f"other {modules}")
    after = [cells.key(each) for each in methods]
    cells.key.cache_clear()
    assert len(set(before)) == 4 and all(one != two for one, two in zip(before, after, strict=True))


def test_the_order_begins_with_what_is_quick():
    grid = cells.grid()
    assert len(set(grid)) == len(grid) == (3 * 3 - 1) * 8 * 3 * 4
    trained = [cell.method in cells.CLEANLAB for cell in grid]
    assert trained == sorted(trained) and all(cell.data == "digits" for cell in grid[:96])
    assert {cell.noise for cell in grid[96:120]} == set(cells.FIRST[0]) and {cell.seed for cell in grid[96:120]} == {0}


# --- the study


def frame(values, seeds=1):
    """A row for each seed of each (set, method, labels, noise): precision, recall and average precision."""
    names = ("data", "method", "n_labels", "noise", "precision", "recall", "average_precision")
    rows = [dict(zip(names, row, strict=True)) | {"seed": seed} for row in values for seed in range(seeds)]
    made = pd.DataFrame(rows).assign(wrong=20, before=0.9, corrected=0.95, clean=0.98, current=True)
    made["suspects"] = (20 * made["recall"] / made["precision"]).fillna(0).round().astype(int)
    return study.with_f1(made)


ROWS = [
    ("mnist", "graph", 1000, "uniform-20", 1.0, 0.9, 0.99),
    ("mnist", "cleanlab-supervised", 1000, "uniform-20", 0.5, 0.9, 0.5),
    ("mnist", "graph", 1000, "pair-10", 0.5, 0.5, 0.4),
    ("mnist", "cleanlab-supervised", 1000, "pair-10", 0.8, 0.8, 0.8),
    ("digits", "graph", 100, "uniform-1", np.nan, 0.0, 0.5),
]


def test_the_table_has_a_row_for_each_set_of_labels_and_a_column_for_each_method():
    table = study.table(frame(ROWS, seeds=2))
    assert table.columns.tolist() == ["graph", "cleanlab-supervised"]
    assert table.loc[("mnist", 1000, "uniform-20")].tolist() == ["100.0 / 90.0; **99.0** (2)", "50.0 / 90.0; 50.0 (2)"]
    assert table.loc[("digits", 100, "uniform-1")].tolist() == ["– / 0.0; 50.0 (2)", "–"]
    assert [row[2] for row in table.index] == ["uniform-20", "pair-10", "uniform-1"]


def test_the_verdict_says_where_ours_is_above_and_where_not():
    said = study.sentences(frame(ROWS).assign(current=[False, *[True] * 4]))
    assert said.startswith("1 of 5 measurements are by earlier code.")
    line = next(line for line in said.splitlines() if line.startswith("- "))
    assert line == (
        "- `graph` beside `cleanlab-supervised`, `mnist`: by F1, no worse in 1 of 2, +0.2 points on average, below it with "
        "pair-10 of 1000 (-30.0); by average precision, no worse in 1 of 2, +4.5 points on average, below it with "
        "pair-10 of 1000 (-40.0)."
    )
    assert said.count("- `graph`") == 1, "nothing is said of what was not measured"


def test_accuracies_are_compared_on_the_same_labels():
    cells_of = frame(ROWS)
    cells_of.loc[1, "corrected"] = 0.5
    cells_of = cells_of.drop(index=3)
    row = study.accuracies(cells_of).loc[("mnist", 1000)]
    assert row.tolist() == [1, "90.00", "95.00", "50.00", "98.00"]


def test_the_figure_has_a_panel_for_each_set():
    drawn = study.figure(frame(ROWS, 3))
    assert [axis.get_title() for axis in drawn.axes] == list(cells.SETS)
    assert [len(axis.get_lines()) for axis in drawn.axes] == [2, 0, 1]
    assert drawn.get_suptitle().endswith("(3 seeds)")


def test_the_study_reads_the_reference():
    found = study.summarize(Results(pd.read_csv(files.REFERENCE / "results.csv")))
    assert len(found) == len(cells.TABLE.read())
    assert found["recall"].dropna().between(0, 1).all() and set(found["method"]) <= set(cells.METHODS)
