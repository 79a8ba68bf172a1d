"""Labels to Label Studio and back: nothing changes on the way, and no label that is there is lost."""

import json
import random
import unicodedata
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core.datasets import tables
from ssl_core.datasets.scan import scan
from ssl_core.datasets.table_names import clean
from ssl_core.lab.__main__ import main
from ssl_core.lab.tools import import_labels, label_studio
from ssl_core.lab.tools.import_labels import fitting
from ssl_core.lab.tools.label_studio import Answer, read_export

FILES = ("a 1.png", "b+2.png", "c%20.png", "scans/größe.png", "scans/d&e#?.png")


@pytest.fixture
def folder(tmp_path):
    """A folder of images with difficult names, without a label."""
    for i, file in enumerate(FILES):
        (path := tmp_path / "my images" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * i).save(path)
    return tmp_path / "my images"


@pytest.fixture
def export(tmp_path, folder, capsys):
    """Writes the tasks of the folder; gives them, and what was printed."""

    def run(*more):
        main(["export-labels", "--data", f"{folder}/", "--outputs", str(tmp_path / "out"), *more])
        return json.loads((tmp_path / "out" / "label_studio_tasks.json").read_text()), capsys.readouterr().out

    return run


@pytest.fixture
def bring(tmp_path, folder, capsys):
    """Imports an export into the folder; gives what was printed."""

    def run(content, name="export.json"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        main(["import-labels", "--data", f"{folder}/", "--source", str(tmp_path / name), "--outputs", str(tmp_path / "out")])
        return capsys.readouterr().out

    return run


def chosen(*labels, name="label", **more):
    result = [{"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [*labels]}}] if labels else []
    return {"result": result, "was_cancelled": False, **more}


def task(image, *annotations):
    return {"id": 1, "data": {"image": image}, "annotations": [*annotations], "predictions": []}


def labels_in(path):
    return {row["file"]: row["label"] for row in tables.read(path, ("file", "label")).rows}


# --- there and back

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(clean).filter(bool)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda n: n.strip("./\\ ") == n != ""
)


@settings(max_examples=200)
@given(st.dictionaries(names, st.one_of(st.just(""), text), min_size=1, max_size=6), st.booleans())
def test_any_label_of_any_file_comes_back(tmp_path_factory, labels, by_address):
    """Without the name of the file in the task too, as far as `tables.match` tells the files apart."""
    path = tmp_path_factory.mktemp("export") / "export.json"
    rows = label_studio.tasks(folder := Path("/some/where/my folder"), labels, {}, "")
    if by_address:
        for row in rows:
            del row["data"]["file"]
    path.write_text(json.dumps([{"annotations": [], **row} for row in rows]))
    answers, notes = read_export(path)
    found = fitting([answer.name for answer in answers], [*labels], folder)
    assert {found[answer.name]: "".join(answer.labels) for answer in answers} == labels and notes == ()


@given(st.lists(text, unique=True, min_size=1))
def test_interface_has_every_class(classes):
    root = ElementTree.fromstring(label_studio.interface([each for each in classes if each.isprintable()]))
    assert [choice.get("value") for choice in root.iter("Choice")] == [each for each in classes if each.isprintable()]
    assert root.find("Image").get("name") == root.find("Choices").get("toName") == "image"
    assert root.find("Choices").get("name") == label_studio.NAME


def test_class_that_no_interface_can_hold_is_named(export, folder):
    (folder / "labels.csv").write_text("file,label\na 1.png,c\x01t\n")
    with pytest.raises(SystemExit, match=r"^export-labels: label='c\\x01t': must be without characters that XML"):
        export()


def test_folder_goes_there_and_back(export, bring, folder):
    table = "file,label,note\n" + "".join(
        f'"{file}","{label}",x\n' for file, label in zip(FILES[:3], ("a", "b, c", "ü"), strict=True)
    )
    (folder / "labels.csv").write_text(table)
    tasks, told = export()
    assert [row["data"]["file"] for row in tasks] == sorted(FILES) and "5 images, 3 labels and 0 predictions in" in told
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=my%20images/b%2B2.png"
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder.parent}, add {folder} as source" in told
    (folder / "labels.csv").unlink()
    assert "3 new, 2 without an answer" in bring([{"annotations": [], **row} for row in tasks])
    assert labels_in(folder / "labels.csv") == dict(zip(FILES[:3], ("a", "b, c", "ü"), strict=True))
    assert sorted(label for _, label in scan(folder).entries) == ["", "", "a", "b, c", "ü"]


def test_predictions_of_a_run_are_shown(export, tmp_path):
    (run := tmp_path / "best" / "m20" / "seed0").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"^export-labels: RUN='.*seed0': must have pseudo_labels.csv or predictions.csv, which"):
        export("--run", str(run))
    (run / "predictions.csv").write_text('file,label,confidence\na 1.png,cat,"0,75"\n')
    tasks, told = export("--run", str(run))
    (prediction,) = tasks[0]["predictions"]
    assert (prediction["score"], prediction["model_version"]) == (0.75, "best/m20/seed0")
    assert prediction["result"][0]["value"] == {"choices": ["cat"]} and "annotations" not in tasks[0]
    assert "1 prediction in" in told and "no class is known" not in told
    (run / "predictions.csv").write_text("file,label,confidence\na 1.png,cat,high\n")
    with pytest.raises(SystemExit, match=r"predictions.csv, line 2: confidence='high': must be a number from 0 to 1$"):
        export("--run", str(run))
    (run / "predictions.csv").write_text("file,label,confidence\nelsewhere.png,cat,1\n")
    with pytest.raises(SystemExit, match=r"the only file named in predictions.csv is not there: it is 'elsewhere.png'"):
        export("--run", str(run))


