"""A study: one question about many runs. Each is a module of this package that defines `STUDY`; see registry.py."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from ssl_core import recipes
from ssl_core.data import load
from ssl_core.datasets import describe

from ..runs import files, records
from ..runs.records import Record
from ..runs.spec import AUTO, current_draw
from . import words

NO_RECORDS = "Only the summary table of these runs is available; per-image predictions are not."


@dataclass(frozen=True)
class Grid:
    """Runs as `make sweep` takes them: every combination of these values, each a text of values separated by blanks."""

    labels: str
    recipes: str
    seeds: str
    data: str = "mnist"
    draw: str = "random"
    label_noise: str = "0"
    folds: str = "0"


@dataclass(frozen=True)
class Results:
    """Finished runs, as studies read them.

    `runs` are the comparable ones of one data set and one selection of labels; `every` has all, of other code too.
    """

    every: pd.DataFrame  # as of records.table
    data: str = "mnist"
    draw: str = "random"
    all_records: Sequence[Record] = ()  # of the runs in `every`; none where only their table is left
    outputs: Path | None = None  # the folder of the runs
    side: int = 0  # of the images, that was asked for
    features: str = ""  # from elsewhere; runs that use none are comparable with those that do
    precision: str = AUTO  # that was asked for

    @classmethod
    def read(cls, outputs: Path, data: str = "mnist", draw: str = "random", **asked: Any) -> "Results":
        """The finished runs below `outputs`, `asked` for by side, features and precision.

        LookupError if none of today's code has this data set and selection.
        """
        draw, found = current_draw(draw), records.read_all(outputs)
        results = cls(records.results(outputs, found), data, draw, found, outputs, **asked)
        if results.runs.empty and results.clustered.empty:
            wanted = ", ".join(f"{name}={value!r}" for name, value in {"data": data, "draw": draw, **asked}.items() if value)
            raise LookupError(f"outputs={str(outputs)!r}: no finished run there of {wanted}; `make sweep` makes them")
        return results

    def select(self, names: Collection[str] = recipes.RECIPES, draw: str = "", *, variants: bool = False) -> pd.DataFrame:
        """The comparable runs of the recipes `names`, of another `draw` on request; see records.comparable."""
        return records.comparable(self.every, self.data, draw or self.draw, names, variants=variants, **self.asked)

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for beside data and draw."""
        return {"side": self.side, "features": self.features, "precision": self.precision}

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The comparable runs of the recipes, without label noise and withheld folds."""
        return self.select()

    @cached_property
    def clustered(self) -> pd.DataFrame:
        """The runs without labels, whose accuracy is that of the best naming of clusters: a measure of its own."""
        return records.clustered(self.every, self.data, **self.asked)

    @cached_property
    def records(self) -> list[Record]:
        """The records of `runs`."""
        return records.select(list(self.all_records), self.data, self.draw, **self.asked)

    @cached_property
    def left_out(self) -> int:
        """The number of finished runs that are not among `runs`."""
        return len(self.every) - len(self.runs) - len(self.clustered)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return describe(self.data, side=self.side).classes

    @cached_property
    def y_test(self) -> np.ndarray:
        """The classes of the test images, int64 (N,)."""
        return load(self.data, files.DATA, self.side).y_test.numpy()


@dataclass(frozen=True)
class Study:
    """One question: the runs that it needs, and how they are summarised, shown and put into words.

    `summarize` takes a Results (and, of some studies, more) and returns a table of numbers, without rows if the runs
    cannot answer. `table`, `figure` and `sentences` turn that table into what readers see; a study need not have all
    three.
    """

    name: str
    question: str
    grid: Sequence[Grid]
    summarize: Callable[..., pd.DataFrame]
    nothing: str  # what to say if the runs cannot answer
    table: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    note: str = ""  # the units of the table
    figure: Callable[[pd.DataFrame], Figure] | None = None
    reading: str = ""  # how to read the figure
    picture: str = ""  # the figure's file in the reference
    sentences: Callable[[pd.DataFrame], str] | None = None
    markers: Mapping[str, Callable[[Results], str]] = field(default_factory=dict)  # the tables of the pages, by marker
    notebook: str = "results"  # that shows the study
    needs_records: bool = False  # whether it reads more of a run than its row in the table

    def show(self, results: Results, *more: object) -> None:
        """Displays figure, table and sentences in a notebook, or why there are none."""
        summary = self.summarize(results, *more)
        if summary.empty:
            display(Markdown(NO_RECORDS if self.needs_records and not results.records else self.nothing))
            return
        if self.figure:
            display(self.figure(summary), Markdown(f"*How to read it:* {self.reading}"))
        if self.table:
            display(Markdown(self.note), words.flat(self.table(summary)))
        if self.sentences:
            display(Markdown(self.sentences(summary)))


def page_text(summarize: Callable[[Results], pd.DataFrame], text: Callable[[pd.DataFrame], str]) -> Callable[[Results], str]:
    """What `text` says of a study, Markdown, for its marker on a page: a function of a Results; "" where the runs cannot
    answer.
    """

    def make(results: Results) -> str:
        summary = summarize(results)
        return "" if summary.empty else text(summary)

    return make


def page_table(
    summarize: Callable[[Results], pd.DataFrame], table: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[[Results], str]:
    """The table of a study, as page_text."""
    return page_text(summarize, lambda summary: words.markdown(table(summary)))
