"""Folders and files of the project: where it lies, and files that are written whole or not at all."""

from pathlib import Path
from typing import TypeVar

import ssl_core
from ssl_core.datasets.machine import digest as digest  # re-exported, as the next two
from ssl_core.datasets.machine import writable as writable
from ssl_core.datasets.machine import write_atomically as write_atomically

ROOT = Path(ssl_core.__file__).resolve().parents[1]  # of the project: an editable checkout
DATA = ROOT / "data"
REFERENCE = ROOT / "outputs" / "reference"

T = TypeVar("T")


def located(data_name: T) -> T | str:
    """The name of a data set as it is; the path of a folder, relative to the project's root, as an absolute path."""
    if not isinstance(data_name, str) or "/" not in data_name:
        return data_name
    path = expanded("data", data_name)
    try:
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a character that no path can hold
        raise ValueError(f"data={data_name!r}: must be the path of a folder ({error})") from None


def outputs(text: str) -> Path:
    """The folder of results that a user named, relative to the project's root; ValueError for an empty name."""
    if not text.strip():
        raise ValueError(f"OUTPUTS={text!r}: must be the name of a folder")
    return expanded("OUTPUTS", text)


def expanded(parameter: str, text: str) -> Path:
    """The path that a user wrote, from the project's root unless it is absolute; `~` is a home.

    Raises ValueError, naming `parameter`, if it is not known where that home is.
    """
    try:
        return ROOT / Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{parameter}={text!r}: must be a path without ~: this machine does not know that home") from None


def keep_beside(path: Path, content: bytes) -> Path:
    """Writes `content`, which was in the file `path`, beside it under a name of its own; the new file."""
    kept = path.with_name(f"{path.stem}.{digest(content.hex())[:6]}{path.suffix}")
    write_atomically(kept, content)
    return kept
