"""Decisions on labels as a person gives them in JupyterLab, without a browser: list, table and log, and taking them back."""

import csv
import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core.datasets import scan, tables
from ssl_core.lab.tools import label_decisions
from ssl_core.lab.tools.label_file import Answer, LabelFile

FILES = [f"scans/{i}.png" for i in range(6)]
TABLE = "file,label,status,remark\n" + "".join(f"{name},{'cat' if i % 2 else 'dog'},,\n" for i, name in enumerate(FILES))
LIST = "file,given,suggested,evidence,why,decision\n" + "".join(
    f'{name},{"cat" if i % 2 else "dog"},{"dog" if i % 2 else "cat"},{0.99 - 0.12 * i:.3f},"4 of 5, say",\n'
    for i, name in enumerate(FILES)
)


def make(folder):
    """A folder of images of noise with labels, and a list of them; four are suspect."""
    random = np.random.default_rng(0)
    (folder / "scans").mkdir(parents=True)
    for name in FILES:
        Image.fromarray(random.integers(0, 255, (12, 9), np.uint8)).save(folder / name)
    (folder / "labels.csv").write_text(TABLE)
    (outputs := folder.parent / "out").mkdir(exist_ok=True)
    (outputs / "label_errors.csv").write_text(LIST)
    return folder


def start(folder):
    return label_decisions.start(f"{folder}/", str(folder.parent / "out")).sitting


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def said(folder):
    """The labels by file."""
    return {row["file"]: row["label"] or row["status"] for row in read(folder / "labels.csv")}


def decided(folder):
    return {row["file"]: row["decision"] for row in read(folder.parent / "out" / "label_errors.csv") if row["decision"]}


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "f")


def test_every_decision_goes_into_list_table_and_log(folder):
    sitting = start(folder)
    assert sitting.image == FILES[0] and sitting.progress == "0 labels decided, 4 to go of the suspects"
    shown = sitting.view()["check"]
    assert shown == {"given": "dog", "suggested": "cat", "evidence": "0.990", "why": "4 of 5, say", "suspect": True}
    sitting.keep_given()
    sitting.correct()
    sitting.drop()
    sitting.no_class()
    assert decided(folder) == dict(zip(FILES, ("keep", "dog", "drop", "no class"), strict=False))
    now = dict(zip(FILES, ("dog", "dog", "", "no class", "dog", "cat"), strict=True))
    assert said(folder) == now
    log = read(folder / "label_decisions.csv")
    assert [(row["file"], row["decision"], row["before"], row["after"]) for row in log] == [
        (FILES[0], "keep", "dog", "dog"),
        (FILES[1], "dog", "cat", "dog"),
        (FILES[2], "drop", "dog", ""),
        (FILES[3], "no class", "cat", "no class"),
    ]
    assert all(row["time"][:2] == "20" and "T" in row["time"] for row in log)
    assert sitting.image is None and sitting.view()["others"] == 2
    sitting.go_on()
    assert sitting.image == FILES[4] and sitting.progress == "4 labels decided, 2 to go"
    listing = scan.scan(folder)
    assert dict(listing.train)[FILES[2]] == "" and FILES[3] not in dict(listing.train)


def test_a_class_by_its_key_and_a_new_one(folder):
    sitting = start(folder)
    assert [(each["name"], each["count"]) for each in sitting.view()["classes"]] == [("cat", 3), ("dog", 3)]
    sitting.label("dog")
    sitting.label("keep")
    assert sitting.message == "label='keep': must not be called as a decision is" and sitting.image == FILES[1]
    sitting.label("horse")
    assert decided(folder) == {FILES[0]: "keep", FILES[1]: "horse"} and said(folder)[FILES[1]] == "horse"


def test_undo_restores_the_table_byte_for_byte_also_in_a_later_sitting(folder):
    sitting = start(folder)
    for act in (sitting.correct, sitting.drop, sitting.keep_given, sitting.no_class):
        act()
    sitting.undo()
    assert sitting.image == FILES[3] and said(folder)[FILES[3]] == "cat" and FILES[3] not in decided(folder)
    later = start(folder)
    assert later.image == FILES[3] and later.view()["can_undo"]
    for name in reversed(FILES[:3]):
        later.undo()
        assert later.image == name
    assert not later.view()["can_undo"] and not start(folder).view()["can_undo"]
    assert (folder / "labels.csv").read_text() == TABLE
    assert (folder.parent / "out" / "label_errors.csv").read_text() == LIST
    assert len(read(folder / "label_decisions.csv")) == 8, "the log is only added to"


