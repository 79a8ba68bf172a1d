"""Labels by hand, without a browser: what a person does, and what the table then says."""

import errno
import json
import multiprocessing
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core import datasets, graph
from ssl_core.datasets import machine, scan, tables
from ssl_core.graph import Neighbors
from ssl_core.lab.runs import files, graph_cache
from ssl_core.lab.tools import label_by_hand, label_file
from ssl_core.lab.tools.label_by_hand import keys
from ssl_core.lab.tools.label_file import NO_CLASS, Answer, LabelFile

FILES = [f"scans/{i}.png" for i in range(6)]


def make(folder, names=FILES):
    """A folder of images of noise, all different."""
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (12, 9), np.uint8)).save(folder / name)
    return folder


def start(folder, outputs=None, **options):
    return label_by_hand.start(f"{folder}/", str(outputs or folder.parent / "outputs"), **options).sitting


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "f")


def said(path, column="file"):
    """What a table says: label, or status, by name; read without the project's reader."""
    lines = [line.split(",") for line in path.read_text("utf-8-sig").splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return {row[column]: row["label"] or row.get("status", "") for row in rows}


def test_answers_are_written_at_once_and_a_new_sitting_goes_on(folder):
    sitting = start(folder)
    assert sitting.image == FILES[0] and sitting.progress == "0 answered, 6 to go" and not (folder / "labels.csv").exists()
    for i, label in enumerate(("cat", "dog", "cat")):
        sitting.label(label)
        assert said(folder / "labels.csv") == dict(zip(FILES, ("cat", "dog", "cat")[: i + 1], strict=False))
    again = start(folder)
    assert again.image == FILES[3] and again.progress == "3 answered, 3 to go"
    assert [(each["name"], each["key"], each["count"]) for each in again.view()["classes"]] == [("cat", "1", 2), ("dog", "2", 1)]
    assert dict(scan.scan(folder).train) == dict.fromkeys(FILES, "") | said(folder / "labels.csv"), "what a sweep reads"


def test_rows_order_columns_and_remarks_of_the_person_stay(folder):
    own = 'who,file,label,status,remark\nme,scans/9.png,bird,,"gone, or not"\nme,scans/1.png,,unclear,blurred\n,Scans\\0.PNG,,,\n'
    (folder / "labels.csv").write_text(own)
    sitting = start(folder)
    for _ in range(3):
        sitting.label("cat")
    expected = (
        own.replace("scans/1.png,", "scans/1.png,cat").replace("Scans\\0.PNG,", "Scans\\0.PNG,cat") + ",scans/2.png,cat,,\n"
    )
    assert (folder / "labels.csv").read_text() == expected
    for _ in range(3):
        sitting.undo()
    assert (folder / "labels.csv").read_text() == own and sitting.image == FILES[0]


def test_no_class_is_a_status_with_which_the_folder_is_read_without_the_image(folder):
    sitting = start(folder)
    sitting.no_class()
    sitting.label("cat")
    assert said(folder / "labels.csv") == {FILES[0]: "no class", FILES[1]: "cat"}
    assert sitting.progress == "2 answered (1 of no class), 4 to go"
    listing = scan.scan(folder)
    assert FILES[0] not in dict(listing.train) and (FILES[0], "labels.csv says: no class") in listing.skipped
    assert start(folder).progress == sitting.progress
    sitting.undo()
    sitting.undo()
    sitting.label("dog")
    assert said(folder / "labels.csv") == {FILES[0]: "dog"}


def test_skipped_images_come_last_and_back_by_undo(folder):
    sitting = start(folder)
    sitting.skip()
    sitting.skip()
    assert sitting.image == FILES[2] and not (folder / "labels.csv").exists()
    sitting.undo()
    assert sitting.image == FILES[1]
    shown = []
    while sitting.image:
        shown.append(sitting.image)
        sitting.label("cat")
    assert shown == [*FILES[1:], FILES[0]] and sitting.progress == "6 answered, 0 to go"
    sitting.label("dog")
    sitting.no_class()
    sitting.skip()
    assert set(said(folder / "labels.csv").values()) == {"cat"}, "where no image is shown, none is answered"
    sitting.undo()
    assert sitting.image == FILES[0] and FILES[0] not in said(folder / "labels.csv")
    sitting.skip()
    assert sitting.image == FILES[0] and sitting.message == "this is the last one"


def test_the_list_comes_first_in_its_order_then_all_others(folder):
    outputs = folder.parent / "outputs"
    rows = "file,label,why\nscans/4.png,,x\nscans/2.png,typed,x\nscans/9.png,,x\nscans/1.png,,x\n"
    outputs.mkdir()
    (outputs / "label_next.csv").write_text(rows)
    sitting = start(folder)
    assert sitting.progress == "0 answered, 2 to go on the list"
    shown = []
    while sitting.image:
        shown.append(sitting.image)
        sitting.label("cat")
    assert shown == ["scans/4.png", "scans/1.png"] and sitting.view()["others"] == 4
    assert (outputs / "label_next.csv").read_text() == rows, "the folder's own table has the answers"
    sitting.go_on()
    assert sitting.image == FILES[0] and sitting.progress == "2 answered, 4 to go"
    (outputs / "label_next.csv").write_text("index,label\n3,\n")
    sitting = start(folder)
    assert sitting.message.startswith("not used: label_next.csv: must be a table with the columns file and label")


def test_of_folders_of_classes_and_named_sets_the_list_is_filled_in(tmp_path):
    names = ["labeled/a/0.png", "labeled/b/1.png", "unlabeled/2.png", "unlabeled/3.png"]
    sitting = start(make(tmp_path / "f", names))
    assert sitting.progress == "2 answered, 2 to go" and [each["name"] for each in sitting.view()["classes"]] == ["a", "b"]
    sitting.label("b")
    assert said(tmp_path / "outputs/label_next.csv") == {"unlabeled/2.png": "b"} and not (tmp_path / "f/labels.csv").exists()

    outputs = tmp_path / "digits"
    outputs.mkdir()
    (outputs / "label_next.csv").write_text("index,label,cluster\n12.0,,1\n3,,2\n")
    sitting = label_by_hand.start("digits", str(outputs)).sitting
    assert sitting.image == "12" and [each["key"] for each in sitting.view()["classes"]] == list("0123456789")
    sitting.label("ten")
    assert sitting.image == "12" and sitting.message.startswith("label='ten': must be one of 0, 1, 2")
    sitting.label("7")
    assert (outputs / "label_next.csv").read_text() == "index,label,cluster\n12.0,7,1\n3,,2\n"


def test_another_table_can_be_named(folder, tmp_path):
    start(folder, labels=str(tmp_path / "mine" / "second.csv")).label("cat")
    assert said(tmp_path / "mine" / "second.csv") == {FILES[0]: "cat"} and not (folder / "labels.csv").exists()


def test_two_answers_for_an_image_are_asked_about(folder):
    first, second = start(folder), start(folder)
    first.label("cat")
    second.label("dog")
    assert second.view()["question"] == {"theirs": "cat", "mine": "dog"} and second.image == FILES[0]
    for ignored in (second.skip, second.undo, second.no_class, lambda: second.label("cow")):
        ignored()
        assert second.question and said(folder / "labels.csv") == {FILES[0]: "cat"}
    second.keep()
    assert second.image == FILES[1] and said(folder / "labels.csv") == {FILES[0]: "cat"}

    first.no_class()
    second.label("dog")
    assert second.view()["question"] == {"theirs": "no class", "mine": "dog"}
    second.overwrite()
    assert said(folder / "labels.csv")[FILES[1]] == "dog" and second.image == FILES[2]
    second.undo()
    assert said(folder / "labels.csv")[FILES[1]] == "no class", "an undo restores what was there before"
    first.undo()
    assert FILES[1] not in said(folder / "labels.csv")


def test_an_undo_takes_back_no_answer_of_somebody_else(folder):
    first, second = start(folder), start(folder)
    first.label("cat")
    second.label("cat")
    second.undo()
    assert said(folder / "labels.csv") == {FILES[0]: "cat"} and second.view()["now"] == "cat", "the same answer, but the other's"
    second.label("dog")  # who sees `now: cat` means it
    first.undo()
    assert said(folder / "labels.csv") == {FILES[0]: "dog"}
    assert first.message == "scans/0.png was changed elsewhere, to dog: that stays, unless you answer again"


def test_images_that_are_gone(folder):
    """Of one with a row the answer is kept, of another nothing is written; those that are not shown yet are passed over."""
    (folder / "labels.csv").write_text("file,label\nscans/0.png,\n")
    sitting = start(folder)
    (folder / FILES[0]).unlink()
    sitting.label("cat")
    assert sitting.message == "scans/0.png is not in the folder any more: its row has your answer"
    assert sitting.image == FILES[1]
    for name in FILES[1:4]:
        (folder / name).unlink()
    sitting.label("dog")
    assert sitting.message == "scans/1.png is not in the folder any more: nothing was written"
    assert said(folder / "labels.csv") == {FILES[0]: "cat"} and sitting.image == FILES[4]


def test_an_answer_that_cannot_be_written_stays_on_screen(folder, monkeypatch):
    sitting = start(folder)
    sitting.label("cat")
    before = (folder / "labels.csv").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_atomically", full)
        sitting.label("dog")
        view = sitting.view()
        assert view["image"] == FILES[1] and view["unwritten"] == "dog" and view["progress"] == "1 answered, 5 to go"
        assert view["message"] == "not written, give the answer again: No space left on device"
        sitting.undo()
        assert sitting.image == FILES[1] and sitting.message == "not undone: No space left on device"
        assert (folder / "labels.csv").read_bytes() == before
    sitting.label("dog")
    assert said(folder / "labels.csv") == {FILES[0]: "cat", FILES[1]: "dog"} and not sitting.view()["unwritten"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda path: path.write_text("file,class\nx,y\n"), "labels.csv: must be a table with the columns file and label"),
        (lambda path: path.with_name(".~lock.labels.csv#").touch(), "labels.csv is open in LibreOffice"),
    ],
)
def test_a_table_that_somebody_else_spoils_or_has_open_is_left_alone(folder, spoil, message):
    sitting = start(folder)
    sitting.label("cat")
    spoil(folder / "labels.csv")
    before = (folder / "labels.csv").read_bytes()
    sitting.label("dog")
    assert message in sitting.message and sitting.image == FILES[1] and (folder / "labels.csv").read_bytes() == before
    with pytest.raises(ValueError, match=message):
        start(folder)


