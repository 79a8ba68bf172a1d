"""Folders and files of the project: where it lies, and files that are written whole or not at all."""

import tempfile
from pathlib import Path
from typing import TypeVar

import ssl_core
from ssl_core.datasets.machine import digest as digest  # re-exported, as the next
from ssl_core.datasets.machine import write_atomically as write_atomically

ROOT = Path(ssl_core.__file__).resolve().parents[1]  # of the project: an editable checkout
DATA = ROOT / "data"
REFERENCE = ROOT / "outputs" / "reference"

T = TypeVar("T")


def located(data_name: T) -> T | str:
    """The name of a data set as it is; the path of a folder, relative to the project's root, as an absolute path."""
    if not isinstance(data_name, str) or "/" not in data_name:
        return data_name
    return str((ROOT / Path(data_name).expanduser()).resolve())


def outputs(text: str) -> Path:
    """The folder of results that a user named, relative to the project's root; ValueError for an empty name."""
    if not text.strip():
        raise ValueError(f"OUTPUTS={text!r}: must be the name of a folder")
    return ROOT / Path(text).expanduser()


def writable(parameter: str, folder: Path) -> Path:
    """`folder`, made if it is not there; raises ValueError, naming `parameter`, unless files can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"{parameter}={str(folder)!r}: must be a folder that can be written to ({error.strerror})") from None
