"""What a table of labels means: which files its names are, which labels look alike, which file nearly is the table."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

# What str.strip() removes, the characters that can't be seen, and the byte with which DOS ends a file.
BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\x1a"
BLANKS += "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # text directions: Windows puts one before a path


def clean(cell: str) -> str:
    """A cell in Unicode's form NFC, without blanks and invisible characters around it."""
    return (cell if cell.isascii() else unicodedata.normalize("NFC", cell)).strip(BLANKS)


def quoted(text: str) -> str:
    """The text in quotation marks, as it is typed, with escapes where a character can't be seen; at most 200 characters."""
    text = text if len(text) <= 200 else f"{text[:200]}…"
    return f"'{text}'" if text.isprintable() else repr(text)


def match(names: Iterable[str], files: Collection[str], folder: Path) -> dict[str, str]:
    """The file, of `files` in `folder`, that each of the `names` in a table means; names that fit none are absent.

    A name that is not written as the file is may have another path style (Windows, absolute, URL), another Unicode form, or
    other upper and lower case, where exactly one file fits. Two names may mean the same file.
    """
    names, exact = list(dict.fromkeys(names)), frozenset(files)
    found = {name: name for name in names if name in exact}
    if len(found) == len(names):
        return found
    indices = [(way, _index(files, way)) for way in (str, clean, _folded)]
    roots = _roots(folder)
    for name in names:
        forms = [name, _inside(name, roots), _inside(unquote(name), roots)]
        fitting = next((hits for way, index in indices for each in forms if (hits := index.get(way(each)))), [])
        if len(fitting) == 1:
            found[name] = fitting[0]
    return found


def _index(files: Iterable[str], way: Callable[[str], str]) -> dict[str, list[str]]:
    """The files by what `way` makes of their names."""
    index: dict[str, list[str]] = {}
    for file in files:
        index.setdefault(way(file), []).append(file)
    return index


def _folded(name: str) -> str:
    """The name without upper case and special forms of letters, also where UTF-8 was read as Windows-1252 ('Ã¶' for 'ö')."""
    if not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp1252").decode()
    return unicodedata.normalize("NFKC", clean(name)).casefold()


def _roots(folder: Path) -> list[str]:
    """The folder's path as it may stand before a file's name, with a slash at its end; also as Windows sees it from WSL."""
    paths = {os.path.abspath(folder), os.path.realpath(folder)}
    roots = [path.replace("\\", "/").rstrip("/") + "/" for path in paths]
    return roots + [f"{root[5]}:{root[6:]}" for root in roots if re.match("/mnt/[a-z]/", root)]


def _inside(name: str, roots: list[str]) -> str:
    """The name as a path from the folder, whose path is one of `roots`; as it is if it leads elsewhere."""
    path = name.replace("\\", "/")
    path = re.sub("^file:/*(?=[a-z]:/)|^file:(//(localhost)?)?(?=/)", "", path, flags=re.IGNORECASE)
    path = re.sub("^//(wsl[$]|wsl[.]localhost)/[^/]*", "", path, flags=re.IGNORECASE)
    path = os.path.expanduser(path) if path.startswith("~/") else path
    for root in roots:
        whole = path if re.match("/|[a-z]:/", path, re.IGNORECASE) else root + path
        whole = re.sub("^//+", "/", posixpath.normpath(whole))
        if whole.startswith(root) or (root[1:2] == ":" and whole.casefold().startswith(root.casefold())):
            return whole[len(root) :]
    return name


def difference(names: Collection[str], files: Collection[str], table_name: str) -> str:
    """The sentence that says how the `names` in a table differ from `files`, where none of them fits, with an example of each.

    '' if there are no names.
    """
    if not names:
        return ""
    if len(names) == 1:
        count, which = f"the only file named in {table_name} is not there", "it is"
    else:
        count, which = f"none of the {len(names)} files named in {table_name} is there", "the first is"
    first = next(iter(names))
    if not files:
        return f"{count}: {which} {quoted(first)}; there is no image"
    name, file = _pair(names, files)
    twins = sorted(each for each in files if _base(each) == _base(file) and each != file)
    if twins and _base(name.replace("\\", "/")) == name:
        return f"{count}: {which if name == first else 'one is'} {quoted(name)}; there are {quoted(file)} and {quoted(twins[0])}"
    advice = _advice(name, file)
    return f"{count}: {which if name == first else 'one is'} {quoted(name)}; there is {quoted(file)}{advice and ': '}{advice}"


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _without_zeros(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)


