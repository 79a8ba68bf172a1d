"""The images to label next: the list, its sheets, and labels that were filled in."""

import re
import shutil

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core import data, datasets, experiment, graph
from ssl_core.datasets import describe, tables
from ssl_core.graph import Neighbors
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, graph_cache, records
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import label_next

N = 3000  # images, the first of MNIST


@pytest.fixture(scope="module")
def few(images):
    return data.Images("mnist", images.x[:N], images.y[:N], images.x_test[:0], images.y_test[:0], images.classes)


def by_pixels(images):
    """The graph of neighbours by pixels."""
    features = images.x[:].flatten(1)
    return Neighbors(*graph.neighbors(features, 5), features)


@pytest.fixture
def select(few, tmp_path, monkeypatch):
    """Selects from the first images of MNIST, by their pixels; returns the table."""
    neighbors = by_pixels(few)
    monkeypatch.setattr(data, "load", lambda *_: few)
    monkeypatch.setattr(graph_cache, "load", lambda *_, **__: neighbors)

    def run(n):
        main(["label-next", "--number", str(n), "--outputs", str(tmp_path)])
        return pd.read_csv(tmp_path / "label_next.csv", dtype={"label": str})

    return run


def test_filled_in_labels_are_kept_and_more_images_selected(select, few, tmp_path, capsys):
    first = select(20)
    assert list(first) == ["index", *label_next.COLUMNS] and first["label"].isna().all() and first["index"].is_unique
    assert first["why"].str.startswith("stands for ").all() and first["stands_for"].sum() == N
    assert (tmp_path / "label_next.png").stat().st_size > 10_000

    first["label"] = [few.classes[c] for c in few.y[first["index"].tolist()[:15]]] + [None] * 5
    first.to_csv(tmp_path / "label_next.csv", index=False)
    capsys.readouterr()
    second = select(10)
    assert "15 labels kept, 10 images selected" in capsys.readouterr().out
    assert second["label"].tolist()[:15] == first["label"].tolist()[:15] and second["label"][15:].isna().all()
    assert len(second) == 25 and second["index"].is_unique


def test_numbers_that_became_floats_are_whole(select, tmp_path):
    (tmp_path / "label_next.csv").write_text('index;label\n12.0;1\n"13,00";2\n14;3\n')
    table = select(5)
    assert table["label"].tolist()[:3] == ["1", "2", "3"] and table["label"][3:].isna().all()
    assert not {12, 13, 14} & set(table["index"][3:].astype(int))


@pytest.mark.slow
def test_long_list_has_several_sheets(select, tmp_path):
    select(20)
    assert len(select(label_next.PER_SHEET + 1)) == label_next.PER_SHEET + 1
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["label_next_1.png", "label_next_2.png"]


