"""Folders of all kinds: random trees of images, broken files, tables, links and odd names; no folder leads to a traceback.

`FUZZ=50000 pytest -m slow tests/unit/test_fuzz.py` tries as many.
"""

import io
import os
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core.datasets import DataError, folder, walk

SLOW = int(os.environ.get("FUZZ", "2500"))
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # 2,500 trees take a minute there
FOLDERS = ("a", "b", "0", "1", "1.0", "cat", "Cat", "caf\u00e9", "cafe\u0301", "labeled", "unlabeled", "test", "train", "val")
FOLDERS += (
    "labelled",
    "Unlabeled",
    "Test",
    "tests",
    "2019",
    "scans",
    "@eaDir",
    ".hidden",
    "__MACOSX",
    "x\ny",
    "\udcff",
    " ",
    "labels.csv",
)
STEMS = (
    "1",
    "2",
    "img 3",
    "IMG_4",
    "\u65e5\u672c",
    "e\u0301",
    "\u00e9",
    "a,b",
    'q"',
    "x\r",
    "\udcfe",
    ".x",
    "~$y",
    "p.rf.0123456789ab",
    "=1",
    "\u202f",
)
ENDINGS = (
    ".png",
    ".PNG",
    ".jpg",
    ".jpeg",
    ".tif",
    ".gif",
    ".webp",
    ".bmp",
    ".tga",
    ".ico",
    ".ppm",
    ".jp2",
    ".heic",
    ".txt",
    ".zip",
    "",
    ".csv",
)
WHOLE_NAMES = ("Thumbs.db", "desktop.ini", "Icon\r", "labels.csv", "Labels.csv", "labels.xlsx", "skipped.csv", "labeled", "test")


