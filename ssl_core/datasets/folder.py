"""A folder of one's own images as a data set: found, checked, decoded once, and kept.

Images lie in `labeled/<class>/` and `unlabeled/`, and, where there are test images, in `test/<class>/`: torchvision's
convention. Or all lie anywhere in the folder, and its `labels.csv` (`file,label`) names the class of those that have one.
"""

import csv
import fcntl
import hashlib
import json
import os
import posixpath
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image
from safetensors import SafetensorError, safe_open

from .named import SETS
from .pixels import FORMATS, SIDE, decode, framed, looks

MOST_CLASSES = 1000
TEST_SHARE = 5  # without test images, one in so many labelled ones is kept to test with
VERSION = 1  # of how images are read: another one reads them again
CACHE = Path(__file__).resolve().parents[2] / "data" / "folders"
LAYOUT = "labeled/<class>/ and unlabeled/, or a labels.csv with the columns file,label"


@dataclass(frozen=True)
class Folder:
    """What is known of a folder of images, without the images."""

    title: str  # the name of the folder
    slug: str  # the same as the name of a file, and unlike that of any other folder
    classes: tuple[str, ...]
    checksum: str  # of all images and labels
    channels: int  # 1 for grey images, 3 for coloured ones
    mean: tuple[float, ...]  # of the pixels in [0, 1], by channel
    std: tuple[float, ...]
    background: float  # what most images have at their border, normalised
    inverted: bool  # whether light and dark are exchanged, so that the background is the dark one
    n_images: int  # to train with
    n_labels: int  # of which are labelled
    n_test: int
    own_test: bool  # whether the test images are the folder's own, and not taken from the labelled ones
    files: tuple[str, ...] = field(repr=False)  # of the training images, the labelled ones first
    files_test: tuple[str, ...] = field(repr=False)
    skipped: tuple[tuple[str, str], ...] = field(repr=False)  # what was found and is not used, and why
    problem: str  # why it can't be trained with, or ''
    uniform_prior: bool = False  # of a folder of images nobody knows how frequent the classes are


@dataclass
class Found:
    """The files of a folder before any is opened: (file, class), the class '' where there is no label."""

    train: list[tuple[str, str]]
    test: list[tuple[str, str]]
    skipped: list[tuple[str, str]]


@cache
def describe(name: str) -> Folder:
    """What is known of the folder `name`, read the first time; ValueError, naming what to mend, if it can't be used at all."""
    return _read(_prepared(name))


def load(name: str) -> tuple[Folder, dict[str, np.ndarray]]:
    """The folder's images as bytes, `x` and `x_test` (N, C, 28, 28), and classes `y` and `y_test` (N,), −1 for no label."""
    path = _prepared(name)
    return _read(path), safetensors.numpy.load_file(path)


def scan(folder: Path) -> Found:
    """Which images a folder holds, and their classes; ValueError if it is not laid out as a data set."""
    if not folder.is_dir():
        raise ValueError(f"data={str(folder)!r}: must be the name of a data set, or a folder that is there")
    found, table = Found([], [], []), folder / "labels.csv"
    if table.exists() and (folder / "labeled").exists():
        raise ValueError(f"data={str(folder)!r}: it has both labeled/ and labels.csv; remove one of them")
    if not (folder / "labeled").exists():  # also where there are no labels yet
        labels = _read_table(table, found) if table.exists() else {}
        files = _images(folder, "", found, apart="test")
        found.skipped += [(file, "named in labels.csv, but not there") for file in labels.keys() - set(files)]
        found.train = [(file, labels.get(file, "")) for file in files]
    else:
        found.train = [*_by_class(folder, "labeled", found), *((file, "") for file in _images(folder, "unlabeled", found))]
        expected = ("labeled", "unlabeled", "test", "skipped.csv")
        others = sorted(path.name for path in folder.iterdir() if path.name not in expected and not path.name.startswith("."))
        found.skipped += [(_printable(name), "not in labeled/, unlabeled/ or test/") for name in others]
    found.test = _by_class(folder, "test", found)
    # Classes well mixed, and yet the same order every time, so that the first images show all kinds.
    found.train.sort(key=lambda entry: (entry[1] == "", _digest(entry[0]) if entry[1] else entry[0]))
    found.test.sort(key=lambda entry: _digest(entry[0]))
    return found


