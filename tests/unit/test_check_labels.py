"""Labels that the others contradict: the list, the decisions typed into it, and what becomes of a person's table."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core import data, datasets, graph, recipes
from ssl_core.graph import Neighbors
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, graph_cache
from ssl_core.lab.tools import check_labels, label_decisions, label_images
from ssl_core.lab.tools.check_labels import nearest, reason

N, M = 240, 160  # images, and of these with a label


def by_pixels(images, *_, **__):
    """The graph of neighbours by pixels."""
    features = (images.x[:] - images.x[:].min()).flatten(1)
    return Neighbors(*graph.neighbors(features, 10), features)


@pytest.fixture(scope="module")
def digits():
    """Pixels (N, 28, 28) and classes of the set `digits`, as bytes."""
    _, arrays = datasets.load("digits")
    return arrays["x"][:, 0], arrays["y"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for data and results, with graphs by pixels."""
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(graph_cache, "load", by_pixels)
    datasets.metadata.cache_clear()
    return tmp_path


def scans(place, digits, labels, n=N):
    """A folder of `n` digits and its labels.csv, with `labels` by number; {} for no table."""
    (folder := place / "scans").mkdir()
    for i in range(n):
        Image.fromarray(digits[0][i]).save(folder / f"{i:03}.png")
    if labels:
        write(folder, labels)
    return folder


def write(folder, labels):
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{i:03}.png,{label}\n" for i, label in labels.items()))


def true(digits, m=M):
    return {i: str(digits[1][i]) for i in range(m)}


def swapped(digits, n, seed=0, m=M):
    """The classes of the first `m` digits, `n` of which are wrong; and which."""
    random, labels = np.random.default_rng(seed), true(digits, m)
    wrong = sorted(random.choice(m, n, replace=False).tolist())
    return labels | {i: str((int(labels[i]) + random.integers(1, 10)) % 10) for i in wrong}, wrong


def check(place, folder, *more):
    main(["check-labels", "--data", str(folder), "--outputs", str(place / "out"), *more])
    return read(place / "out" / "label_errors.csv")


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def suspects(rows, column="file"):
    return {int(row[column].removesuffix(".png")) for row in rows if label_decisions.is_suspect(row)}


def decide(place, decisions):
    """Types decisions into the list, by file."""
    rows = read(path := place / "out" / "label_errors.csv")
    assert {row["file"] for row in rows} >= decisions.keys()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"decision": decisions.get(row["file"], row["decision"])} for row in rows)
    return path


def test_list_has_the_worst_first_and_the_table_is_not_touched(place, digits, capsys):
    labels, wrong = swapped(digits, 8)
    folder = scans(place, digits, labels)
    before = (folder / "labels.csv").read_bytes()
    rows = check(place, folder)
    assert list(rows[0]) == ["file", "given", "suggested", "evidence", "why", "decision"]
    evidence = [float(row["evidence"]) for row in rows if row["evidence"]]
    assert evidence == sorted(evidence, reverse=True) and evidence[-1] >= check_labels.LISTED and evidence[0] > 0.9
    assert len(suspects(rows) & {*wrong}) >= 6 and len(suspects(rows)) < 20
    for row in rows:
        assert row["given"] == labels[int(row["file"][:3])] != row["suggested"] and not row["decision"]
    assert (folder / "labels.csv").read_bytes() == before and sorted(p.name for p in folder.glob("*.csv")) == ["labels.csv"]
    assert (place / "out" / "label_errors.png").stat().st_size > 5000
    said = capsys.readouterr().out
    assert f"{M} labels of 10 classes checked, about " in said and "in nine of ten resamples" in said and "most often: " in said


def test_labels_that_are_drawn_to_test_with_are_checked_too(place, digits):
    labels, _ = swapped(digits, 0)
    folder = scans(place, digits, labels)
    name = datasets.describe(str(folder)).files_test[0]
    i = int(name[:3])
    write(folder, labels | {i: str((int(labels[i]) + 5) % 10)})
    datasets.metadata.cache_clear()
    assert name in [row["file"] for row in check(place, folder)[:3]]


def test_the_graph_of_the_whole_folder_stays_when_labels_change(place, digits):
    """It follows from the images alone, whichever are drawn to test with."""
    labels, _ = swapped(digits, 8)
    folder = scans(place, digits, labels)
    first, *_ = check_labels.labels_of(str(folder), place)[1:]
    write(folder, true(digits))
    datasets.metadata.cache_clear()
    pool, second, given, _ = check_labels.labels_of(str(folder), place)
    assert first == second and second.files == tuple(f"{i:03}.png" for i in range(N))
    assert given.labeled.tolist() == [*range(M)] and [given.classes[c] for c in given.y_l] == [*true(digits).values()]
    kept = pool.images.x[:, 0] * second.std[0] + second.mean[0]
    assert torch.allclose(kept * 255, torch.from_numpy(digits[0][:N]).float(), atol=1e-3)