@pytest.mark.parametrize(
    "table, message",
    [
        ("index,label\n5,ten\n", r"label_next.csv, line 2: label='ten': must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("index,label\n5,1\n3000,1\n", r"label_next.csv, line 3: index='3000': must be from 0 to 2999"),
        ("index,label\n5,1.0\n", r"label_next.csv, line 2: label='1.0': must be one of 0, 1, .*, 9: write '1'"),
        ("index,label\n12.000,1\n", r"label_next.csv, line 2: index='12.000': must be from 0 to 2999"),  # or 12 thousand?
        (f"index,label\n{'9' * 5000},1\n", r"label_next.csv, line 2: index='9+…': must be from 0 to 2999"),
        ("index,label\n2.5,1\n", r"label_next.csv, line 2: index='2.5': must be from 0 to 2999"),
        ("index,label\nfirst,1\n", r"label_next.csv, line 2: index='first': must be from 0 to 2999"),
        (
            "image,label\n5,1\n",
            r"label_next.csv: must be a table with the columns index and label \(no index; its first row is: 'image",
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
    with pytest.raises(SystemExit, match=rf"^label-next: N='?{n}'?: must be a whole number {allowed}"):
        select(n)


def test_folders_of_classes_leave_nothing_to_select(few, tmp_path, monkeypatch):
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    for i, x in enumerate(few.x[:20, 0]):
        place = tmp_path / "years" / f"20{19 + i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(place / f"{i}.png")
    classes = r"classes are the folders 2019 \(10\), 2020 \(10\); if they are not, move them into unlabeled/$"
    with pytest.raises(SystemExit, match=rf"^label-next: N=5: every image has a label, none is left to select; {classes}"):
        main(["label-next", "--number", "5", "--data", str(tmp_path / "years"), "--outputs", str(tmp_path)])


def test_labels_for_a_folder_without_any(few, tmp_path, monkeypatch):
    """The list, filled in, is the folder's table of labels; the next list keeps these labels."""
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(graph_cache, "load", lambda images, *_, **__: by_pixels(images))
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


@pytest.fixture(scope="module")
def scans(few, tmp_path_factory):
    """A folder of sixty images without a label, one of them with a decomposed accent, as macOS writes it."""
    folder = tmp_path_factory.mktemp("data") / "scans"
    folder.mkdir()
    for i, x in enumerate(few.x[:60, 0]):
        name = f"scan {i:02}.png" if i else "scan e\u0301.png"
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(folder / name)
    return folder


@pytest.fixture
def again(scans, tmp_path, monkeypatch):
    """Writes label_next.csv as somebody left it, selects five more images of the folder, and gives the table."""
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", scans.parent)
    monkeypatch.setattr(graph_cache, "load", lambda images, *_, **__: by_pixels(images))

    def run(content, encoding="utf-8", name="label_next.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        main(["label-next", "--number", "5", "--data", str(scans), "--outputs", str(tmp_path)])
        return tables.read(tmp_path / "label_next.csv", ["file", "label"])

    return run


WORDS = ["None", "NA", "null", "nan", "N/A", "n/a", "-", "TRUE", "cat"]


def test_words_for_missing_values_are_labels(again, capsys):
    table = again("file,label\n" + "".join(f"scan {i:02}.png,{word}\n" for i, word in enumerate(WORDS, 1)))
    assert [row["label"] for row in table.rows] == WORDS + [""] * 5
    assert "9 labels kept, 5 images selected" in capsys.readouterr().out


@pytest.mark.parametrize("separator", tables.SEPARATORS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_that_a_spreadsheet_saved_are_kept(again, capsys, tmp_path, separator, encoding, end):
    lines = [["file", "label", "cluster"], ["scan 01.png", "größe", "3"], ["SCAN 02.PNG", "cat, dog", "4"]]
    before = end.join(separator.join(f'"{cell}"' for cell in line) for line in lines)
    table = again(before, encoding)
    assert [row["label"] for row in table.rows] == ["größe", "cat, dog"] + [""] * 5
    assert len({row["file"].lower() for row in table.rows}) == 7
    kept = [path for path in tmp_path.glob("label_next.*.csv") if path.read_bytes() == before.encode(encoding)]
    assert len(kept) == (encoding == "cp1252") and ("Windows-1252, such as 'größe'" in capsys.readouterr().out) == len(kept)


def test_everything_that_was_typed_is_kept(again, capsys):
    """Labels, text in own columns or in place of ours, and remarks; rows in which nothing was typed make room."""
    why = "the most typical of 9 similar images"
    table = again(
        "note,file,label,cluster,images_in_cluster,similarity,why,\n"
        f'"blurred, ask Ann",scan 01.png,,3,9,0.91,{why},\n'
        f",scan 02.png,cat,3,9,0.91,{why},\n"
        f',scan 03.png,,"3,0",9.0,"0,91",{why},\n'
        ",scan 04.png,,3,9,0.91,not a digit,\n"
        f",scan 05.png,,3,9,0.91,{why},without a head\n"
        ",done up to here,,,,,,\n"
        f",deleted since.png,,3,9,0.91,{why},\n"
    )
    assert table.columns == ("note", "file", "label", "cluster", "images_in_cluster", "similarity", "why", "", "stands_for")
    first = [row["file"] for row in table.rows[:5]]
    assert first == ["scan 01.png", "scan 02.png", "scan 04.png", "scan 05.png", "done up to here"] and len(table.rows) == 10
    assert [table.rows[i][column] for i, column in ((0, "note"), (1, "label"), (2, "why"), (3, ""))] == [
        "blurred, ask Ann", "cat", "not a digit", "without a head",
    ]  # fmt: skip
    assert not {row["file"] for row in table.rows[5:]} & set(first)
    assert "1 label kept, 4 other rows kept, 5 images selected" in capsys.readouterr().out


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("head", ["why", "why;mine", "why\tmine"])
def test_labels_beside_the_list_in_one_column_are_told(again, tmp_path, separator, head):
    content = f"file,label,{head}\nscan 01.png,,the most typical of 9 similar images{separator}cat\n"
    with pytest.raises(SystemExit, match=r"label_next\.csv, line 2: all columns lie in one: divide it"):
        again(content)
    assert (tmp_path / "label_next.csv").read_text() == content


def test_two_labels_of_one_image_are_told(again, capsys):
    table = again("file,label\nscan 01.png,cat\nscan 02.png,dog\nSCAN 01.PNG,dog\nscan 02.png,dog\n")
    assert [row["label"] for row in table.rows[:4]] == ["cat", "dog", "dog", "dog"]
    assert "label_next.csv: scan 01.png has the labels 'cat' and 'dog': keep one" in (out := capsys.readouterr().out)
    assert "scan 02.png has" not in out


@pytest.mark.parametrize("layout", ["", "labeled/a"])
def test_where_the_labels_go_follows_the_layout(few, tmp_path, monkeypatch, capsys, layout):
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(graph_cache, "load", lambda images, *_, **__: by_pixels(images))
    for i, x in enumerate(few.x[:40, 0]):
        place = tmp_path / "f" / (layout if i < 4 else "unlabeled") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(place)
    main(["label-next", "--number", "5", "--data", str(tmp_path / "f"), "--outputs", str(tmp_path)])
    assert ("move these images into the folders of their classes" in (out := capsys.readouterr().out)) == bool(layout)
    assert ("append these lines to the folder's labels.csv" in out) == (not layout)


def test_decomposed_name_is_found_again(again):
    assert [row["file"] for row in again("file,label\nscan é.png,cat\n").rows].count("scan é.png") == 1


@pytest.mark.parametrize(
    "table, message",
    [
        (
            "file,label,cluster,images_in_cluster,similarity,why\nscan 01.png,cat, dog,1,2,0.5,x\n",
            "label_next.csv, line 2: 7 fields, the head has 6",
        ),
        (
            "file,label,cluster,images_in_cluster,similarity,why\nscan 01.png,1,2,0.5,the most typical of 2 similar images\n",
            "label_next.csv, line 2: similarity='the most typical of 2 similar images': must be a number; is a comma missing?",
        ),
        ("index;label\n1;cat\n", "label_next.csv: must be a table with the columns file and label (no file; its first row is"),
        ("file,label,label\nscan 01.png,cat,dog\n", "label_next.csv: two columns are called 'label'"),
        (
            "file,label\nscan 01.png,cat\nscan 1.png,cat\n",
            "label_next.csv, line 3: file='scan 1.png': must be an image",
        ),
        (
            "file,label\nscan 1,cat\nscan 2,cat\n",
            "none of the 2 files named in label_next.csv is there: the first is 'scan 1'; there is 'scan 01.png': write the",
        ),
        ("file,label\n,cat\n", "the only file named in label_next.csv is not there: it is ''; there is 'scan"),
        ('file,label\nscan 01.png,"cat\n', "label_next.csv, line 2: a quotation mark may be left open"),
        (b"PK\x03\x04", "label_next.csv: must be a table with the columns file and label (it is a spreadsheet"),
        ("file,label\nscan 01.png,кот\n".encode("cp1251"), "label_next.csv, line 2: its encoding is not known"),
    ],
)
def test_odd_list_is_named_and_left_as_it_is(again, tmp_path, table, message):
    with pytest.raises(SystemExit) as stop:
        again(table)
    assert str(stop.value).startswith(f"label-next: {message}") and "\n" not in str(stop.value)
    content = table if isinstance(table, bytes) else table.encode()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


@pytest.mark.parametrize("name", ["label_next.xlsx", "label_next.ods", "Label_next.csv", "label_next.CSV", "label_next.csv.txt"])
def test_list_under_another_name_is_told(again, tmp_path, name):
    with pytest.raises(SystemExit, match=rf"^label-next: {name} is not read: (save it as|rename it to) label_next\.csv$"):
        again("file,label\nscan 01.png,cat\n", name=name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_list_that_is_open_in_libreoffice_is_left_alone(again, tmp_path):
    (tmp_path / ".~lock.label_next.csv#").touch()
    with pytest.raises(SystemExit, match=r"^label-next: label_next\.csv is open in LibreOffice: save and close it there"):
        again("file,label\nscan 01.png,cat\n")
    assert (tmp_path / "label_next.csv").read_text() == "file,label\nscan 01.png,cat\n"


def test_labels_that_are_typed_meanwhile_are_kept(again, tmp_path, monkeypatch):
    typed = "file,label\nscan 01.png,cat\nscan 02.png,dog\n"

    def load(images, *_, **__):
        (tmp_path / "label_next.csv").write_text(typed)
        return by_pixels(images)

    monkeypatch.setattr(graph_cache, "load", load)
    with pytest.raises(SystemExit, match=r"^label-next: label_next\.csv: was changed in the meantime: the same command again"):
        again("file,label\nscan 01.png,cat\n")
    assert (tmp_path / "label_next.csv").read_text() == typed


def test_look_alike_labels_of_a_folder_are_told(again, capsys):
    table = again("file,label\nscan 01.png,Cat\nscan 02.png,cat\nscan 03.png,1.0\nscan 04.png,1\n")
    printed = capsys.readouterr().out
    assert "label-next: classes 'Cat' and 'cat' look alike\n" in printed and "classes '1' and '1.0' look alike" in printed
    assert [row["label"] for row in table.rows[:4]] == ["Cat", "cat", "1.0", "1"]


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"file,label\n", b"index;label\n", b"file,label,why\nscan 01.png,"]))
def test_any_bytes_are_a_list_or_named_and_left_as_they_are(few, tmp_path_factory, content, head):
    path = tmp_path_factory.mktemp("lists") / "label_next.csv"
    path.write_bytes(head + content)
    pool = label_next.Pool(few, "file", tuple(f"scan {i:02}.png" for i in range(10)), (), path.parent)
    for each in (pool, label_next.Pool(few, "index", range(N))):
        try:
            earlier = label_next.read_list(path, each)
            assert earlier.content == head + content and len(earlier.numbers) <= len(earlier.rows)
        except ValueError as error:
            assert "label_next.csv" in str(error) and str(error).isprintable()
    assert path.read_bytes() == head + content


def test_confusions_are_the_most_frequent_pairs():
    y, predictions = torch.tensor([0, 0, 1, 1, 1, 2, -1]), torch.tensor([1, 0, 2, 2, 1, 2, 0])
    pairs = [(true, predicted, index.tolist()) for true, predicted, index in label_next.confusions(y, predictions)]
    assert pairs == [(1, 2, [2, 3]), (0, 1, [0])]
    assert label_next.confusions(y, y) == []


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", files.DATA)


@pytest.fixture(scope="module")
def digits_run(digits, tmp_path_factory):
    """A short finished run on scikit-learn's digits."""
    folder, run = tmp_path_factory.mktemp("run"), Run(100, "supervised", 0, data="digits", smoke=True)
    records.save(folder, run, *experiment.run(digits, run.labeling, run.settings))
    return folder


@pytest.fixture
def rounds(digits, tmp_path, monkeypatch):
    """Labels rounds of scikit-learn's digits as a person would; returns the list's rows."""
    monkeypatch.setattr(graph_cache, "load", lambda images, *_, **__: by_pixels(images))

    def run(n, *options, classes=range(10)):
        path = tmp_path / "label_next.csv"
        if path.exists():
            rows = pd.read_csv(path, dtype=str)
            truth = [digits.classes[list(classes)[digits.y[int(i)] % len(classes)]] for i in rows["index"]]
            rows.assign(label=truth).to_csv(path, index=False)
        main(["label-next", "--number", str(n), "--data", "digits", "--outputs", str(tmp_path), *options])
        return pd.read_csv(path, dtype=str)

    return run


def test_rounds_say_why_and_when_to_stop(rounds, digits_run, capsys):
    """Without labels, in view of labels, and of a finished run; reasons of every kind are ours, nothing that somebody typed."""
    rounds(20)
    assert "worth" not in capsys.readouterr().out, "nothing is known of a first round"
    second = rounds(20)
    assert "label-next: the next 20 labels are worth" not in (out := capsys.readouterr().out) and "20 labels kept" in out
    third = rounds(20, "--run", str(digits_run), "--worth", "100")
    assert re.search(
        r"the next 20 labels are worth about \S+ points of accuracy \(.*\): stop, a round must be worth 100\n",
        out := capsys.readouterr().out,
    )
    assert "classifying 1437 images with" in out
    reasons = [*second["why"], *third["why"]]
    assert all(re.fullmatch(label_next.OURS["why"], why) for why in reasons) and any("disagree" in why for why in reasons)
    assert third["index"].is_unique and len(third) == 60


def test_labels_of_one_class_only_and_one_image_a_round(rounds, capsys):
    rounds(1)
    for n in (2, 3):
        assert len(rounds(1, classes=[7])) == n
    assert "can be said from 2 labels of two classes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--worth", "much"], r"WORTH='much': must be a number from 0 to 100, points of accuracy"),
        (["--worth", "-1"], r"WORTH='-1': must be a number from 0 to 100"),
        (["--worth", "nan"], r"WORTH='nan': must be a number from 0 to 100"),
        (["--run", "no/such/run"], r"RUN='.*no/such/run': must be the folder of a finished run, with a run.json"),
    ],
)
def test_bad_option_is_named(rounds, tmp_path, options, message):
    with pytest.raises(SystemExit, match=rf"^label-next: {message}"):
        rounds(5, *options)
    assert not list(tmp_path.iterdir())


def test_run_of_another_data_set_is_named(select, digits_run, tmp_path):
    with pytest.raises(SystemExit, match=r"^label-next: RUN='.*': must be a run of 'mnist'; its images are those of 'digits'$"):
        main(["label-next", "--number", "5", "--outputs", str(tmp_path), "--run", str(digits_run)])


def test_folder_of_five_images(few, tmp_path, monkeypatch, capsys):
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    monkeypatch.setattr(graph_cache, "load", lambda images, *_, **__: by_pixels(images))
    (folder := tmp_path / "five").mkdir()
    for i, x in enumerate(few.x[:5, 0]):
        Image.fromarray(((x - x.min()) * 60).byte().numpy()).save(folder / f"{i}.png")
    call = ["label-next", "--data", str(folder), "--outputs", str(tmp_path), "--number"]
    with pytest.raises(SystemExit, match=r"^label-next: N=6: must be a whole number from 1 to 5, the images without a label"):
        main([*call, "6"])
    main([*call, "5"])
    assert len(pd.read_csv(tmp_path / "label_next.csv")) == 5 and "classes" in capsys.readouterr().out