def test_interface_that_was_changed_is_kept(export, tmp_path):
    _, told = export()
    assert "no class is known yet" in told
    (path := tmp_path / "out" / "label_studio_interface.xml").write_text("<View/>")
    assert "the former one is kept as label_studio_interface." in export()[1]
    assert "<View/>" in [each.read_text() for each in path.parent.glob("*.xml")]


# --- the forms of exports


@pytest.mark.parametrize(
    "address, file",
    [
        ("/data/local-files/?d=my%20images/scans/gr%C3%B6%C3%9Fe.png", "scans/größe.png"),
        ("/data/local-files/?d=my images/scans/" + unicodedata.normalize("NFD", "größe.png"), "scans/größe.png"),
        ("http://localhost:8080/data/local-files/?d=my%20images/b%2B2.png", "b+2.png"),
        ("/data/local-files/?d=mnt/other%20disk/my%20images/c%2520.png", "c%20.png"),
        ("/data/upload/12/0a1b2c3d-a_1.png", "a 1.png"),
        ("/data/upload/12/0a1b2c3d-gr%C3%B6%C3%9Fe.png", "scans/größe.png"),
        ("upload/12/0a1b2c3d-b2.png", "b+2.png"),
        ("https://example.org/photos/b%2B2.png?signed=1", "b+2.png"),
        ("s3://bucket/all/scans/d%26e%23%3F.png", "scans/d&e#?.png"),
        ("scans\\größe.png", "scans/größe.png"),
        ("/data/upload/12/0a1b2c3d-other.png", None),
        ("/data/local-files/?d=others/x.png", None),
    ],
)
def test_addresses_of_any_version_are_matched(folder, address, file):
    assert fitting([address], FILES, folder) == ({address: file} if file else {})


def test_prefix_of_an_upload_is_part_of_a_name_where_that_fits(folder):
    both = ["1.png", "0a1b2c3d-1.png"]
    assert fitting(["/data/upload/1/0a1b2c3d-1.png"], both, folder) == {"/data/upload/1/0a1b2c3d-1.png": both[1]}
    assert fitting(["/data/upload/1/0a1b2c3d-1.png"], ["x/1.png", "y/1.png"], folder) == {}  # which of them?


@pytest.mark.parametrize(
    "row, labels",
    [
        (task("x.png", chosen("cat")), [("cat",)]),
        (task("x.png", chosen("cat"), chosen("dog")), [("cat",), ("dog",)]),
        ({"data": {"img": "x.png"}, "completions": [chosen("cat", name="animal")]}, [("cat",)]),
        (task("x.png", {"result": [{"from_name": "label", "type": "choices", "value": {"choices": "cat"}}]}), [("cat",)]),
        (task("x.png", chosen(" cat\u200b")), [("cat",)]),
        (task("x.png", chosen(unicodedata.normalize("NFD", "größe"))), [("größe",)]),
        ({"id": 3, "image": "x.png", "annotation_id": 1, "animal": "cat"}, [("cat",)]),
        ({"id": 3, "image": "x.png", "annotation_id": 1, "animal": {"choices": ["cat"]}}, [("cat",)]),
        ({"id": 3, "image": "x.png", "annotation_id": 1, "animal": [{"choices": ["cat", "dog"]}]}, [("cat", "dog")]),
        ({"id": 3, "image": "x.png", "annotation_id": 1, "label": "cat", "comment": "blurred"}, [("cat",)]),
        ({"id": 3, "image": "x.png", "annotation_id": None, "lead_time": None}, [()]),
        (task("x.png"), [()]),
        (task("x.png", chosen()), [()]),
    ],
)  # fmt: skip
def test_forms_of_a_choice(tmp_path, row, labels):
    (tmp_path / "export.json").write_text(json.dumps(row))
    answers, _ = read_export(tmp_path / "export.json")
    assert answers == [Answer("x.png", each) for each in labels]