def _without_prefix(name: str) -> str:
    """Without the number of an upload that annotation programs put before a file's name."""
    return re.sub(r"^[0-9a-f]+[-_]+(?=.)", "", name)


def _pair(names: Collection[str], files: Collection[str]) -> tuple[str, str]:
    """A name and a file that are alike, by the likeness that most names have; the first of each if there is none."""
    best, pair = 0, (next(iter(names)), min(files))
    plain = [(name, unquote(_folded(name)).replace("\\", "/")) for name in names]
    for form in _FORMS:
        index = {form(_folded(file)): file for file in sorted(files, reverse=True)}
        fitting = [(name, index[form(each)]) for name, each in plain if form(each) in index]
        if len(fitting) > best:
            best, pair = len(fitting), fitting[0]
    return pair


_FORMS: tuple[Callable[[str], str], ...] = (
    _stem,
    _base,
    lambda name: _stem(_base(name)),
    lambda name: _without_zeros(_stem(_base(name))),
    lambda name: _without_prefix(_stem(_base(name))),
)


def _advice(name: str, file: str) -> str:
    """What makes the file's name of the name in the table; '' if they are not alike."""
    way = unquote(name).replace("\\", "/")
    base, own_base = _base(way), _base(file)
    stem, own_stem = _folded(_stem(base)), _folded(_stem(own_base))
    folder, own_folder = name.removesuffix(_base(name.replace("\\", "/"))), file.removesuffix(own_base)
    ending, own_ending = posixpath.splitext(base)[1], posixpath.splitext(own_base)[1]
    zeros = stem != own_stem and _without_zeros(stem) == _without_zeros(own_stem)
    if stem != own_stem and not zeros:
        if _without_prefix(stem) != own_stem:
            return "must be the file's name, not its number" if name.isdecimal() else ""
        folder += base[: len(stem) - len(own_stem)]
    advice = []
    if folder.replace("\\", "/") != own_folder:
        advice.append(_exchange(folder, own_folder, f"the folder {quoted(own_folder)}"))
    if zeros:
        advice.append("write the zeros of its number")
    if ending.casefold() != own_ending.casefold():
        advice.append(_exchange(ending, own_ending, "the ending"))
    return ", ".join(advice)


def _exchange(there: str, own: str, what: str) -> str:
    if there and own:
        return f"write {quoted(own)} for {quoted(there)}"
    return f"remove {quoted(there)}" if there else f"add {what}"


def appearance(label: str) -> str:
    """What labels that look alike have in common: not case, blanks, hyphens, nor how a number is written."""
    plain = "".join(c for c in _folded(label) if unicodedata.category(c) != "Cf").translate(_LETTERS).strip(BLANKS)
    if len(plain) < 25 and re.fullmatch(r"[+-]?\d+([.,]\d*)?(e[+-]?\d{1,3})?", plain):
        return f"{Decimal(plain.replace(',', '.')).normalize():f}"
    return re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", re.sub(r"[\s_-]+", " ", plain)).strip() or plain


# What people type where they don't know, and what a spreadsheet writes for a formula. `None` and `NA` may be classes.
_NO_LABEL = re.compile(
    r"\?+|(un|not?[ _-]?)labell?ed|no[ _-]?label|unsure|todo|tbd|=.+|#(N/A|REF!|NAME\?|VALUE!|DIV/0!|NUM!)", re.IGNORECASE
)
_LETTERS = str.maketrans("аеорсухіѕјкмнвтοανρκ", "aeopcyxisjkmhbtoavpk")  # Cyrillic and Greek that look Latin


