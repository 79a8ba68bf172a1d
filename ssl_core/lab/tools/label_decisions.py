"""Decisions on labels that may be wrong: typed into the list of `make check-labels`, or given in JupyterLab, one key each.

A decision goes into the list, and into the table that has the label; what it changed there stands in a log, by which it can be
taken back, also later. `start` gives the panel that `notebooks/check_labels.ipynb` shows.
"""

import csv
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from filelock import Timeout

from ssl_core.datasets import DATA_SETS, check_name, tables
from ssl_core.datasets.machine import lock
from ssl_core.datasets.scan import TABLE
from ssl_core.datasets.tables import counted
from ssl_core.label_errors import SUSPECT

from ..runs import files
from . import label_by_hand, label_file
from .label_by_hand import Panel, Sitting, Step, in_words
from .label_file import NO_CLASS, Answer, LabelFile, lock_of
from .label_images import FolderImages, ImagesToLabel, NamedImages

LIST = "label_errors.csv"
LOG = "label_decisions.csv"
KEEP, DROP = "keep", "drop"
WORDS = (KEEP, DROP, tables.NO_CLASS)  # decisions that are no class


class DecisionFile(LabelFile):
    """The list of `make check-labels` in the file `path`, with the decisions; `table` is where the labels stand.

    `rows` has the row of each image. `table` is None where folders say the classes: then only the list is written. The log lies
    beside the table. Raises ValueError as `tables.read`.
    """

    def __init__(
        self, path: Path, column: str, match: Callable[[Collection[str]], Mapping[str, str]], table: LabelFile | None = None
    ):
        self.table = table
        self.rows: dict[str, Mapping[str, str]] = {}
        self.log = (table.path if table else path).with_name(LOG)
        self.gone: list[str] = []  # what the list names with a decision, and no image has
        super().__init__(path, column, match, answers_in="decision")
        tables.read(path, (column, "given", "suggested", "decision"))
        self._log = self._read_log()

    def write(self, image: str, before: Answer | None, after: Answer | None, *, add: bool = True) -> bool:
        is_changed = super().write(image, before, after or Answer(), add=False)
        if image not in self.answers:
            raise ValueError(f"{self.path.name} was made anew and does not list {image} any more: skip it")
        return is_changed

    def label(self, image: str, decision: Answer) -> Answer:
        """What the table says of an image after a decision; without one, what it said when it was checked."""
        word = decision.label.casefold()
        if word in (tables.NO_CLASS, DROP):
            return NO_CLASS if word == tables.NO_CLASS else Answer()
        return Answer(decision.label if word not in ("", KEEP) else self.rows[image].get("given", ""))

    def is_as_checked(self, image: str) -> bool:
        """Whether the table, when it was last read, had the label of the image that was checked."""
        there = self.table.answers.get(image) if self.table else None
        return self.table is None or (there is not None and there.kind == self.label(image, Answer()).kind)

    def apply(self) -> tuple[int, int, list[str]]:
        """Writes the decisions that were typed into the list into the table; how many, how many were there already.

        Also a sentence for each that was not written, since the table does not have the label that was checked any more.
        """
        written, refused = 0, []
        with lock(lock_of(self.path), label_file.WAIT):
            self.read()
            decided = {image: decision for image, decision in self.answers.items() if decision.given}
            for image, decision in decided.items():
                try:
                    written += self._apply(image, Answer(), decision)
                except ValueError as error:
                    refused.append(str(error))
        return written, len(decided) - written - len(refused), refused

    def steps(self) -> list[Step]:
        """The decisions in the log that were not taken back, and that the list still has: for an undo in a later sitting."""
        steps: list[Step] = []
        for image, decision in self._log:
            last = next((step for step in reversed(steps) if step.image == image), None)
            if last and decision == last.before:
                steps.remove(last)
            elif not last or decision != last.after:  # else it was given once more, since the list could not be written
                steps.append(Step(image, last.after if last else Answer(), decision))
        latest = {step.image: step.after for step in steps}
        return [step for step in steps if self.answers.get(step.image) == latest[step.image]]

    def _note(self, rows: label_file.Rows) -> None:
        super()._note(rows)
        self.rows, self.gone = {}, []
        for row in rows:
            image = self._images[row[self.column]]
            if image is not None:
                self.rows.setdefault(image, row)
            elif row[self._label]:
                self.gone.append(row[self.column])

    def _change(self, columns: Sequence[str], rows: label_file.Rows, image: str, after: Answer | None) -> None:
        """Writes the table first, then the list: what is in the list was done."""
        self._apply(image, self.answers[image], after or Answer(), note=True)
        super()._change(columns, rows, image, after)

    def _apply(self, image: str, was: Answer, decision: Answer, *, note: bool = False) -> bool:
        """Writes the label of an image by a decision into the table, and into the log; whether that changed the table.

        Of a decision that changes nothing, the log tells only to `note` it. Raises ValueError if the table has neither the label
        that was checked nor that of the decision `was`.
        """
        before, wanted = self.label(image, was), self.label(image, decision)
        if self.table is not None:
            self.table.read()
            there = self.table.answers.get(image)
            known = {each.kind for each in (before, wanted, self.label(image, Answer()))}
            if there is None or there.kind not in known:
                now = (in_words(there) or "nothing") if there else "nothing"
                raise ValueError(f"{self.table.path.name} says {now} of {image}, which is not the label that was checked")
            before = there
            is_changed = there.kind != wanted.kind
            if is_changed and not self.table.write(image, there, wanted._replace(status=self._status(image, wanted))):
                raise ValueError(f"{self.table.path.name} was changed at this moment: decide again")
        else:
            is_changed = False
        if note or is_changed:
            self._append(image, decision, before, wanted)
        return is_changed

    # --- the log

    def _status(self, image: str, label: Answer) -> str:
        """The `status` with which the table has a label: a remark that `no class` took the place of comes back with the label."""
        return label.status or self._remarks.get((image, label.label), "")

    def _read_log(self) -> list[tuple[str, Answer]]:
        """The decisions in the log about images of the list, '' where one was taken back; none if it can't be read."""
        self._remarks: dict[tuple[str, str], str] = {}
        with suppress(ValueError):
            if self.log.exists():
                rows = tables.read(self.log, (self.column, "decision", "before", "status")).rows
                found = self._match({row[self.column] for row in rows})
                rows = tuple(row for row in rows if found.get(row[self.column]) in self.rows)
                self._remarks = {(found[row[self.column]], row["before"]): row["status"] for row in rows}
                return [(found[row[self.column]], Answer(row["decision"])) for row in rows]
        return []

    def _append(self, image: str, decision: Answer, before: Answer, after: Answer) -> None:
        """Adds a line to the log: when, which image, the decision, and the label before and after, with the former status."""
        status = "" if before.kind[1] else before.status
        self._remarks[image, before.label] = status
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        line = StringIO()
        is_new = not self.log.exists()
        writer = csv.writer(line, lineterminator="\n")
        if is_new:
            writer.writerow(("time", self.column, "decision", "before", "status", "after"))
        elif not self.log.read_bytes().endswith(b"\n"):  # a line that was cut off
            line.write("\n")
        writer.writerow((now, image, decision.label, in_words(before), status, in_words(after)))
        with self.log.open("ab") as file:
            file.write(line.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())


