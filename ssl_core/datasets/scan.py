"""The layout of a folder of images: which files are images to train and to test with, and which class each has.

Layouts, the first that fits:

- `labeled/<class>/`, with `unlabeled/` and `test/<class>/` where there are such images;
- images anywhere, and a table `labels.csv` (`file,label`) with the class of those that have one, with `test/` as before;
- `train/<class>/`, with `val/<class>/` or `test/<class>/`, as torchvision's ImageFolder has them, and `unlabeled/`;
- `<class>/`, in the folder itself, as ImageFolder has it, with `test/<class>/`;
- anything else is images without a label.

Classes of test images may also be in `labels.csv`, or in `test/labels.csv`.
"""

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from . import names, tables
from .checks import MOST_CLASSES
from .machine import digest
from .walk import WHOLE, Entry, Listing, by_ending, images, inside, printable
from .walk import images_below as images_below  # re-exported

LAYOUT = "labeled/<class>/ and unlabeled/, or <class>/, or a labels.csv with the columns file,label"
TABLE = "labels.csv"
SHOWN = 10  # folders in a sentence


def scan(folder: Path) -> Listing:
    """Lists the images of a folder, with their classes; raises ValueError if it is not laid out as a data set."""
    listing, title = Listing(folder), f"data={str(folder)!r}"
    try:
        folders, files = inside(folder)
    except OSError as error:
        raise ValueError(f"{title}: can't be read ({error.strerror})") from None
    has_table = TABLE in files
    if has_table and "labeled" in folders:
        raise ValueError(f"{title}: must have labeled/ or labels.csv, not both; remove one of them")
    if question := names.question(folder, folders, files):
        raise ValueError(f"{title}: {printable(question)}")
    if "labeled" in folders:
        _read_parts(listing, "labeled", folders, files)
    elif has_table:
        _read_by_table(listing, folders)
    elif "train" in folders and names.has_classes(folder / "train"):
        _read_parts(listing, "train", folders, files)
    else:  # also where there are no labels yet
        _read_by_folder(listing, folders)
    # Classes well mixed, and yet the same order every time, so that the first images show all kinds.
    listing.train.sort(key=lambda entry: (entry[1] == "", digest(entry[0]) if entry[1] else entry[0]))
    listing.test.sort(key=lambda entry: digest(entry[0]))
    for sentence in tables.look_alikes(sorted(_classes(listing.train))):
        listing.note(WHOLE, sentence)
    _check_some(listing, title)
    return listing


def _check_some(listing: Listing, title: str) -> None:
    """Raises Unusable if there is no image at all."""
    if not listing.train:
        also = f", of {n} files: {by_ending(listing.skipped)}" if (n := len(listing.skipped)) else ""
        raise Unusable(f"{title}: no image that can be read{also}; must be {LAYOUT}", listing)


class Unusable(ValueError):
    """A folder without an image to train with; what is in it is in `skipped`, with the reasons."""

    def __init__(self, message: str, listing: Listing):
        super().__init__(printable(message))
        self.skipped = tuple(sorted(listing.skipped))


def _read_parts(listing: Listing, labeled: str, folders: list[str], files: list[str]) -> None:
    """The layouts with a folder for the labelled images, called labeled/ or train/."""
    test = _test_part(listing, folders) if labeled == "train" else "test" if "test" in folders else ""
    entries = _by_class(listing, labeled)
    unlabeled = [(file, "") for file in images(listing, "unlabeled")] if "unlabeled" in folders else []
    listing.train = [*entries, *unlabeled]
    if test:
        listing.test = _test_images(listing, test, {})
    if labeled == "train":
        listing.note(WHOLE, f"classes are the folders of train/: {_counted(_classes(entries))}")
    known = {labeled, "unlabeled", "test"} | ({*names.VALIDATION} if labeled == "train" else set())
    for name in sorted({*folders} - known | {*files} - {"skipped.csv"}):
        listing.skip(name, f"not in {labeled}/, unlabeled/ or test/")


def _test_part(listing: Listing, folders: list[str]) -> str:
    """The folder beside train/ with the images to test with; '' if there is none. Another one is left out."""
    candidates = [name for name in ("test", *names.VALIDATION) if name in folders]
    tops = {name: listing.folder / name for name in candidates}
    with_classes = [name for name, top in tops.items() if names.has_classes(top) or (top / TABLE).is_file()]
    part = (with_classes or candidates or [""])[0]
    others = [name for name in candidates if name != part]
    for name in others:
        listing.skip(name, f"not used: {part}/ is the test part")
    if others or part not in ("", "test"):
        left_out = f"; not used: {', '.join(f'{name}/' for name in others)}" if others else ""
        listing.note(WHOLE, f"{part}/ is the test part{left_out}")
    return part


def _read_by_table(listing: Listing, folders: list[str]) -> None:
    """Images anywhere in the folder but in test/, with their labels by the table."""
    files = images(listing, without={TABLE, *({"test"} & {*folders})})
    probe = Listing(listing.folder)  # what is left out of test/ is told when its classes are known
    test = images(probe, "test") if "test" in folders else []
    labels = _labels(listing, TABLE, [*files, *test, *(file for file, _ in probe.skipped)])
    listing.train = [(file, labels.get(file, "")) for file in files]
    if "test" in folders:
        listing.test = _test_images(listing, "test", labels)


