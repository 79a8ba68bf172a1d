"""A folder of images as a data set: its files are decoded once, checked, and kept; see scan.py for its layout."""

import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np

from . import store
from .info import DataSetInfo
from .machine import cores, digest
from .pixels import SIDE, UnreadableImage, decode, looks
from .scan import LAYOUT, Listing, scan
from .store import Arrays

MOST_CLASSES = 1000
TEST_SHARE = 5  # without test images, one of this many labelled images of each class is taken to test with
TELL_EVERY = 5  # seconds between two lines of progress


def describe(name: str, root: Path) -> DataSetInfo:
    """The metadata of the folder `name`, whose images are decoded if `root` does not keep them.

    Raises ValueError if it can't be used at all; `problem` says why it can't be trained with.
    """
    return store.read_info(prepared(name, root))


def load(name: str, root: Path) -> tuple[DataSetInfo, Arrays]:
    """The metadata and the arrays of the folder `name`; raises ValueError if it can't be used at all."""
    return store.read(prepared(name, root))


def slug(name: str) -> str:
    """The folder's name as a file name of its own: it follows from the path alone."""
    folder = Path(name).resolve()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.name).strip("-") or "folder"
    return f"{readable}-{digest(str(folder))[:6]}"


def prepared(name: str, root: Path) -> Path:
    """The file below `root` that keeps the decoded images; made if it is missing, or if the folder has changed since."""
    folder = Path(name).resolve()
    listing = scan(folder)
    key = [[_state(folder / file, file, label) for file, label in listing.entries], listing.skipped]
    return store.kept(root, slug(name), key, lambda: decode_folder(listing))


def _state(path: Path, file: str, label: str) -> tuple[str, str, int, int]:
    """A value that changes when an image or its label changes."""
    try:
        status = path.stat()
    except OSError:  # a link to nothing: decoding will tell
        return file, label, -1, -1
    return file, label, status.st_size, status.st_mtime_ns


def decode_folder(listing: Listing) -> tuple[Arrays, DataSetInfo]:
    """Decodes every image of a folder; the arrays and the metadata."""
    n, folder = len(listing.entries), listing.folder
    pixels, digests = _decode_entries(listing)
    usable = np.array([each is not None for each in digests], bool)
    _drop_contradictions(listing, digests, usable)
    is_test = np.arange(n) >= len(listing.train)
    own_test = bool((is_test & usable).any())
    if not own_test:
        is_test = _drawn_to_test(listing, digests, usable)
    if not (usable & ~is_test).any():
        n_files = len(listing.skipped)
        raise ValueError(f"data={str(folder)!r}: no image that can be read, of {n_files} files; must be {LAYOUT}")
    pixels, look = looks(folder.name, pixels, usable & ~is_test)
    labels = np.array([label for _, label in listing.entries], dtype=object)
    classes = sorted(set(labels[usable & ~is_test]) - {""})
    parts = {"": _sorted(labels, usable & ~is_test), "_test": _sorted(labels, usable & is_test)}
    arrays = _arrays(pixels, labels, classes, parts)
    problem = _problem(classes, labels[parts[""]], labels[parts["_test"]])
    look |= {f"files{part}": tuple(listing.entries[i][0] for i in index) for part, index in parts.items()}
    look |= {"own_test": own_test, "skipped": tuple(sorted(listing.skipped))}
    look |= {"problem": problem and f"data={str(folder)!r}: {problem}"}
    return arrays, described(folder.name, slug(str(folder)), tuple(classes), arrays, **look)


def _decode_entries(listing: Listing) -> tuple[np.ndarray, list[str | None]]:
    """The pixels (N, 28, 28, 3) of all images, and the digests of their files: None for those that can't be read."""
    n, title = len(listing.entries), listing.folder.name
    megabytes = max(1, n * SIDE * SIDE * 3 / 1e6)
    print(f"{title}: {n} images; decoding takes {megabytes:.0f} MB of memory and is done once", file=sys.stderr)
    pixels = np.zeros((n, SIDE, SIDE, 3), np.uint8)
    digests: list[str | None] = [None] * n
    start = printed = time.monotonic()
    for i, result in enumerate(decode_all([listing.folder / file for file, _ in listing.entries])):
        try:
            pixels[i], digests[i] = result.result()
        except UnreadableImage as error:
            listing.skipped.append((listing.entries[i][0], str(error)))
        if (now := time.monotonic()) - printed > TELL_EVERY:
            printed = now
            left = (now - start) / (i + 1) * (n - i - 1)
            print(f"{title}: {i + 1}/{n} images decoded, about {left:.0f} s to go", file=sys.stderr, flush=True)
    return pixels, digests


