"""Brings labels of other programs and people into a folder's labels.csv, and overwrites none that is there.

`make import-labels DATA=folder FROM=file` reads what Label Studio exported (JSON or JSON-MIN), or a table with the columns
`file` and `label`. What can't be taken over without a decision goes into conflicts.csv. A list of conflicts or disagreements in
which somebody filled in `label` is such a table: its decisions also replace the labels that it shows.
"""

import argparse
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ssl_core.datasets import tables
from ssl_core.datasets.machine import lock
from ssl_core.datasets.names import is_image
from ssl_core.datasets.scan import TABLE
from ssl_core.datasets.tables import Table, counted
from ssl_core.datasets.walk import Listing

from ..runs import files
from .label_file import lock_of
from .label_studio import Answer, folder_of_images, read_export

LIST = ("file", "label", "one", "other", "why")  # of conflicts; `label` is to be filled in


@dataclass
class Import:
    """What becomes of the answers: new labels and replaced ones by file, and what is to be decided, as rows of a LIST."""

    new: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    conflicts: list[dict[str, str]] = field(default_factory=list)
    same: int = 0


# --- which images are meant


def fitting(names: Iterable[str], images: Collection[str], folder: Path) -> dict[str, str]:
    """The image that each name means, of the `images` in `folder`: a path, an address in Label Studio, or a URL.

    Names that fit none are absent. An upload's prefix counts as part of its name wherever that fits. If no name fits, the folder
    that all have in common is taken off, as far as needed: another machine's.
    """
    names = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    for way in (_as_written, _local, partial(_below, folder=folder), _upload_name):
        _match(found, {name: way(name) for name in names if name not in found}, images, folder)
    uploads = [name for name in names if name not in found and _upload_name(name)]
    _match(found, {name: _upload_name(name) for name in uploads}, _by_upload_name(images), folder)
    _match(
        found,
        {name: _without_prefix(_upload_name(name)) for name in uploads if name not in found},
        _by_upload_name(images),
        folder,
    )
    if not found:
        _match_elsewhere(found, names, images, folder)
    return found


def _match(found: dict[str, str], forms: Mapping[str, str], images: Collection[str], folder: Path) -> None:
    """Adds to `found` the names whose forms fit; `images` may be a table from forms of names to images."""
    hits = tables.match([form for form in forms.values() if form], images, folder)
    image = images if isinstance(images, Mapping) else {each: each for each in images}
    found |= {name: image[hits[form]] for name, form in forms.items() if form in hits}


def _match_elsewhere(found: dict[str, str], names: Sequence[str], images: Collection[str], folder: Path) -> None:
    """Matches the names without their first folders, as few as needed and as all of them have in common."""
    paths, common = common_folders(map(_local, names))
    for n in range(1, common + 1):
        _match(found, {name: "/".join(paths[_local(name)][n:]) for name in names}, images, folder)
        if found:
            return


def common_folders(names: Iterable[str]) -> tuple[dict[str, list[str]], int]:
    """The parts of each name as a path, and how many folders all begin with."""
    paths = {name: name.replace("\\", "/").strip("/").split("/") for name in names}
    least, most = min(paths.values(), default=[]), max(paths.values(), default=[])  # what these two share, all share
    shared = [one == other for one, other in zip(least[:-1], most[:-1], strict=False)]
    return paths, [*shared, False].index(False)


def _as_written(name: str) -> str:
    return name


def _local(name: str) -> str:
    """The path in an address: that after `?d=`, as Label Studio decodes it, or that of a URL; a path as it is."""
    if "/data/local-files" in name and (values := parse_qs(urlsplit(name).query).get("d")):
        return values[-1]
    return unquote(urlsplit(name).path) if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE) else name


def _below(name: str, folder: Path) -> str:
    """The path below `folder` of one from the document root, which is any folder around it; '' if it leads elsewhere."""
    path, parts = _local(name).lstrip("/"), folder.resolve().parts[1:]
    roots = ["/".join(parts[i:]) + "/" for i in range(len(parts))]
    return next((path[len(root) :] for root in roots if path.startswith(root)), "")


def _upload_name(name: str) -> str:
    """The file name of an upload, which keeps no folder; '' for another address."""
    upload = re.search(r"(?:^|/)upload/(?:\d+/)?([^/?]+)", name)
    return unquote(upload[1]) if upload else ""


def _without_prefix(name: str) -> str:
    """An upload's name without the eight digits that Label Studio puts before it."""
    return re.sub(r"^[0-9a-f]{8}-(?=.)", "", name)


