"""Layouts of folders: those that are read, names that are nearly right, and what is given in place of a folder."""

import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from ssl_core import datasets
from ssl_core.datasets import describe, folder, load
from ssl_core.datasets.pixels import FORMATS
from ssl_core.lab.page.sweep_and_build import check_usable, sentences
from ssl_core.lab.runs import files

TWO = [f"{c}/{i}.png" for c in "ab" for i in range(8)]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The data folder of a test."""
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    datasets.metadata.cache_clear()
    yield tmp_path / "data"
    datasets.metadata.cache_clear()


@pytest.fixture
def make(tmp_path):
    """Makes a folder of images of noise, all different, with these names, and tables or other files by their text."""
    random = np.random.default_rng(0)

    def make(*names, **texts):
        top = tmp_path / "f"
        for name in names:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (12, 12), np.uint8)).save(top / name)
        for name, text in texts.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
        return top

    return make


def known(top):
    return describe(str(top), for_training=False)


def below(part):
    return [f"{part}/{name}" for name in TWO]


def whole(info):
    return [text for file, text in info.notes if file == "."]


def test_folders_of_imagefolder_are_classes(make):
    info = known(make(*TWO))
    assert info.classes == ("a", "b") and (info.n_labels, info.n_test, info.n_images) == (14, 2, 14) and not info.problem
    assert whole(info) == ["classes are the folders a (8), b (8); if they are not, move them into unlabeled/"]
    assert not info.skipped


def test_test_folder_beside_class_folders(make):
    info = known(make(*TWO, *below("test")))
    assert info.classes == ("a", "b") and (info.n_labels, info.n_test, info.own_test) == (16, 16, True)


@pytest.mark.parametrize("part", ["val", "valid", "validation", "test"])
def test_train_and_one_other_part(make, part):
    info = known(make(*below("train"), *below(part), "unlabeled/x.png"))
    assert info.classes == ("a", "b") and (info.n_labels, info.n_test, info.n_images) == (16, 16, 17)
    assert info.own_test and not info.skipped and ("val" not in part or f"{part}/ is the test part" in whole(info))


def test_with_test_val_is_left_out(make):
    info = known(make(*below("train"), *below("val"), *below("test")))
    assert all(file.startswith("test/") for file in info.files_test) and info.n_test == 16
    assert info.skipped == (("val", "not used: test/ is the test part"),)
    assert "test/ is the test part; not used: val/" in whole(info)


def test_test_images_without_a_class_give_way_to_val(make):
    info = known(make(*below("train"), *below("val"), "test/1.png"))
    assert info.n_test == 16 and info.skipped == (("test", "not used: val/ is the test part"),)


def test_class_called_train_is_asked_about(make):
    info = known(make(*(name.replace("a/", "train/") for name in TWO)))
    assert not info.classes and "train/ must have a folder for each class" in info.problem


def test_images_beside_folders_have_no_label_and_a_hint(make):
    info = known(make(*TWO, "1.png"))
    assert not info.classes and info.n_images == 17
    assert "classes seem to lie in a (8), b (8): if so, move these folders into labeled/" in info.problem


def test_classes_one_level_deeper(make):
    top = make(*below("data"))
    assert f"classes seem to lie in data/, in a (8), b (8): if so, give DATA={top}/data" in known(top).problem


@pytest.mark.parametrize(
    "names, question",
    [
        ([*below("labeled"), "unlabelled/1.png"], "unlabelled/ is not used: did you mean unlabeled/? Rename it"),
        ([*below("labeled"), "Unlabeled/1.png"], "Unlabeled/ is not used: did you mean unlabeled/? Rename it"),
        ([*below("labeled"), "unlabled/1.png"], "unlabled/ is not used: did you mean unlabeled/? Rename it"),
        ([*below("labeled"), "Test/a/1.png"], "Test/ is not used: did you mean test/? Rename it"),
        ([*below("labeled"), "testing/a/1.png"], "testing/ is not used: did you mean test/? Rename it"),
        ([*below("Labeled"), "Unlabeled/1.png"], "Labeled/ is not used: did you mean labeled/? Rename it"),
        ([*below("labelled")], "labelled/ is not used: did you mean labeled/? Rename it"),
        ([*below("Train"), *below("val")], "Train/ is not used: did you mean train/? Rename it"),
        ([*TWO, "unlabelled/1.png"], "unlabelled/ is not used: did you mean unlabeled/? Rename it"),
    ],
)
def test_name_that_is_nearly_right_is_asked_about(make, names, question):
    top = make(*names)
    with pytest.raises(ValueError) as stop:
        known(top)
    assert str(stop.value) == f"data={str(top)!r}: {question}"


@pytest.mark.parametrize("pair", [("tested", "untested"), ("training", "resting"), ("best", "rest"), ("labels", "boxes")])
def test_classes_with_like_names_are_classes(make, pair):
    info = known(make(*(f"{name}/{i}.png" for name in pair for i in range(8))))
    assert info.classes == tuple(sorted(pair))


@pytest.mark.parametrize("inner", ["scans", "archive/scans"])
@pytest.mark.parametrize("part, what", [("labeled", "labeled/"), ("train", "train/"), ("Labelled", "Labelled/")])
def test_layout_one_level_too_deep_is_named(make, inner, part, what):
    top = make(*below(f"{inner}/{part}"), *below(f"{inner}/test"))
    with pytest.raises(ValueError) as stop:
        known(top)
    assert str(stop.value) == f"data={str(top)!r}: {top}/{inner} has {what}: give DATA={top}/{inner}"


@pytest.mark.parametrize(
    "name, message",
    [
        ("x.zip", "is an archive: unpack it and give the folder"),
        ("x.tar.gz", "is an archive: unpack it and give the folder"),
        ("x.7z", "is an archive: unpack it and give the folder"),
        ("x.png", "is an image: give the folder, "),
        ("labels.csv", "is a table: give the folder, "),
    ],
)
def test_file_in_place_of_a_folder(tmp_path, name, message):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"^data='{tmp_path}/{name}': {message}"):
        describe(str(tmp_path / name))


def test_folder_with_nothing_but_an_archive(make):
    with pytest.raises(ValueError, match=r"no image, but scans\.zip, an archive: unpack it and give the folder$"):
        known(make(**{"scans.zip": "PK"}))


def test_endings_that_are_not_read_are_named_and_counted_once(make):
    names = [f"IMG_{i}.HEIC" for i in range(9)]
    rows = "".join(f"{name},a\n" for name in names)
    top = make(**dict.fromkeys(names, "heic"), **{"labels.csv": f"file,label\n{rows}"})
    with pytest.raises(ValueError) as stop:
        known(top)
    if ".heic" not in FORMATS:
        assert "no image that can be read, of 9 files: 9 .HEIC (.HEIC is read only with pillow-heif" in str(stop.value)
        assert len(stop.value.skipped) == 9


def test_files_of_the_system_are_passed_over(make):
    texts = dict.fromkeys(
        ("Thumbs.db", "labeled/Icon\r", "labeled/desktop.ini", "labeled/a/._0.png", "__MACOSX/labeled/0.png"), ""
    )
    info = known(make(*below("labeled"), "@eaDir/labeled/a/x.png", "labeled/@eaDir/1.png", **texts))
    assert info.n_images == 14 and not info.skipped


def test_what_is_no_file_is_listed_and_never_waited_for(make):
    top = make(*below("labeled"))
    os.mkfifo(top / "labeled/a/pipe.png")
    (top / "labeled/a/gone.png").symlink_to("nowhere.png")
    (top / "labeled/a/x\ny.png").touch()
    with open(os.fsencode(top) + b"/labeled/b/\xff.png", "wb"):
        pass
    assert dict(known(top).skipped) == {
        "labeled/a/pipe.png": "not a file, but a pipe, a socket or a device",
        "labeled/a/gone.png": "a link to nothing",
        "labeled/a/x\\ny.png": "its name has a line break, or another character that can't be printed",
        "labeled/b/\\xff.png": "its name is not UTF-8",
    }


def test_two_unicode_forms_of_a_name_are_one_class(make):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    info = known(
        make(*(f"labeled/{form}/{i}.png" for form in forms for i in range(4)), *(f"labeled/tea/{i}.png" for i in range(8)))
    )
    assert info.classes == ("café", "tea") and info.n_labels + info.n_test == 16
    assert whole(info) == ["2 folders are called 'café', in two forms of Unicode: one class"]


def test_classes_that_look_alike_are_told(make):
    assert "classes 'Cat' and 'cat' look alike" in whole(
        known(make(*(f"labeled/{c}/{i}.png" for c in ("Cat", "cat") for i in range(8))))
    )


def table(**rows):
    return "file,label\n" + "".join(f"{file},{label}\n" for file, label in rows.items())


def test_test_images_have_the_class_of_a_table(make):
    rows = table(**{f"{i}.png": "ab"[i % 2] for i in range(10)}, **{"test/0.png": "a", "test/1.png": "b", "test/a/4.png": "b"})
    own = table(**{"1.png": "a", "2.png": "b", "old/5.png": "b"})
    names = [f"{i}.png" for i in range(10)] + [f"test/{i}.png" for i in range(4)] + ["test/a/4.png", "test/old/5.png"]
    info, arrays = load(str(make(*names, **{"labels.csv": rows, "test/labels.csv": own})))
    classes = {file: info.classes[y] for file, y in zip(info.files_test, arrays["y_test"], strict=True)}
    assert classes == {"test/0.png": "a", "test/2.png": "b", "test/old/5.png": "b"}
    assert dict(info.skipped) == {
        "test/1.png": "its folder and tables give it different classes: a, b",
        "test/a/4.png": "its folder and tables give it different classes: a, b",
        "test/a": "a class without an image",
        "test/3.png": "not in the folder of a class",
    }


def test_rows_that_fit_no_file(make):
    names = [f"img{i:02}.png" for i in range(10)]
    rows = table(**{name.removesuffix(".png"): "ab"[i % 2] for i, name in enumerate(names)})
    info = known(make(*names, **{"labels.csv": rows}))
    assert "none of the 10 files named in labels.csv is there: the first is 'img00'; there is 'img00.png'" in info.problem
    assert len(info.skipped) == 10 and info.skipped[0] == ("img00", "named in labels.csv, but not there (line 2)")


@pytest.mark.parametrize("name", ["Labels.csv", "labels.xlsx"])
def test_table_that_is_nearly_labels_csv_is_asked_about(make, name):
    with pytest.raises(ValueError, match=f"{name} is not read: "):
        known(make("1.png", **{name: table(**{"1.png": "a"})}))


def test_two_labels_of_one_file_are_told(make):
    rows = table(**{f"{i}.png": "ab"[i % 2] for i in range(20)}) + "0.png,b\n"
    info = known(make(*(f"{i}.png" for i in range(20)), **{"labels.csv": rows}))
    assert ("0.png", "two labels in labels.csv (a, b): neither is used") in info.notes and info.files[-1] == "0.png"


def test_one_scale_for_the_deep_images_of_a_folder(make):
    top = make(*below("labeled"))
    for i, high in enumerate((255, 1023, 4095)):
        values = (np.linspace(0, 1, 784).reshape(28, 28) * high).astype(np.uint16)
        Image.fromarray(values).save(top / f"labeled/a/deep{i}.tif")
    info, arrays = load(str(top))
    assert info.scale == (0, 4095) and "3 images have more than 8 bits a pixel: the value 0 becomes black, 4095 white" in whole(
        info
    )
    x = {
        file: each for part in ("", "_test") for file, each in zip(getattr(info, f"files{part}"), arrays[f"x{part}"], strict=True)
    }
    deep = [x[f"labeled/a/deep{i}.tif"] for i in range(3)]
    spans = [int(each.max()) - int(each.min()) for each in deep]
    assert spans == [16, 64, 255] and len(np.unique(deep[2])) == 256


def test_sweep_says_what_was_recognised_and_left_out(make, tmp_path):
    info = known(make(*below("train"), *below("val"), **{"notes.txt": "", "train/b/x.pdf": ""}))
    lines = sentences(info)
    assert lines[0] == "16 images to train with, 16 labelled, of 2 classes"
    assert "2 files left out, such as notes.txt (not in train/, unlabeled/ or test/)" in lines[1]
    assert "classes are the folders of train/: a (8), b (8)" in lines


def test_skipped_csv_is_also_written_for_an_unusable_folder(make, tmp_path):
    top = make("1.png", **{"x.pdf": "%PDF", "labels.csv": table(one="a")})
    with pytest.raises(ValueError, match=r"the only file named in labels\.csv is not there.*; see .*skipped\.csv$"):
        check_usable(str(top), tmp_path / "out")
    (written,) = (tmp_path / "out").glob("*/skipped.csv")
    assert written.read_text().splitlines()[0] == "file,reason,used" and "x.pdf,.pdf is not read" in written.read_text()
    (top / "1.png").unlink()
    with pytest.raises(ValueError, match=r"no image that can be read, of 2 files: .*; see .*skipped\.csv$"):
        datasets.metadata.cache_clear() or check_usable(str(top), tmp_path / "out")


@pytest.mark.slow
def test_child_process_reads_what_the_sweep_described(make, root):
    top = make(*below("labeled"))
    before = describe(str(top))
    for i in range(5):  # the folder changes, and others read it anew
        Image.fromarray(np.full((9, 9), i * 9, np.uint8)).save(top / f"labeled/a/new{i}.png")
    environment = datasets.pinned(["mnist", str(top)])
    for path in sorted(top.rglob("*.png")):
        path.unlink()
    code = f"from ssl_core import datasets; print(datasets.describe({str(top)!r}, {str(root)!r}).checksum)"
    seen = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, cwd=files.ROOT, check=True
    )
    assert seen.stdout.strip() == before.checksum, seen.stderr


def test_versions_in_use_stay(make, root):
    top = make(*below("labeled"))
    kept = []
    for i in range(5):
        Image.fromarray(np.full((9, 9), i * 9, np.uint8)).save(top / "labeled/a/new.png")
        os.utime(top / "labeled/a/new.png", ns=(i, i))
        kept.append(folder.prepared(str(top), root))
        os.utime(kept[0])  # a sweep that began with the first is at work
    assert [path.exists() for path in kept] == [True, False, False, True, True]


def test_nothing_is_pinned_for_named_sets():
    assert datasets.pinned(["mnist", "digits"]) == {}


def test_table_under_another_name_is_told(make):
    names = [f"train/{i}.png" for i in range(8)]
    top = make(*names, "test/9.png", **{"sample_submission.csv": "id,label\n", "train.csv": "id,label\n0.png,a\n"})
    info = known(top)
    assert f"if train.csv has the labels, save it as {top}/labels.csv, with the columns file and label" in info.problem


def test_test_images_without_any_class_are_told(make):
    info = known(make(*below("labeled"), "test/1.png", "test/2.png"))
    assert "no image in test/ has one class: put them into test/<class>/, or write their classes into test/labels.csv" in whole(
        info
    )
    assert "taken from the labelled ones, since no others have a class" in sentences(info)[1]


def test_table_of_test_images_is_named_with_its_folder(make):
    with pytest.raises(ValueError, match=r"^test/labels\.csv: must be a table .*rename 'filename' to file, 'class' to label"):
        known(make(*below("labeled"), "test/1.png", **{"test/labels.csv": "filename,class\n1.png,a\n"}))


def test_labels_of_yolo_are_not_taken_for_images(make):
    names = [f"images/{part}/{i}.png" for part in ("train", "val") for i in range(4)]
    info = known(make(*names, **{f"labels/{part}/{i}.txt": "0 0 0 1 1" for part in ("train", "val") for i in range(4)}))
    assert info.n_images == 8 and "all are in images/: if that is a class" in info.problem


def test_folder_of_images_beside_the_parts_is_told(make):
    info = known(make(*below("labeled"), "scans/1.png", "scans/old/2.png", **{"scripts/x.py": ""}))
    told = "move them into labeled/<class>/, unlabeled/ or test/<class>/"
    assert whole(info) == [f"scans/ has 2 images, not used: to use them, {told}"]


def test_folders_of_classes_beside_a_table_are_told(make):
    rows = table(**{f"{c}/{i}.png": c for c in "ab" for i in range(5)})
    info = known(make(*TWO, **{"labels.csv": rows}))
    told = "6 images in folders called like classes have no label in labels.csv, which alone counts here, such as a/5.png"
    assert whole(info) == [told]


def test_masks_are_told(make):
    info = known(make(*below("labeled"), *(name.replace(".png", "_mask.png") for name in below("labeled"))))
    told = "by their names masks or thumbnails of others, but used like them: take them out"
    assert whole(info) == [f"16 images, such as labeled/a/0_mask.png, are {told}"]


def test_split_in_a_table_is_said_by_the_sweep(make):
    names = [f"{i}.png" for i in range(20)]
    rows = "".join(f"{name},{'ab'[i % 2]},{'train' if i else 'test'}\n" for i, name in enumerate(names))
    info = known(make(*names, **{"labels.csv": f"file,label,part\n{rows}"}))
    assert "labels.csv: its column 'part' is not used: images to test with must lie in test/" in sentences(info)


def test_files_that_icloud_did_not_download_are_told(make):
    info = known(make(*below("labeled"), **{"labeled/a/.x.png.icloud": "", "labeled/a/0.png:Zone.Identifier": ""}))
    assert info.skipped == (("labeled/a/.x.png.icloud", ".icloud is not on this machine yet: let iCloud download it"),)


def test_empty_classes_are_no_files(make):
    with pytest.raises(ValueError, match=r"no image that can be read, of 2 files: 2 \.dcm \("):
        known(make(**{"labeled/a/1.dcm": "", "labeled/b/2.dcm": ""}))


def test_one_image_in_many_classes_is_told_shortly(make):
    top = make("labeled/0/x.png")
    for i in range(1, 30):
        (top / f"labeled/{i}").mkdir()
        (top / f"labeled/{i}/x.png").write_bytes((top / "labeled/0/x.png").read_bytes())
    with pytest.raises(
        ValueError, match=r"no image that can be used, of 30 files: 30 \.png \(the same image has 30 labels: .* and 20 more\)$"
    ):
        known(top)


def test_example_of_what_is_left_out_is_the_commonest(make):
    info = known(make(*below("labeled"), **{"labeled/a.txt": "", **{f"labeled/b/{i}.json": "" for i in range(3)}}))
    assert "4 files left out, such as labeled/b/0.json (.json is not read" in sentences(info)[1]


def test_tables_that_are_not_read_are_told(make):
    tables = {"test.csv": "file\n", "unlabeled/labels.csv": "file,label\n", "sizes.csv": "file\n"}
    info = known(make(*below("labeled"), "unlabeled/1.png", **tables))
    told = "not read as a table of labels, since it is not called labels.csv, or not there: unlabeled/labels.csv, test.csv"
    assert whole(info) == [told]


def test_validation_images_beside_classes_are_told(make):
    assert "val/ is for testing beside train/ alone: rename it to test/" in known(make(*TWO, *below("val"))).problem


def test_folder_with_test_images_alone_is_told(make):
    with pytest.raises(ValueError, match="no image to train with, but 16 in test/; must be labeled/<class>/"):
        known(make(*below("test")))


def test_validation_images_beside_a_table_are_told(make):
    names = [f"{part}/{i}.png" for part in ("train", "val") for i in range(10)]
    info = known(make(*names, **{"labels.csv": table(**{name: "ab"[i % 2] for i, name in enumerate(names)})}))
    assert whole(info) == ["val/ is for training like other folders beside labels.csv: to test with it, rename it to test/"]


def test_unlabelled_images_beside_a_table_are_not_missed(make):
    info = known(make(*TWO, *below("unlabeled"), **{"labels.csv": table(**{f"{c}/{i}.png": c for c in "ab" for i in range(8)})}))
    assert not whole(info) and info.n_images - info.n_labels == 16


@pytest.mark.parametrize("odd", [65535, None])
def test_scale_that_single_values_stretch_is_told(make, odd):
    top = make(*below("labeled"))
    for i in range(4):
        values = np.arange(784, dtype=np.uint16).reshape(28, 28) % 300
        values[3, 3] = odd if odd and i == 1 else 0
        Image.fromarray(values).save(top / f"labeled/a/deep{i}.tif")
    told = [text for text in whole(known(top)) if "levels of grey" in text]
    assert told == [
        "of 256 levels of grey these images use 3: values far from all others, such as in labeled/a/deep1.tif, stretch this scale"
    ] * bool(odd)


@pytest.mark.parametrize("value", ["garbage", "[1]", '{"/": 3}', "{}"])
def test_foreign_variable_of_that_name_is_passed_over(make, monkeypatch, value):
    monkeypatch.setenv(folder.PINNED, value)
    assert known(make(*TWO)).n_images == 14


def test_images_of_no_class_are_left_out(make):
    """Of training and of testing, named in any way; a label beside it does not decide."""
    names = [f"scans/{i}.png" for i in range(12)]
    rows = "file,label,status\n" + "".join(f"{name},{'ab'[i % 2]},\n" for i, name in enumerate(names[:10]))
    rows += "Scans\\10.png,,No class\nscans/0.png,,no class\nscans/11.png,,unclear\ntest/a/1.png,,no class\n"
    info = known(make(*names, "test/a/0.png", "test/a/1.png", "test/b/0.png", **{"labels.csv": rows}))
    assert set(info.files) == {*names} - {"scans/10.png", "scans/0.png"} and info.n_labels == 9
    assert info.files_test and "test/a/1.png" not in info.files_test
    assert dict(info.skipped) == {
        "scans/0.png": "labels.csv says: no class, and the label 'a'",
        "scans/10.png": "labels.csv says: no class",
        "test/a/1.png": "labels.csv says: no class",
    }