def test_a_remark_in_status_comes_back_in_a_later_sitting(folder):
    (folder / "labels.csv").write_text(own := TABLE.replace("scans/0.png,dog,,", "scans/0.png,dog,unclear,look"))
    start(folder).no_class()
    assert said(folder)[FILES[0]] == "no class" and "unclear" not in (folder / "labels.csv").read_text()
    start(folder).undo()
    assert (folder / "labels.csv").read_text() == own


def test_who_begins_anew_goes_on_and_skips_what_was_changed_elsewhere(folder):
    sitting = start(folder)
    sitting.correct()
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace(f"{FILES[1]},cat", f"{FILES[1]},dog"))
    assert start(folder).image == FILES[2]
    sitting.keep_given()
    assert sitting.message.startswith("not written, give the answer again: labels.csv says dog of scans/1.png, which is not")
    assert sitting.image == FILES[1] and decided(folder) == {FILES[0]: "cat"}
    sitting.skip()
    assert sitting.image == FILES[2]


def test_two_people_at_one_list_are_asked(folder):
    first, second = start(folder), start(folder)
    first.correct()
    second.drop()
    assert second.view()["question"] == {"theirs": "cat", "mine": "no label"} and said(folder)[FILES[0]] == "cat"
    second.overwrite()
    assert said(folder)[FILES[0]] == "" and decided(folder) == {FILES[0]: "drop"} and second.image == FILES[1]
    second.undo()
    assert said(folder)[FILES[0]] == "cat" and decided(folder) == {FILES[0]: "cat"}, "what was there before"
    first.undo()
    assert said(folder)[FILES[0]] == "dog" and not decided(folder)


def test_images_that_are_gone(folder):
    sitting = start(folder)
    (folder / FILES[0]).unlink()
    sitting.correct()
    assert sitting.message == "scans/0.png is not in the folder any more: its row has your answer"
    assert decided(folder) == {FILES[0]: "cat"} and said(folder)[FILES[0]] == "cat" and sitting.image == FILES[1]
    later = start(folder)
    assert later.message == "label_errors.csv names 1 image that is gone" and later.image == FILES[1]
    later.correct()
    assert decided(folder) == {FILES[0]: "cat", FILES[1]: "dog"}, "its row stays"


def test_a_list_that_was_made_anew_meanwhile(folder):
    sitting = start(folder)
    path = folder.parent / "out" / "label_errors.csv"
    path.write_text(LIST.replace('scans/0.png,dog,cat,0.990,"4 of 5, say",\n', ""))
    sitting.correct()
    assert "label_errors.csv was made anew and does not list scans/0.png any more: skip it" in sitting.message
    assert (folder / "labels.csv").read_text() == TABLE
    sitting.skip()
    assert sitting.image == FILES[1]


@pytest.mark.parametrize("which", ["labels.csv", "label_errors.csv", "label_decisions.csv"])
def test_a_decision_that_cannot_be_written_is_given_again(folder, monkeypatch, which):
    sitting = start(folder)
    sitting.keep_given()

    def full(path, *_):
        if path.name == which:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *_)

    original = tables.write_atomically
    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_atomically", full)
        patch.setattr(label_decisions.os, "fsync", lambda *_: full(folder / "label_decisions.csv") if which[6] == "d" else None)
        sitting.correct()
        assert sitting.message == "not written, give the answer again: No space left on device"
        assert sitting.image == FILES[1] and sitting.view()["unwritten"] == "dog" and FILES[1] not in decided(folder)
    sitting.correct()
    assert decided(folder) == {FILES[0]: "keep", FILES[1]: "dog"} and said(folder)[FILES[1]] == "dog"
    later = start(folder)
    later.undo()
    assert said(folder)[FILES[1]] == "cat" and not sitting.view()["unwritten"]


def test_a_log_that_was_cut_off_or_spoilt_loses_no_decision(folder):
    start(folder).correct()
    with (log := folder / "label_decisions.csv").open("a") as file:
        file.write("2026-")
    start(folder).drop()
    assert read(log)[-1]["decision"] == "drop"
    log.write_text("something else\n")
    sitting = start(folder)
    assert not sitting.view()["can_undo"] and sitting.image == FILES[2]
    sitting.correct()
    assert decided(folder)[FILES[2]] == "cat"