def _by_upload_name(images: Iterable[str]) -> dict[str, str]:
    """Images by the names that they would have as uploads: without folders, blanks and signs; only where that is one image's."""
    several: dict[str, set[str]] = {}
    for image in images:
        base = image.rsplit("/", 1)[-1]
        for form in (base, re.sub(r"[^-\w.]", "", base.strip().replace(" ", "_"))):
            several.setdefault(form, set()).add(image)
    return {form: next(iter(each)) for form, each in several.items() if len(each) == 1}


# --- what is taken over


def merged(answers: Mapping[str, Sequence[Answer]], known: Mapping[str, Sequence[str]], shown: Mapping[str, set[str]]) -> Import:
    """What becomes of the answers of each image, where `known` has the labels that it has already.

    Labels `shown` beside a decision are replaced by it. Different labels of one image are never decided here.
    """
    result = Import()
    for file, several in answers.items():
        labels = list(dict.fromkeys(label for answer in several for label in answer.labels))
        before = known.get(file, ())
        if not labels:
            continue
        if len(labels) == 1 and list(before) == labels:
            result.same += 1
        elif len(labels) == 1 and not before:
            result.new[file] = labels[0]
        elif len(labels) == 1 and {*before} <= shown.get(file, set()):
            result.replaced[file] = labels[0]
        else:
            several_by_one = any(len(answer.labels) > 1 for answer in several)
            why = "has another label" if before else "somebody chose several" if several_by_one else "people disagree"
            one, *others = dict.fromkeys([*before, *labels])
            result.conflicts += [{"file": file, "one": one, "other": other, "why": why} for other in others]
    return result


def known_labels(listing: Listing, table: Table | None) -> dict[str, list[str]]:
    """The labels that each image of the folder has, by its place and its table; `no class` counts as one."""
    known = {file: [label] for file, label in listing.entries if label}
    rows = table.rows if table else ()
    files_of = tables.match([row["file"] for row in rows], images_of(listing), listing.folder)
    for row in rows:
        label = tables.NO_CLASS if row.get("status", "").casefold() == tables.NO_CLASS else row["label"]
        if label and row["file"] in files_of and label not in (labels := known.setdefault(files_of[row["file"]], [])):
            labels.append(label)
    return known


def images_of(listing: Listing) -> list[str]:
    """The images of a folder, also those that are left out of its data set."""
    return [*(file for file, _ in listing.entries), *(file for file, _ in listing.skipped if is_image(file))]


