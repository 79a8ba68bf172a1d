"""Tasks for Label Studio from a folder of images, and the labels in what Label Studio exports.

`make export-labels DATA=folder` writes the tasks; `make import-labels` (import_labels.py) brings the labels back.

Formats: Label Studio's documentation, "Label Studio Task Format" (tasks, annotations, skipped ones), "Import pre-annotated data
into Label Studio" (predictions), "Export annotations and data from Label Studio" (JSON, JSON_MIN), "Choices" (the tag), and
"Local Files Storage" (the addresses of images). Files of versions before 1.0, with `completions`, are read too.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from ssl_core.datasets import check_name, tables
from ssl_core.datasets.names import is_image, not_a_folder
from ssl_core.datasets.scan import scan
from ssl_core.datasets.table_names import clean
from ssl_core.datasets.tables import counted
from ssl_core.datasets.walk import Listing

from ..runs import files

LOCAL = "/data/local-files/?d="  # before a file's path from the document root of Label Studio
NAME = "label"  # of the choices in the interface
PREDICTIONS = ("pseudo_labels.csv", "predictions.csv")  # of a run
# What JSON_MIN adds to a task's data and choices.
MIN_FIELDS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}
NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one person, or one row of a table, says of an image: its labels, of which there should be one."""

    name: str  # of the image: a path or an address
    labels: tuple[str, ...] = ()
    skipped: bool = False  # cancelled: the person did not want to answer
    regions: bool = False  # parts of the image were marked, not the image


# --- to Label Studio


def tasks(folder: Path, labels: Mapping[str, str], predictions: Mapping[str, tuple[str, float]], model: str) -> list[Json]:
    """A task for each file in `labels`, '' for no label; `predictions` are a class that `model` predicts, and how sure it is.

    An address begins with the folder's name: the document root must be the folder around it.
    """
    rows = []
    for file, label in labels.items():
        task: Json = {"data": {"image": f"{LOCAL}{quote(f'{folder.name}/{file}')}", "file": file}}
        if label:
            task["annotations"] = [{"result": [_choice(label)]}]
        if file in predictions:
            predicted, score = predictions[file]
            task["predictions"] = [{"model_version": model, "score": score, "result": [_choice(predicted)]}]
        rows.append(task)
    return rows