def evidence(row: Mapping[str, str]) -> float:
    """The probability that the label is wrong, as a row of the list has it; 0 without one."""
    with suppress(ValueError):
        return float(row.get("evidence", "").replace(",", "."))
    return 0.0


def is_suspect(row: Mapping[str, str]) -> bool:
    return evidence(row) > SUSPECT


# --- in JupyterLab


class Checking(Sitting):
    """The labels of a list of `make check-labels` that one person goes through, the suspects first, and the decisions."""

    ACTIONS = (*Sitting.ACTIONS, "keep_given", "correct", "drop")
    DONE = "All suspects are decided."
    file: DecisionFile

    def __init__(self, images: ImagesToLabel, file: DecisionFile, message: str = ""):
        self.file = file
        super().__init__(images, file, [image for image, row in file.rows.items() if is_suspect(row)], message)
        self._classes = dict.fromkeys([*images.classes, *sorted(self.classes)])  # a key each, in their order
        self._steps = file.steps()

    def keep_given(self) -> None:
        """Keeps the label: it is right."""
        self._answer(Answer(KEEP))

    def correct(self) -> None:
        """Gives the image the class that the others suggest."""
        if self.image is not None:
            self.label(self.file.rows[self.image].get("suggested", ""))

    def drop(self) -> None:
        """Takes the label away: the image has none any more."""
        self._answer(Answer(DROP))

    @property
    def progress(self) -> str:
        """How many labels are decided, and how many of this sitting are not."""
        n_decided = sum(answer.given for answer in self.file.answers.values())
        n_left = len(self._unanswered([*self._queue, *([self.image] if self.image else [])]))
        return f"{counted(n_decided, 'label')} decided, {n_left} to go{' of the suspects' * self._is_list}"

    def view(self) -> dict[str, Any]:
        row = self.file.rows.get(self.image or "", {})
        shown = {column: row.get(column, "") for column in ("given", "suggested", "evidence", "why")}
        place = f"{self.file.table.path}, and to {self.file.path.name}" if self.file.table else str(self.file.path)
        return super().view() | {"check": shown | {"suspect": is_suspect(row)}, "file": place}

    def _labels(self) -> Mapping[str, Answer]:
        own = {name: Answer(label) for name, label in self.images.labels.items()}
        return own | dict(self.file.table.answers) if self.file.table else own

    def _answers(self) -> Mapping[str, Answer]:
        return self.file.answers

    def _others(self) -> Sequence[str]:
        return [*self.file.rows]

    def _told(self, image: str, answer: Answer) -> str:
        return in_words(self.file.label(image, answer)) or "no label"

    def _problem(self, label: str) -> str:
        if label.casefold() in WORDS:
            return f"label={tables.quoted(label)}: must not be called as a decision is"
        return super()._problem(label)

    def _unanswered(self, names: Iterable[str]) -> list[str]:
        """Those of `names` without a decision, and with the label that was checked."""
        rows = self.file.rows
        return [name for name in super()._unanswered([*names]) if name in rows and self.file.is_as_checked(name)]

    def _answer(self, after: Answer, before: Answer | None = None) -> None:
        given = self.file.rows[self.image].get("given") if self.image in self.file.rows else None
        word = tables.NO_CLASS if after.kind[1] else KEEP if after.label == given else after.label
        super()._answer(Answer(word), before)

    def _show_next(self) -> None:
        self._queue = deque(self._unanswered(self._queue))
        super()._show_next()