def rows_with(table: Table | None, result: Import, listing: Listing) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a table with the labels of an import: in its own rows where it names the image, else below."""
    columns, rows = (list(table.columns), [dict(row) for row in table.rows]) if table else (["file", "label"], [])
    files_of = tables.match([row["file"] for row in rows], images_of(listing), listing.folder)
    left = {**result.new, **result.replaced}
    for row in rows:
        file = files_of.get(row["file"], "")
        if file in result.replaced:
            left.pop(file, None)
            row["label"] = result.replaced[file]
            if "status" in row:
                row["status"] = ""
        elif file in left:
            row["label"] = left.pop(file)
    return columns, rows + [{"file": file, "label": label} for file, label in left.items()]


def read_answers(path: Path) -> tuple[list[Answer], dict[str, set[str]], tuple[str, ...]]:
    """The answers in an export or a table; the labels that a list of decisions shows beside, by name; and what was noticed.

    Raises ValueError if it is neither.
    """
    if path.suffix.lower() == ".json" or (
        path.is_file() and path.read_bytes()[:100].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{")
    ):
        answers, notes = read_export(path)
        return answers, {}, notes
    table = tables.read(path, ("file", "label"))
    answers = [Answer(row["file"], (row["label"],) if row["label"] else ()) for row in table.rows]
    shown: dict[str, set[str]] = {}
    if {"one", "other"} <= {*table.columns}:
        for row in table.rows:
            shown.setdefault(row["file"], set()).update({row["one"], row["other"]} - {""})
    return answers, shown, table.notes


def write_list(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """Writes a list to decide on; a former one in which somebody typed is kept beside, and what is to be said of it returned."""
    told = ""
    if path.exists() and _is_typed(path, columns):
        told = f"; the former one, with what was typed there, is kept as {files.keep_beside(path, path.read_bytes()).name}"
    tables.write(path, columns, rows)
    return told


def _is_typed(path: Path, columns: Sequence[str]) -> bool:
    """Whether somebody typed something into a list, or saved it in another form."""
    try:
        table = tables.read(path, columns)
    except ValueError:
        return True
    return bool(table.columns != tuple(columns) or table.notes or any(row["label"] for row in table.rows))


# --- the command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="the path of a folder of images")
    parser.add_argument(
        "--source", required=True, help="Label Studio's export as JSON or JSON-MIN, or a table with file and label"
    )
    parser.add_argument("--outputs", default="outputs", help="where labels go whose images lie in folders of classes")


def command(args: argparse.Namespace) -> None:
    if not args.source.strip():
        raise ValueError(
            f"FROM={args.source!r}: must be Label Studio's export as JSON, or a table with the columns file and label"
        )
    answers, shown, notes = read_answers(source := files.expanded("FROM", args.source))
    folder, listing = folder_of_images(args.data)
    path = _target(folder, listing, args.outputs)
    files_of = fitting([answer.name for answer in answers], images_of(listing), folder)
    _check(source, answers, files_of, images_of(listing))
    shown_of = {files_of[name]: labels for name, labels in shown.items() if name in files_of}
    with lock(lock_of(path)):
        table = tables.read(path, ("file", "label")) if path.exists() else None
        result = merged(_by_image(answers, files_of), known_labels(listing, table), shown_of)
        kept = _write(path, table, result, listing)
    for note in (*notes, *tables.look_alikes([*result.new.values(), *(label for _, label in listing.entries)])):
        print(f"import-labels: {note}")
    print(f"import-labels: {_counts(answers, files_of, result)}")
    print(f"import-labels: {counted(len(result.new) + len(result.replaced), 'label')} written to {path}{kept}")
    if path.parent != folder:
        print("import-labels: move these images into the folders of their classes, beside the labelled ones")
    if result.conflicts:
        told = write_list(conflicts := path.with_name("conflicts.csv"), LIST, result.conflicts)
        how = f"fill in the column label of {conflicts}, then make import-labels DATA={args.data} FROM={conflicts}"
        print(f"import-labels: to decide on the others, {how}{told}")


def _target(folder: Path, listing: Listing, outputs: str) -> Path:
    """The table that takes the labels: the folder's labels.csv, or one among the results where folders say the classes.

    Raises ValueError if a program has it open, or a file of nearly its name is meant.
    """
    in_folders = not (folder / TABLE).exists() and any(label for _, label in listing.entries)
    path = files.writable("OUTPUTS", files.outputs(outputs)) / "imported_labels.csv" if in_folders else folder / TABLE
    if sentence := tables.nearly(path.parent, path.name):
        raise ValueError(sentence)
    return path


def _by_image(answers: Sequence[Answer], files_of: Mapping[str, str]) -> dict[str, list[Answer]]:
    """The answers about each image of the folder."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.name in files_of:
            groups.setdefault(files_of[answer.name], []).append(answer)
    return groups


def _check(source: Path, answers: Sequence[Answer], files_of: Mapping[str, str], images: Collection[str]) -> None:
    """Raises ValueError if no image fits, no label is there, or a label is one that no table can hold."""
    if names := [answer.name for answer in answers] if not files_of else []:
        raise ValueError(tables.difference(dict.fromkeys(names), images, source.name))
    for label in {label for answer in answers for label in answer.labels}:
        if "\0" in label or re.search("[\ud800-\udfff]", label):
            raise ValueError(f"{source.name}: label={json.dumps(label)}: must be text")
    if not any(answer.labels for answer in answers):
        regions = ", but parts of images that are marked: choices for the whole image are needed"
        raise ValueError(
            f"{source.name}: no label for {counted(len(answers), 'image')}{regions if any(a.regions for a in answers) else ''}"
        )


def _write(path: Path, table: Table | None, result: Import, listing: Listing) -> str:
    """Writes the labels of an import into the table; what is to be said of the former one, where it is kept."""
    if not result.new and not result.replaced:
        return ""
    told = ""
    if table and (table.notes or result.replaced):
        told = f"; the former one is kept as {files.keep_beside(path, path.read_bytes()).name}"
    tables.write(path, *rows_with(table, result, listing))
    return told


def _counts(answers: Sequence[Answer], files_of: Mapping[str, str], result: Import) -> str:
    """How many answers became what, in words; what did not occur is not told."""
    absent = [answer for answer in answers if answer.name not in files_of]
    empty = [answer for answer in answers if not answer.labels]
    counts = {
        "new": len(result.new),
        "decided anew": len(result.replaced),
        "there already": result.same,
        "to be decided": len({row["file"] for row in result.conflicts}),
        "more for an image that had one": len(answers) - len(absent) - len({*files_of.values()}),
        "skipped by the person": sum(answer.skipped for answer in empty),
        "with marked parts and no choice": sum(answer.regions and not answer.skipped for answer in empty),
        "without an answer": sum(not answer.regions and not answer.skipped for answer in empty),
    }
    told = [f"{n} {what}" for what, n in counts.items() if n]
    if absent:
        told.append(f"{len({answer.name for answer in absent})} not in the folder, such as {tables.quoted(absent[0].name)}")
    return ", ".join(told)