def _read_by_folder(listing: Listing, folders: list[str]) -> None:
    """The folders are classes if all images lie in two or more of them; otherwise no image has a label."""
    loose = images(listing, without=folders)
    found = {name: files for name in folders if name != "test" and (files := images(listing, name))}
    counts = {name: len(files) for name, files in found.items() if name not in names.OWN}
    own = found.keys() - counts.keys()
    listing.train = [(file, "") for files in (loose, *found.values()) for file in files]
    if 2 <= len(counts) <= MOST_CLASSES and sum(counts.values()) >= 2 * len(counts) and not loose and not own:
        listing.train = [(file, _folder_class(file, "")) for file, _ in listing.train]
        _note_forms(listing, "", listing.train)
        told = f"classes are the folders {_counted(_classes(listing.train))}; if they are not, move them into unlabeled/"
        listing.note(WHOLE, told)
    elif own & {"train", *names.VALIDATION}:
        listing.hint = f"{min(own - {'unlabeled'})}/ must have a folder for each class"
    elif len(counts) > 1:
        listing.hint = f"classes seem to lie in {_counted(counts)}: if so, move these folders into labeled/"
    elif len(counts) == 1 and not loose and not own:
        (only,) = counts
        if len(deeper := Counter(label for file in found[only] if (label := _folder_class(file, only)))) > 1:
            listing.hint = f"classes seem to lie in {only}/, in {_counted(deeper)}: if so, give DATA={listing.folder / only}"
    if not any(label for _, label in listing.train) and (sentence := tables.nearly(listing.folder, TABLE)):
        raise ValueError(f"data={str(listing.folder)!r}: {printable(sentence)}")
    if "test" in folders:
        listing.test = _test_images(listing, "test", {})


def _by_class(listing: Listing, part: str) -> list[Entry]:
    """The images below `part`, in which each class has a folder."""
    entries = []
    for file in images(listing, part):
        if label := _folder_class(file, part):
            entries.append((file, label))
        else:
            listing.skip(file, "not in the folder of a class")
    _note_forms(listing, part, entries)
    return entries


def _test_images(listing: Listing, part: str, labels: dict[str, str]) -> list[Entry]:
    """The images below `part` with their classes: by their folder, by `labels`, or by a table in `part` itself."""
    table = f"{part}/{TABLE}"
    files = images(listing, part, without={table})
    told = [labels]
    if (listing.folder / table).is_file():
        told.append(_labels(listing, table, files))
    classes, entries = _classes(listing.train), []
    for file in files:
        found = {labels[file] for labels in told if file in labels}
        if (by_folder := _folder_class(file, part)) and (by_folder in classes or not found):
            found.add(by_folder)
        if len(found) == 1:
            entries.append((file, found.pop()))
        elif found:
            listing.skip(file, f"its folder and tables give it different classes: {', '.join(sorted(found))}")
        else:
            listing.skip(file, "not in the folder of a class")
    _note_forms(listing, part, entries)
    return entries


def _folder_class(file: str, part: str) -> str:
    """The class that the folder of a file below `part` stands for; '' if it lies directly there."""
    first, slash, _ = file.removeprefix(f"{part}/" if part else "").partition("/")
    return unicodedata.normalize("NFC", first) if slash else ""


def _note_forms(listing: Listing, part: str, entries: list[Entry]) -> None:
    """Notes folders of one class whose names differ in Unicode's form alone, and folders without an image."""
    top = listing.folder / part
    with_images = {_folder_class(file, part) for file, _ in entries}
    forms: dict[str, list[str]] = {}
    for name in (name for name in inside(top)[0] if part or name not in names.OWN):
        label = unicodedata.normalize("NFC", name)
        forms.setdefault(label, []).append(name)
        if label not in with_images:
            listing.skip(f"{part}/{name}" if part else name, "a class without an image")
    for label, several in forms.items():
        if len(several) > 1:
            listing.note(WHOLE, f"{len(several)} folders are called {label!r}, in two forms of Unicode: one class")


def _labels(listing: Listing, table: str, files: list[str]) -> dict[str, str]:
    """The label of each of `files` that has one in `table`; what of the table fits no file is listed."""
    place = f"{table.removesuffix(TABLE)}"
    rows, notes = tables.read_labels(listing.folder / table)
    for text in notes:
        listing.note(table, text)
    rows = [row for row in rows if row[1] and row[2]]
    wanted = list(dict.fromkeys(file for _, file, _ in rows))
    here = [file.removeprefix(place) for file in (*files, *(file for file, _ in listing.skipped)) if file.startswith(place)]
    found = tables.match(wanted, here, listing.folder / place)
    if not found:
        listing.hint = tables.difference(wanted, [file.removeprefix(place) for file in files], table)
    labels: dict[str, set[str]] = {}
    listed = {printable(file) for file in (*files, *(file for file, _ in listing.skipped))}
    for line, name, label in rows:
        if name in found:
            labels.setdefault(f"{place}{found[name]}", set()).add(label)
        elif (file := printable(f"{place}{name}")) not in listed:  # told once, with its first line
            listed.add(file)
            outside = posixpath.normpath(name.replace("\\", "/")).startswith(("../", "/"))
            where = "outside the folder" if outside else "not there"
            listing.skip(f"{place}{name}", f"named in {table}, but {where} (line {line})")
    used = set(files)
    for file, several in labels.items():
        if len(several) > 1 and file in used:
            listing.note(file, f"two labels in {table} ({', '.join(sorted(several))}): neither is used")
    return {file: label for file, (label, *more) in ((file, sorted(each)) for file, each in labels.items()) if not more}


def _classes(entries: list[Entry]) -> Counter[str]:
    """The number of images of each class."""
    return Counter(sorted(label for _, label in entries if label))


def _counted(counts: Mapping[str, int]) -> str:
    """Folders or classes with their numbers of images: `a (8), b (8)`."""
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
