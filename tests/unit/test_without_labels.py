"""Runs without labels in the lab: their records, what they are never mixed with, and clusters with names."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ssl_core import data, datasets, experiment
from ssl_core.datasets import tables
from ssl_core.lab.__main__ import main
from ssl_core.lab.page import sweep_and_build
from ssl_core.lab.runs import files, graph_cache, records, sweep
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import learning_curve, registry
from ssl_core.lab.studies.study import Results
from ssl_core.lab.tools import clusters


def write_scans(folder, n):
    """A folder of scans of digits, none with a label."""
    folder.mkdir()
    for i, image in enumerate(load_digits().images[:n]):
        Image.fromarray((255 - 15.9 * image).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def record_run(tmp_path_factory):
    """Trains a run for a few steps and records it; its folder."""
    outputs = tmp_path_factory.mktemp("outputs")

    def record(run):
        images = data.load(run.data, files.DATA)
        task, result = experiment.run(images, run.labeling, run.settings, graph_cache.for_run(run, images))
        return records.save(run.folder(outputs), run, task, result).parent

    return outputs, record


@pytest.fixture(scope="module")
def digits(record_run):
    """The folder of outputs with a run of digits without labels, one with some, and the former's folder."""
    outputs, record = record_run
    record(Run(50, "supervised", 0, "digits", smoke=True))
    return outputs, record(Run(0, "best", 0, "digits", smoke=True))


@pytest.fixture(scope="module")
def scans(record_run, tmp_path_factory):
    """The folder of a run of scans without a label."""
    folder = write_scans(tmp_path_factory.mktemp("photos") / "scans", 40)
    return record_run[1](Run(0, "best", 0, f"{folder}", smoke=True, n_clusters=6))


def test_record_says_what_its_accuracy_means(digits):
    record = records.read(digits[1])
    assert record.parameters["n_labels"] == 0 and record.images["classes"] == [str(c) for c in range(10)]
    assert sorted(record.clustering["names"]) == list(range(10)) and -1 <= record.clustering["ari"] <= 1
    assert record.row["ari"] == record.clustering["ari"] and record.missing_classes == [] and record.current


def test_clustering_accuracy_is_never_compared(digits):
    results = Results.read(digits[0], "digits")
    assert results.runs["n_labels"].tolist() == [50] and results.clustered["n_labels"].tolist() == [0] and not results.left_out
    curve = learning_curve.summarize(results)
    assert set(curve["n_labels"]) == {0, 50} and learning_curve.means(curve, "best").empty
    said = learning_curve.sentences(curve)
    assert "*clustering accuracy*" in said and "`best` reaches" not in said and "`best`" not in learning_curve.verdict(curve)
    study = registry.get("without_labels")
    summary = study.summarize(results)
    assert summary["n"].tolist() == [1] and "360 test images" in study.sentences(summary)
    assert learning_curve.STUDY.table(curve).index.tolist() == [learning_curve.NONE, 50]
    ticks = learning_curve.figure(curve).axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0", "50"]


def test_table_of_runs_without_the_new_columns_is_read(digits, tmp_path):
    table = records.results(digits[0])
    former = table[table["n_labels"] > 0].drop(columns=list(records.LATER))
    records.write_table(tmp_path / "results.csv", former)
    read = records.read_table(tmp_path / "results.csv")
    assert len(read) == 1 and read["n_clusters"].tolist() == [0] and read["ari"].isna().all()


