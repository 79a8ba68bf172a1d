"""The command `lab`: copies of the notebooks for JupyterLab, which the user may change without consequences."""

import argparse
import hashlib
import json
from pathlib import Path

from ..runs import files
from ..runs.notebook import FOLDER

COPIES = files.ROOT / "outputs" / "lab" / "notebooks"
COPIED = ".copied.json"  # in the folder of copies: name of a notebook, and the SHA-256 of what was copied


def copy_notebooks(originals: Path, copies: Path) -> list[str]:
    """Copies new notebooks, and new versions of those that the user has not changed; returns a line for each changed copy.

    A changed copy is never overwritten: if its original has changed too, the returned line says so.
    """
    copies.mkdir(parents=True, exist_ok=True)
    copied = _read(copies / COPIED)
    lines = []
    for original in sorted(originals.glob("*.ipynb")):
        content, copy = original.read_bytes(), copies / original.name
        if not copy.exists() or _digest(copy.read_bytes()) in (copied.get(original.name), _digest(content)):
            files.write_atomically(copy, content)
            copied[original.name] = _digest(content)
        elif copied.get(original.name) != _digest(content):
            lines.append(f"{original.name}: your changed copy is kept; delete it to get the new version")
    files.write_atomically(copies / COPIED, json.dumps(copied, indent=1))
    return lines


def _read(path: Path) -> dict[str, str]:
    """The digests of the copied originals; none, so that each copy counts as changed, if the file is missing or damaged."""
    try:
        copied = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return copied if isinstance(copied, dict) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"The copies lie in {COPIES.relative_to(files.ROOT)}; those that you changed are kept."


def command(_args: argparse.Namespace) -> None:
    files.writable("outputs", COPIES)
    for line in copy_notebooks(FOLDER, COPIES):
        print(line)