def test_other_questions_and_data_are_no_labels(tmp_path):
    both = {"result": [*chosen("good", name="quality")["result"], *chosen("cat")["result"]]}
    sites = [{"image": f"{i}.png", "site": "north", "annotation_id": None} for i in range(2)]
    for rows, answers in (([task("x.png", both)], [Answer("x.png", ("cat",))]), (sites, [Answer("0.png"), Answer("1.png")])):
        (tmp_path / "export.json").write_text(json.dumps(rows))
        assert read_export(tmp_path / "export.json") == (answers, ())


def test_skipped_and_marked_parts_are_no_answers(tmp_path):
    marked = {"from_name": "box", "type": "rectanglelabels", "value": {"x": 1, "y": 2, "rectanglelabels": ["cat"]}}
    part = {"from_name": "label", "type": "choices", "value": {"x": 1, "y": 2, "choices": ["cat"]}}
    rows = [
        task("x.png", chosen("cat", was_cancelled=True), {"skipped": True, "result": []}),
        task("y.png", {"result": [marked]}, {"result": [part]}),
        {"image": "z.png", "annotation_id": 1, "box": [{"x": 1, "y": 2, "rectanglelabels": ["cat"]}]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(rows))
    answers, _ = read_export(tmp_path / "export.json")
    assert answers == [
        *[Answer("x.png", skipped=True)] * 2,
        *[Answer("y.png", regions=True)] * 2,
        Answer("z.png", regions=True),
    ]


def test_field_that_may_be_the_choice_is_told(bring, folder):
    told = bring([{"image": "a 1.png", "annotation_id": 1, "animal": "cat"}])
    assert "export.json does not say what was chosen; the labels are those in 'animal'" in told
    assert labels_in(folder / "labels.csv") == {"a 1.png": "cat"}


# --- bad input

MUST = "export.json: must be an export of Label Studio, as JSON or JSON-MIN"


@pytest.mark.parametrize(
    "content, message",
    [
        ("", f"{MUST} (it is no JSON: Expecting value"),
        ("file,label\na,b\n", f"{MUST} (it is no JSON: "),
        ("[" * 100_000, f"{MUST} (it is no JSON: "),
        ("[]", f"{MUST} (it has no list of tasks)"),
        ("3", f"{MUST} (it has no list of tasks)"),
        ('{"images": [], "annotations": []}', f"{MUST} (number 1 in it is no task: it needs data and annotations"),
        ('[{"data": {"image": "a 1.png"}}]', f"{MUST} (number 1 in it is no task"),
        ('[{"data": {"image": "a 1.png"}, "annotations": [7]}]', f"{MUST} (an annotation in it has another form: "),
        ([task("a 1.png", chosen("cat", name="animal"), chosen("good", name="quality"))],
         f"{MUST}, with one question or one called label (it has 'animal', 'quality')"),
        ([task("/data/local-files/?d=other/x.png", chosen("cat")), task("y.png", chosen("dog"))],
         "none of the 2 files named in export.json is there: the first is '/data/local-files/?d=other/x.png'; there is "),
        ([task("a 1.png", chosen("c\0t"))], 'export.json: label="c\\u0000t": must be text'),
        ([task("a 1.png", chosen("\ud800"))], 'export.json: label="\\ud800": must be text'),
        ([task("a 1.png", chosen()), task("b+2.png")], "export.json: no label for 2 images"),
        ([task("a 1.png", {"result": [{"from_name": "b", "type": "rectanglelabels", "value": {"x": 1}}]})],
         "export.json: no label for 1 image, but parts of images that are marked: choices for the whole image are needed"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_named_and_nothing_written(bring, folder, content, message):
    (folder / "labels.csv").write_text(before := "file,label\na 1.png,\n")
    with pytest.raises(SystemExit) as stop:
        bring(content)
    assert str(stop.value).startswith(f"import-labels: {message}") and "\n" not in str(stop.value)
    assert (folder / "labels.csv").read_text() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--data", "mnist", "--source", "{0}/table.csv"],
            "data='mnist': must be the path of a folder of images, with a / in it",
        ),
        (["--data", "{0}/nowhere", "--source", "{0}/table.csv"], "data='.*/nowhere': there is no such folder"),
        (["--data", "{0}/table.csv", "--source", "{0}/table.csv"], "data='.*/table.csv': is a table: give the folder"),
        (["--data", "{0}/my images", "--source", " "], "FROM=' ': must be Label Studio's export as JSON, or a table"),
        (["--data", "{0}/my images", "--source", "{0}/no.json"], "no.json: must be an export .* can't be read: No such file"),
        (["--data", "{0}/my images", "--source", "{0}/no.csv"], "no.csv: must be a table .* can't be read: No such file"),
    ],
)
def test_wrong_paths_are_named(folder, arguments, message):
    (folder.parent / "table.csv").write_text("file,label\na 1.png,cat\n")
    with pytest.raises(SystemExit, match=f"^import-labels: {message}"):
        main(["import-labels", *(each.format(folder.parent) for each in arguments)])


# --- into a table that is there


def test_labels_are_merged_and_none_is_overwritten(bring, folder):
    (folder / "labels.csv").write_text(
        "file;note;label\nscans\\größe.png;mine;\na 1.png;sure;cat\nb+2.png;;dog\ngone.png;;cat\n", encoding="utf-8"
    )
    answers = {"a 1.png": ["cat"], "b+2.png": ["cat"], "scans/größe.png": ["dog", "dog"], "c%20.png": ["cat", "dog"]}
    rows = [task(file, *map(chosen, labels)) for file, labels in answers.items()]
    told = bring([*rows, task("scans/d&e#?.png", chosen("cat", "dog")), task("x.png", chosen("cat"))])
    assert (
        "1 new, 1 there already, 3 to be decided, 2 more for an image that had one, 1 not in the folder, such as 'x.png'" in told
    )
    assert (folder / "labels.csv").read_bytes().decode("utf-8-sig").splitlines() == [
        "file,note,label", "scans\\größe.png,mine,dog", "a 1.png,sure,cat", "b+2.png,,dog", "gone.png,,cat",
    ]  # fmt: skip
    conflicts = tables.read(folder / "conflicts.csv", import_labels.LIST).rows
    assert [tuple(row.values()) for row in conflicts] == [
        ("b+2.png", "", "dog", "cat", "has another label"),
        ("c%20.png", "", "cat", "dog", "people disagree"),
        ("scans/d&e#?.png", "", "cat", "dog", "somebody chose several"),
    ]
    assert str(folder / "conflicts.csv") in told


def test_decisions_on_conflicts_are_taken_over(bring, folder, tmp_path):
    (folder / "labels.csv").write_text("file,label,note\nb+2.png,dog,x\n")
    rows = [task("b+2.png", chosen("cat")), task("c%20.png", chosen("cat"), chosen("dog")), task("a 1.png", chosen("one", "two"))]
    bring(rows)
    decided = (folder / "conflicts.csv").read_text().replace("b+2.png,", "b+2.png,cat").replace("c%20.png,", "c%20.png,bird")
    told = bring(decided, "decided.csv")
    assert "1 new, 1 decided anew, 1 without an answer" in told and "the former one is kept as labels." in told
    assert labels_in(folder / "labels.csv") == {"b+2.png": "cat", "c%20.png": "bird"}
    (kept,) = folder.glob("labels.*.csv")
    assert labels_in(kept) == {"b+2.png": "dog"}
    # What the list does not show beside the decision is not replaced.
    (folder / "labels.csv").write_text("file,label\nb+2.png,fox\n")
    assert "1 new, 1 to be decided" in bring(decided, "decided.csv")
    assert labels_in(folder / "labels.csv") == {"b+2.png": "fox", "c%20.png": "bird"}


def test_list_in_which_somebody_typed_is_kept(bring, folder):
    (folder / "labels.csv").write_text("file,label\nb+2.png,dog\n")
    assert "kept" not in bring([task("b+2.png", chosen("cat"))]) + bring([task("b+2.png", chosen("bird"))])
    typed = (folder / "conflicts.csv").read_text().replace("b+2.png,", "b+2.png,fox")
    (folder / "conflicts.csv").write_text(typed)
    assert "with what was typed there, is kept as conflicts." in bring([task("b+2.png", chosen("cat"))])
    assert typed in [path.read_text() for path in folder.glob("conflicts.*.csv")]


def test_image_of_no_class_keeps_that_answer(bring, folder):
    (folder / "labels.csv").write_text("file,label,status\nb+2.png,,no class\n")
    assert "1 to be decided" in bring([task("b+2.png", chosen("cat"))])
    assert (folder / "labels.csv").read_text() == "file,label,status\nb+2.png,,no class\n"
    bring((folder / "conflicts.csv").read_text().replace("b+2.png,", "b+2.png,cat"), "decided.csv")
    assert (folder / "labels.csv").read_text() == "file,label,status\nb+2.png,cat,\n"


def test_labels_for_folders_of_classes_go_into_a_table(tmp_path, bring, folder):
    for file, place in zip(FILES, ("labeled/cat", "labeled/dog", *["unlabeled"] * 3), strict=True):
        (target := folder / place / Path(file).name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).rename(target)
    (folder / "scans").rmdir()
    rows = [task("/data/upload/1/0a1b2c3d-a_1.png", chosen("dog")), task("unlabeled/größe.png", chosen("dog"))]
    told = bring([*rows, task("labeled/dog/b+2.png", chosen("dog"))])
    assert "1 new, 1 there already, 1 to be decided" in told and "move these images into the folders of their classes" in told
    assert labels_in(tmp_path / "out" / "imported_labels.csv") == {"unlabeled/größe.png": "dog"}
    assert not (folder / "labels.csv").exists() and (tmp_path / "out" / "conflicts.csv").exists()
    bring([task("unlabeled/größe.png", chosen("cat")), task("unlabeled/c%20.png", chosen("cat"))])
    assert labels_in(tmp_path / "out" / "imported_labels.csv") == {"unlabeled/größe.png": "dog", "unlabeled/c%20.png": "cat"}


def test_imports_at_once_lose_nothing(folder, tmp_path):
    images = [f"{i}.png" for i in range(12)]
    for image in images:
        Image.new("L", (8, 8)).save(folder / image)
        (tmp_path / f"{image}.json").write_text(json.dumps(task(image, chosen(f"class {image}"))))
    arguments = [Namespace(data=str(folder), source=str(tmp_path / f"{image}.json"), outputs=str(tmp_path)) for image in images]
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(import_labels.command, arguments))
    assert labels_in(folder / "labels.csv") == {image: f"class {image}" for image in images}