def test_who_holds_the_table_is_waited_for(folder, monkeypatch):
    monkeypatch.setattr(label_file, "WAIT", 0.1)
    sitting = start(folder)
    with machine.lock(folder / ".labels.csv.lock"):
        sitting.label("cat")
        assert "another program has been writing" in sitting.message and sitting.image == FILES[0]
    sitting.label("cat")
    assert said(folder / "labels.csv") == {FILES[0]: "cat"}
    assert [file for file, _ in scan.scan(folder).skipped] == [], "the lock is no file of the folder"


def test_a_table_whose_encoding_was_guessed_is_kept_beside(folder):
    content = "file;label\nscans/0.png;Bär\n".encode("cp1252")
    (folder / "labels.csv").write_bytes(content)
    sitting = start(folder)
    sitting.label("Bär")
    sitting.label("cat")
    (kept,) = folder.glob("labels.*.csv")
    assert kept.read_bytes() == content
    assert said(folder / "labels.csv") == {FILES[0]: "Bär", FILES[1]: "Bär", FILES[2]: "cat"}


def test_labels_that_look_like_others_or_like_none_are_no_new_classes(folder):
    sitting = start(folder)
    sitting.label("Dog")
    for label, problem in (
        ("dog", "classes 'Dog' and 'dog' look alike"),
        ("?", "class '?' seems to be no label"),
        (" ", "label=''"),
    ):
        sitting.label(label)
        assert sitting.message.startswith(problem) and sitting.image == FILES[1]
    sitting.label("  red \t fox ")
    assert said(folder / "labels.csv") == {FILES[0]: "Dog", FILES[1]: "red fox"}


