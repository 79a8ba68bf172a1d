"""A folder of images as a data set: its files are decoded once, checked, and kept; see scan.py for its layout."""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from . import copies, copy_table, decoding, duplicates, grouping, store
from .checks import MOST_CLASSES
from .info import DataSetInfo
from .machine import digest
from .pixels import grey, looks, reduced
from .scan import LAYOUT, Unusable, all_left_out, brief, scan
from .store import Arrays
from .walk import WHOLE, Listing, printable

TEST_SHARE = 5  # without test images, one of this many labelled images of each class is taken to test with
TELL_FROM = 20_000  # images, of which comparing all takes more than a few seconds
GONE = "this folder is not there any more; its images are those that were read last"
PINNED = "SSL_CORE_FOLDERS"  # environment variable: the kept file of each folder, by its path, as JSON

_described: dict[tuple[str, Path], str] = {}  # in this process: the kept file that each folder was described from


def describe(name: str, root: Path, side: int = 0) -> DataSetInfo:
    """The metadata of the folder `name`, whose images are decoded if `root` does not keep them.

    Raises ValueError if it can't be used at all; `problem` says why it can't be trained with.
    """
    path = prepared(name, root, side)
    _described[_place(name, side), root] = path.name
    return store.read_info(path)


def load(name: str, root: Path, side: int = 0) -> tuple[DataSetInfo, Arrays]:
    """The metadata and the arrays of the folder `name`; raises ValueError if it can't be used at all."""
    return store.read(prepared(name, root, side))


def slug(name: str) -> str:
    """The folder's name as a file name of its own: it follows from the path alone."""
    folder = Path(name).resolve()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.name).strip("-") or "folder"
    return f"{readable}-{digest(str(folder))[:6]}"


def prepared(name: str, root: Path, side: int = 0) -> Path:
    """The file below `root` that keeps the decoded images; made if it is missing, or if the folder has changed since.

    They have `side` × `side` pixels, or, for 0, as many as fit them. In a process of a sweep it is the file that is pinned for
    it, whatever became of the folder. Of a folder that is gone, it is the file that was used last.
    """
    if path := pinned_file(name, root, side):
        store.touch(path)
        return path
    if not Path(name).is_dir() and (path := last_read(name, root, side)):
        print(f"data={name!r}: {GONE}", file=sys.stderr)
        return path
    listing = scan(Path(name).resolve())
    files = [(file, label, *listing.states[file]) for file, label in listing.entries]
    key = [files, listing.skipped, listing.notes, listing.hint]
    kept = slug(name)
    if not _has(store.place(root, kept, key), side):
        kept = store.of_side(kept, side)
    return store.kept(root, kept, key, lambda: decode_folder(listing, side))


def last_read(name: str, root: Path, side: int = 0) -> Path | None:
    """The kept file of the folder `name`, with images of this `side`, that was used last."""
    paths = store.newest(root, slug(name)), store.newest(root, store.of_side(slug(name), side))
    return next((path for path in paths if path and _has(path, side)), None)


def _has(path: Path, side: int) -> bool:
    """Whether a kept file is there with images of this `side`; 0 is any."""
    return not side or (store.is_whole(path) and store.read_info(path).side == side)


def pinned(names: Sequence[str], root: Path, side: int = 0) -> dict[str, str]:
    """The environment variable with which a child process reads these folders as this process described them.

    With their fitting side, too, if it described them so: features from elsewhere belong to the images of that side.
    """
    kept = {}
    for name, each in product(names, dict.fromkeys((side, 0))):
        known = _described.get((place := _place(name, each), root))
        if known or each == side:
            kept[place] = known or prepared(name, root, each).name
    return {PINNED: json.dumps(kept)} if kept else {}


def pinned_file(name: str, root: Path, side: int = 0) -> Path | None:
    """The kept file that is pinned for the folder `name` and this `side`; None if there is none, or if it is not whole."""
    try:
        kept = json.loads(os.environ.get(PINNED) or "{}").get(_place(name, side))
    except (ValueError, AttributeError):  # a variable of this name, but not ours
        return None
    path = root / "folders" / kept if isinstance(kept, str) else None
    return path if path and store.is_whole(path) else None


