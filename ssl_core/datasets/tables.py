"""Tables of labels as people keep them: read in any form that a spreadsheet or a script saves, written in one.

`read` accepts any usual separator, encoding and line end, and refuses what it does not understand with one line. The words
`None`, `NA` and the like are labels. `match` finds the files that a table means, `difference` says why it finds none.
"""

import csv
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

from .machine import write_atomically
from .table_names import BLANKS, appearance, clean, difference, head_advice, is_split, look_alikes, match, nearly, quoted

__all__ = ["Table", "appearance", "difference", "look_alikes", "match", "nearly", "read", "read_labels", "without_class", "write"]

NO_CLASS = "no class"  # in the column `status`: an image of none of the classes
GROUP = "group"  # the column of images that belong together
SEPARATORS = ",;\t|"
TITLE_ROWS = 10  # in which the head of a table is looked for, to name its line
IN_ONE_COLUMN = "all columns lie in one: divide it (Excel: Data, Text to Columns), and move what was typed beside it into its own"
LOST = "\ufffd"  # stands where a program could not read a letter
BYTE_ORDER_MARKS = {  # the longer first
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
NO_TABLES = {  # how files begin that are something else
    b"PK\x03\x04": "a spreadsheet or another archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel file: save it as CSV",
    b"\x1f\x8b": "compressed: unpack it",
    b"%PDF": "a PDF: save it as CSV",
    b"{\\rtf": "a document with formats (RTF): save it as plain text",
    b"PAR1": "a Parquet file: save it as CSV",
    b"<": "a web page or XML: save it as CSV",
    b"{": "JSON: save it as CSV",
    b"[": "JSON: save it as CSV",
    b"version https://git-lfs": "a pointer of Git LFS: git lfs pull fetches the file",
}
# Windows-1252 is told from other encodings of one byte by what stands in its words: letters of Western Europe, one or two in
# a row, and not the beginning and the rest of a character in UTF-8.
NOT_WESTERN = re.compile(rb"[\xc2-\xf4][\x80-\xbf]|[\x80-\xff]{3}|[^\0-\x7f\x80\x8c\x9c\xb0\xb5\xc0-\xd6\xd8-\xf6\xf8-\xff]")


@dataclass(frozen=True)
class Table:
    """The rows of a table: each cell is text, in Unicode's form NFC, without blanks around it."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]  # of the file, where each row begins
    notes: tuple[str, ...]  # what was noticed and accepted


def read(path: Path, columns: Sequence[str]) -> Table:
    """The table in the file `path`; raises ValueError, which names the file and the line, unless it has these `columns`.

    Upper and lower case of these names do not matter. Blank rows, and columns with neither name nor content, are left out.
    """
    path, allowed = Path(path), f"{Path(path).name}: must be a table with the columns {' and '.join(columns)}"
    text, notes = _text(path, allowed, columns)
    separator, text = _separator(path.name, allowed, text, columns)
    records = _records(path.name, text, separator)
    _, head = next(records)
    if head[-1].endswith(tuple(SEPARATORS)):
        raise ValueError(f"{path.name}: {IN_ONE_COLUMN}")
    names = _names(head, columns)
    last = max(names.index(column) for column in columns)
    lines: list[int] = []
    rows, short = [], []
    for line, cells in records:
        if any(cells[len(names) :]) or not (len(cells) > last or _is_name(cells)):
            of_r = "; row.names=FALSE in R leaves out the numbers" if not lines and _is_numbered(cells, names) else ""
            raise ValueError(f"{path.name}, line {line}: {counted(len(cells), 'field')}, the head has {len(names)}{of_r}")
        if len(cells) < len(names) and any(names[len(cells) :]):
            short.append(line)
        lines.append(line)
        rows.append(cells[: len(names)] + [""] * (len(names) - len(cells)))
    if short:
        notes.append(f"{counted(len(short), 'row')} shorter than the head, the first in line {short[0]}: the rest is empty")
    if not rows:
        notes.append("no row below the head")
    used = [i for i, name in enumerate(names) if name or any(row[i] for row in rows)]
    kept = [names[i] for i in used]
    if twice := [name for name, count in Counter(kept).items() if count > 1]:
        raise ValueError(f"{path.name}: two columns are called {twice[0]!r}: must have different names")
    contents = tuple({names[i]: row[i] for i in used} for row in rows)
    return Table(path, tuple(kept), contents, tuple(lines), tuple(notes))


def read_labels(path: Path) -> tuple[list[tuple[int, str, str]], tuple[str, ...]]:
    """Line, `file` and `label` of each row of a table of labels, '' where a cell is empty; and what was noticed.

    Raises ValueError as `read` does.
    """
    table = read(path, ("file", "label"))
    rows = [(line, row["file"], row["label"]) for line, row in zip(table.lines, table.rows, strict=True)]
    notes = [f"no label in its {counted(len(rows), 'row')}"] if rows and not any(label for *_, label in rows) else []
    others = [column for column in table.columns if column not in ("file", "label")]
    splits = [column for column in others if is_split(column, {row[column] for row in table.rows})]
    notes += [f"its column {quoted(column)} is not used: images to test with must lie in test/" for column in splits]
    return rows, (*table.notes, *notes)


def without_class(path: Path) -> list[str]:
    """The `file` of each row of a table of labels whose `status` is NO_CLASS; raises ValueError as `read` does."""
    table = read(path, ("file", "label"))
    return [row["file"] for row in table.rows if row.get("status", "").casefold() == NO_CLASS]


def groups(path: Path) -> list[tuple[str, str]]:
    """The `file` and `group` of each row of a table of labels that has a group; raises ValueError as `read` does."""
    table = read(path, ("file", "label"))
    column = next((name for name in table.columns if name.casefold() == GROUP), GROUP)
    return [(row["file"], row[column]) for row in table.rows if row["file"] and row.get(column)]


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes a table in one step, with commas, in UTF-8; with a byte order mark if it is not all ASCII, which Excel needs.

    A cell that a row lacks is empty.
    """
    lines = _Lines()
    writer = csv.DictWriter(lines, columns, extrasaction="ignore", lineterminator=_Lines.END)
    writer.writeheader()
    writer.writerows(rows)
    content = "".join(lines)
    write_atomically(path.resolve(), content.encode("utf-8" if content.isascii() else "utf-8-sig"))


class _Lines(list[str]):
    """Takes the rows of csv.writer. It quotes cells with any character of its line end, here both; the file has LF alone."""

    END = "\r\n"

    def write(self, row: str) -> None:
        self.append(row.removesuffix(self.END) + "\n")


def counted(n: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{n} {noun}{'s' * (n != 1)}"


def _content(path: Path, allowed: str) -> bytes:
    """The bytes of a file that may be a table."""
    try:
        if not path.is_file() and path.exists():
            raise ValueError(f"{allowed} (it is no file)")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{allowed} (it can't be read: {error.strerror})") from None
    for beginning, what in NO_TABLES.items():
        if content[:200].removeprefix(BOM_UTF8).lstrip().startswith(beginning):
            raise ValueError(f"{allowed} (it is {what})")
    return content


def _text(path: Path, allowed: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """The text of the file, and what was noticed about it."""
    content = _content(path, allowed)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    notes = []
    try:
        text = _utf16(content, columns) or content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8" or b"\0" in content:
            raise ValueError(f"{allowed} (it is neither text in UTF-8 nor in UTF-16)") from None
        if strange := NOT_WESTERN.search(content):
            line = _line(content[: strange.start()].decode("latin-1"))
            raise ValueError(f"{path.name}, line {line}: its encoding is not known: save the table in UTF-8") from None
        text = content.decode("cp1252")
        example = next(word for word in re.split(rf"[{SEPARATORS}\"\r\n]", text) if not word.isascii())
        notes.append(f"read as Windows-1252, such as {quoted(clean(example))}; save it in UTF-8 if that is wrong")
    if (place := text.find("\0")) >= 0:
        raise ValueError(f"{path.name}, line {_line(text[:place])}: must be text (there is a NUL byte)")
    if LOST in text:
        notes.append(f"line {_line(text[: text.find(LOST)])}: a letter was lost when it was saved ({LOST})")
    if not text.strip(BLANKS):
        raise ValueError(f"{allowed} (it is empty)")
    return text.lstrip("\ufeff"), notes


def _line(before: str) -> int:
    """The number of the line that follows the text `before`."""
    return 1 + len(re.findall(r"\r\n|\r|\n", before))


def _utf16(content: bytes, columns: Sequence[str]) -> str:
    """The text of a table in UTF-16 without a byte order mark; '' for anything else."""
    if b"\0" not in content or content.startswith(tuple(BYTE_ORDER_MARKS)):
        return ""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = content.decode(encoding, errors="replace")
        if all(column in text.casefold() for column in columns) and LOST not in text:
            return text
    return ""


def _separator(name: str, allowed: str, text: str, columns: Sequence[str]) -> tuple[str, str]:
    """The separator with which the first row has these columns, and the text without Excel's line `sep=;`."""
    separators = SEPARATORS
    if first := re.match(rf'"?sep=([^\w\s"]|\t)"?[{SEPARATORS} ]*(?=[\r\n])', text, re.IGNORECASE):
        separators, text = first[1] + separators, text[first.end() :]
    beginnings: list[list[tuple[int, list[str]]]] = []
    problems: list[ValueError] = []
    for separator in separators:
        rows: list[tuple[int, list[str]]] = []
        try:
            for row in islice(_records(name, text, separator), TITLE_ROWS):
                rows.append(row)
                if len(rows) == 1 and set(columns) <= set(_names(row[1], columns)):
                    return separator, text
        except ValueError as error:
            problems.append(error)
        beginnings += [rows] if rows else []
    if not beginnings:
        raise problems[0] if problems else ValueError(f"{allowed} (it has no row)")
    for line, cells in (row for rows in beginnings for row in rows):
        if set(columns) <= set(_names(cells, columns)):
            raise ValueError(f"{allowed} in its first row (they are in line {line}: remove the lines above it)")
    first_cells = [[clean(part) for part in re.split(f"[{SEPARATORS}]", rows[0][1][0])] for rows in beginnings]
    if any(set(columns) <= set(_names(cells, columns)) for cells in first_cells):
        raise ValueError(f"{name}: {IN_ONE_COLUMN}")
    rows = max(beginnings, key=lambda rows: len(rows[0][1]))
    head = rows[0][1]
    missing = [column for column in columns if column not in _names(head, columns)]
    found = quoted(", ".join(cell[:40] for cell in head[:10]))
    absent = f"no {', '.join(missing)}; its first row is{' one column' if len(head) == 1 else ''}: {found}"
    advice = head_advice(missing, [cells for _, cells in rows])
    commas = ", separated by commas" if len(head) == 1 else ""
    raise ValueError(f"{allowed}{commas} ({absent}){advice and ': '}{advice}")


def _records(name: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table but blank ones: the line in which each begins, and its cells."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cleaned := list(map(clean, cells))):
                yield line, cleaned
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name}, line {line}: a quotation mark may be left open, or one too many ({error})") from None


def _names(head: list[str], columns: Sequence[str]) -> list[str]:
    """The names in the head of a table, those of `columns` as they are written there."""
    known = {column.casefold(): column for column in columns}
    return [known.get(name.casefold(), name) for name in head]


def _is_numbered(cells: list[str], names: list[str]) -> bool:
    """Is a row numbered, in a column that the head does not have?"""
    return len(cells) == len(names) + 1 and cells[0].isdecimal()


def _is_name(cells: list[str]) -> bool:
    """Is this all of a row that spreadsheets and people leave of one with empty cells: its first cell?"""
    return len(cells) == 1 and not any(separator in cells[0] for separator in SEPARATORS)