def test_an_image_that_cannot_be_read_is_shown_with_the_reason(folder):
    (folder / FILES[0]).write_bytes(b"\x89PNG")
    sitting = start(folder)
    assert sitting.view()["picture"] == "" and "damaged" in sitting.view()["fault"]
    sitting.skip()
    assert sitting.view()["fault"] == "" and sitting.view()["picture"].startswith("data:image/png;base64,")


def test_keys_are_names_of_one_character_or_the_next_that_is_free():
    assert keys(list("0123456789")) == {digit: digit for digit in "0123456789"}
    assert keys(["cat", "1", "b", "dog", "-"]) == {"cat": "2", "1": "1", "b": "b", "dog": "3", "-": "4"}
    many = keys([f"class {i}" for i in range(100)])
    assert "".join(many.values()) == "1234567890abcdefghijklmnopqrstuvwxyz"


def test_messages_about_another_image_than_the_one_shown_change_nothing(folder):
    panel = label_by_hand.start(f"{folder}/", str(folder.parent / "outputs"))
    panel._do(panel, {"do": "label", "image": FILES[0], "label": "cat"}, [])
    panel._do(panel, {"do": "label", "image": FILES[0], "label": "dog"}, [])  # as from a second window
    assert said(folder / "labels.csv") == {FILES[0]: "cat"} and panel.view["image"] == FILES[1] and panel.view["turn"] == 2
    assert repr(panel) == f"1 answered, 5 to go; the answers are in {folder / 'labels.csv'}"