def _place(name: str, side: int = 0) -> str:
    return store.of_side(str(Path(name).resolve()), side)


def decode_folder(listing: Listing, side: int = 0) -> tuple[Arrays, DataSetInfo]:
    """Decodes every image of a folder; the arrays, of `side` × `side` pixels or as it fits the images, and the metadata."""
    n, folder = len(listing.entries), listing.folder
    side = decoding.side_of(listing, side)
    pixels, digests, scale = decoding.entries(listing, side)
    usable = np.array([each is not None for each in digests], bool)
    contents = _contents(pixels, digests)
    _drop_contradictions(listing, contents, usable)
    is_test = np.arange(n) >= len(listing.train)
    own_test = bool((is_test & usable).any())
    pairs = _all_pairs(listing, pixels, contents, usable)
    if not own_test and listing.groups:
        is_test = _drawn_by_group(listing, digests, usable, pairs)
    elif not own_test:
        is_test = _drawn_to_test(listing, digests, usable, copies.groups(n, _pairs(listing, pixels, usable)))
    rows = _note_copies(listing, pairs, usable, is_test)
    _note_groups(listing, usable, is_test)
    if not (usable & ~is_test).any():
        raise Unusable(f"data={str(folder)!r}: no image that can be used{all_left_out(listing)}", listing)
    try:
        pixels, look = looks(folder.name, pixels, usable & ~is_test)
    except ValueError as error:
        raise Unusable(str(error), listing) from None
    labels = np.array([label for _, label in listing.entries], dtype=object)
    classes = sorted(set(labels[usable & ~is_test]) - {""})
    parts = {"": _sorted(labels, usable & ~is_test), "_test": _sorted(labels, usable & is_test)}
    arrays = _arrays(pixels, labels, classes, parts)
    problem = _problem(classes, labels[parts[""]], labels[parts["_test"]], listing.hint)
    look |= {f"files{part}": tuple(listing.entries[i][0] for i in index) for part, index in parts.items()}
    look |= {"groups": tuple(listing.groups.get(file, "") for file in look["files"]) if listing.groups else ()}
    look |= {"own_test": own_test, "skipped": tuple(sorted(listing.skipped)), "notes": tuple(sorted(listing.notes))}
    look |= {
        "copies": tuple(map(tuple, rows)),
        "near_copies": _near_labeled(rows),
        "scale": scale,
        "side": side,
        "problem": problem and printable(f"data={str(folder)!r}: {problem}"),
    }
    return arrays, described(folder.name, slug(str(folder)), tuple(classes), arrays, **look)


def _contents(pixels: np.ndarray, digests: list[str | None]) -> list[str | None]:
    """What images are compared by: their pixels at the network's size; their files where these are of one colour."""
    contents = [content and sha256(picture.tobytes()).hexdigest() for picture, content in zip(pixels, digests, strict=True)]
    empty = (pixels == pixels[:, :1, :1]).all(axis=(1, 2, 3))
    return [digest if plain else content for digest, content, plain in zip(digests, contents, empty, strict=True)]


def _drop_contradictions(listing: Listing, contents: list[str | None], usable: np.ndarray) -> None:
    """Leaves out an image that has two labels, and a labelled image that is also a test image."""
    labels: dict[str | None, set[str]] = {}
    for (_, label), content in zip(listing.entries, contents, strict=True):
        if label:
            labels.setdefault(content, set()).add(label)
    tested = set(contents[len(listing.train) :]) - {None}
    if both := tested.intersection(content for (_, label), content in zip(listing.train, contents, strict=False) if not label):
        told = "also among the unlabelled images of training: on new ones the accuracy may be lower"
        listing.note(WHOLE, f"{len(both)} test image{'s are' if len(both) > 1 else ' is'} {told}")
    n_tested = 0
    for i, ((file, label), content) in enumerate(zip(listing.entries, contents, strict=True)):
        if not usable[i] or not label:
            continue
        if len(labels[content]) > 1:
            usable[i] = False
            several = "two labels" if len(labels[content]) == 2 else f"{len(labels[content])} labels"
            listing.skip(file, f"the same image has {several}: {brief(sorted(labels[content]))}")
        elif i < len(listing.train) and content in tested:
            usable[i] = False
            listing.skip(file, "the same image is a test image")
            n_tested += 1
    if n_tested:
        told = "left out of training, or the accuracy would be too high"
        listing.note(WHOLE, f"{n_tested} labelled image{'s are' if n_tested > 1 else ' is'} also among the test images: {told}")


