"""Cells of a study that trains no runs of a sweep: each is measured once, and its row is kept in a table of the study's own."""

import argparse
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from threadpoolctl import threadpool_limits

from ssl_core import data
from ssl_core.data import Images
from ssl_core.datasets import tables
from ssl_core.datasets.checks import check_whole
from ssl_core.datasets.machine import cores, lock
from ssl_core.graph import Neighbors
from ssl_core.progress import duration
from ssl_core.recipes import Pretraining

from .. import LabError
from ..runs import files, graph_cache, sweep
from ..runs.spec import Run

C = TypeVar("C")  # the cells of a study


@dataclass(frozen=True)
class CellTable(Generic[C]):
    """The cells of a study, a frozen dataclass of texts and numbers each, and the table that keeps their rows.

    A row holds the cell's own values, `seconds` and `key`, which changes with whatever the measured numbers follow from.
    """

    path: Path
    columns: tuple[str, ...]
    cell: type[C]
    grid: Callable[[], list[C]]  # all cells, in the order in which they are measured
    key: Callable[[C], str]
    measure: Callable[[C], dict[str, object]]  # the row of a cell
    told: Callable[[dict[str, object]], str]  # the number of a row, for a line of progress
    kind: Callable[[C], str]  # cells of one kind take about as long
    seconds: Mapping[str, float]  # that a cell of each kind takes, before one is measured
    apart: bool = False  # whether each cell has a new process, as peaks of memory need: a process keeps what it has freed

    def read(self) -> dict[C, dict[str, str]]:
        """The finished cells and their rows; none if the file is not there. ValueError for another table."""
        if not self.path.exists():
            return {}
        rows = tables.read(self.path, self.columns).rows
        types: Sequence[Any] = [(field.name, field.type) for field in fields(self.cell)]  # type: ignore[arg-type]
        return {self.cell(*(to(row[name]) for name, to in types)): row for row in rows}

    def frame(self, **types: type) -> pd.DataFrame:
        """A row for each finished cell, with the columns `types`; `current` says whether today's code would make the same."""
        rows = self.read()
        frame = pd.DataFrame([asdict(cell) | {"current": row["key"] == self.key(cell)} for cell, row in rows.items()])  # type: ignore[call-overload]
        return frame.assign(**{name: [to(row[name]) for row in rows.values()] for name, to in types.items()})

    def keep(self, row: dict[str, object], cell: C) -> None:
        """Writes the row of a finished cell beside those of the others, in one step."""
        rows: dict[C, dict] = {**self.read(), cell: row}
        tables.write(self.path, self.columns, [rows[each] for each in sorted(rows, key=astuple)])  # type: ignore[arg-type]

    def missing(self) -> list[C]:
        """The cells of the grid without a row, or with one that today's code would not make."""
        rows = self.read()
        return [cell for cell in self.grid() if cell not in rows or rows[cell]["key"] != self.key(cell)]

    def to_go(self, cells: Iterable[C], jobs: int) -> float:
        """The seconds that `cells` will take: each as long as the median finished one of its kind."""
        seconds: dict[str, list[float]] = {}
        for cell, row in self.read().items():
            seconds.setdefault(self.kind(cell), []).append(float(row["seconds"]))
        typical = {**self.seconds} | {name: float(np.median(values)) for name, values in seconds.items()}
        return sum(typical[self.kind(cell)] for cell in cells) / jobs

    def measure_all(self, cells: Sequence[C], jobs: int) -> None:
        """Measures the cells, `jobs` at a time, and keeps the row of each when finished; interrupted, also of those at work."""
        left = dict.fromkeys(cells)
        with ProcessPoolExecutor(jobs, initializer=start_worker) as pool:
            futures = {pool.submit(self.measure, cell): cell for cell in cells}
            try:
                for future in as_completed(futures):
                    cell = futures[future]
                    self.keep(row := future.result(), cell)
                    del left[cell]
                    time_to_go = duration(self.to_go(left, jobs))
                    print(f"{cell} · {self.told(row)} · {len(left)} cells, about {time_to_go} to go", flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                for future, cell in futures.items():
                    if cell in left and future.done() and not future.cancelled() and not future.exception():
                        self.keep(future.result(), cell)
                raise

    def complete(self, jobs: str) -> None:
        """Measures the missing cells, `jobs` at a time, one per core for an empty text; raises LabError if another does so."""
        at_a_time = check_whole("JOBS", sweep.number(jobs) if jobs else cores())
        files.writable("outputs/reference", self.path.parent)
        try:
            with lock(self.path.with_suffix(".lock"), timeout=0):
                grid, cells = self.grid(), self.missing()
                print(f"{len(grid) - len(cells)} of {len(grid)} cells are finished")
                for part in [[cell] for cell in cells] if self.apart else [cells]:
                    self.measure_all(part, at_a_time)
        except Timeout:
            raise LabError(f"{self.path.name}: another process is measuring; it keeps what it finishes") from None


def number(text: str) -> float:
    """The number in a field of a table; NaN in an empty one."""
    return float(text or "nan")


def of_earlier_code(rows: pd.DataFrame) -> str:
    """A sentence if some of the `rows`, of CellTable.frame, are not current; else ''."""
    return "" if rows["current"].all() else "Some of these measurements are by earlier code."


@lru_cache(maxsize=1)
def images_and_graph(name: str) -> tuple[Images, Neighbors]:
    """The images of a data set, and the graph that `best` has of them."""
    images = data.load(name, files.DATA)
    return images, graph_cache.load(images, _pretraining(name), lambda event: None)


def graph_file(name: str) -> str:
    """The name of the file that keeps that graph: it changes with the images, the settings and the code."""
    return graph_cache.path(name, _pretraining(name)).stem


def _pretraining(name: str) -> Pretraining:
    pretraining = Run(1, "best", 0, name).pretraining
    assert pretraining is not None  # of this recipe
    return pretraining


def start_worker() -> None:
    """Prepares a process that measures: one thread; interrupts are its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threadpool_limits(1)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", default="", help="cells at a time (default: one per core)")