def look_alikes(labels: Iterable[str]) -> list[str]:
    """A sentence for each group of labels that look alike, such as '1' and '1.0', for each that joins others, and for '?'.

    They are different classes all the same.
    """
    distinct = sorted(set(labels) - {""})
    groups = _index(distinct, appearance)
    sentences = []
    for alike in groups.values():
        if len(alike) > 1:
            *others, last = map(quoted, alike)
            sentences.append(f"classes {', '.join(others)} and {last} look alike")
    for label in distinct:
        if _NO_LABEL.fullmatch(label):
            sentences.append(f"class {quoted(label)} seems to be no label: if so, leave its images without one")
        parts = re.split(r"\s*[,;|/+&]\s*", label)
        if len(parts) > 1 and set(parts) <= {*distinct}:
            single = " and ".join(map(quoted, parts))
            sentences.append(f"class {quoted(label)} is another than {single}: each image has one class")
    return sentences


_CALLED = {  # what programs call these columns, without blanks and signs
    "file": r"(file|image|img|pic|picture|photo|scan)s?(name|path|file|id|index)?s?|(path|name|id)s?|fname|datei(name)?",
    "label": r"labels|(class|label|target|category)(name|label|id)?|(findings?|image)label(s)?|classes|categories|classification"
    r"|target|y|tags?|species|diagnosis|klasse",
}
_SPLIT = re.compile(r"split|subset|partition|usage|phase|folds?|kfold|set|data_?set|(is_?)?(train|test|val|valid|validation)")
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "publictest", "privatetest"}


def head_advice(missing: Collection[str], rows: list[list[str]]) -> str:
    """What makes a table of the first `rows` of one whose head has no columns called `missing`; '' if that is not known."""
    head = rows[0]
    if any(_ENDING_OF_IMAGES.search(cell) for cell in head):
        return "put a line with the names of the columns above it"
    called = {re.sub(r"[\W_]", "", _folded(name)): name for name in head}
    fitting = {c: [name for plain, name in called.items() if re.fullmatch(_CALLED.get(c, "(?!)"), plain)] for c in missing}
    renamed = [f"{quoted(found[0])} to {column}" for column, found in fitting.items() if found]
    advice = [f"rename {', '.join(renamed)}"] if renamed else []
    if "label" in missing and len(rows) > 1 and len(head) > 2 and {*rows[1][1:]} <= {"0", "1", "0.0", "1.0"}:
        advice.append("write the name of each image's class into one column, label")
    return "; ".join(advice)


_ENDING_OF_IMAGES = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|webp|p[gpb]m|heic|avif|dcm)$", re.IGNORECASE)


def is_split(column: str, values: set[str]) -> bool:
    """Whether a column of a table seems to say which images are for training, and which to test with."""
    parts = {value.casefold() for value in values if value}
    return bool(_SPLIT.fullmatch(column.casefold()) and parts) or (len(parts) > 1 and parts <= _PARTS)


SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".fods", ".numbers", ".gsheet")
ADVICE = dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), "rename it to {}")
ADVICE |= dict.fromkeys((".json", ".jsonl", ".xml", ".html", ".parquet", ".zip", ".gz"), "save it as {}, a table with commas")
ADVICE |= dict.fromkeys(SHEETS, "save it as {}")


def nearly(folder: Path, name: str = "labels.csv") -> str:
    """The sentence about a file in `folder` that is nearly the table `name`, but is not read; '' if there is none.

    Where the table itself is there, only spreadsheets count that were saved after it, and LibreOffice if it has it open.
    """
    table, stem = folder / name, re.escape(_stem(name).casefold())
    pattern = re.compile(rf"{stem}?( ?\(\d+\)| - copy| copy)?(\.csv)?(\.[a-z]+)")
    with suppress(OSError):  # a folder that can't be read: its reader says so
        is_there = table.exists()
        for path in sorted(folder / each for each in os.listdir(folder) if pattern.fullmatch(each.casefold())):
            ending = path.suffix.lower()
            if path == table or ending not in ADVICE:
                continue
            if not is_there or (ending in SHEETS and path.stat().st_mtime > table.stat().st_mtime):
                return f"{path.name} is not read: {ADVICE[ending].format(name)}"
        if (lock := folder / f".~lock.{name}#").exists():
            return f"{name} is open in LibreOffice: save and close it there (or remove {lock.name})"
    return ""
