"""The files of a folder, before any of them is opened: images by their ending, and others, each with the reason."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .pixels import FORMATS, NEEDS_HEIF

Entry = tuple[str, str]  # a file and its class, '' where there is no label
Identity = tuple[int, int]  # of a folder on disk, whatever it is called: device and inode
WHOLE = "."  # the name under which a note is about the folder as a whole
# Of Windows, macOS, Linux and network drives, in lower case: nobody put these there.
SYSTEM = {
    "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information",
    "lost+found", "found.000", "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db",
    "desktop.ini", "picasa.ini", "icon\r", "__pycache__",
}  # fmt: skip
_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclass
class Listing:
    """The files of `folder` by their use; those that are left out, each with the reason; and notes about those that are used."""

    folder: Path
    train: list[Entry] = field(default_factory=list)
    test: list[Entry] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    states: dict[str, tuple[int, int]] = field(default_factory=dict)  # size and time of each image file
    hint: str = ""  # how it gets labels, if it has none
    groups: dict[str, str] = field(default_factory=dict)  # of files, by the column `group` of a table of labels

    @property
    def entries(self) -> list[Entry]:
        """All images, those of training first."""
        return [*self.train, *self.test]

    def skip(self, name: str, reason: str) -> None:
        """Leaves out the file called `name`, relative to the folder."""
        self.skipped.append((printable(name), printable(reason)))

    def note(self, name: str, text: str) -> None:
        """Tells of a file that is used, or of the folder as a WHOLE."""
        self.notes.append((printable(name), printable(text)))


def passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or the system's: nobody misses it."""
    plain = name.lower()
    if plain.endswith(".icloud"):  # in place of a file of one's own
        return False
    return plain.startswith((".", "~$")) or plain in SYSTEM or plain.endswith(":zone.identifier")


def inside(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders, and of the files, in `folder` itself; without those that are passed over."""
    folders: list[str] = []
    files: list[str] = []
    for entry in _entries(folder):
        (folders if is_folder(entry) else files).append(entry.name)
    return folders, files


def images(listing: Listing, part: str = "", without: Iterable[str] = ()) -> list[str]:
    """The image files below `part` of the folder, in order; other files are noted as left out.

    The files and folders `without`, relative to the folder, are passed over.
    """
    above = (_identity(listing.folder),) if part else ()
    return list(_walk(listing, part, above, frozenset(without)))


def images_below(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The image files anywhere in `folder`, in order; and the other files, each with the reason why it is left out."""
    listing = Listing(folder)
    return images(listing), listing.skipped


def _walk(listing: Listing, place: str, above: tuple[Identity, ...], without: frozenset[str]) -> Iterator[str]:
    """The image files below `place`, in order. Links are followed, but not back to one of the folders `above`."""
    folder = listing.folder / place
    try:
        identity, entries = _identity(folder), _entries(folder)
    except OSError as error:
        listing.skip(place or WHOLE, f"can't be read ({error.strerror})")
        return
    if identity in above:
        listing.skip(place, "a link that leads back to a folder above it")
        return
    for entry in entries:
        name = f"{place}/{entry.name}" if place else entry.name
        if name in without:
            continue
        if is_folder(entry):
            yield from _walk(listing, name, (*above, identity), without)
        elif reason := _fault(listing, entry, name):
            listing.skip(name, reason)
        else:
            yield name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((each for each in entries if not passed_over(each.name)), key=lambda each: each.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _fault(listing: Listing, entry: os.DirEntry[str], name: str) -> str:
    """Why a file is no image, as far as its name and kind tell; '' if it is one: then its state is kept."""
    ending = os.path.splitext(entry.name)[1]
    if name != printable(name):
        return (
            "its name has a line break, or another character that can't be printed" if _is_utf8(name) else "its name is not UTF-8"
        )
    if ending.lower() not in FORMATS:
        return not_read(ending)
    try:
        status = entry.stat()
        if not entry.is_file():
            return "not a file, but a pipe, a socket or a device"
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    listing.states[name] = status.st_size, status.st_mtime_ns
    return ""


def not_read(ending: str) -> str:
    """Why files of this ending are left out."""
    if ending.lower() in (".heic", ".heif"):
        return f"{ending} {NEEDS_HEIF}"
    if ending.lower() == ".icloud":
        return f"{ending} is not on this machine yet: let iCloud download it"
    if ending.lower() in ARCHIVES:
        return f"{ending} is an archive: unpack it"
    return f"{ending or 'a name without an ending'} is not read: must be {' '.join(FORMATS)}"


def by_ending(skipped: list[tuple[str, str]]) -> str:
    """How many files of which ending are left out, and why: `9 .HEIC (.HEIC is read only with …)`."""
    kinds = Counter((os.path.splitext(file)[1] or "without an ending", reason) for file, reason in skipped)
    parts = [f"{count} {ending} ({reason})" for (ending, reason), count in kinds.most_common(3)]
    return ", ".join(parts) + (f" and {len(kinds) - 3} other kinds" if len(kinds) > 3 else "")


def printable(name: str) -> str:
    """A file name that can be written on a line: bytes that are not UTF-8, and control characters, as escapes."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if plain.isprintable():
        return plain
    return "".join(each if unicodedata.category(each) not in _UNPRINTABLE else ascii(each)[1:-1] for each in plain)


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\udc80" <= each <= "\udcff" for each in name)


def _identity(folder: Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
