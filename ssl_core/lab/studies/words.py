"""Numbers, names and tables as text."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from ssl_core.datasets import NAMES
from ssl_core.recipes import ABLATIONS, RECIPES


def percent(mean: float, std: float = float("nan"), n: int = 1, sign: str = "") -> str:
    """`98.12 ± 0.10 (3)`: mean, standard deviation and number of seeds; for a single seed `98.12 (1)`."""
    spread = "" if np.isnan(std) else f" ± {100 * std:.2f}"
    return f"{100 * mean:{sign}.2f}{spread} ({n})"


def rounded(n: float) -> str:
    """An interpolated number of labels, to its two significant digits."""
    return f"{float(f'{n:.2g}'):.0f}"


def seeds(counts: Collection[int]) -> str:
    """The number of seeds, from the numbers of seeds of several points: `5 seeds`, `1 to 5 seeds`."""
    ends = " to ".join(f"{n}" for n in dict.fromkeys((min(counts), max(counts))))
    return f"{ends} seed{'s' * (ends != '1')}"


def tested(counts: Collection[int]) -> str:
    """The number of test images, from those of several runs: `10,000 test images`, `20 to 40 test images`."""
    ends = " to ".join(f"{n:,}" for n in dict.fromkeys((min(counts), max(counts))))
    return f"{ends} test image{'s' * (ends != '1')}"


def plain(text: str) -> str:
    """A text by others, such as the name of a class, for Markdown and HTML: nothing in it acts as markup."""
    return "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in text)


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one row of column heads: the levels of a head are joined by a comma."""
    if table.columns.nlevels > 1:
        table = table.set_axis([_joined(head) for head in table.columns], axis=1)
    return table.rename_axis(columns=None)


def markdown(table: pd.DataFrame) -> str:
    """The table in Markdown, with names of recipes and data sets as code; empty for a table without rows."""
    if table.empty:
        return ""
    coded = {name: f"`{name}`" for name in (*RECIPES, *ABLATIONS, *NAMES)}
    heads = [_joined(head) for head in table.rename(columns=coded).columns]
    names = [_joined(name) for name in table.rename(index=coded).index]
    lines = [[_joined(table.index.names), *heads], ["---:"] * (1 + len(heads))]
    lines += [[name, *row] for name, row in zip(names, table.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _joined(levels: object) -> str:
    return ", ".join(map(str, levels)) if isinstance(levels, Sequence) and not isinstance(levels, str) else str(levels)