def test_neighbors_are_shown_after_labels_have_changed(folder, tmp_path, monkeypatch):
    """The graph that was made of the unlabelled folder serves on; making it is asked for."""
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    monkeypatch.setattr(graph_cache, "FOLDER", tmp_path / "data" / "graphs")
    datasets.metadata.cache_clear()

    def build(x, *_):
        return Neighbors(*graph.neighbors(x[:].flatten(1), 3), x[:].flatten(1))

    monkeypatch.setattr(graph, "build", build)
    monkeypatch.setattr(graph_cache.load, "__defaults__", (None, tmp_path / "data" / "graphs", "auto"))
    monkeypatch.setattr(graph_cache.kept_index, "__defaults__", (tmp_path / "data" / "graphs",))
    assert start(folder).view()["neighbors"] == []
    sitting = start(folder, make_graph=True)
    names = [each["name"] for each in sitting.view()["neighbors"]]
    assert len(names) == 3 and FILES[0] not in names
    while sitting.image:
        sitting.label("cat" if sitting.image in names else "dog")
    sitting.undo()  # the last
    again = start(folder)
    assert again.image == FILES[5]
    told = {each["name"]: each["told"] for each in again.view()["neighbors"]}
    assert len(told) == 3 and all(label == ("cat" if name in names else "dog") for name, label in told.items())
    (folder / next(iter(told))).unlink()
    assert len(again.view()["neighbors"]) == 2


def test_of_60000_images_the_browser_gets_one(images, tmp_path):
    view = label_by_hand.start("mnist", str(tmp_path)).sitting.view()
    assert view["progress"] == "0 answered, 60000 to go" and len(json.dumps(view)) < 60_000


def test_a_photo_is_shown_large_upright_and_in_colour(tmp_path):
    (tmp_path / "f").mkdir()
    picture = Image.effect_noise((1000, 600), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "f" / "a.jpg", exif=exif)
    url = start(tmp_path / "f").images.picture("a.jpg", label_by_hand.LARGE)
    assert Image.open(BytesIO(b64decode(url.partition(",")[2]))).size == (480, 800)


