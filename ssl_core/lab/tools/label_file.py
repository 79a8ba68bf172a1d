"""A table of labels that several programs and people fill in at once: an answer changes its own row, and none is lost."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from ssl_core.datasets import tables
from ssl_core.datasets.machine import lock

from ..runs import files

WAIT = 10  # seconds, for another program that writes
Rows = list[dict[str, str]]


class Answer(NamedTuple):
    """What a row says of its image: a label, or the status `no class`; '' for neither. Any other status is a remark."""

    label: str = ""
    status: str = ""

    @property
    def kind(self) -> tuple[str, bool]:
        """The label, and whether the image is of no class: what answers are compared by."""
        return self.label, self.status.casefold() == tables.NO_CLASS

    @property
    def given(self) -> bool:
        return any(self.kind)


NO_CLASS = Answer(status=tables.NO_CLASS)


class LabelFile:
    """The table in the file `path`, with the columns `column`, which names the images, `label`, and `status` where needed.

    The answers are in the column `label`, or in that called `answers_in`. `match` finds the images that names in the table mean.
    `answers` is what the table said of each image when it was last read; an image without a row is not in it. Raises ValueError
    as `tables.read`.
    """

    def __init__(
        self, path: Path, column: str, match: Callable[[Collection[str]], Mapping[str, str]], *, answers_in: str = "label"
    ):
        self.path, self.column, self._match, self._label = path, column, match, answers_in
        self._images: dict[str, str | None] = {}  # by name in the table: finding out is slow
        self.answers: dict[str, Answer] = {}
        self.read()

    def write(self, image: str, before: Answer | None, after: Answer | None, *, add: bool = True) -> bool:
        """Writes the answer `after` for an image of which the table said `before`; whether that changed it.

        It does not if somebody else gave an answer meanwhile, another one or the same: `answers` then has it. None is no row:
        a row that was added is removed, unless somebody typed something else there; unless `add`, no row is added. Raises
        ValueError or OSError, in one line, if the table can't be read or written; then it is as it was.
        """
        try:
            with lock(lock_of(self.path), WAIT):
                columns, rows = self.read()
                there = self.answers.get(image)
                is_taken = there is not None and there.given and there.kind != (before or Answer()).kind
                is_missing = there is None and (not add or after is None)
                if is_taken or is_missing or there == after:
                    return False
                self._change(columns, rows, image, after)
                return True
        except Timeout:
            raise ValueError(f"{self.path.name}: another program has been writing for {WAIT} seconds") from None

    def read(self) -> tuple[Sequence[str], Rows]:
        """The columns and rows of the table as it is now, no row if there is no file; brings `answers` up to date."""
        if sentence := tables.nearly(self.path.parent, self.path.name):
            raise ValueError(sentence)
        columns: Sequence[str] = (self.column, self._label)
        rows: Rows = []
        if self.path.exists():
            table = tables.read(self.path, columns)
            columns, rows = table.columns, list(table.rows)
        self._note(rows)
        return columns, rows

    def _note(self, rows: Rows) -> None:
        """Brings `answers` up to date with these rows. Of several rows of an image, the first with an answer counts."""
        if unknown := {row[self.column] for row in rows} - self._images.keys():
            self._images |= dict.fromkeys(unknown) | dict(self._match(unknown))
        self.answers = {}
        for row in rows:
            image = self._images[row[self.column]]
            if image is not None and (image not in self.answers or not self.answers[image].given):
                self.answers[image] = self._answer(row)

    def _change(self, columns: Sequence[str], rows: Rows, image: str, after: Answer | None) -> None:
        """Writes the table with another answer for the image, in the row that counts for it or in a new one.

        Other rows that give the image the same answer are changed with it.
        """
        own = [i for i, row in enumerate(rows) if self._images[row[self.column]] == image]
        first = next((i for i in own if self._answer(rows[i]).given), own[0] if own else len(rows))
        if not own:
            rows.append({self.column: image, self._label: ""})
        was, answer = self._answer(rows[first]), after or Answer()
        same = [i for i in own if was.given and self._answer(rows[i]).kind == was.kind]
        columns = [*columns, *({"status"} - {*columns} if answer.status else ())]
        for i in reversed(same or [first]):
            row = rows[i] = rows[i] | {self._label: answer.label}
            if answer.status:
                row["status"] = answer.status
            elif was.kind[1]:
                row["status"] = ""
            if after is None and not any(row[column] for column in row.keys() - {self.column}):
                del rows[i]
        if self.path.exists() and _is_guessed(content := self.path.read_bytes()):
            files.keep_beside(self.path, content)
        tables.write(self.path, columns, rows)
        if answer.given:
            self.answers[image] = self._answer(rows[first])
        else:  # another row of the image may count now
            self._note(rows)

    def _answer(self, row: Mapping[str, str]) -> Answer:
        return Answer(row[self._label], row.get("status", ""))


def lock_of(path: Path) -> Path:
    """The file whose lock whoever writes the table `path` holds."""
    path = path.resolve()
    return path.with_name(f".{path.name}.lock")  # hidden: no file of a folder of images


def _is_guessed(content: bytes) -> bool:
    """Whether the encoding of a table was guessed: letters of it may be wrong."""
    try:
        content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8")
    except UnicodeDecodeError:
        return True
    return False