def start(data: str = "mnist", outputs: str = "outputs") -> Panel:
    """The panel to decide on the labels that `make check-labels` listed in `outputs`, of the data set, or the folder, `data`.

    Raises ValueError for bad arguments, and if there is no list.
    """
    images, file = opened(files.located(data), files.outputs(outputs) / LIST)
    files.writable("outputs", file.path.parent)
    message = f"{LIST} names {counted(len(file.gone), 'image')} that {'are' if len(file.gone) > 1 else 'is'} gone"
    return Panel(Checking(images, file, message if file.gone else ""))


def opened(name: str, path: Path) -> tuple[ImagesToLabel, DecisionFile]:
    """The images of the data set, or the folder, `name`, and the list in the file `path` with the table of their labels.

    That is a folder's labels.csv; of a named set, the label_next.csv beside the list if somebody gave labels there. Else there is
    none. Raises ValueError if there is no such list, or if a class is called as a decision is.
    """
    check_name(name)
    if not path.exists():
        raise ValueError(f"{path.name}: must be in {path.parent}: make check-labels writes it")
    images: NamedImages | FolderImages = NamedImages(name) if name in DATA_SETS else FolderImages(name, in_whole=True)
    table = _table(images, path)
    if isinstance(images, NamedImages) and table is None:
        images.tell_labels()
    given = [answer.label for answer in table.answers.values()] if table else []
    check_classes([*images.classes, *given])
    return images, DecisionFile(path, images.column, images.match, table)


