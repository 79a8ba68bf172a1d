"""A grid of runs: which of them are finished, in which order the others start, and how far they are.

Each run is one execution of the training notebook by papermill, in a process of its own.
"""

import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from ssl_core.datasets import DATA_SETS, SIDE, describe, machine
from ssl_core.datasets.machine import cores as cores  # re-exported
from ssl_core.progress import Event, duration
from ssl_core.recipes import ABLATIONS, PUBLISHED, get

from . import files, graph_cache, records
from .cluster import RunFiles
from .executors import Executor, end_orphans, graph_seconds, memory, seconds, too_many
from .spec import Run

LABELS = "6000 2000 1000 500 250 50"  # the report's; a folder of images gets sizes that fit it
# Costs beside training, in training images through the network: they order the queue and estimate the time to go.
OVERHEAD_IMAGES = 90_000  # starting and evaluating a run
SEARCH_IMAGES = 80_000  # the search of nearest neighbours
GRAPH_COST = 1.5  # an image during pretraining


class SweptRun:
    """A run of a sweep: its folders, its progress, and the publication of its files."""

    def __init__(self, run: Run, outputs: Path):
        self.run = run
        self.folder = run.folder(outputs)
        self.part = self.folder.with_name(f"{self.folder.name}.part")
        self.failed = self.folder.with_name(f"{self.folder.name}.failed")
        self.progress, self.started, self.fraction = "", 0.0, 0.0
        self.graph_work = 0.0  # of making the graph, for the run that will make it

    @property
    def work(self) -> float:
        """The cost of the run, in images through the network."""
        n = self.run.n_labels
        return self.graph_work + self.run.settings.images_for(n, self.run.info.n_images - n) + OVERHEAD_IMAGES

    @property
    def graph(self) -> Path | None:
        """The file of the graph that the run needs; None if it needs none."""
        return graph_cache.path_for(self.run)

    def note(self, event: Event) -> None:
        """Updates the progress with an event of the run."""
        self.started = self.started or time.monotonic()
        before = self.graph_work / self.work
        if event["stage"] == "epoch":
            self.progress = f"epoch {event['epoch']}/{event['epochs']}"
            self.fraction = before + (1 - before) * event["epoch"] / event["epochs"]
        elif event["stage"] == "graph":
            self.progress = f"graph {event['step']}/{event['steps']}"
            self.fraction = before * event["step"] / event["steps"]
        elif event["stage"] == "index":
            self.progress = f"search {event['step']}/{event['steps']}"

    def begin(self) -> None:
        """Makes an empty folder for the run; the checkpoint of an interrupted attempt is kept."""
        self.started = time.monotonic()
        end_orphans(self.part)
        self.part.mkdir(parents=True, exist_ok=True)
        for path in self.part.iterdir():
            if path.name != records.CHECKPOINT:
                path.unlink()
        earlier = self.failed / records.CHECKPOINT
        if earlier.exists() and not (self.part / records.CHECKPOINT).exists():
            os.replace(earlier, self.part / records.CHECKPOINT)

    def finish(self, future: Future) -> str:
        """Publishes the files of a run that succeeded, or moves those of a failed one aside; returns the error, or ''."""
        try:
            try:
                files_there = future.result()
                if isinstance(files_there, RunFiles):
                    files_there.write(self.part)
            except Exception as error:  # the other runs go on
                self._set_aside()
                return f"{error}" or type(error).__name__
            self._publish()
            return ""
        except OSError as error:  # a full disk, say: the other runs go on, and the next sweep tries this one again
            return f"the files of the run could not be written: {error}"

    def _set_aside(self) -> None:
        if self.part.exists():
            shutil.rmtree(self.failed, ignore_errors=True)
            self.part.rename(self.failed)

    def _publish(self) -> None:
        """Moves the finished files into place, the record last; files that were there are of other code."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in records.FILES if not (self.part / records.IMAGES).exists() else (records.IMAGES, *records.FILES):
            os.replace(self.part / name, self.folder / name)
        shutil.rmtree(self.part)
        shutil.rmtree(self.failed, ignore_errors=True)


def sweep(grid: list[Run], outputs: Path, executor: Executor, threads: int) -> list[tuple[SweptRun, str]]:
    """Executes the runs of `grid` that are not finished; returns those that failed, each with its error.

    The number of threads of a run changes the order of sums, and so the last digits of results.
    """
    todo = [run for run in grid if not records.finished(run, outputs)]
    check_smoke(todo, outputs)
    print(
        f"{len(grid)} run{'s' * (len(grid) != 1)}: {len(grid) - len(todo)} finished before, {len(todo)} to do, {executor},"
        f" each in up to {max(map(memory, grid)) / 1e9:.1f} GB of memory{_time_of(todo)}",
        flush=True,
    )
    if executor.jobs is not None:  # on this machine
        check_graphs(todo)
    if executor.jobs and (warning := too_many(todo, executor.jobs, cores())):
        print(warning, flush=True)
    swept = in_order([SweptRun(run, outputs) for run in todo], executor.jobs)
    failures: list[tuple[SweptRun, str]] = []
    pending: dict[Future, SweptRun] = {}
    try:
        board = Board(swept)
        for each in swept:
            pending[executor.submit(each.run, each.part, threads, each.note, each.begin)] = each
        while pending:
            ready, _ = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            for future in ready:
                each = pending.pop(future)
                if error := each.finish(future):
                    failures.append((each, error))
                board.finished(each, error)
            board.tick()
    except BaseException:
        executor.close(stop=True)
        raise
    executor.close(stop=False)
    return failures


def _time_of(todo: list[Run]) -> str:
    """How long the longest of these runs takes, and a graph that is still to be made; '' without a run, or with a few steps."""
    if not todo or todo[0].smoke:
        return ""
    graphs = [graph_seconds(run) for run in todo if (path := graph_cache.path_for(run)) and not path.exists()]
    more = f"; before, the graph takes {duration(max(graphs))}" if graphs else ""
    return f" and about {duration(max(map(seconds, todo)))} of one core{more}"


def check_smoke(todo: list[Run], outputs: Path) -> None:
    """Raises ValueError if a smoke run would take the place of a real one."""
    for run in (run for run in todo if run.smoke):
        record = records.read(run.folder(outputs))
        if record and not record.smoke:
            raise ValueError(
                f"OUTPUTS={str(outputs)!r}: must be another folder for smoke runs: this one holds the finished run {run}"
            )


def check_graphs(todo: list[Run]) -> None:
    """Raises ValueError if a graph is to be made, and cannot be kept."""
    for run in todo:
        if (path := graph_cache.path_for(run)) and not path.exists():
            files.writable("data", path.parent)


def in_order(swept: list[SweptRun], jobs: int | None = None) -> list[SweptRun]:
    """The longest first: the last to finish is then a short one, and no core waits for long.

    While the first run that needs a graph makes it, runs without one go before those that would wait for it: as many as keep
    the other `jobs` busy until then, or all of them if the number of jobs is not known.
    """
    longest = sorted(swept, key=lambda each: -each.work)
    makers: dict[Path, SweptRun] = {}
    for each in longest:
        settings, graph = each.run.pretraining, each.graph
        if settings and graph and not graph.exists() and graph not in makers:
            makers[graph] = each
            each.graph_work = GRAPH_COST * (2.0 * settings.steps * settings.batch + SEARCH_IMAGES)
    first = list(makers.values())
    rest = [each for each in longest if each not in first]
    work_left = math.inf if jobs is None else (jobs - len(first)) * max((each.graph_work for each in first), default=0)
    meanwhile = []
    for each in rest:
        if each.graph not in makers and work_left > 0:
            meanwhile.append(each)
            work_left -= each.work
    return [*first, *meanwhile, *(each for each in rest if each not in meanwhile)]


class Board:
    """Tells how the sweep stands: a line for each run that ends, and a line now and then (on a terminal, one that updates)."""

    def __init__(self, swept: list[SweptRun]):
        self.swept = swept
        self.done: list[SweptRun] = []
        self.n_failed = 0
        self.start = self.told = time.monotonic()
        self.live = sys.stdout.isatty()

    def finished(self, each: SweptRun, error: str) -> None:
        self.done.append(each)
        self.n_failed += bool(error)
        seconds = time.monotonic() - (each.started or self.start)
        record = None if error else records.read(each.folder)
        result = f"{100 * record.accuracy:.2f} %" if record and record.n_test else "done" if record else f"FAILED: {error}"
        line = f"{self._counts()} · {each.run} · {result} · {duration(seconds)}"
        print(f"\r\x1b[K{line}" if self.live else line, flush=True)

    def tick(self) -> None:
        running = [each for each in self.swept if each.started and each not in self.done]
        now = time.monotonic()
        if not running or (not self.live and now - self.told < 30):
            return
        self.told = now
        states = ", ".join(f"{each.run} {each.progress or 'starting'}" for each in running)
        line = f"{self._counts()}, {len(running)} running · {self._time_to_go()} · {states}"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
        else:
            print(line, flush=True)

    def _counts(self) -> str:
        return f"{len(self.done) - self.n_failed}/{len(self.swept)} done, {self.n_failed} failed"

    def _time_to_go(self) -> str:
        done = sum(each.work for each in self.done)
        under_way = sum(each.work * each.fraction for each in self.swept if each not in self.done)
        total = sum(each.work for each in self.swept)
        if done + under_way < 0.01 * total:
            return "time to go not known yet"
        elapsed = time.monotonic() - self.start
        return f"about {duration(elapsed * (total / (done + under_way) - 1))} to go"


def make_grid(
    labels: str, recipes: str, seeds: str, label_noise: str = "0", folds: str = "0", n_clusters: int | str = 0, **common: Any
) -> list[Run]:
    """The runs of LABELS × RECIPES × SEEDS, and of LABEL_NOISE × FOLDS, if there are several.

    Each is a text of values separated by blanks or commas; ValueError if one is bad. Of several recipes, those that need labels
    are passed over where there are 0, and those for images of another side.
    """

    def run(n_labels: int | str, **parameters: Any) -> Run:
        several = n_clusters if n_labels == 0 else 0  # runs with labels have classes
        return Run(**parameters, n_labels=n_labels, n_clusters=several, **common).check()  # type: ignore[arg-type]  # Run checks them

    data, side = common.get("data", "mnist"), common.get("side", 0)
    own = DATA_SETS[data].side if data in DATA_SETS else describe(data, side=side, for_training=False).side
    names = at_side(recipe_names(recipes), side or own, tell=True)
    needing = [name for name in names if not get(name).pretraining]
    needing = [] if len(needing) == len(names) else needing  # then the run itself says what is wrong
    if needing and "0" in values("LABELS", labels):
        print(f"LABELS=0: not with {', '.join(needing)}, which cannot do without labels", flush=True)
    return [
        run(n_labels=number(n), recipe=recipe, seed=number(seed), label_noise=decimal(noise), fold=number(fold))
        for n in values("LABELS", labels)
        for recipe in names
        for seed in values("SEEDS", seeds)
        for noise in values("LABEL_NOISE", label_noise)
        for fold in values("FOLDS", folds)
        if not (number(n) == 0 and recipe in needing)
    ]


def values(name: str, text: str) -> list[str]:
    """The values in a text, separated by blanks or commas, each once; ValueError if there is none."""
    items = list(dict.fromkeys(text.replace(",", " ").split()))
    if not items:
        raise ValueError(f"{name}={text!r}: must be one value or more, separated by blanks")
    return items


def recipe_names(text: str) -> list[str]:
    """The names of recipes in a text, with those of all ablations for `ablations`."""
    return [name for item in values("RECIPES", text) for name in (ABLATIONS if item == "ablations" else [item])]


def at_side(names: list[str], side: int, *, tell: bool = False) -> list[str]:
    """The recipes among `names` for images of this side; on request tells which are passed over. ValueError if all are."""
    other = [name for name in names if side != SIDE and name == PUBLISHED.name]
    if other and len(other) == len(names):
        get(other[0]).check_side(side)
    if other and tell:
        print(f"RECIPES: not {', '.join(other)}, whose network is for {SIDE} × {SIDE} pixels, not {side} × {side}", flush=True)
    return [name for name in names if name not in other]


def fitting(name: str, side: int = 0) -> str:
    """The default numbers of labels for a data set: those of the report, or, of a folder, halves of what is labelled there."""
    info = describe(name, side=side)
    if info.as_published:
        return LABELS
    sizes = [info.n_labels >> halved for halved in range(6)]
    return " ".join(str(n) for n in sizes if n >= len(info.classes)) or str(info.n_labels)


def number(text: str) -> int | str:
    """The whole number that `text` is, or the text, for a check to refuse."""
    return int(text) if text.removeprefix("-").removeprefix("+").isdecimal() else text


def decimal(text: str) -> float | str:
    """The number that `text` is, or the text, for a check to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


@contextmanager
def lock(outputs: Path) -> Iterator[None]:
    """Holds an outputs folder for one sweep: two at once would train the same runs into the same places."""
    try:
        with machine.lock(files.writable("OUTPUTS", outputs) / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"OUTPUTS={str(outputs)!r}: another sweep is at work there; wait for it or choose another folder"
        ) from None