# --- two at once


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make(tmp_path_factory.mktemp("shared") / "f", FILES[:4])


OWN = "file,label,remark\nelsewhere.png,bird,keep me\nscans/3.png,,\n"
ACTIONS = st.sampled_from(["label cat", "label dog", "no_class", "skip", "undo", "keep", "overwrite", "restart", "sheet"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), ACTIONS), max_size=25))
def test_no_answer_is_lost_whatever_two_people_do(shared, actions):
    """An answer changes only by who gave it, by who was asked, or by who saw it; a third person types into the table."""
    path = shared / "labels.csv"
    path.write_text(OWN)
    sittings, authors = [start(shared), start(shared)], {}
    for who, action in actions:
        before, sitting = said(path), sittings[who]
        view = sitting.view()
        if action == "restart":
            sittings[who] = start(shared)
        elif action == "sheet":
            if not before.get("scans/3.png"):
                path.write_text(path.read_text().replace("scans/3.png,,", "scans/3.png,cow,"))
        else:
            name, *label = action.split()
            getattr(sitting, name)(*label)
        after = said(path)
        for name in {*before, *after}:
            old, new = before.get(name, ""), after.get(name, "")
            if old != new and old:
                undone = action == "undo" and authors[name] == who
                seen = name == view["image"] and old == view["now"]
                asked = action == "overwrite" and name == view["image"] and old == view["question"]["theirs"]
                assert undone or seen or asked, f"{name}: {old}, then {new}"
            if old != new:
                authors[name] = "sheet" if action == "sheet" else who
        assert "elsewhere.png,bird,keep me" in path.read_text() and after["elsewhere.png"] == "bird"
        if action.startswith(("label", "no_class")) and view["image"] and not view["question"]:
            answer = action.removeprefix("label ").replace("_", " ")
            assert after[view["image"]] == answer or sitting.question, "written, or asked about"


def fill(path, label, results):
    """What a process of its own does: it labels every image, and says which answers it wrote."""
    file = LabelFile(path, "file", lambda names: {name: name for name in names})
    results.put({f"{i}.png" for i in range(60) if file.write(f"{i}.png", None, Answer(label))})


def test_two_processes_at_once_lose_no_answer(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=fill, args=(tmp_path / "labels.csv", label, results)) for label in ("a", "b")]
    for worker in workers:
        worker.start()
    first, second = results.get(timeout=60), results.get(timeout=60)
    for worker in workers:
        worker.join()
    told = said(tmp_path / "labels.csv")
    assert len(told) == 60 and not first & second and len(first | second) == 60
    assert {frozenset(first), frozenset(second)} == {frozenset(n for n in told if told[n] == label) for label in "ab"}


def test_a_row_that_somebody_wrote_into_is_not_removed_by_an_undo(tmp_path):
    path = tmp_path / "labels.csv"
    file = LabelFile(path, "file", lambda names: {name: name for name in names})
    file.write("x.png", None, NO_CLASS)
    path.write_text("file,label,status,remark\nx.png,,no class,look again\n")
    assert file.write("x.png", NO_CLASS, None)
    assert path.read_text() == "file,label,status,remark\nx.png,,,look again\n"


@pytest.mark.parametrize(
    "data, message",
    [("mnits", "must be one of"), ("no/such/folder", "this folder is not there"), ("EMPTY", "no image that can be read")],
)
def test_bad_arguments(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        label_by_hand.start(str(tmp_path) + "/" if data == "EMPTY" else data, str(tmp_path / "outputs"))


def test_links_to_a_table_are_followed(folder, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "t.csv").write_text("file,label\n")
    (folder / "labels.csv").symlink_to(tmp_path / "real" / "t.csv")
    start(folder).label("cat")
    assert said(tmp_path / "real" / "t.csv") == {FILES[0]: "cat"} and (folder / "labels.csv").is_symlink()