def test_images_without_classes_are_told_by_number_until_clusters_have_names(scans, capsys):
    assert records.read(scans).n_test == 0 and np.isnan(records.read(scans).accuracy)
    assert clusters.write(scans)[-1].endswith(f"write names into {clusters.NAMES} there")
    assert {"clusters.png", "map.png", clusters.NAMES} <= {path.name for path in scans.iterdir()}
    main(["predict", "--run", str(scans)])
    told = capsys.readouterr().out
    assert "labels are the numbers of clusters: name them in" in told and "without test images nothing shows 99 %" in told
    rows = pd.read_csv(scans / "pseudo_labels.csv", dtype=str)
    assert len(rows) == 40 and set(rows["label"]) <= set("012345"), "all images, since none had a label"
    table = tables.read(scans / clusters.NAMES, clusters.COLUMNS)
    assert sum(int(row["images"]) for row in table.rows) == 40 and all(row["example"] in set(rows["file"]) for row in table.rows)
    named = [row | {"name": name} for row, name in zip(table.rows, ["even", "odd", "even", "odd", "even", ""], strict=True)]
    tables.write(scans / clusters.NAMES, clusters.COLUMNS, named)
    main(["predict", "--run", str(scans)])
    assert f"{clusters.NAMES}: no name for cluster 5: the number stands for it" in capsys.readouterr().out
    again = pd.read_csv(scans / "pseudo_labels.csv", dtype=str)
    assert set(again["label"]) <= {"even", "odd", "5"} and set(again["file"]) == set(rows["file"])
    assert (again["confidence"].astype(float) <= 1.00001).all(), "probabilities of clusters of one name are added up"
    before = (scans / clusters.NAMES).read_bytes()
    clusters.write(scans)
    assert (scans / clusters.NAMES).read_bytes() == before, "names that somebody typed stay"


def test_names_of_other_clusters_are_kept_aside(scans):
    tables.write(scans / clusters.NAMES, clusters.COLUMNS, [{"cluster": 0, "name": "mine", "example": "of another run.png"}])
    said = clusters.write(scans)
    (kept,) = (
        scans.glob("cluster_names*-*.csv") if list(scans.glob("cluster_names*-*.csv")) else scans.glob("cluster_names.*.csv")
    )
    assert "mine" in kept.read_text() and kept.name in said[0] and "mine" not in (scans / clusters.NAMES).read_text()


@pytest.mark.parametrize(
    "content, message",
    [
        ("cluster,name\n0,a\n0,b\n", r"^cluster_names.csv, line 3: cluster=0: must have one name, not 'a' and 'b'$"),
        ("cluster,name\n6,a\n", r"^cluster_names.csv, line 2: cluster='6': must be a whole number from 0 to 5$"),
        ("cluster,label\n0,a\n", r"^cluster_names.csv: must be a table with the columns cluster and name"),
    ],
)
def test_table_of_names_that_makes_no_sense_is_refused(tmp_path, content, message):
    (tmp_path / clusters.NAMES).write_text(content)
    with pytest.raises(ValueError, match=message):
        clusters.read_names(tmp_path / clusters.NAMES, 6)


def test_clusters_of_one_name_are_one():
    p, names = clusters.merged(torch.tensor([[0.2, 0.5, 0.3]]), ["a", "b", "a"])
    assert names == ("a", "b") and p.tolist() == [[pytest.approx(0.5), pytest.approx(0.5)]]


def test_recipes_that_need_labels_are_passed_over(capsys):
    grid = sweep.make_grid("0 10", "supervised best", "0", n_clusters=12)
    assert [(run.n_labels, run.recipe, run.n_clusters) for run in grid] == [
        (0, "best", 12),
        (10, "supervised", 0),
        (10, "best", 0),
    ]
    assert capsys.readouterr().out == "LABELS=0: not with supervised, which cannot do without labels\n"
    with pytest.raises(ValueError, match=r"^n_labels=0: must be 1 or more for recipe='supervised', which needs labels; "):
        sweep.make_grid("0", "supervised", "0")
    assert str(Run(0, "best", 0, n_clusters=12)) == "mnist/best/m0-clusters12/seed0"


def test_folder_without_labels_is_for_no_labels_alone(tmp_path):
    folder = write_scans(tmp_path / "scans", 5)
    with pytest.raises(ValueError, match=r"`make sweep LABELS=0` does without$"):
        sweep.make_grid("10", "best", "0", data=str(folder))
    (run,) = sweep.make_grid("0", "best", "0", data=str(folder))
    assert run.info.n_images == 5 and run.info.classes == ()
    sweep_and_build.check_usable(str(folder), tmp_path, for_training=False)
    sweep_and_build.preview(str(folder), tmp_path)
    assert (tmp_path / run.info.slug / "preview.png").exists()
    with pytest.raises(ValueError, match=r"^n_clusters=6: must be at most 5, the number of images$"):
        sweep.make_grid("0", "best", "0", data=str(folder), n_clusters=6)
    assert datasets.describe(str(folder), for_training=False).n_test == 0
