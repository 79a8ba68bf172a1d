"""Compares the labels that two people gave the same images: how far they agree, and on what they do not.

`make compare-labels A=one.csv B=other.csv` prints the agreement and writes outputs/disagreements.csv, to be decided on. Each file
is a table with the columns `file` and `label`, or a list of `make label-next`, also of a named set (`index` and `label`).
"""

import argparse
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssl_core.datasets import tables
from ssl_core.datasets.tables import counted

from ..runs import files
from ..studies.intervals import Estimate, proportion
from .import_labels import common_folders, write_list

SHOWN = 20  # classes
Pairs = Sequence[tuple[str, str]]  # the two labels of each image


def kappa(pairs: Pairs, level: float = 0.95) -> Estimate | None:
    """Cohen's kappa, κ = (p − e) / (1 − e), with its interval; None if both gave one and the same class alone: then e = 1.

    p is the share of images on which they agree, e what is expected by chance from how often each gives each class (Cohen 1960,
    "A coefficient of agreement for nominal scales"). Like his standard error, the interval takes e for known; but the bounds of p
    are Wilson's, so that full agreement on a few images is no certainty.
    """
    n, agreed = len(pairs), sum(one == other for one, other in pairs)
    ones, others = (Counter(pair[i] for pair in pairs) for i in (0, 1))
    both_by_chance = sum(ones[label] * others[label] for label in ones)  # e n², a whole number
    if both_by_chance == n * n:
        return None
    e = both_by_chance / n**2
    low, high = proportion(agreed, n, level)
    value, low, high = ((p - e) / (1 - e) for p in (agreed / n, low, high))
    return Estimate(value, max(-1.0, low), high, n)


def per_class(pairs: Pairs) -> list[tuple[str, int, int, int, float]]:
    """Each class with how many images the one, the other and both gave it, and their specific agreement, the lowest first.

    That is the share of the labels of this class that the other person gave too: 2 both / (one + other), Dice's coefficient
    (Fleiss, "Statistical Methods for Rates and Proportions": proportion of specific agreement).
    """
    ones, others = (Counter(pair[i] for pair in pairs) for i in (0, 1))
    both = Counter(one for one, other in pairs if one == other)
    rows = [(label, ones[label], others[label], both[label]) for label in sorted({*ones, *others})]
    return sorted(((*row, 2 * row[3] / (row[1] + row[2])) for row in rows), key=lambda row: row[4])


def read_labels(parameter: str, path: Path) -> tuple[str, dict[str, str], list[str]]:
    """The column that names the images of a person's file, their labels, and what was noticed.

    Raises ValueError if it is no such table, if it has no label, or if an image has two.
    """
    column = _column(path)
    table = tables.read(path, (column, "label"))
    labels: dict[str, set[str]] = {}
    for row in table.rows:
        if row["label"] and (name := _plain(row[column], column)):
            labels.setdefault(name, set()).add(row["label"])
    where = f"{parameter}={str(path)!r}"
    if not labels:
        raise ValueError(f"{where}: no label in its {counted(len(table.rows), 'row')}")
    if several := {name: sorted(each) for name, each in labels.items() if len(each) > 1}:
        name, (*_, one, other) = next(iter(several.items()))
        told = f"{tables.quoted(name)} has the labels {tables.quoted(one)} and {tables.quoted(other)}"
        raise ValueError(f"{where}: {counted(len(several), 'image')} with two labels: keep one; {told}")
    notes = [*table.notes]
    if without := len(table.rows) - sum(bool(row["label"]) for row in table.rows):
        notes.append(f"{counted(without, 'row')} without a label")
    return column, {name: label for name, (label,) in labels.items()}, notes


def _column(path: Path) -> str:
    """`index` for a list of a named set, which has no column `file`; else `file`."""
    try:
        tables.read(path, ("file",))
    except ValueError:
        try:
            tables.read(path, ("index", "label"))
        except ValueError:
            return "file"
        return "index"
    return "file"


def _plain(name: str, column: str) -> str:
    """A name in one form: of numbers, 12 also for 12.0, as spreadsheets write it; of paths, with slashes and without detours."""
    if column == "index":
        whole = re.fullmatch(r"(\d{1,9})[.,]0{0,2}", name)
        return whole[1] if whole else name
    return posixpath.normpath(name.replace("\\", "/")) if name else ""