def decode_all(paths: Sequence[Path]) -> Iterator[Future[tuple[np.ndarray, str]]]:
    """Decodes image files on all cores. One future for each, in order: its `result()` is that of pixels.decode."""
    threads = ThreadPoolExecutor(cores())
    futures = deque(threads.submit(decode, path) for path in paths)
    try:
        while futures:
            yield futures.popleft()
    finally:
        threads.shutdown(cancel_futures=True)


def _drop_contradictions(listing: Listing, digests: list[str | None], usable: np.ndarray) -> None:
    """Leaves out an image that has two labels, and a labelled image that is also a test image."""
    labels: dict[str | None, set[str]] = {}
    for (_, label), content in zip(listing.entries, digests, strict=True):
        if label:
            labels.setdefault(content, set()).add(label)
    tested = set(digests[len(listing.train) :])
    for i, ((file, label), content) in enumerate(zip(listing.entries, digests, strict=True)):
        if not usable[i] or not label:
            continue
        if len(labels[content]) > 1:
            usable[i] = False
            listing.skipped.append((file, f"the same image has two labels: {', '.join(sorted(labels[content]))}"))
        elif i < len(listing.train) and content in tested:
            usable[i] = False
            listing.skipped.append((file, "the same image is a test image"))


def _drawn_to_test(listing: Listing, digests: list[str | None], usable: np.ndarray) -> np.ndarray:
    """The images (N,), as a mask, that become test images where there are no others: of each class one in TEST_SHARE.

    They follow from their content, whatever their order: labels that are added later do not change them much.
    """
    entries = listing.entries
    by_class: dict[str, list[int]] = {}
    for i in np.flatnonzero(usable).tolist():
        if label := entries[i][1]:
            by_class.setdefault(label, []).append(i)
    taken = np.zeros(len(entries), bool)
    for members in by_class.values():
        members.sort(key=lambda i: (digests[i], entries[i][0]))
        taken[members[: len(members) // TEST_SHARE]] = True
    return taken


def _sorted(labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The indices of `members`, the labelled ones first."""
    index = np.flatnonzero(members)
    return index[np.argsort(labels[index] == "", kind="stable")]


def _arrays(pixels: np.ndarray, labels: np.ndarray, classes: list[str], parts: dict[str, np.ndarray]) -> Arrays:
    """Images and classes of the training and the test part."""
    number = {label: c for c, label in enumerate(classes)}
    arrays = {}
    for part, index in parts.items():
        arrays[f"x{part}"] = np.ascontiguousarray(pixels[index].transpose(0, 3, 1, 2))
        arrays[f"y{part}"] = np.array([number.get(label, -1) for label in labels[index]], np.int64)
    return arrays


def described(title: str, slug: str, classes: tuple[str, ...], arrays: Arrays, **more: Any) -> DataSetInfo:
    """The metadata that follow from the arrays, and the fields `more`."""
    checksum = sha256(dumps(classes).encode())
    for name in sorted(arrays):
        checksum.update(arrays[name].tobytes())
    more |= {"n_images": len(arrays["x"]), "n_labels": int((arrays["y"] >= 0).sum()), "n_test": len(arrays["x_test"])}
    return DataSetInfo(title, slug, classes, checksum.hexdigest(), **more)


def _problem(classes: list[str], labels: np.ndarray, test_labels: np.ndarray) -> str:
    """Why images with these `labels`, and test images with those, can't be trained with; empty if they can."""
    if not classes:
        return f"no labelled image that can be read: label some, in {LAYOUT}; `make label-next` says which"
    if len(classes) == 1:
        return f"one class only, {classes[0]!r}: must be from 2 to {MOST_CLASSES}"
    if len(classes) > MOST_CLASSES:
        return f"{len(classes)} classes: must be from 2 to {MOST_CLASSES}"
    if unknown := sorted(set(test_labels) - set(classes)):
        return f"classes of test images without a labelled image: {', '.join(map(repr, unknown[:5]))}; label some, or remove them"
    if not len(test_labels):
        largest = ", ".join(f"{name!r}: {count}" for name, count in Counter(labels[labels != ""]).most_common(3))
        return f"no image to test with: add test/<class>/, or label {TEST_SHARE} or more of a class ({largest})"
    for name in classes:
        if len(name) > 100 or not name.isprintable():
            return f"class {name[:100]!r}: must be up to 100 printable characters"
    return ""