def _by_class(folder: Path, part: str, found: Found) -> list[tuple[str, str]]:
    """The images below `part`, the folder in which each lies being its class."""
    entries = []
    for file in _images(folder, part, found):
        inside = file.removeprefix(f"{part}/")
        if "/" in inside:
            entries.append((file, inside.split("/")[0]))
        else:
            found.skipped.append((file, "not in the folder of a class"))
    if (folder / part).is_dir():
        with_images = {label for _, label in entries}
        for path in sorted((folder / part).iterdir()):
            if path.is_dir() and path.name not in with_images and not path.name.startswith("."):
                found.skipped.append((_printable(f"{part}/{path.name}"), "a class without an image"))
    return entries


def images_below(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The image files anywhere in `folder`, in order; and what else is there, with the reason why it is none."""
    found = Found([], [], [])
    return _images(folder, "", found), found.skipped


def _images(folder: Path, part: str, found: Found, apart: str = "") -> list[str]:
    """The image files below `part` of `folder`, in order; what else is there is noted. Links are followed, but not in circles.

    A folder called `apart` in `folder` itself is passed over.
    """

    def walk(place: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
        try:
            status = place.stat()
            here = (status.st_dev, status.st_ino)
            inside = sorted(place.iterdir())
        except OSError as error:
            found.skipped.append((name(place), f"can't be read ({error.strerror})"))
            return
        if here in above:
            found.skipped.append((name(place), "a link that leads back to a folder above it"))
            return
        for path in inside:
            if path.name.startswith(".") or path == folder / "labels.csv" or (path == folder / apart and path.is_dir()):
                continue
            if path.is_dir():
                yield from walk(path, (*above, here))
            else:
                yield path

    def name(path: Path) -> str:
        return _printable(path.relative_to(folder).as_posix())

    files = []
    top = folder.stat()
    above = ((top.st_dev, top.st_ino),) if part else ()
    for path in walk(folder / part, above) if (folder / part).exists() else ():
        if path.suffix.lower() not in FORMATS:
            found.skipped.append((name(path), f"not an image by its ending: must be {' '.join(FORMATS)}"))
        elif name(path) != path.relative_to(folder).as_posix():
            found.skipped.append((name(path), "its name is not UTF-8"))
        else:
            files.append(name(path))
    return files


def _printable(name: str) -> str:
    """A file name that can be written down: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_table(path: Path, found: Found) -> dict[str, str]:
    """The label of each file in `labels.csv` that has one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if missing := {"file", "label"} - set(rows.fieldnames or ()):
                raise ValueError(f"{path}: must be a table with the columns file and label (no {', '.join(sorted(missing))})")
            given = [((row["file"] or "").strip(), (row["label"] or "").strip()) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be a table in UTF-8 with the columns file and label ({error})") from None
    labels: dict[str, set[str]] = {}
    for file, label in given:
        inside = posixpath.normpath(file.replace("\\", "/"))
        if inside.startswith(("../", "/")) or inside == "..":
            found.skipped.append((file, "named in labels.csv, but outside the folder"))
        elif file and label:
            labels.setdefault(inside, set()).add(label)
    for file in [file for file, several in labels.items() if len(several) > 1]:
        found.skipped.append((file, f"two labels in labels.csv ({', '.join(sorted(labels.pop(file)))}): used without a label"))
    return {file: label for file, (label,) in labels.items()}


def _prepared(name: str) -> Path:
    """The file that keeps what was decoded; made if it is not there, or if the folder has changed since."""
    if name in SETS:
        return _kept(name, _digest(VERSION), lambda: _collect(name))
    folder = Path(name).resolve()
    found = scan(folder)
    seen = []
    for file, label in [*found.train, *found.test]:
        try:
            status = (folder / file).stat()
            seen.append((file, label, status.st_size, status.st_mtime_ns))
        except OSError:  # a link to nothing; it is told when it is opened
            seen.append((file, label, -1, -1))
    slug = f"{re.sub(r'[^A-Za-z0-9_-]+', '-', folder.name).strip('-') or 'folder'}-{_digest(str(folder))[:6]}"
    return _kept(slug, _digest([VERSION, seen, found.skipped]), lambda: _decode_all(folder, slug, found))


def _kept(slug: str, key: str, make: Callable[[], tuple[dict[str, np.ndarray], dict]]) -> Path:
    """The file of this `slug` and `key`; if it is not there or not whole, of what `make` returns, in place of older ones."""
    kept = CACHE / f"{slug}-{key[:16]}.safetensors"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{slug}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it
        if not _whole(kept):
            tensors, about = make()
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
            safetensors.numpy.save_file(tensors, temporary, {"about": json.dumps(about)})
            for old in CACHE.glob(f"{slug}-*.safetensors"):
                old.unlink()
            os.replace(temporary, kept)
    return kept


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _whole(kept: Path) -> bool:
    try:
        _read(kept)
        return True
    except (OSError, SafetensorError, TypeError, KeyError):
        return False


def _read(kept: Path) -> Folder:
    with safe_open(kept, "numpy") as file:
        about = json.loads(file.metadata()["about"])
    return Folder(**{name: _frozen(value) for name, value in about.items()})


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _decode_all(folder: Path, slug: str, found: Found) -> tuple[dict[str, np.ndarray], dict]:
    """Opens every image; returns the tensors and what is known of them."""
    entries = [*found.train, *found.test]
    n = len(entries)
    megabytes = n * SIDE * SIDE * 3 / 1e6
    print(f"{folder.name}: {n} images; decoding takes {max(1, megabytes):.0f} MB of memory and is done once", file=sys.stderr)
    pixels = np.zeros((n, SIDE, SIDE, 3), np.uint8)
    contents = [""] * n
    usable = np.ones(n, bool)
    start = told = time.monotonic()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for i, result in enumerate(threads.map(lambda entry: decode(folder / entry[0]), entries, chunksize=1)):
            if isinstance(result, str):
                usable[i] = False
                found.skipped.append((entries[i][0], result))
            else:
                pixels[i], contents[i] = result
            if (now := time.monotonic()) - told > 5:
                told = now
                left = (now - start) / (i + 1) * (n - i - 1)
                print(f"{folder.name}: {i + 1}/{n} images decoded, about {left:.0f} s to go", file=sys.stderr, flush=True)
    _drop_contradictions(found, contents, usable)
    is_test = np.arange(n) >= len(found.train)
    labels = np.array([label for _, label in entries], dtype=object)
    own_test = bool((is_test & usable).any())
    if not own_test:
        is_test = _to_test_with(entries, contents, usable)
    training = usable & ~is_test
    if not training.any():
        raise ValueError(f"data={str(folder)!r}: no image that can be read, of {len(found.skipped)} files; must be {LAYOUT}")
    classes = sorted(set(labels[training]) - {""})
    problem = _problem(classes, labels[training], labels[usable & is_test])
    number = {label: c for c, label in enumerate(classes)}
    tensors, files = {}, {}
    pixels, look = looks(folder.name, pixels, training)
    for suffix, part in (("", training), ("_test", usable & is_test)):
        which = np.flatnonzero(part)
        which = which[np.argsort(labels[which] == "", kind="stable")]
        tensors[f"x{suffix}"] = np.ascontiguousarray(pixels[which].transpose(0, 3, 1, 2))
        tensors[f"y{suffix}"] = np.array([number.get(label, -1) for label in labels[which]], np.int64)
        files[f"files{suffix}"] = [entries[i][0] for i in which]
    about = _about(folder.name, slug, classes, tensors) | look | files
    about |= {"own_test": own_test, "skipped": sorted(found.skipped)}
    return tensors, about | {"problem": problem and f"data={str(folder)!r}: {problem}"}


def _about(title: str, slug: str, classes: list[str], tensors: dict[str, np.ndarray]) -> dict:
    """What of a `Folder` follows from its tensors; nothing is wrong with it."""
    checksum = hashlib.sha256(json.dumps(classes).encode())
    for name in sorted(tensors):
        checksum.update(tensors[name].tobytes())
    return {
        "title": title,
        "slug": slug,
        "classes": classes,
        "checksum": checksum.hexdigest(),
        "n_images": len(tensors["x"]),
        "n_labels": int((tensors["y"] >= 0).sum()),
        "n_test": len(tensors["x_test"]),
        "own_test": True,
        "skipped": [],
        "problem": "",
    }


def _drop_contradictions(found: Found, contents: list[str], usable: np.ndarray) -> None:
    """What is the same image under two labels is not used, nor a labelled one that is a test image too."""
    entries = [*found.train, *found.test]
    labels: dict[str, set[str]] = {}
    for (_, label), content in zip(entries, contents, strict=True):
        if content and label:
            labels.setdefault(content, set()).add(label)
    tested = set(contents[len(found.train) :])
    for i, ((file, label), content) in enumerate(zip(entries, contents, strict=True)):
        if not usable[i] or not label:
            continue
        if len(labels[content]) > 1:
            usable[i] = False
            found.skipped.append((file, f"the same image has two labels: {', '.join(sorted(labels[content]))}"))
        elif i < len(found.train) and content in tested:
            usable[i] = False
            found.skipped.append((file, "the same image is a test image"))


def _to_test_with(entries: list[tuple[str, str]], contents: list[str], usable: np.ndarray) -> np.ndarray:
    """Which images are taken to test with, where there are no others: of each class one in TEST_SHARE, whatever their order.

    Which they are follows from their content: labels that are added later do not change it much.
    """
    by_class: dict[str, list[int]] = {}
    for i in np.flatnonzero(usable):
        if entries[i][1]:
            by_class.setdefault(entries[i][1], []).append(i)
    taken = np.zeros(len(entries), bool)
    for members in by_class.values():
        members.sort(key=lambda i: (contents[i], entries[i][0]))
        taken[members[: len(members) // TEST_SHARE]] = True
    return taken


def _problem(classes: list[str], labels: np.ndarray, tested: np.ndarray) -> str:
    """What keeps images with these `labels`, and test images of these, from serving as a data set; '' if nothing does."""
    if not classes:
        return f"no labelled image that can be read: label some, in {LAYOUT}; `make label-next` says which"
    if len(classes) == 1:
        return f"one class only, {classes[0]!r}: must be from 2 to {MOST_CLASSES}"
    if len(classes) > MOST_CLASSES:
        return f"{len(classes)} classes: must be from 2 to {MOST_CLASSES}"
    if strange := sorted(set(tested) - set(classes)):
        return f"classes of test images without a labelled image: {', '.join(map(repr, strange[:5]))}; label some, or remove them"
    if not len(tested):
        fewest = ", ".join(f"{name!r}: {count}" for name, count in Counter(labels[labels != ""]).most_common(3))
        return f"no image to test with: add test/<class>/, or label {TEST_SHARE} or more of a class ({fewest})"
    for name in classes:
        if len(name) > 100 or not name.isprintable():
            return f"class {name[:100]!r}: must be up to 100 printable characters"
    return ""


def _collect(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors of a set by name, and what is known of them."""
    x, y, x_test, y_test, classes = SETS[name](CACHE.parent)
    every = np.concatenate([x, x_test])
    pixels = np.stack([framed(Image.fromarray(image).convert("RGB")) for image in every])
    pixels, look = looks(name, pixels, np.arange(len(every)) < len(x))
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    tensors = {"x": pixels[: len(x)], "x_test": pixels[len(x) :], "y": y.astype(np.int64), "y_test": y_test.astype(np.int64)}
    names = [f"{i}" for i in range(len(every))]
    files = {"files": names[: len(x)], "files_test": names[len(x) :]}
    return tensors, _about(name, name, list(classes), tensors) | look | files