def common(one: dict[str, str], other: dict[str, str], folder: Path) -> dict[str, str]:
    """The names in `other` that mean images in `one`, each with its name there; raises ValueError if two mean the same image.

    Where none fits as it is written, the folder that all names of a file have in common is taken off: another machine's.
    """
    found = tables.match(other, one, folder)
    if not found:
        ones, others = (
            {"/".join(path[n:]): name for name, path in paths.items()} for paths, n in map(common_folders, (one, other))
        )
        found = {others[name]: ones[hit] for name, hit in tables.match(others, ones, folder).items()}
    images: dict[str, str] = {}
    for name, image in found.items():
        if (first := images.setdefault(image, name)) != name:
            raise ValueError(f"B: {tables.quoted(first)} and {tables.quoted(name)} are the same image in A: keep one")
    return found


def sentences(pairs: Pairs) -> list[str]:
    """The agreement in words: the share, kappa, and the classes on which they agree least."""
    n, agreed = len(pairs), sum(one == other for one, other in pairs)
    low, high = proportion(agreed, n)
    told = [f"agreement {100 * agreed / n:.1f} % ({100 * low:.1f} to {100 * high:.1f}): {agreed} of {counted(n, 'image')}"]
    estimate = kappa(pairs)
    if estimate is None:
        told.append(f"Cohen's kappa is not defined: both gave {tables.quoted(pairs[0][0])} alone")
    else:
        told.append(f"Cohen's kappa {estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})")
    classes = per_class(pairs)
    told += [
        f"{label}: {a} and {b}, {both} of them both, agreement {100 * share:.0f} %"
        for label, a, b, both, share in classes[:SHOWN]
    ]
    return told + ([f"{len(classes) - SHOWN} more classes, with no less agreement"] if len(classes) > SHOWN else [])


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--a", required=True, help="the labels of one person, a table")
    parser.add_argument("--b", required=True, help="the labels of the other")
    parser.add_argument("--outputs", default="outputs", help="where the list of disagreements goes, from the project's root")


def command(args: argparse.Namespace) -> None:
    paths = [_given(name, text) for name, text in (("A", args.a), ("B", args.b))]
    if paths[0].resolve() == paths[1].resolve():
        raise ValueError(f"B={args.b!r}: must be another file than A")
    (column, one, notes), (column_b, other, notes_b) = map(read_labels, "AB", paths)
    if column != column_b:
        raise ValueError(f"B={args.b!r}: must name images as A does, in the column {column}; it has {column_b}")
    names = common(one, other, paths[0].parent)
    if not names:
        difference = f"; A has {tables.quoted(next(iter(one)))}, B {tables.quoted(next(iter(other)))}"
        raise ValueError(f"B={args.b!r}: no image in common with A, of {len(one)} and {len(other)}{difference}")
    for name, each in [*(("A", note) for note in notes), *(("B", note) for note in notes_b)]:
        print(f"compare-labels: {name}: {each}")
    for sentence in tables.look_alikes([*one.values(), *other.values()]):
        print(f"compare-labels: {sentence}")
    for sentence in sentences([(one[names[name]], other[name]) for name in names]):
        print(f"compare-labels: {sentence}")
    only = f"{len(one) - len(names)} in A alone, {len(other) - len(names)} in B alone"
    rows = [
        {column: image, "one": one[image], "other": other[name]} for name, image in names.items() if one[image] != other[name]
    ]
    outputs = files.writable("OUTPUTS", files.outputs(args.outputs))
    told = write_list(path := outputs / "disagreements.csv", (column, "label", "one", "other"), rows)
    print(f"compare-labels: {counted(len(rows), 'disagreement')} in {path}{told}; {only}")
    if rows and column == "file":
        print(f"compare-labels: to decide, fill in its column label; make import-labels DATA=folder FROM={path} takes it over")
    elif rows:
        print("compare-labels: to decide, fill in its column label, and write these labels into outputs/label_next.csv")


def _given(parameter: str, text: str) -> Path:
    if not text.strip():
        raise ValueError(f"{parameter}={text!r}: must be a table of labels: make compare-labels A=one.csv B=other.csv")
    return files.expanded(parameter, text)