@pytest.mark.parametrize("labeled, classes", [(10, 1), (1, 10)])
def test_where_nothing_can_be_cross_checked(place, digits, capsys, labeled, classes):
    """One label a class; or labels of one class alone."""
    of_class = {c: [i for i in range(N) if digits[1][i] == c] for c in range(10)}
    labels = {i: str(c) for c in range(10 if classes == 1 else 1) for i in of_class[c][: 1 if classes == 1 else 10]}
    rows = check(place, scans(place, digits, labels))
    said = capsys.readouterr().out
    assert "nothing can be cross-checked: " + ("each class has one label" if classes == 1 else "all labels are 0") in said
    why = "the only label of its class" if classes == 1 else "the only class that has labels"
    assert len(rows) == 10 and {row["why"] for row in rows} == {why} and {row["evidence"] for row in rows} == {""}
    assert not (place / "out" / "label_errors.png").exists()


def test_a_class_with_one_label_is_told(place, digits, capsys):
    labels = true(digits)
    (seven, *others) = [i for i, label in labels.items() if label == "7"]
    rows = check(place, scans(place, digits, {i: label for i, label in labels.items() if i not in others}))
    (row,) = (row for row in rows if row["file"] == f"{seven:03}.png")
    assert row["why"] == "the only label of its class" and not row["evidence"] and not row["suggested"]
    assert "1 label not checked, for want of another believable label of the class: 7" in capsys.readouterr().out