def test_table_that_is_open_elsewhere_is_not_written(bring, folder):
    (folder / "labels.csv").write_text(before := "file,label\na 1.png,cat\n")
    (folder / ".~lock.labels.csv#").touch()
    with pytest.raises(SystemExit, match=r"^import-labels: labels.csv is open in LibreOffice: save and close it there"):
        bring([task("b+2.png", chosen("cat"))])
    assert (folder / "labels.csv").read_text() == before


def test_guessed_encoding_keeps_the_table_as_it_was(bring, folder):
    (folder / "labels.csv").write_bytes(before := "file,label\na 1.png,größe\n".encode("cp1252"))
    assert "the former one is kept as labels." in bring([task("b+2.png", chosen("klein"))])
    assert labels_in(folder / "labels.csv") == {"a 1.png": "größe", "b+2.png": "klein"}
    assert before in [path.read_bytes() for path in folder.glob("labels.*.csv")]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x", "y"])), max_size=8), st.data())
def test_no_label_is_ever_lost(before, data):
    """Of any table and any answers: every label is in the table or among the conflicts afterwards, the table's own unchanged."""
    known: dict[str, list[str]] = {}
    for file, label in before:
        if label and label not in known.setdefault(file, []):
            known[file].append(label)
    known = {file: labels for file, labels in known.items() if labels}
    answers = data.draw(
        st.dictionaries(st.sampled_from("abcd"), st.lists(st.lists(st.sampled_from("xyz"), max_size=2), max_size=2))
    )
    result = import_labels.merged({f: [Answer(f, tuple(each)) for each in several] for f, several in answers.items()}, known, {})
    assert not result.replaced and not result.new.keys() & known.keys()
    for file, several in answers.items():
        told = {row[column] for row in result.conflicts if row["file"] == file for column in ("one", "other")}
        for label in (label for each in several for label in each):
            assert label in told | {result.new.get(file)} | {*known.get(file, [])}


def test_folder_of_another_machine_is_taken_off(folder):
    images = [f"{i % 10}/{i}.png" for i in range(2000)]
    addresses = {f"/data/local-files/?d=elsewhere/deep/{image}": image for image in random.Random(0).sample(images, len(images))}
    assert fitting(addresses, images, folder) == addresses
