"""Names of folders that are nearly right, and folders one level too high: what is asked before any work is done."""

import difflib
import re
from pathlib import Path

from .pixels import FORMATS
from .walk import ARCHIVES, images_below, inside

PARTS = ("labeled", "unlabeled", "test")
VALIDATION = ("val", "valid", "validation")
OWN = (*PARTS, "train", *VALIDATION)
_SPELLINGS = {
    "labelled": "labeled",
    "label": "labeled",
    "unlabelled": "unlabeled",
    "unlabel": "unlabeled",
    "nolabel": "unlabeled",
    "testing": "test",
    "tests": "test",
    "training": "train",
    "validate": "val",
}
_SPELLINGS |= {
    f"{name}{more}": meant
    for name, meant in (*_SPELLINGS.items(), *zip(OWN, OWN, strict=True))
    for more in ("data", "images", "set")
}
DEEPEST = 3  # levels that are searched for the folder that was meant


def question(folder: Path, folders: list[str], files: list[str]) -> str:
    """What to ask about a folder in which `folders` and `files` lie: a name nearly right, another folder meant; or ''."""
    wanted = _wanted(folder, folders, files)
    for name in folders:
        meant = meaning(name)
        if name in OWN or meant not in wanted or (meant == "val" and {*VALIDATION} & {*folders}):
            continue
        established = len(wanted) < len(OWN)
        likely = established or meant == "unlabeled" or name.lower() == meant or has_classes(folder / name)
        if likely and images_below(folder / name)[0]:
            return f"{name}/ is not used: did you mean {meant}/? Rename it"
    if not {*OWN} & {*folders} and not any(is_image(file) or file == "labels.csv" for file in files):
        if deeper := _deeper(folder, folders):
            return deeper
        if not folders and (archives := [name for name in files if is_archive(name)]):
            return f"no image, but {archives[0]}, an archive: unpack it and give the folder"
    return ""


def _wanted(folder: Path, folders: list[str], files: list[str]) -> set[str]:
    """The names that would be used in the layout of the folder, and are not there."""
    if "labeled" in folders:
        allowed = {"unlabeled", "test"}
    elif "labels.csv" in files:
        allowed = {"test"}
    elif "train" in folders and has_classes(folder / "train"):
        allowed = {"unlabeled", "test", "val"}
    else:
        allowed = {*OWN}
    return allowed - set(folders)


def meaning(name: str) -> str:
    """The name of a part that `name` seems to mean, or is; '' if it is far from all."""
    plain = re.sub(r"[\W_]", "", name.lower())
    if plain in OWN:
        return plain
    close = difflib.get_close_matches(plain, (*_SPELLINGS, *OWN), 1, 0.85) if len(plain) > 3 else []
    return _SPELLINGS.get(close[0], close[0]) if close else ""


def _deeper(folder: Path, folders: list[str], level: int = 1) -> str:
    """The sentence that names a folder inside with the layout that is missing here; '' if there is none."""
    for name in folders[:100]:
        try:
            inner, files = inside(folder / name)
        except OSError:
            continue
        parts = [part for part in inner if meaning(part) in ("labeled", "unlabeled")]
        parts += ["train"] if "train" in inner and has_classes(folder / name / "train") else []
        parts += ["labels.csv"] if "labels.csv" in files else []
        if parts:
            what = "labels.csv" if parts[0] == "labels.csv" else f"{parts[0]}/"
            return f"{folder / name} has {what}: give DATA={folder / name}"
        if len(folders) == 1 and level < DEEPEST and not any(map(is_image, files)):
            return _deeper(folder / name, inner, level + 1)
    return ""


def has_classes(folder: Path) -> bool:
    """Whether there are folders in it, and no image directly."""
    try:
        folders, files = inside(folder)
    except OSError:
        return False
    return bool(folders) and not any(map(is_image, files))


def is_image(name: str) -> bool:
    """Whether it is an image by its ending."""
    return Path(name).suffix.lower() in FORMATS


def is_archive(name: str) -> bool:
    """Whether it is an archive by its ending."""
    return Path(name).suffix.lower() in ARCHIVES


def not_a_folder(path: Path) -> str:
    """What to say of a file that was given in place of a folder."""
    if is_archive(path.name):
        return "is an archive: unpack it and give the folder"
    what = "an image" if is_image(path.name) else "a table" if path.suffix.lower() in (".csv", ".tsv", ".xlsx") else "a file"
    return f"is {what}: give the folder, {path.parent}/"