def check_classes(classes: Iterable[str]) -> None:
    """Raises ValueError if a class is called as a decision is."""
    if name := next((name for name in classes if name.casefold() in WORDS), ""):
        raise ValueError(f"class={tables.quoted(name)}: must not be called as a decision is ({', '.join(WORDS)})")


def _table(images: NamedImages | FolderImages, path: Path) -> LabelFile | None:
    if isinstance(images, FolderImages):
        return LabelFile(images.folder / TABLE, "file", images.match) if images.has_table else None
    table = LabelFile(path.with_name(label_by_hand.LIST), "index", images.match)
    return table if any(answer.label for answer in table.answers.values()) else None


# --- from the list, as typed


def apply(name: str, path: Path) -> Iterator[str]:
    """Brings the decisions in the list `path` into the table of labels; says in sentences what became of them.

    Where folders say the classes, it writes a list of the files to move. Raises ValueError if a decision is none.
    """
    images, file = opened(name, path)
    n_decided = sum(answer.given for answer in file.answers.values())
    check_decisions(file, images)
    if file.gone:
        of_them = f"{counted(len(file.gone), 'decision')} for images that are gone"
        yield f"{of_them}, such as {tables.quoted(file.gone[0])}: nothing to do"
    if not n_decided:
        yield f"no decision in {path}: type keep, drop, no class, or a class into its column decision"
    elif file.table is not None:
        try:
            written, there, refused = file.apply()
        except Timeout:
            raise ValueError(f"{path.name}: another program has been writing for {label_file.WAIT} seconds") from None
        yield f"{counted(written, 'label')} of {file.table.path} changed, {there} as decided already"
        yield from (f"not changed: {sentence}" for sentence in refused)
        if written:
            yield f"what was changed stands in {file.log}"
    elif isinstance(images, FolderImages):
        rows = [{"file": image, "to": to} for image, to in moves(file)]
        tables.write(target := path.with_name("label_moves.csv"), ("file", "to"), rows)
        yield f"the folders are the classes, and no file is moved: {counted(len(rows), 'file')} for you to move in {target}"
    else:
        yield f"the labels of {name} are not changed: {counted(n_decided, 'decision')} in {path}"


def check_decisions(file: DecisionFile, images: ImagesToLabel) -> None:
    """Raises ValueError, which names the line, for a decision that is neither a word nor a class."""
    table = tables.read(file.path, (file.column, "decision"))
    classes = {*images.classes} | {row.get("given", "") for row in table.rows}
    classes |= {answer.label for answer in file.table.answers.values()} if file.table else set()
    for line, row in zip(table.lines, table.rows, strict=True):
        word = row["decision"]
        if word and word.casefold() not in WORDS and word not in classes:
            alike = [each for each in classes if tables.appearance(each) == tables.appearance(word)]
            hint = f": write {tables.quoted(alike[0])}" if alike else ""
            allowed = f"{', '.join(WORDS)}, or one of {', '.join(sorted(classes - {''})[:20])}"
            raise ValueError(f"{file.path.name}, line {line}: decision={tables.quoted(word)}: must be {allowed}{hint}")


def moves(file: DecisionFile) -> Iterator[tuple[str, str]]:
    """The files that decisions move where folders are the classes: each with its new place, '' for out of the folder."""
    for image, decision in file.answers.items():
        label = file.label(image, decision)
        if decision.given and label != file.label(image, Answer()):
            part = next((part for part in ("labeled/", "train/") if image.startswith(part)), "")
            _, _, rest = image.removeprefix(part).partition("/")
            yield image, f"{part}{label.label}/{rest}" if label.label else f"unlabeled/{rest}" if part and not label.given else ""