@cache
def contents():
    """Bytes of image files of all kinds, and of some that are none."""
    random = np.random.default_rng(0)
    files = [
        b"",
        b"no image",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0\xff\xff\xff\xff",
        b"\0" * 50,
        b"version https://git-lfs",
        b"P5 9 9 255 ",
    ]
    arrays = [random.integers(0, 255, (9, 12), np.uint8) for _ in range(3)] + [np.full((5, 5), 200, np.uint8)]
    arrays += [(random.random((12, 9)) * 4095).astype(np.uint16), random.random((7, 7)).astype(np.float32)]
    arrays += [
        np.full((4, 4), np.nan, np.float32),
        np.array([[0, np.inf], [1, 2]], np.float32),
        random.integers(0, 255, (40, 3, 3), np.uint8),
    ]
    for array in arrays:
        for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"):
            buffer = io.BytesIO()
            try:
                image = Image.fromarray(array)
                more = {"save_all": True, "append_images": [image.rotate(90)]} if kind in ("TIFF", "GIF") else {}
                image.save(buffer, kind, **more)
            except OSError:  # not every format holds every mode
                continue
            whole = buffer.getvalue()
            files += [whole, whole, whole, whole[: len(whole) * 2 // 3]]
    return files


names = st.one_of(st.builds(str.__add__, st.sampled_from(STEMS), st.sampled_from(ENDINGS[:4])), st.sampled_from(WHOLE_NAMES))
names |= st.builds(str.__add__, st.sampled_from(STEMS), st.sampled_from(ENDINGS))
places = st.lists(st.sampled_from(FOLDERS), max_size=3)
labels = st.sampled_from(("a", "b", "cat", "Cat", "1", "1.0", "None", "", " a ", "caf\u00e9", "a,b", "x\ny"))
files = st.tuples(places, names, st.integers(0, 10**6))
links = st.tuples(places, names, st.one_of(st.sampled_from(("nowhere", ".", "..", "1.png", "a")), places.map("/".join)))
tables = st.tuples(
    st.sampled_from(((), ("test",), ("labeled",))), st.integers(0, 5), st.lists(st.tuples(st.integers(0, 40), labels))
)
# Whole layouts, so that most trees have one and are read to the end.
layouts = st.sampled_from(
    (
        (),
        ("labeled/a", "labeled/b"),
        ("labeled/a", "labeled/b", "test/a", "test/b", "unlabeled"),
        ("train/a", "train/b", "val/a", "val/b", "test/a"),
        ("a", "b", "test/b"),
        ("",),
        ("scans", "test"),
    )
)


def build(top, layout, loose, linked, table):
    """Writes a tree; returns nothing: what can't be made, since a name is taken, is not."""
    for i, place in enumerate(layout):
        for j in range(6):
            put(top / place / f"{i}_{j}.png", layout_image(i * 10 + j))
    for parts, name, number in loose:
        put(top.joinpath(*parts, name), contents()[number % len(contents())])
    for parts, name, target in linked:
        path = top.joinpath(*parts, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target or ".")
        except OSError:
            continue
    if table:
        parts, form, rows = table
        put(top.joinpath(*parts, "labels.csv"), text_of(top.joinpath(*parts), form, rows))


@cache
def layout_image(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def put(path, content):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):  # nothing is written through a link
            path.write_bytes(content)
    except OSError:
        pass


def text_of(place, form, rows):
    """A table of labels about the files there, in one of several forms, the last of which is none."""
    here = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()) or ["1.png"]
    write = (str, str.upper, lambda name: name.rsplit(".", 1)[0], lambda name: f"C:\\me\\{name}", lambda name: f"../{name}", str)[
        form
    ]
    lines = ["file,label", *(f'"{write(here[i % len(here)])}","{label}"' for i, label in rows)]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return text if form < 5 else text.replace(b"label", b"l\xff", 1)


def snapshot(top):
    """All of a tree: its folders, links and files with their bytes."""
    tree = {}
    for place, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            tree[path] = os.readlink(path) if os.path.islink(path) else open(path, "rb").read() if os.path.isfile(path) else None  # noqa: SIM115
    return tree


def outcome(top, root):
    """The metadata, or the message of one line with which the folder is refused."""
    try:
        return folder.describe(str(top), root)
    except (ValueError, DataError) as error:
        message = str(error)
        assert len(message.splitlines()) == 1 and message.startswith(("data=", "labels.csv", "test/labels.csv")), message
        assert [count for count in Counter(getattr(error, "skipped", ())).values() if count > 1] == []
        return message


def visible(top):
    """The names of all files, links to folders left out, that are not the system's, relative to `top`."""
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not walk.passed_over(name)]
        for name in files:
            if not walk.passed_over(name):
                yield os.path.relpath(os.path.join(place, name), top)


def check_tree(layout, loose, linked, table):
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        top, root = Path(place) / "above" / "tree", Path(place) / "data"  # a link may lead to the folder above
        top.mkdir(parents=True)
        build(top, layout, loose, linked, table)
        before = snapshot(top)
        first = outcome(top, root)
        assert outcome(top, root) == first, "a second call gives the same"
        assert snapshot(top) == before, "the user's files stay as they are"
        if isinstance(first, str):
            return
        used, skipped = Counter((*first.files, *first.files_test)), Counter(file for file, _ in first.skipped)
        read = {"labels.csv", "skipped.csv", *(f"{part}/labels.csv" for part in ("test", "val"))}
        for file in set(visible(top)) - read:
            name = walk.printable(file)
            above = [name[:i] for i, letter in enumerate(name) if letter == "/"]
            listed = skipped[name] or any(skipped[part] for part in above)
            assert bool(used[file]) != bool(listed) and max(used[file], skipped[name]) <= 1, (file, used[file], skipped[name])
        assert all(reason.isprintable() or len(reason.splitlines()) == 1 for _, reason in (*first.skipped, *first.notes))


trees = given(layouts, st.lists(files, max_size=10), st.lists(links, max_size=2), st.one_of(st.none(), tables))
quick = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@trees
@settings(max_examples=100, **quick)
def test_any_folder_is_read_or_refused_in_one_line(layout, loose, linked, table):
    check_tree(layout, loose, linked, table)


@pytest.mark.slow
@trees
@settings(max_examples=SLOW, **quick)
def test_many_folders_are_read_or_refused_in_one_line(layout, loose, linked, table):
    check_tree(layout, loose, linked, table)
