"""The layout of a folder of images: which files are images to train and to test with, and which class each has.

Layouts, the first that fits:

- `labeled/<class>/`, with `unlabeled/` and `test/<class>/` where there are such images;
- images anywhere, and a table `labels.csv` (`file,label`) with the class of those that have one, with `test/` as before;
- `train/<class>/`, with `val/<class>/` or `test/<class>/`, as torchvision's ImageFolder has them, and `unlabeled/`;
- `<class>/`, in the folder itself, as ImageFolder has it, with `test/<class>/`;
- anything else is images without a label.

Classes of test images may also be in `labels.csv`, or in `test/labels.csv`.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from . import names, tables
from .checks import MOST_CLASSES
from .machine import digest
from .walk import WHOLE, Entry, Listing, by_ending, images, inside, printable
from .walk import images_below as images_below  # re-exported

LAYOUT = "labeled/<class>/ and unlabeled/, or <class>/, or a labels.csv with the columns file,label"
TABLE = "labels.csv"
TABLES = (TABLE, f"test/{TABLE}", *(f"{part}/{TABLE}" for part in names.VALIDATION))
SHOWN = 10  # folders in a sentence
MASK = re.compile(r"(.+)[ _.-](mask|masks|seg|segmentation|gt|groundtruth|thumb|thumbnail)\.\w+", re.IGNORECASE)
LIKE_A_TABLE = re.compile(r"(label|train|val|test|class|annotation)[^/]*\.[ct]sv$", re.IGNORECASE)
EMPTY = "a class without an image"


def scan(folder: Path) -> Listing:
    """Lists the images of a folder, with their classes; raises ValueError if it is not laid out as a data set."""
    listing, title = Listing(folder), f"data={str(folder)!r}"
    try:
        folders, files = inside(folder)
    except OSError as error:
        raise ValueError(f"{title}: can't be read ({error.strerror})") from None
    has_table = TABLE in files
    if has_table and "labeled" in folders:
        raise ValueError(
            f"{title}: must have labeled/ or labels.csv, not both: rename labeled/ if the table has all labels, or take it out"
        )
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
    _note_doubts(listing)
    if not listing.train:
        if listing.test:
            raise Unusable(f"{title}: no image to train with, but {len(listing.test)} in test/; must be {LAYOUT}", listing)
        raise Unusable(f"{title}: no image that can be read{all_left_out(listing)}; must be {LAYOUT}", listing)
    return listing


def _note_doubts(listing: Listing) -> None:
    """Notes what is probably not meant: masks and thumbnails as images, tables that are not read, and classes that look alike."""
    stems = {os.path.splitext(file)[0] for file, _ in listing.entries}
    masks = sorted(file for file, _ in listing.entries if (found := MASK.fullmatch(file)) and found[1] in stems)
    if len(masks) > 1:
        told = "by their names masks or thumbnails of others, but used like them: take them out"
        listing.note(WHOLE, f"{len(masks)} images, such as {masks[0]}, are {told}")
    if left := [file for file, _ in listing.skipped if LIKE_A_TABLE.search(file)]:
        listing.note(WHOLE, f"not read as a table of labels, since it is not called {TABLE}, or not there: {brief(left)}")
    for sentence in tables.look_alikes(sorted(_classes(listing.train))):
        listing.note(WHOLE, sentence)


def all_left_out(listing: Listing) -> str:
    """How many files of a folder are left out, in which every one is: `, of 9 files: …`."""
    files = [row for row in listing.skipped if row[1] != EMPTY]
    return f", of {tables.counted(len(files), 'file')}: {by_ending(files)}" if files else ""


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
        if name in folders and (n := len(images_below(listing.folder / name)[0])):
            told = f"not used: to use them, move them into {labeled}/<class>/, unlabeled/ or test/<class>/"
            listing.note(WHOLE, f"{name}/ has {tables.counted(n, 'image')}, {told}")


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
    no_class = _of_no_class(listing, [*files, *test], labels)
    _read_groups(listing, TABLE, [*files, *test])
    listing.train = [(file, labels.get(file, "")) for file in files if file not in no_class]
    classes = _classes(listing.train)
    unlabeled = (file for file, label in listing.train if not label and not file.startswith("unlabeled/"))
    if lost := [file for file in unlabeled if PurePosixPath(file).parent.name in classes]:
        told = f"in folders called like classes have no label in {TABLE}, which alone counts here, such as {lost[0]}"
        listing.note(WHOLE, f"{tables.counted(len(lost), 'image')} {told}")
    for name in sorted({*names.VALIDATION} & {*folders}):
        listing.note(WHOLE, f"{name}/ is for training like other folders beside {TABLE}: to test with it, rename it to test/")
    if "test" in folders:
        listing.test = _test_images(listing, "test", labels, no_class)


def _of_no_class(listing: Listing, files: list[str], labels: Mapping[str, str]) -> set[str]:
    """Those of `files` that the table says to be of no class, whatever else it says of them; they are left out."""
    found = set(tables.match(tables.without_class(listing.folder / TABLE), files, listing.folder).values())
    for file in sorted(found):
        label = f", and the label {tables.quoted(labels[file])}" if file in labels else ""
        listing.skip(file, f"{TABLE} says: {tables.NO_CLASS}{label}")
    return found


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
    elif "train" in own:
        listing.hint = "train/ must have a folder for each class"
    elif validation := sorted(own & {*names.VALIDATION}):
        listing.hint = f"{validation[0]}/ is for testing beside train/ alone: rename it to test/"
    elif len(counts) > 1:
        listing.hint = f"classes seem to lie in {_counted(counts)}: if so, move these folders into labeled/"
    elif len(counts) == 1 and not loose and not own:
        (only,) = counts
        deeper = Counter(label for file in found[only] if (label := _folder_class(file, only)))
        if len(deeper) > 1 and not {*names.OWN} & {*deeper}:
            listing.hint = f"classes seem to lie in {only}/, in {_counted(deeper)}: if so, give DATA={listing.folder / only}"
        else:
            told = "if that is a class, add the folders of others; if not, label some: `make label-next` says which"
            listing.hint = f"all are in {only}/: {told}"
    if not any(label for _, label in listing.train):
        _look_for_table(listing)
    if "test" in folders:
        listing.test = _test_images(listing, "test", {})


def _look_for_table(listing: Listing) -> None:
    """Gives a hint of the file that may be the table of labels; raises ValueError if its name is nearly right."""
    if sentence := tables.nearly(listing.folder, TABLE):
        raise ValueError(f"data={str(listing.folder)!r}: {printable(sentence)}")
    if others := [file for file, _ in listing.skipped if file.lower().endswith((".csv", ".tsv"))]:
        likely = min(others, key=lambda file: not re.search("train|label|class", file, re.IGNORECASE))
        told = f"if {likely} has the labels, save it as {listing.folder / TABLE}, with the columns file and label"
        listing.hint = f"{listing.hint}; {told}" if listing.hint else told


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


def _test_images(listing: Listing, part: str, labels: dict[str, str], without: Iterable[str] = ()) -> list[Entry]:
    """The images below `part` but those `without`, with their classes: by folder, `labels`, or a table in `part` itself."""
    table = f"{part}/{TABLE}"
    files = images(listing, part, without={table, *without})
    told = [labels]
    if (listing.folder / table).is_file():
        told.append(_labels(listing, table, files))
        _read_groups(listing, table, files)
    classes, entries = _classes(listing.train), []
    for file in files:
        found = {labels[file] for labels in told if file in labels}
        if (by_folder := _folder_class(file, part)) and (by_folder in classes or not found):
            found.add(by_folder)
        if len(found) == 1:
            entries.append((file, found.pop()))
        elif found:
            listing.skip(file, f"its folder and tables give it different classes: {brief(sorted(found))}")
        else:
            listing.skip(file, "not in the folder of a class")
    if files and not entries:
        listing.note(
            WHOLE, f"no image in {part}/ has one class: put them into {part}/<class>/, or write their classes into {table}"
        )
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
            listing.skip(f"{part}/{name}" if part else name, EMPTY)
    for label, several in forms.items():
        if len(several) > 1:
            listing.note(WHOLE, f"{len(several)} folders are called {label!r}, in two forms of Unicode: one class")


def _labels(listing: Listing, table: str, files: list[str]) -> dict[str, str]:
    """The label of each of `files` that has one in `table`; what of the table fits no file is listed."""
    place = f"{table.removesuffix(TABLE)}"
    try:
        rows, notes = tables.read_labels(listing.folder / table)
    except ValueError as error:  # it names the file alone
        raise ValueError(f"{place}{error}") from None
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
            listing.note(file, f"two labels in {table} ({brief(sorted(several))}): neither is used")
    return {file: label for file, (label, *more) in ((file, sorted(each)) for file, each in labels.items()) if not more}


def _read_groups(listing: Listing, table: str, files: list[str]) -> None:
    """Keeps the group of each of `files` that has one in `table`, also of those without a label."""
    place = table.removesuffix(TABLE)
    rows = tables.groups(listing.folder / table)
    here = [file.removeprefix(place) for file in files if file.startswith(place)]
    found = tables.match((name for name, _ in rows), here, listing.folder / place)
    several: dict[str, set[str]] = {}
    for name, group in rows:
        if name in found:
            several.setdefault(f"{place}{found[name]}", set()).add(group)
    for file, groups in several.items():
        if len({*groups} | {listing.groups.get(file, min(groups))}) > 1:
            listing.note(file, f"several groups in {table} ({brief(sorted(groups))}): {min(groups)} is used")
        listing.groups.setdefault(file, min(groups))


def _classes(entries: list[Entry]) -> Counter[str]:
    """The number of images of each class."""
    return Counter(sorted(label for _, label in entries if label))


def _counted(counts: Mapping[str, int]) -> str:
    """Folders or classes with their numbers of images: `a (8), b (8)`."""
    return brief([f"{name} ({count})" for name, count in counts.items()])


def brief(names: Sequence[str]) -> str:
    """The first of some names: `a, b and 8 more`."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