def _all_pairs(listing: Listing, pixels: np.ndarray, contents: list[str | None], usable: np.ndarray) -> list[duplicates.Pair]:
    """The copies among all images of the folder, also those that are left out; and the labelled ones of one photo."""
    if len(entries := listing.entries) > TELL_FROM:
        print(f"{listing.folder.name}: {len(entries)} images are compared with each other", file=sys.stderr, flush=True)
    pairs = duplicates.pairs(pixels, contents)
    found = {pair[:2] for pair in pairs}
    labeled = [i for i in np.flatnonzero(usable).tolist() if entries[i][1]]
    photos = ((labeled[i], labeled[j]) for i, j in copies.one_photo([entries[i] for i in labeled]))
    return pairs + [duplicates.Pair(i, j, 0.0, "one photo") for i, j in photos if (i, j) not in found]


def _pairs(listing: Listing, pixels: np.ndarray, usable: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of labelled images of a class that are near copies, or of one photo: they are drawn to test with together.

    Found as they always were, whatever `duplicates` finds beside them: the draw decides which finished runs count.
    """
    entries = listing.entries
    labeled = np.flatnonzero(usable & np.array([label != "" for _, label in entries], bool))
    pictures = grey(reduced(pixels[labeled]))[..., 0]
    pairs = copies.one_photo([entries[i] for i in labeled])
    if len(labeled):
        classes, mean = np.array([entries[i][1] for i in labeled], dtype=object), copies.mean_picture(pictures)
        for label in sorted(set(classes)):
            members = np.flatnonzero(classes == label)
            found = copies.near_copies(pictures[members], mean=mean)
            pairs += [(int(members[i]), int(members[j])) for i, j in found]
    return [(int(labeled[i]), int(labeled[j])) for i, j in pairs]


def _note_copies(
    listing: Listing, pairs: list[duplicates.Pair], usable: np.ndarray, is_test: np.ndarray
) -> list[copy_table.Copy]:
    """Notes what there is to say of copies; returns the table of them."""
    parts = [
        copy_table.part(label, is_test=bool(test), is_used=bool(use))
        for (_, label), test, use in zip(listing.entries, is_test, usable, strict=True)
    ]
    files, labels = zip(*listing.entries, strict=True)
    rows = copy_table.table(files, parts, labels, pairs)
    label_of = dict(listing.entries)
    for file, twin in _near_labeled(rows):
        other = "a label" if label_of[file] == label_of[twin] else f"another label, {label_of[twin]}"
        listing.note(file, f"nearly the same as {twin}, which has {other}")
    for sentence in copy_table.sentences(rows, int((usable & is_test).sum())):
        listing.note(WHOLE, sentence)
    return rows


def _near_labeled(rows: list[copy_table.Copy]) -> tuple[tuple[str, str], ...]:
    """The test images that are near copies of labelled ones, each with one of these."""
    return tuple(copy_table.twins(rows, copy_table.LABELED).items())


def _drawn_by_group(listing: Listing, digests: list[str | None], usable: np.ndarray, pairs: list[duplicates.Pair]) -> np.ndarray:
    """The images (N,), as a mask, that become test images where a table groups them: whole groups, about one in TEST_SHARE.

    Copies are in one group. Unlabelled images of a group with a test image are left out.
    """
    entries = listing.entries
    first: dict[str, int] = {}
    links = [(first.setdefault(group, i), i) for i, (file, _) in enumerate(entries) if (group := listing.groups.get(file))]
    group_of = copies.groups(len(entries), [*links, *(pair[:2] for pair in pairs)])
    labeled = [i for i in np.flatnonzero(usable).tolist() if entries[i][1]]
    labeled.sort(key=lambda i: (digests[i], entries[i][0]))
    members = grouping.drawn([entries[i][1] for i in labeled], [group_of[i] for i in labeled], TEST_SHARE)
    if labeled and not members:
        told = "too large to stay on one side: test images are drawn from within them, and the accuracy may be too high"
        listing.note(WHOLE, f"the groups of the column group are {told}")
        return _drawn_to_test(listing, digests, usable, list(range(len(entries))))
    taken = np.zeros(len(entries), bool)
    taken[[i for i in labeled if group_of[i] in members]] = True
    tested = {listing.groups[file] for i in np.flatnonzero(taken) if (file := entries[i][0]) in listing.groups}
    for i, (file, label) in enumerate(entries):
        if usable[i] and not label and (group := listing.groups.get(file)) in tested:
            usable[i] = False
            listing.skip(file, f"its group, {group}, is on the side of the test images")
    return taken


def _note_groups(listing: Listing, usable: np.ndarray, is_test: np.ndarray) -> None:
    """Notes how many groups a table gives the images, and which are on both sides."""
    if not listing.groups:
        return
    entries = listing.entries
    sides = [[entries[i][0] for i in np.flatnonzero(usable & side)] for side in (~is_test, is_test)]
    counts = [len({listing.groups[file] for file in side if file in listing.groups}) for side in sides]
    listing.note(WHOLE, f"groups, by the column group: {counts[0]} to train with, {counts[1]} to test with")
    if both := grouping.on_both_sides(listing.groups, *sides):
        group, train, test = both[0]
        told = f"on both sides, such as {group} ({train} to train with, {test} to test with): the accuracy may be too high"
        listing.note(WHOLE, f"{len(both)} group{'s are' if len(both) > 1 else ' is'} {told}")


def _drawn_to_test(listing: Listing, digests: list[str | None], usable: np.ndarray, groups: list[int]) -> np.ndarray:
    """The images (N,), as a mask, that become test images where there are no others: of each class one in TEST_SHARE.

    They follow from their content, whatever their order: labels that are added later do not change them much. The images of a
    class that are in one of the `groups` (N,) stay together, unless each group is larger than what is to be drawn.
    """
    entries = listing.entries
    by_class: dict[str, list[int]] = {}
    for i in np.flatnonzero(usable).tolist():
        if label := entries[i][1]:
            by_class.setdefault(label, []).append(i)
    taken = np.zeros(len(entries), bool)
    for members in by_class.values():
        members.sort(key=lambda i: (digests[i], entries[i][0]))
        left = wanted = len(members) // TEST_SHARE
        sizes = Counter(groups[i] for i in members)
        drawn = set()
        for group in dict.fromkeys(groups[i] for i in members):
            if sizes[group] <= left:
                drawn.add(group)
                left -= sizes[group]
        if left == wanted > 0 and min(sizes.values()) <= len(members) // 2:
            drawn.add(min(sizes, key=lambda group: sizes[group]))
        taken[[i for i in members if groups[i] in drawn] or members[:wanted]] = True
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
    checksum = sha256(json.dumps(classes).encode())
    for name in sorted(arrays):
        checksum.update(arrays[name].tobytes())
    more |= {"n_images": len(arrays["x"]), "n_labels": int((arrays["y"] >= 0).sum()), "n_test": len(arrays["x_test"])}
    return DataSetInfo(title, slug, classes, checksum.hexdigest(), **more)


def _problem(classes: list[str], labels: np.ndarray, test_labels: np.ndarray, hint: str) -> str:
    """Why images with these `labels`, and test images with those, can't be trained with; empty if they can."""
    if not classes and hint:
        return f"no labelled image that can be read: {hint}"
    if not classes:
        how = "`make label-next` says which, and `make sweep LABELS=0` does without"
        return f"no labelled image that can be read: label some, in {LAYOUT}; {how}"
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