def test_all_rows_of_an_image_with_its_label_are_corrected(folder):
    (folder / "labels.csv").write_text(TABLE + "Scans/0.PNG,dog,,again\nscans/0.png,,,empty\n")
    sitting = start(folder)
    sitting.correct()
    text = (folder / "labels.csv").read_text()
    assert "scans/0.png,cat,,\n" in text and "Scans/0.PNG,cat,,again\nscans/0.png,,,empty\n" in text
    assert dict(scan.scan(folder).train)[FILES[0]] == "cat"
    sitting.undo()
    assert (folder / "labels.csv").read_text() == TABLE + "Scans/0.PNG,dog,,again\nscans/0.png,,,empty\n"


def test_folders_of_classes_keep_their_files(tmp_path):
    for name in ("labeled/a/0.png", "labeled/b/1.png"):
        (path := tmp_path / "f" / name).parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 255, (12, 9), np.uint8)).save(path)
    (tmp_path / "out").mkdir()
    content = "file,given,suggested,evidence,why,decision\nlabeled/a/0.png,a,b,0.9,w,\n"
    (tmp_path / "out" / "label_errors.csv").write_text(content)
    sitting = start(tmp_path / "f")
    assert sitting.view()["now"] == "a" and sitting.view()["file"] == str(tmp_path / "out" / "label_errors.csv")
    sitting.correct()
    assert decided(tmp_path / "f") == {"labeled/a/0.png": "b"} and not (tmp_path / "f" / "labels.csv").exists()
    assert (tmp_path / "out" / "label_decisions.csv").exists()
    start(tmp_path / "f").undo()
    assert (tmp_path / "out" / "label_errors.csv").read_text() == content


def test_the_own_labels_of_a_named_set_stay(tmp_path):
    (tmp_path / "label_errors.csv").write_text("index,given,suggested,evidence,why,decision\n7.0,1,2,0.9,w,\n")
    sitting = label_decisions.start("digits", str(tmp_path)).sitting
    assert (
        sitting.image == "7"
        and sitting.view()["now"]
        and [each["name"] for each in sitting.view()["classes"]] == list("0123456789")
    )
    sitting.correct()
    assert read(tmp_path / "label_errors.csv")[0]["decision"] == "2"


def test_without_a_list_it_is_said_how_to_make_one(folder):
    (folder.parent / "out" / "label_errors.csv").unlink()
    with pytest.raises(ValueError, match=r"^label_errors\.csv: must be in .*out: make check-labels writes it"):
        start(folder)


def test_the_same_answers_in_another_table_are_not_joined(tmp_path):
    """Of a table that is not a list of decisions, rows with another label stay as they are."""
    (path := tmp_path / "t.csv").write_text("file,label\nx,a\nx,b\nx,a\n")
    file = LabelFile(path, "file", lambda names: {name: name for name in names})
    assert file.write("x", Answer("a"), Answer("c"))
    assert path.read_text() == "file,label\nx,c\nx,b\nx,c\n"


# --- whatever a person does


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make(tmp_path_factory.mktemp("shared") / "f")


ACTIONS = st.sampled_from(["keep_given", "correct", "drop", "no_class", "label horse", "skip", "undo", "go_on", "restart"])


@settings(max_examples=20, deadline=None)
@given(st.lists(ACTIONS, max_size=20))
def test_the_table_follows_from_the_list_and_all_can_be_taken_back(shared, actions):
    (shared / "labels.csv").write_text(TABLE)
    (shared.parent / "out" / "label_errors.csv").write_text(LIST)
    (shared / "label_decisions.csv").unlink(missing_ok=True)
    sitting = start(shared)
    for action in actions:
        if action == "restart":
            sitting = start(shared)
        else:
            name, *label = action.split()
            getattr(sitting, name)(*label)
        result = {name: "" if word == "drop" else word for name, word in decided(shared).items() if word != "keep"}
        assert said(shared) == {row["file"]: row["label"] for row in csv.DictReader(TABLE.splitlines())} | result
    sitting = start(shared)
    while sitting.view()["can_undo"]:
        sitting.undo()
    assert (shared / "labels.csv").read_text() == TABLE and not decided(shared)