def test_a_folder_of_which_every_second_label_is_wrong(place, digits, capsys):
    labels, _ = swapped(digits, M // 2)
    check(place, scans(place, digits, labels))
    assert "the labels contradict each other so often (" in capsys.readouterr().out


def test_a_folder_without_unlabelled_images(place, digits):
    labels, wrong = swapped(digits, 8)
    rows = check(place, scans(place, digits, labels, n=M))
    assert len(suspects(rows) & {*wrong}) >= 6


def test_a_folder_without_labels(place, digits):
    with pytest.raises(SystemExit, match=r"^check-labels: data='.*scans': no labelled image that can be read: label some"):
        check(place, scans(place, digits, {}, n=20))


def test_decisions_and_remarks_are_kept_when_the_list_is_made_anew(place, digits, capsys):
    labels, _ = swapped(digits, 8)
    folder = scans(place, digits, labels)
    rows = check(place, folder)
    worst, second, gone = (row["file"] for row in rows[:3])
    path = decide(place, {worst: "keep", second: rows[1]["suggested"], gone: "drop"})
    path.write_text(path.read_text().replace("decision\n", "decision,mine\n", 1).replace(",keep\n", ",keep,really a nine\n"))
    (folder / gone).unlink()
    write(folder, labels | {int(second[:3]): rows[1]["suggested"]})
    datasets.metadata.cache_clear()
    again = check(place, folder)
    by_file = {row["file"]: row for row in again}
    assert by_file[worst]["decision"] == "keep" and by_file[worst]["mine"] == "really a nine"
    assert by_file[second]["decision"] == rows[1]["suggested"] and by_file[second]["given"] in (
        rows[1]["given"],
        rows[1]["suggested"],
    )
    assert by_file[gone]["decision"] == "drop" and again[-1]["file"] in (gone, second)
    assert len(again) == len(by_file) and "3 decisions kept" in capsys.readouterr().out


def test_a_list_of_other_images_is_kept_beside_and_a_spoilt_one_refused(place, digits, capsys):
    folder = scans(place, digits, swapped(digits, 8)[0])
    (place / "out").mkdir()
    path = place / "out" / "label_errors.csv"
    path.write_text("index,given,decision\n5,4,9\n")
    check(place, folder)
    (kept,) = (place / "out").glob("label_errors.*.csv")
    assert kept.read_text() == "index,given,decision\n5,4,9\n"
    assert f"the former label_errors.csv, of other images, is kept as {kept.name}" in capsys.readouterr().out
    path.write_text("something else")
    with pytest.raises(
        SystemExit, match=r"^check-labels: label_errors\.csv: must be a table with the columns index and decision"
    ):
        check(place, folder)
    assert path.read_text() == "something else"


@pytest.mark.slow
def test_a_folder_with_20_swapped_labels(images, tmp_path, monkeypatch, capsys):
    """Of 3,000 digits 400 have a label; the graph is learned as for any folder, in few steps."""
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    short = replace(recipes.BEST.for_images(data.BACKGROUND, n_images=3000).pretraining, steps=60, batch=256)
    monkeypatch.setattr(label_images, "pretraining_of", lambda _: short)
    monkeypatch.setattr(graph_cache.load, "__defaults__", (None, tmp_path / "graphs", "auto"))
    datasets.metadata.cache_clear()
    pixels = images.x[:3000, 0].mul(datasets.STD).add(datasets.MEAN).mul(255).round().byte().numpy()
    mnist = pixels, images.y[:3000].numpy()
    folder = scans(tmp_path, mnist, {}, n=3000)

    def told(labels):
        """The suspects; and how many are wrong by estimate, with the interval."""
        write(folder, labels)
        rows = check(tmp_path, folder)
        numbers = re.search(r"about (\d+) wrong \((\d+) to (\d+) in", capsys.readouterr().out).groups()
        return suspects(rows), *map(int, numbers)

    labels, wrong = swapped(mnist, 20, seed=1, m=400)
    found, n_wrong, low, high = told(labels)
    right = len(found & {*wrong})
    assert right >= 0.85 * 20 and right >= 0.7 * len(found)
    assert low <= 20 <= high and low <= n_wrong <= high
    # Odd digits with right labels are counted, too, with swapped labels and without: about 3 of 400.
    _, odd, _, _ = told(true(mnist, 400))
    assert abs(n_wrong - odd - 20) <= 5 and odd <= 8


# --- typed decisions


def test_typed_decisions_go_into_the_table_with_a_log(place, digits, capsys):
    labels, _ = swapped(digits, 8)
    folder = scans(place, digits, labels)
    rows = check(place, folder)
    one, two, three, four, five = (row["file"] for row in rows[:5])
    path = decide(place, {one: rows[0]["suggested"], two: "Drop", three: "no class", four: "keep", five: rows[4]["suggested"]})
    (folder / five).unlink()
    capsys.readouterr()
    assert check(place, folder, "--apply", str(path)) == read(path)
    said = capsys.readouterr().out
    assert f"3 labels of {folder / 'labels.csv'} changed, 1 as decided already" in said
    assert f"1 decision for images that are gone, such as '{five}': nothing to do" in said
    table = {row["file"]: (row["label"], row["status"]) for row in read(folder / "labels.csv")}
    assert table[one] == (rows[0]["suggested"], "") and table[two] == ("", "") and table[three] == ("", "no class")
    others = {f"{i:03}.png": (label, "") for i, label in labels.items()} | {each: table[each] for each in (one, two, three)}
    assert table == others, "all other rows are as they were"
    log = [(row["file"], row["decision"], row["before"], row["after"]) for row in read(folder / "label_decisions.csv")]
    assert log == [
        (one, rows[0]["suggested"], rows[0]["given"], rows[0]["suggested"]),
        (two, "Drop", rows[1]["given"], ""),
        (three, "no class", rows[2]["given"], "no class"),
    ]
    before = (folder / "labels.csv").read_bytes()
    check(place, folder, "--apply", str(path))
    assert "0 labels of" in capsys.readouterr().out and (folder / "labels.csv").read_bytes() == before
    assert datasets.describe(str(folder)).n_images + datasets.describe(str(folder)).n_test == N - 2


def test_a_label_that_was_changed_since_is_left(place, digits, capsys):
    labels, _ = swapped(digits, 8)
    folder = scans(place, digits, labels)
    (row, *_) = check(place, folder)
    path = decide(place, {row["file"]: row["suggested"]})
    other = next(c for c in "0123456789" if c not in (row["given"], row["suggested"]))
    write(folder, labels | {int(row["file"][:3]): other})
    before = (folder / "labels.csv").read_bytes()
    check(place, folder, "--apply", str(path))
    assert f"not changed: labels.csv says {other} of {row['file']}, which is not the label" in capsys.readouterr().out
    assert (folder / "labels.csv").read_bytes() == before


@pytest.mark.parametrize("word, hint", [("nine", "$"), ("９", ": write '9'$"), ("-", "$")])
def test_a_decision_that_is_none_stops_before_anything_is_written(place, digits, word, hint):
    folder = scans(place, digits, swapped(digits, 8)[0])
    rows = check(place, folder)
    path = decide(place, {rows[0]["file"]: "keep", rows[1]["file"]: word})
    before = (folder / "labels.csv").read_bytes()
    allowed = r"must be keep, drop, no class, or one of 0, 1, .*, 9"
    with pytest.raises(SystemExit, match=rf"^check-labels: label_errors.csv, line 3: decision='{word}': {allowed}{hint}"):
        check(place, folder, "--apply", str(path))
    assert (folder / "labels.csv").read_bytes() == before and not (folder / "label_decisions.csv").exists()


def test_where_folders_say_the_classes_files_to_move_are_listed(place, digits, capsys):
    labels, _ = swapped(digits, 8)
    for i, label in labels.items():
        (part := place / "scans" / "labeled" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[0][i]).save(part / f"{i:03}.png")
    folder = place / "scans"
    rows = check(place, folder)
    files_before = sorted(folder.rglob("*"))
    one, two, three, four = (row["file"] for row in rows[:4])
    path = decide(place, {one: rows[0]["suggested"], two: "drop", three: "no class", four: "keep"})
    check(place, folder, "--apply", str(path))
    assert "no file is moved: 3 files for you to move in" in capsys.readouterr().out
    moved = {row["file"]: row["to"] for row in read(place / "out" / "label_moves.csv")}
    suggested = f"labeled/{rows[0]['suggested']}/{one.rsplit('/', 1)[1]}"
    assert moved == {one: suggested, two: f"unlabeled/{two.rsplit('/', 1)[1]}", three: ""}
    assert sorted(folder.rglob("*")) == files_before


def test_named_sets(place, images, digits, capsys, monkeypatch):
    """The labels of label_next.csv, if there are any; else the set's own."""
    few = data.Images(
        "digits",
        *(torch.from_numpy(a) for a in (digits[0][:N, None] / 255, digits[1][:N])),
        *[torch.zeros(0)] * 2,
        tuple("0123456789"),
    )
    monkeypatch.setattr(data, "load", lambda *_: few)
    (place / "out").mkdir()
    rows = check(place, "digits")
    assert "index" in rows[0] and f"the labels are the {N} of digits itself" in capsys.readouterr().out
    labels, wrong = swapped(digits, 8)
    content = "index,label\n" + "".join(f"{i},{label}\n" for i, label in labels.items())
    (place / "out" / "label_next.csv").write_text(content)
    rows = check(place, "digits")
    assert len(suspects(rows, "index") & {*wrong}) >= 6
    path = place / "out" / "label_errors.csv"
    path.write_text(
        path.read_text().replace("\n", f"{rows[0]['suggested']}\n", 2).replace(f"decision{rows[0]['suggested']}", "decision")
    )
    check(place, "digits", "--apply", str(path))
    table = {row["index"]: row["label"] for row in read(place / "out" / "label_next.csv")}
    assert table == {str(i): label for i, label in labels.items()} | {rows[0]["index"]: rows[0]["suggested"]}


def test_a_class_that_is_called_as_a_decision_is_refused(place, digits):
    labels = true(digits) | dict.fromkeys(range(0, M, 2), "Keep")
    with pytest.raises(SystemExit, match=r"^check-labels: class='Keep': must not be called as a decision is"):
        check(place, scans(place, digits, labels))


def test_there_must_be_a_list_to_apply(place, digits):
    folder = scans(place, digits, true(digits))
    with pytest.raises(SystemExit, match=r"^check-labels: no.csv: must be in .*: make check-labels writes it"):
        main(["check-labels", "--data", str(folder), "--apply", str(place / "no.csv")])


# --- the parts


def test_nearest_labelled_images_are_those_of_scikit_learn(digits):
    from sklearn.neighbors import NearestNeighbors

    features = torch.from_numpy(digits[0][:300]).float().flatten(1)
    labeled, which = torch.arange(0, 300, 2), torch.tensor([0, 7, 149])
    oracle = NearestNeighbors(n_neighbors=6, metric="cosine").fit(features[labeled].numpy())
    expected = oracle.kneighbors(features[labeled][which].numpy(), return_distance=False)[:, 1:]
    assert nearest(features, labeled, which).tolist() == expected.tolist()


def test_the_reason_in_words():
    from collections import Counter

    assert reason(Counter("99994"), "4", "9") == "4 of its 5 nearest labelled neighbours are 9, 1 is 4"
    assert reason(Counter("93333"), "4", "9") == "1 of its 5 nearest labelled neighbours is 9"
    assert reason(Counter("44433"), "4", "9") == "labels further off say 9; 3 of its 5 nearest labelled neighbours are 4"


def test_evidence_is_read_as_spreadsheets_write_it():
    assert label_decisions.evidence({"evidence": "0,75"}) == 0.75 and label_decisions.evidence({"evidence": ""}) == 0
