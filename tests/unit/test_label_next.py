"""The images to label next: the list, its sheets, and labels that were filled in."""

import shutil

import pandas as pd
import pytest
import torch
from PIL import Image

from ssl_core import data, datasets, graph
from ssl_core.datasets import describe
from ssl_core.graph import Neighbors
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, graph_cache
from ssl_core.lab.tools import label_next

N = 3000  # images, the first of MNIST


@pytest.fixture(scope="module")
def few(images):
    return data.Images("mnist", images.x[:N], images.y[:N], images.x_test[:0], images.y_test[:0], images.classes)


def by_pixels(images):
    """The graph of neighbours by pixels."""
    features = images.x.flatten(1)
    return Neighbors(*graph.neighbors(features, 5), features)


@pytest.fixture
def select(few, tmp_path, monkeypatch):
    """Selects from the first images of MNIST, by their pixels; returns the table."""
    neighbors = by_pixels(few)
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(graph_cache, "load", lambda *_: neighbors)

    def run(n):
        main(["label-next", "--number", str(n), "--outputs", str(tmp_path)])
        return pd.read_csv(tmp_path / "label_next.csv", dtype={"label": str})

    return run


def test_filled_in_labels_are_kept_and_more_images_selected(select, few, tmp_path, capsys):
    first = select(20)
    assert list(first) == ["index", *label_next.COLUMNS] and first["label"].isna().all() and first["index"].is_unique
    assert first["why"].str.startswith("the most typical of ").all() and (first["images_in_cluster"] >= 1).all()
    assert (tmp_path / "label_next.png").stat().st_size > 10_000

    first["label"] = [few.classes[c] for c in few.y[first["index"].tolist()[:15]]] + [None] * 5
    first.to_csv(tmp_path / "label_next.csv", index=False)
    capsys.readouterr()
    second = select(10)
    assert "15 labels kept, 10 images selected" in capsys.readouterr().out
    assert second["label"].tolist()[:15] == first["label"].tolist()[:15] and second["label"][15:].isna().all()
    assert len(second) == 25 and second["index"].is_unique


def test_long_list_has_several_sheets(select, tmp_path):
    select(20)
    assert len(select(label_next.PER_SHEET + 1)) == label_next.PER_SHEET + 1
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["label_next_1.png", "label_next_2.png"]


@pytest.mark.parametrize(
    "table, message",
    [
        ("index,label\n5,ten\n", r"label_next.csv, line 2: label='ten': must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("index,label\n5,1\n3000,1\n", r"label_next.csv, line 3: index='3000': must be from 0 to 2999"),
        ("index,label\n2.5,1\n", r"label_next.csv, line 2: index='2.5': must be from 0 to 2999"),
        ("index,label\nfirst,1\n", r"label_next.csv, line 2: index='first': must be from 0 to 2999"),
        (
            "image,label\n5,1\n",
            r"label_next.csv: must be a table with the columns index and label \(no index; its first row is: image, l",
        ),
        ("", r"label_next.csv: must be a table with the columns index and label"),
    ],
)
def test_invalid_list_is_named_and_left_as_it_is(select, tmp_path, table, message):
    (tmp_path / "label_next.csv").write_text(table)
    with pytest.raises(SystemExit, match=f"^label-next: {message}"):
        select(5)
    assert (tmp_path / "label_next.csv").read_text() == table


@pytest.mark.parametrize("n, allowed", [(0, "from 1"), (-3, "from 1"), ("many", "from 1"), (N + 1, f"from 1 to {N}")])
def test_bad_number_is_named(select, n, allowed):
    with pytest.raises(SystemExit, match=rf"^label-next: (N|n_labels)='?{n}'?: must be a whole number {allowed}"):
        select(n)


def test_labels_for_a_folder_without_any(few, tmp_path, monkeypatch):
    """The list, filled in, is the folder's table of labels; the next list keeps these labels."""
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(graph_cache, "load", lambda images, *_: by_pixels(images))
    folder, classes = tmp_path / "scans", {}
    folder.mkdir()
    for i, x in enumerate(few.x[:150, 0]):
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(folder / f"scan {i}.png")
        classes[f"scan {i}.png"] = few.classes[few.y[i]]
    call = ["label-next", "--number", "40", "--data", str(folder), "--outputs", str(tmp_path)]
    main(call)
    rows = pd.read_csv(tmp_path / "label_next.csv", dtype=str)
    assert list(rows) == ["file", *label_next.COLUMNS] and rows["file"].is_unique and set(rows["file"]) <= set(classes)
    rows.assign(label=rows["file"].map(classes)).to_csv(folder / "labels.csv", index=False)
    datasets.metadata.cache_clear()
    info = describe(str(folder))
    assert info.n_labels + info.n_test == 40 and set(info.classes) == set(rows["file"].map(classes))
    shutil.copy(folder / "labels.csv", tmp_path / "label_next.csv")
    main(call)
    more = pd.read_csv(tmp_path / "label_next.csv", dtype=str)
    assert len(more) == 80 and more["file"].is_unique and more["label"].notna().sum() == 40


def test_confusions_are_the_most_frequent_pairs():
    y, predictions = torch.tensor([0, 0, 1, 1, 1, 2, -1]), torch.tensor([1, 0, 2, 2, 1, 2, 0])
    pairs = [(true, predicted, index.tolist()) for true, predicted, index in label_next.confusions(y, predictions)]
    assert pairs == [(1, 2, [2, 3]), (0, 1, [0])]
    assert label_next.confusions(y, y) == []


def test_random_and_typical_selections_are_compared(few):
    comparison = label_next.compare(few, by_pixels(few), [20, 10, 20], 2)
    assert len(comparison) == 8 and comparison["accuracy"].between(0.2, 1).all() and (comparison["classes"] <= 10).all()
    summary = label_next.summary(comparison)
    assert list(summary.index) == [(n, name) for n in (10, 20) for name in ("random", "typical")]
    assert (summary["worst"] <= summary["mean"]).all() and (summary["seeds"] == 2).all()
