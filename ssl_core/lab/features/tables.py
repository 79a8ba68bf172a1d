"""Tables of features that somebody made: `.npy` with the file names beside it, `.csv` or `.parquet` with a column `file`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ssl_core.datasets import table_names
from ssl_core.datasets.tables import counted

from .pictures import Pictures

ENDINGS = (".npy", ".csv", ".parquet")
FILE = "file"  # the column
NOTHING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]  # in place of a number
INSTEAD = {  # of what else people keep features in: what to do
    ".npz": "np.save('x.npy', np.load('x.npz')['…']) writes one of its arrays",
    ".pt": "np.save('x.npy', torch.load('x.pt').numpy()) writes a tensor",
    ".pth": "np.save('x.npy', torch.load('x.pth').numpy()) writes a tensor",
    ".pkl": "a pickle can run any program: np.save('x.npy', …) where you trust it",
    ".safetensors": "np.save('x.npy', load_file('x.safetensors')['…']) writes one of its arrays",
    ".h5": "np.save('x.npy', h5py.File('x.h5')['…'][:]) writes one of its arrays",
}


def read(path: Path, images: Pictures, folder: Path) -> tuple[np.ndarray, list[str]]:
    """The features (N, D) of all images in their order, from the table `path`; and what is to be said of it.

    Raises ValueError, without the parameter, for a table that does not have one row of finite numbers for each image. Rows of
    other files are told, not used.
    """
    names, table = _array(path, images) if path.suffix.lower() == ".npy" else _frame(path)
    meant = table_names.match(names, images.names, folder)
    files = [meant.get(name) for name in names]
    twice = [file for file, count in Counter(files).items() if file is not None and count > 1]
    if twice:
        raise ValueError(f"must have one row an image: {counted(len(twice), 'image')} with several, such as {twice[0]}")
    row = {file: i for i, file in enumerate(files) if file is not None}
    if missing := [name for name in images.names if name not in row]:
        of = f"{len(missing)} of {len(images.names)} images lack one, such as {missing[0]}"
        raise ValueError(f"must have a row for each image: {of}{_why(names, images)}")
    others = [name for name, file in zip(names, files, strict=True) if file is None]
    told = [f"{counted(len(others), 'row')} of other files not used, such as {others[0]}"] if others else []
    return table[[row[name] for name in images.names]], told


def _why(names: Sequence[str], images: Pictures) -> str:
    numbered = images.names[-1:] == (str(len(images.names) - 1),)
    return "; those of a named set are called by their number, from 0, the training images first" * (
        numbered and not set(names) & set(images.names)
    )


def _array(path: Path, images: Pictures) -> tuple[list[str], np.ndarray]:
    """The names of the images and their features (N, D) in a `.npy` file, with a list of files, `.txt`, beside it."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        pickled = "; objects are not read, a pickle can run any program" if "allow_pickle" in str(error) else ""
        raise ValueError(f"must be an array of numbers as np.save writes it ({_line(error)}){pickled}") from None
    if not isinstance(table, np.ndarray):
        raise ValueError("must be an array of numbers as np.save writes it, not several arrays in one file, as of np.savez")
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise ValueError(f"must be an array (N, D) of numbers, not {table.shape} of {table.dtype}")
    beside = path.with_suffix(".txt")
    if beside.exists():
        names = _lines(beside)
        if len(names) != len(table):
            raise ValueError(f"must have as many rows as {beside.name} has lines: {len(table)} and {len(names)}")
        return names, table
    if images.names[-1] != str(len(images.names) - 1):
        raise ValueError(f"needs {beside.name} beside it: the file of each row, one a line")
    if len(table) != len(images.names):
        raise ValueError(f"must have {len(images.names)} rows, a row an image, the training images first; it has {len(table)}")
    return list(images.names), table


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"needs {path.name} beside it to be text in UTF-8") from None


def _frame(path: Path) -> tuple[list[str], np.ndarray]:
    """The names of the images and their features (N, D) in a `.csv` or `.parquet` file: a column `file`, the others numbers."""
    try:
        if path.suffix.lower() == ".csv":
            columns = pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns
            nothing = {name: NOTHING for name in columns if name != FILE}  # a file may be called NA
            kinds = {FILE: str}
            frame = pd.read_csv(path, dtype=kinds, na_values=nothing, keep_default_na=False, encoding="utf-8-sig")
        else:
            frame = pd.read_parquet(path)
    except ImportError:
        raise ValueError("needs pyarrow; install it: .venv/bin/pip install '.[parquet]'; or save it as .npy or .csv") from None
    except UnicodeDecodeError:
        raise ValueError("must be text in UTF-8") from None
    except (OSError, ValueError) as error:  # also pandas' and pyarrow's own
        raise ValueError(f"must be a table that can be read ({_line(error)})") from None
    if FILE not in frame.columns:
        commas = ", between commas" if path.suffix.lower() == ".csv" and len(frame.columns) == 1 else ""
        raise ValueError(f"must have a column file{commas}; it has {', '.join(map(str, frame.columns[:5]))}")
    if nameless := [name for name in frame.columns if str(name).startswith("Unnamed: ")]:
        raise ValueError(f"must have a name for each column, not {nameless[0]!r}; to_csv(index=False) leaves out the row numbers")
    numbers = frame.drop(columns=FILE)
    if strange := [name for name, kind in numbers.dtypes.items() if kind.kind not in "fiu"]:
        raise ValueError(f"must have numbers in all columns but file, not as in {strange[0]!r}")
    return [str(name) for name in frame[FILE]], numbers.to_numpy(np.float64, na_value=np.nan)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:150]
