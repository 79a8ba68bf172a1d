"""Which images to label next: the list, its sheet, and what becomes of labels that were filled in."""

import shutil

import pandas as pd
import pytest
from PIL import Image

from ssl_core import data, folder, graph
from ssl_core.lab import choose, shared

N = 3000  # images, the first of MNIST


@pytest.fixture(scope="module")
def few(images):
    return data.Images("mnist", images.x[:N], images.y[:N], images.x_test[:0], images.y_test[:0], images.classes)


@pytest.fixture
def label_next(few, tmp_path, monkeypatch):
    """Chooses from the first images of MNIST, by their pixels; gives the table and what was said."""
    features = few.x.flatten(1)
    neighbors = shared.Neighbors(*graph.neighbors(features, 5), features)
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(shared, "load_graph", lambda *_: neighbors)

    def run(n):
        choose.main(["--number", str(n), "--outputs", str(tmp_path)])
        return pd.read_csv(tmp_path / "label_next.csv", dtype={"label": str})

    return run


def test_labels_that_were_filled_in_are_kept_and_more_are_chosen(label_next, few, tmp_path, capsys):
    first = label_next(20)
    assert list(first) == ["index", *choose.COLUMNS] and first["label"].isna().all() and first["index"].is_unique
    assert first["why"].str.startswith("the most typical of ").all() and (first["images_in_cluster"] >= 1).all()
    assert (tmp_path / "label_next.png").stat().st_size > 10_000

    first["label"] = [few.classes[c] for c in few.y[first["index"].tolist()[:15]]] + [None] * 5
    first.to_csv(tmp_path / "label_next.csv", index=False)
    capsys.readouterr()
    second = label_next(10)
    assert "15 labels kept, 10 images chosen" in capsys.readouterr().out
    assert second["label"].tolist()[:15] == first["label"].tolist()[:15] and second["label"][15:].isna().all()
    assert len(second) == 25 and second["index"].is_unique


def test_a_long_list_has_several_sheets(label_next, tmp_path):
    label_next(20)
    assert len(label_next(choose.PER_SHEET + 1)) == choose.PER_SHEET + 1
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["label_next_1.png", "label_next_2.png"]


@pytest.mark.parametrize(
    "table, message",
    [
        ("index,label\n5,ten\n", r"label_next.csv, line 2: label='ten': must be 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("index,label\n5,1\n3000,1\n", r"label_next.csv, line 3: index=3000: must be 0 to 2999"),
        ("index,label\n2.5,1\n", r"label_next.csv, line 2: index=2.5: must be 0 to 2999"),
        ("index,label\nfirst,1\n", r"label_next.csv, line 2: index='first': must be 0 to 2999"),
        ("image,label\n5,1\n", r"label_next.csv: must be a table with the columns index and label \(no index\)"),
        ("", r"label_next.csv: must be a table with the columns index and label"),
    ],
)
def test_a_list_that_makes_no_sense_is_left_as_it_is(label_next, tmp_path, table, message):
    (tmp_path / "label_next.csv").write_text(table)
    with pytest.raises(SystemExit, match=f"^label-next: {message}"):
        label_next(5)
    assert (tmp_path / "label_next.csv").read_text() == table


@pytest.mark.parametrize("n, allowed", [(0, "from 1"), (-3, "from 1"), ("many", "from 1"), (N + 1, f"from 1 to {N}")])
def test_a_bad_number_is_named(label_next, n, allowed):
    with pytest.raises(SystemExit, match=rf"^label-next: (N|n_labels)='?{n}'?: must be a whole number {allowed}"):
        label_next(n)


def test_a_folder_without_any_label_is_where_to_begin(few, tmp_path, monkeypatch):
    """The list that is chosen from it, filled in, is its table of labels; those are kept then."""
    monkeypatch.setattr(folder, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(
        shared, "load_graph", lambda images, *_: shared.Neighbors(*graph.neighbors(flat(images), 5), flat(images))
    )
    place, truth = tmp_path / "scans", {}
    place.mkdir()
    for i, x in enumerate(few.x[:150, 0]):
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(place / f"scan {i}.png")
        truth[f"scan {i}.png"] = few.classes[few.y[i]]
    call = ["--number", "40", "--data", str(place), "--outputs", str(tmp_path)]
    choose.main(call)
    rows = pd.read_csv(tmp_path / "label_next.csv", dtype=str)
    assert list(rows) == ["file", *choose.COLUMNS] and rows["file"].is_unique and set(rows["file"]) <= set(truth)
    rows.assign(label=rows["file"].map(truth)).to_csv(place / "labels.csv", index=False)
    folder.known.cache_clear()
    about = data.known(str(place))
    assert about.n_labels + about.n_test == 40 and set(about.classes) == set(rows["file"].map(truth))
    shutil.copy(place / "labels.csv", tmp_path / "label_next.csv")
    choose.main(call)
    more = pd.read_csv(tmp_path / "label_next.csv", dtype=str)
    assert len(more) == 80 and more["file"].is_unique and more["label"].notna().sum() == 40


def flat(images):
    return images.x.flatten(1)
