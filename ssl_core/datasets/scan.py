"""The files of a folder of images, before any of them is opened: which are images, and which class each has.

Images lie in `labeled/<class>/` and `unlabeled/`, and, where there are test images, in `test/<class>/`: torchvision's
convention. Or all lie anywhere in the folder, and its `labels.csv` (`file,label`) names the class of those that have one.
"""

import csv
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .machine import digest
from .pixels import FORMATS

LAYOUT = "labeled/<class>/ and unlabeled/, or a labels.csv with the columns file,label"
PARTS = ("labeled", "unlabeled", "test")
Entry = tuple[str, str]  # a file and its class, '' where there is no label
Identity = tuple[int, int]  # of a folder on disk, whatever it is called: device and inode


@dataclass
class Listing:
    """The files of `folder` by their use; and those that are left out, each with the reason."""

    folder: Path
    train: list[Entry] = field(default_factory=list)
    test: list[Entry] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """All images, those of training first."""
        return [*self.train, *self.test]

    def skip(self, path: Path, reason: str) -> None:
        """Leaves a file out."""
        self.skipped.append((_printable(path.relative_to(self.folder).as_posix()), reason))


def scan(folder: Path) -> Listing:
    """Lists the images of a folder, with their classes; raises ValueError if it is not laid out as a data set."""
    listing, table = Listing(folder), folder / "labels.csv"
    if table.exists() and (folder / "labeled").exists():
        raise ValueError(f"data={str(folder)!r}: must have labeled/ or labels.csv, not both; remove one of them")
    if (folder / "labeled").exists():
        unlabeled = [(file, "") for file in _images(listing, "unlabeled")]
        listing.train = [*_by_class(listing, "labeled"), *unlabeled]
        _skip_others(listing)
    else:  # also where there are no labels yet
        listing.train = _by_table(listing, _read_table(table, listing) if table.exists() else {})
    listing.test = _by_class(listing, "test")
    # Classes well mixed, and yet the same order every time, so that the first images show all kinds.
    listing.train.sort(key=lambda entry: (entry[1] == "", digest(entry[0]) if entry[1] else entry[0]))
    listing.test.sort(key=lambda entry: digest(entry[0]))
    return listing


def images_below(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The image files anywhere in `folder`, in order; and the other files, each with the reason why it is left out."""
    listing = Listing(folder)
    return _images(listing), listing.skipped


def _by_class(listing: Listing, part: str) -> list[Entry]:
    """The images below `part`, in which each class has a folder."""
    entries = []
    for file in _images(listing, part):
        inside = file.removeprefix(f"{part}/")
        if "/" in inside:
            entries.append((file, inside.split("/")[0]))
        else:
            listing.skipped.append((file, "not in the folder of a class"))
    with_images = {label for _, label in entries}
    top = listing.folder / part
    for path in sorted(top.iterdir()) if top.is_dir() else ():
        if path.is_dir() and path.name not in with_images and not path.name.startswith("."):
            listing.skip(path, "a class without an image")
    return entries


def _by_table(listing: Listing, labels: dict[str, str]) -> list[Entry]:
    """The images anywhere in the folder but in test/, with their labels by the table."""
    files = _images(listing, without="test")
    listing.skipped += [(file, "named in labels.csv, but not there") for file in labels.keys() - set(files)]
    return [(file, labels.get(file, "")) for file in files]


def _skip_others(listing: Listing) -> None:
    """Notes what lies beside labeled/, unlabeled/ and test/."""
    for path in sorted(listing.folder.iterdir()):
        if path.name not in (*PARTS, "skipped.csv") and not path.name.startswith("."):
            listing.skip(path, "not in labeled/, unlabeled/ or test/")


def _images(listing: Listing, part: str = "", without: str = "") -> list[str]:
    """The image files below `part` of the folder, in order; other files are noted as left out.

    A folder called `without` in the folder itself is passed over.
    """
    top = listing.folder / part
    if not top.exists():
        return []
    above = (_identity(listing.folder),) if part else ()
    return [file for path in _walk(listing, top, above, without) if (file := _image(listing, path))]


def _walk(listing: Listing, place: Path, above: tuple[Identity, ...], without: str) -> Iterator[Path]:
    """The files below `place`, in order. Links are followed, but not back to one of the folders `above`."""
    try:
        identity, inside = _identity(place), sorted(place.iterdir())
    except OSError as error:
        listing.skip(place, f"can't be read ({error.strerror})")
        return
    if identity in above:
        listing.skip(place, "a link that leads back to a folder above it")
        return
    for path in inside:
        if path.name.startswith(".") or path == listing.folder / "labels.csv":
            continue
        if without and path == listing.folder / without and path.is_dir():
            continue
        if path.is_dir():
            yield from _walk(listing, path, (*above, identity), without)
        else:
            yield path


def _image(listing: Listing, path: Path) -> str | None:
    """The name of an image file, relative to the folder; None, and a note, if it is none by its name."""
    name = path.relative_to(listing.folder).as_posix()
    if path.suffix.lower() not in FORMATS:
        listing.skip(path, f"not an image by its ending: must be {' '.join(FORMATS)}")
    elif name != _printable(name):
        listing.skip(path, "its name is not UTF-8")
    else:
        return name
    return None


def _identity(folder: Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _printable(name: str) -> str:
    """A file name that can be written down: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_table(path: Path, listing: Listing) -> dict[str, str]:
    """The label of each file in `labels.csv` that has one."""
    labels: dict[str, set[str]] = {}
    for file, label in _rows(path):
        inside = posixpath.normpath(file.replace("\\", "/"))
        if inside.startswith(("../", "/")) or inside == "..":
            listing.skipped.append((file, "named in labels.csv, but outside the folder"))
        elif file and label:
            labels.setdefault(inside, set()).add(label)
    for file in [file for file, several in labels.items() if len(several) > 1]:
        reason = f"two labels in labels.csv ({', '.join(sorted(labels.pop(file)))}): used without a label"
        listing.skipped.append((file, reason))
    return {file: label for file, (label,) in labels.items()}


def _rows(path: Path) -> list[Entry]:
    """The columns `file` and `label` of a table; raises ValueError if it has none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if missing := {"file", "label"} - set(table.fieldnames or ()):
                raise ValueError(f"{path}: must be a table with the columns file and label (no {', '.join(sorted(missing))})")
            return [((row["file"] or "").strip(), (row["label"] or "").strip()) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be a table in UTF-8 with the columns file and label ({error})") from None