def _choice(label: str) -> Json:
    return {"from_name": NAME, "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def interface(classes: Iterable[str]) -> str:
    """The labelling interface, in XML: an image, and one choice for it among the `classes`.

    Raises ValueError for a class that XML can't hold.
    """
    classes = list(classes)
    if unfit := [name for name in classes if NOT_XML.search(name)]:
        raise ValueError(f"label={tables.quoted(unfit[0])}: must be without characters that XML, and so Label Studio, can't hold")
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    head = f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="{NAME}" toName="image" choice="single">\n'
    return f"{head}{choices}  </Choices>\n</View>\n"


def predicted(run: Path, folder: Path, images: Sequence[str]) -> dict[str, tuple[str, float]]:
    """The class and the confidence that the lists of a run give each of the `images`.

    Raises ValueError if it has no list, or if a list has no number where a confidence must be, or none of the images.
    """
    found: dict[str, tuple[str, float]] = {}
    paths = [path for name in PREDICTIONS if (path := run / name).exists()]
    if not paths:
        raise ValueError(f"RUN={str(run)!r}: must have {' or '.join(PREDICTIONS)}, which make predict RUN={run} writes")
    names: dict[str, str] = {}
    for path in paths:
        table = tables.read(path, ("file", "label", "confidence"))
        names |= {row["file"]: path.name for row in table.rows}
        fitting = tables.match([row["file"] for row in table.rows], images, folder)
        for line, row in zip(table.lines, table.rows, strict=True):
            confidence = _confidence(f"{path.name}, line {line}", row["confidence"])
            if row["file"] in fitting and row["label"]:
                found[fitting[row["file"]]] = row["label"], confidence
    if names and not found:
        raise ValueError(f"RUN={str(run)!r}: {tables.difference(names, images, ' and '.join(path.name for path in paths))}")
    return found


def _confidence(place: str, text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"{place}: confidence={tables.quoted(text)}: must be a number from 0 to 1")
    return value


# --- from Label Studio


def read_export(path: Path) -> tuple[list[Answer], tuple[str, ...]]:
    """The answers in a file that Label Studio exported as JSON or as JSON_MIN, one for each annotation or task without any.

    Also what was noticed. Raises ValueError, in one line, for any other file.
    """
    must = f"{path.name}: must be an export of Label Studio, as JSON or JSON-MIN"
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{must} (it can't be read: {error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{must} (it is no JSON: {str(error)[:200]})") from None
    rows = [content] if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{must} (it has no list of tasks)")
    for number, row in enumerate(rows, 1):
        if not _is_task(row):
            raise ValueError(f"{must} (number {number} in it is no task: it needs data and annotations, or an annotation_id)")
    control = _control(must, rows)
    guessed = control not in ("", NAME) and any("data" not in row for row in rows)
    notes = (f"{path.name} does not say what was chosen; the labels are those in {tables.quoted(control)}",) if guessed else ()
    try:
        return [answer for row in rows for answer in _answers(row, control)], notes
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{must} (an annotation in it has another form: {error!r})") from None


def _is_task(row: object) -> bool:
    """Whether it is a task of one of the two exports."""
    if not isinstance(row, dict):
        return False
    if isinstance(row.get("data"), dict):
        return isinstance(_annotations(row), list)
    return "annotation_id" in row or "lead_time" in row


def _annotations(row: Json) -> Any:  # noqa: ANN401 - of JSON
    return row.get("annotations", row.get("completions"))


def _control(must: str, rows: Sequence[Json]) -> str:
    """The name of the choices in the interface: the only ones, or those called `label`; '' if nobody chose anything."""
    names: dict[str, None] = {}
    for row in rows:
        if "data" not in row and row.get("annotation_id") is not None:
            names |= dict.fromkeys(key for key, value in row.items() if key not in MIN_FIELDS and _is_choice(key, value))
        for annotation in _annotations(row) or []:
            results = annotation.get("result") if isinstance(annotation, dict) else None
            for result in results if isinstance(results, list) else []:
                if isinstance(result, dict) and result.get("type") == "choices":
                    names[str(result.get("from_name", ""))] = None
    if len(names) > 1 and NAME not in names:
        raise ValueError(f"{must}, with one question or one called {NAME} (it has {', '.join(map(tables.quoted, names))})")
    return NAME if NAME in names else next(iter(names), "")


def _is_choice(key: str, value: object) -> bool:
    """Whether a field of JSON_MIN can be what somebody chose, not the data of the task."""
    if isinstance(value, list):
        return any(isinstance(each, str) or (isinstance(each, dict) and "choices" in each) for each in value)
    return (isinstance(value, dict) and "choices" in value) or (isinstance(value, str) and not _is_data(key, value))


def _is_data(key: str, value: str) -> bool:
    return key in ("image", "file") or is_image(value.partition("?")[0]) or value.startswith(LOCAL)


def _answers(row: Json, control: str) -> list[Answer]:
    """The answers to one task: one for each annotation, or one without a label."""
    if "data" not in row:
        value = row.get(control)
        others = [each for key, each in row.items() if isinstance(each, list) and key != control]
        regions = any(isinstance(each, dict) and "choices" not in each for several in others for each in several)
        return [Answer(_image(row, control), _labels(value), regions=regions or _has_place(value))]
    name, answers = _image(row["data"], ""), []
    for annotation in _annotations(row):
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            answers.append(Answer(name, skipped=True))
            continue
        results = annotation.get("result") or []
        whole = [each for each in results if each["type"] == "choices" and not _has_place(each["value"])]
        values = [each["value"] for each in whole if str(each.get("from_name", "")) == control]
        answers.append(Answer(name, _labels(values), regions=len(results) > len(whole)))
    return answers or [Answer(name)]


def _image(data: Json, control: str) -> str:
    """The image of a task: the file that our own tasks name, or the address; the first one that looks like one."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and key != control}
    likely = [value for key, value in texts.items() if _is_data(key, value)]
    return texts.get("file") or texts.get("image") or next(iter([*likely, *texts.values()]), "")


def _has_place(value: object) -> bool:
    """Whether a choice is one about a part of the image."""
    several = value if isinstance(value, list) else [value]
    return any(isinstance(each, dict) and "x" in each for each in several)


def _labels(value: object) -> tuple[str, ...]:
    """The labels in a choice, in any form in which versions write it: text, a list, or `{"choices": …}` of these."""
    if isinstance(value, dict):
        return () if "x" in value else _labels(value.get("choices"))
    if isinstance(value, list):
        return tuple(dict.fromkeys(label for each in value for label in _labels(each)))
    label = clean(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    return (label,) if label else ()


# --- the command


def folder_of_images(name: str) -> tuple[Path, Listing]:
    """The folder that a user named, and its images; raises ValueError if it is none, or none is in it."""
    check_name(place := files.located(name))
    if "/" not in place:
        raise ValueError(f"data={name!r}: must be the path of a folder of images, with a / in it; other sets have their labels")
    folder = Path(place)
    if not folder.is_dir():
        raise ValueError(f"data={name!r}: {not_a_folder(folder) if folder.exists() else 'there is no such folder'}")
    return folder, scan(folder)


def keep_and_write(path: Path, content: str) -> str:
    """Writes a file; one that was there with other content is kept beside, and what is to be said of it returned."""
    told = ""
    if path.exists() and (before := path.read_bytes()) != content.encode():
        told = f"; the former one is kept as {files.keep_beside(path, before).name}"
    files.write_atomically(path, content)
    return told


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="the path of a folder of images")
    parser.add_argument("--run", default="", help="a run whose predictions are shown, from make predict")
    parser.add_argument("--outputs", default="outputs", help="where the two files go, from the project's root")


def command(args: argparse.Namespace) -> None:
    folder, listing = folder_of_images(args.data)
    outputs = files.writable("OUTPUTS", files.outputs(args.outputs))
    labels = dict(sorted(listing.entries))
    run = files.expanded("RUN", args.run) if args.run.strip() else None
    predictions = predicted(run, folder, [*labels]) if run else {}
    classes = sorted({*labels.values(), *(label for label, _ in predictions.values())} - {""})
    rows = tasks(folder, labels, predictions, "/".join(run.parts[-3:]) if run else "")
    xml = interface(classes)
    told = keep_and_write(path := outputs / "label_studio_tasks.json", json.dumps(rows, ensure_ascii=False, indent=1))
    n = f"{counted(sum(map(bool, labels.values())), 'label')} and {counted(len(predictions), 'prediction')}"
    print(f"export-labels: {counted(len(rows), 'image')}, {n} in {path}{told}")
    told = keep_and_write(interface_path := outputs / "label_studio_interface.xml", xml)
    print(f"export-labels: the labelling interface, with {len(classes)} classes, is in {interface_path}{told}")
    if not classes:
        print('export-labels: no class is known yet: write a line <Choice value="…"/> for each into it')
    print("export-labels: start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true", end=" ")
    print(f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder.parent}, add {folder} as source storage, then import the tasks")
