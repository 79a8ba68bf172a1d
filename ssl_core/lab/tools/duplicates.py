"""Lists the images that are in a data set twice, or nearly: leaks into the test images, copies whose labels disagree.

`make duplicates DATA=path/to/folder` writes duplicates.csv into the data set's folder of results. For a folder with a labels.csv
it also writes labels_with_groups.csv, the same table with the copies as groups; the user's own files are not changed.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from ssl_core import datasets
from ssl_core.datasets import copy_table, duplicates, tables
from ssl_core.datasets.copy_table import Copy
from ssl_core.datasets.scan import TABLE

from ..runs import files
from ..runs.spec import side_of

COLUMNS = ("file", "group", "part", "label", "copy_of", "kind", "likeness", "why")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--side", default="", help="the side of the images in pixels, as of make sweep")
    parser.add_argument("--outputs", default="outputs", help="where the lists go, from the project's root")


def command(args: argparse.Namespace) -> None:
    data = files.located(args.data)
    datasets.check_name(data)
    outputs = files.outputs(args.outputs)
    rows, n_test = copies(data, side_of(data, args.side))
    folder = files.writable("OUTPUTS", outputs / datasets.slug(data))
    path = write(folder / "duplicates.csv", rows)
    for sentence in copy_table.sentences(rows, n_test) or ["no image is there twice"]:
        print(f"duplicates: {sentence.removesuffix(copy_table.LISTS)}")
    print(f"duplicates: see {path}")
    if data not in datasets.DATA_SETS and rows and (Path(data) / TABLE).is_file():
        path = write_groups(Path(data), rows, folder / "labels_with_groups.csv")
        print(f"duplicates: {path} is {TABLE} with a column group: in its place, it keeps copies on one side")


def copies(name: str, side: int = 0) -> tuple[list[Copy], int]:
    """The copies in the data set or folder `name`, and how many test images it has. Those of a named set are called test/0, …"""
    if name not in datasets.DATA_SETS:
        info = datasets.describe(name, files.DATA, side, for_training=False)
        return [Copy(*row) for row in info.copies], info.n_test
    info, arrays = datasets.load(name, files.DATA, side)
    pixels = np.concatenate([arrays["x"], arrays["x_test"]]).transpose(0, 2, 3, 1)
    y, n, n_test = np.concatenate([arrays["y"], arrays["y_test"]]), len(arrays["x"]), len(arrays["x_test"])
    names = [f"train/{i}" for i in range(n)] + [f"test/{i}" for i in range(n_test)]
    labels = [info.classes[c] if c >= 0 else "" for c in y.tolist()]
    parts = [copy_table.part(label, is_test=i >= n) for i, label in enumerate(labels)]
    pairs = duplicates.pairs(pixels, [sha256(picture.tobytes()).hexdigest() for picture in pixels])
    return copy_table.table(names, parts, labels, pairs), n_test


def write(path: Path, rows: Iterable[Copy]) -> Path:
    """Writes the list, the groups with something the matter first; returns its path."""
    groups = copy_table.by_group(rows)
    listed = [(row, copy_table.why(row, members)) for members in groups.values() for row in members]
    matter = dict.fromkeys(groups, 0)
    for row, why in listed:
        matter[row.group] = max(matter[row.group], _matter(why))
    listed.sort(key=lambda each: (-matter[each[0].group], each[0].group, each[0].file))
    return _replace(path, COLUMNS, [row._asdict() | {"why": why} for row, why in listed])


def _replace(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Path:
    """Writes a table; a former one that is not the same is kept beside it: somebody may have typed there."""
    if path.exists():
        try:
            table = tables.read(path, columns[:1])
            same = list(table.rows) == [{name: row.get(name, "") for name in columns} for row in rows]
        except ValueError:
            same = False
        if not same:
            print(f"duplicates: the former {path.name} is kept as {files.keep_beside(path, path.read_bytes()).name}")
    tables.write(path, columns, rows)
    return path


def _matter(why: str) -> int:
    """How much is the matter: labels that disagree come before leaks."""
    return 2 if "another label" in why else bool(why)


def write_groups(folder: Path, rows: Sequence[Copy], path: Path) -> Path:
    """Writes the folder's table of labels with the copies as groups into the file `path`, which it returns.

    A group that the table already gives an image stays, and copies of it join it. Copies without a row come last.
    """
    table = tables.read(folder / TABLE, ("file", "label"))
    found = tables.match((row["file"] for row in table.rows), {row.file for row in rows}, folder)
    column = next((name for name in table.columns if name.casefold() == tables.GROUP), tables.GROUP)
    own = {found[row["file"]]: row[column] for row in table.rows if row["file"] in found and row.get(column)}
    groups = copy_table.by_group(rows).items()
    names = {group: _name(group, (own[row.file] for row in each if row.file in own)) for group, each in groups}
    group_of = {row.file: own.get(row.file, names[row.group]) for row in rows}
    with_groups = [row | {column: row.get(column) or group_of.get(found.get(row["file"], ""), "")} for row in table.rows]
    rest = group_of.keys() - found.values()
    with_groups += [{"file": row.file, column: group_of[row.file]} for row in rows if row.file in rest]
    return _replace(path, [*table.columns, *({column} - {*table.columns})], with_groups)


def _name(first: str, own: Iterable[str]) -> str:
    """The name of a group of copies: that which the table already has for one of them, or that of the first file."""
    return min(own, default=f"copies of {first}")
