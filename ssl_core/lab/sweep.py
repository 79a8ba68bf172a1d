"""A grid of runs, each one execution of the training notebook by papermill, in a process of its own.

`python -m ssl_core.lab.sweep --help` lists what can be set; `make sweep` calls it.
"""

import argparse
import csv
import fcntl
import io
import math
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

import torch

from ssl_core.data import check_name, known, load
from ssl_core.fetch import DATA_SETS, DataError, fetch
from ssl_core.recipes import ABLATIONS

from . import page, places, plots, runs, shared
from .runs import Run

LABELS = "6000 2000 1000 500 250 50"  # of which, in a folder of one's own, as many are run as there are labels for
OVERHEAD_IMAGES = 90_000  # what starting and evaluating a run costs, in training images
SEARCH_IMAGES = 80_000  # what searching the nearest neighbours costs, likewise
GRAPH_COST = 1.5  # of an image while the graph is made, in training images


class Execution:
    """One run on its way: its folders, how far it is, and what becomes of it."""

    def __init__(self, run: Run, outputs: Path):
        self.run = run
        self.folder = run.folder(outputs)
        self.part = self.folder.with_name(f"{self.folder.name}.part")
        self.failed = self.folder.with_name(f"{self.folder.name}.failed")
        self.progress, self.started, self.fraction = "", 0.0, 0.0
        self.graph_work = 0.0  # of making the graph, if it is this run that will

    @property
    def work(self) -> float:
        """What the run costs, in images through the network."""
        n = self.run.n_labels
        return self.graph_work + self.run.settings.images_for(n, self.run.known.n_images - n) + OVERHEAD_IMAGES

    @property
    def graph(self) -> Path | None:
        """The file of the graph that the run needs, if it needs one."""
        return self.run.graph and shared.path(self.run.data, self.run.graph)

    def note(self, line: str) -> None:
        """Takes note of a line that the run printed."""
        self.started = self.started or time.monotonic()
        if match := re.search(r"(epoch|graph · step) +(\d+)/(\d+)", line):
            self.progress = f"{match[1]} {match[2]}/{match[3]}"
            done, before = int(match[2]) / int(match[3]), self.graph_work / self.work
            self.fraction = before + (1 - before) * done if match[1] == "epoch" else before * done

    def finish(self, outcome: str | places.Outcome) -> str:
        """Moves what came out to its place if the run finished, or aside if it failed; returns the error, or ''."""
        try:
            error = outcome if isinstance(outcome, str) else outcome.write(self.part)
            if not error:
                self._publish()
            elif self.part.exists():
                shutil.rmtree(self.failed, ignore_errors=True)
                self.part.rename(self.failed)
            return error
        except OSError as problem:  # a full disk, say: the other runs go on, and this one is tried again next time
            return f"what came out could not be written: {problem}"

    def begin(self) -> None:
        """Makes an empty folder for the run, but for the checkpoint of an attempt that was cut off."""
        self.started = time.monotonic()
        places.end_orphans(self.part)
        self.part.mkdir(parents=True, exist_ok=True)
        for path in self.part.iterdir():
            if path.name != runs.CHECKPOINT:
                path.unlink()
        earlier = self.failed / runs.CHECKPOINT
        if earlier.exists() and not (self.part / runs.CHECKPOINT).exists():
            os.replace(earlier, self.part / runs.CHECKPOINT)

    def _publish(self) -> None:
        """Moves the finished files into place, the record last; what was there before was made by other code."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in runs.FILES:
            os.replace(self.part / name, self.folder / name)
        shutil.rmtree(self.part)
        shutil.rmtree(self.failed, ignore_errors=True)


def sweep(grid: list[Run], outputs: Path, place: places.Here | places.Cluster, threads: int) -> list[tuple[Execution, str]]:
    """Executes the runs of `grid` that are not finished, at `place`; returns those that failed, with the error.

    The number of threads of a run changes the order of sums, and so the last digits of results.
    """
    todo = [run for run in grid if not runs.finished(run, outputs)]
    print(
        f"{len(grid)} run{'s' * (len(grid) != 1)}: {len(grid) - len(todo)} finished before, {len(todo)} to do, {place},"
        f" each in up to {max(map(places.memory, grid)) / 1e9:.1f} GB of memory",
        flush=True,
    )
    executions = in_order([Execution(run, outputs) for run in todo], getattr(place, "jobs", None))
    failures: list[tuple[Execution, str]] = []
    pending: dict[Future, Execution] = {}
    try:
        board = Board(executions)
        for execution in executions:
            future = place.submit(execution.run, execution.part, threads, execution.note, execution.begin)
            pending[future] = execution
        while pending:
            ready, _ = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            for future in ready:
                execution = pending.pop(future)
                lost = "cancelled" if future.cancelled() else future.exception()
                error = execution.finish(f"{lost}" if lost else future.result())
                if error:
                    failures.append((execution, error))
                board.finished(execution, error)
            board.tick()
    except BaseException:
        place.close(stop=True)
        raise
    place.close(stop=False)
    return failures


def in_order(executions: list[Execution], jobs: int | None = None) -> list[Execution]:
    """The longest first: the last to finish is then a short one, and no core waits for long.

    While the first run that needs a graph makes it, runs that need none go before those that would wait for it: as many as will
    keep the other `jobs` busy until then, or all of them if it is not known how many there are.
    """
    longest = sorted(executions, key=lambda e: -e.work)
    makers = {}
    for execution in longest:
        if (graph := execution.graph) and not graph.exists() and graph not in makers:
            makers[graph] = execution
            settings = execution.run.graph
            execution.graph_work = GRAPH_COST * (2.0 * settings.steps * settings.batch + SEARCH_IMAGES)
    first = list(makers.values())
    rest = [execution for execution in longest if execution not in first]
    until_made = math.inf if jobs is None else (jobs - len(first)) * max((e.graph_work for e in first), default=0)
    meanwhile = []
    for execution in rest:
        if execution.graph not in makers and until_made > 0:
            meanwhile.append(execution)
            until_made -= execution.work
    return [*first, *meanwhile, *(execution for execution in rest if execution not in meanwhile)]


class Board:
    """Tells how the sweep stands: a line for each run that ends, and a line now and then (on a terminal, one that updates)."""

    def __init__(self, executions: list[Execution]):
        self.executions = executions
        self.done: list[Execution] = []
        self.n_failed = 0
        self.start = self.told = time.monotonic()
        self.live = sys.stdout.isatty()

    def finished(self, execution: Execution, error: str) -> None:
        self.done.append(execution)
        self.n_failed += bool(error)
        seconds = time.monotonic() - (execution.started or self.start)
        result = f"FAILED: {error}" if error else f"{100 * runs.read(execution.folder)['accuracy']:.2f} %"
        self._say(f"{self._counts()} · {execution.run} · {result} · {_duration(seconds)}")

    def tick(self) -> None:
        running = [e for e in self.executions if e.started and e not in self.done]
        now = time.monotonic()
        if not running or (not self.live and now - self.told < 30):
            return
        self.told = now
        doing = ", ".join(f"{e.run} {e.progress or 'starting'}" for e in running)
        line = f"{self._counts()}, {len(running)} running · {self._time_to_go()} · {doing}"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
        else:
            print(line, flush=True)

    def _say(self, line: str) -> None:
        print(f"\r\x1b[K{line}" if self.live else line, flush=True)

    def _counts(self) -> str:
        return f"{len(self.done) - self.n_failed}/{len(self.executions)} done, {self.n_failed} failed"

    def _time_to_go(self) -> str:
        finished = sum(e.work for e in self.done)
        under_way = sum(e.work * e.fraction for e in self.executions if e not in self.done)
        total = sum(e.work for e in self.executions)
        if finished + under_way < 0.01 * total:
            return "time to go not known yet"
        elapsed = time.monotonic() - self.start
        return f"about {_duration(elapsed * (total / (finished + under_way) - 1))} to go"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def make_grid(labels: str, recipes: str, seeds: str, wrong_labels: str = "0", folds: str = "0", **common) -> list[Run]:
    """The runs of LABELS × RECIPES × SEEDS, and of the fractions of WRONG_LABELS and the FOLDS, if there are several.

    Each is a text of values separated by blanks or commas; ValueError if one is bad.
    """

    def values(name: str, text: str) -> list[str]:
        found = list(dict.fromkeys(text.replace(",", " ").split()))
        if not found:
            raise ValueError(f"{name}={text!r}: allowed is one value or more, separated by blanks")
        return found

    names = [name for given in values("RECIPES", recipes) for name in (ABLATIONS if given == "ablations" else [given])]
    return [
        Run(number(n), recipe, number(seed), wrong_labels=decimal(wrong), fold=number(fold), **common)
        for n in values("LABELS", labels)
        for recipe in names
        for seed in values("SEEDS", seeds)
        for wrong in values("WRONG_LABELS", wrong_labels)
        for fold in values("FOLDS", folds)
    ]


def fitting(name: str) -> str:
    """The default numbers of labels for a data set: those of the report, or, of a folder, halves of what is labelled there."""
    if name in DATA_SETS:
        return LABELS
    about = known(name)
    sizes = [about.n_labels >> halved for halved in range(6)]
    return " ".join(str(n) for n in sizes if n >= len(about.classes)) or str(about.n_labels)


def look_at(name: str, outputs: Path) -> None:
    """Tells what a folder of images holds; writes what of it is not used, and a sheet of what the network will see."""
    about, images = known(name), load(name)
    folder = outputs / about.slug
    folder.mkdir(parents=True, exist_ok=True)
    rows = io.StringIO()
    csv.writer(rows).writerows([("file", "reason"), *about.skipped])
    runs.write_atomically(folder / "skipped.csv", rows.getvalue())
    by_chance = torch.randperm(about.n_images, generator=torch.Generator().manual_seed(0))
    shown = torch.cat([torch.arange(min(20, about.n_labels)), by_chance[by_chance >= 20]])[:40]  # the labelled ones come first
    titles = [name[:12] for name in images.called(images.y[shown])]
    title = f"{about.title}: what the network sees" + (", light and dark exchanged" if about.inverted else "")
    plots.images(images.x[shown], titles, columns=10, title=title).savefig(folder / "preview.png")
    origin = "of test/" if about.own_test else "taken from the labelled ones, since there is no test/"
    print(f"{about.title}: {about.n_images} images to train with, {about.n_labels} labelled, of {len(about.classes)} classes")
    print(f"{about.title}: {about.n_test} images to test with, {origin}; {len(about.skipped)} files left out")
    print(f"{about.title}: see preview.png and skipped.csv in {folder}", flush=True)


def number(text: str) -> int | str:
    """The whole number that `text` is, or the text, for a check to refuse."""
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else text


def decimal(text: str) -> float | str:
    """The number that `text` is, or the text, for a check to refuse."""
    return float(text) if re.fullmatch(r"[+-]?\d*\.?\d+", text) else text


class OutputsLock:
    """Holds an outputs folder for one sweep: two at once would train the same runs into the same places."""

    def __init__(self, outputs: Path):
        self.file = (runs.writable("OUTPUTS", outputs) / ".lock").open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"OUTPUTS={str(outputs)!r}: another sweep is at work there; wait for it or choose another folder"
            ) from None


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--labels", default=LABELS, help="numbers of labelled images")
    parser.add_argument(
        "--recipes", default="supervised published best", help="names from ssl_core/recipes.py; `ablations`: all of those"
    )
    parser.add_argument("--seeds", default="0", help="whole numbers; each draws and trains anew")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--draw", default="random", help="how the labelled images are drawn: random, stratified or typical")
    parser.add_argument("--wrong-labels", default="0", help="fractions of the labels that are made wrong")
    parser.add_argument(
        "--folds", default="0", help="fifths of the labels, 1 to 5, that are held back to estimate the accuracy; 0: none"
    )
    parser.add_argument("--jobs", default="", help="runs at a time (default: one for each core, if there is memory for them)")
    parser.add_argument("--device", default="auto", help="where runs are trained: cpu, cuda, or auto, a GPU if there is one")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler whose workers do the runs: tcp://host:8786")
    parser.add_argument("--outputs", default="outputs", help="where results go, from the project's root")
    parser.add_argument("--smoke", action="store_true", help="a few steps a run, to see that everything works")
    given = parser.parse_args(arguments)
    for number_of in (signal.SIGTERM, signal.SIGINT):  # both end it with its runs, Ctrl-C also where a shell had it ignored
        signal.signal(number_of, signal.default_int_handler)
    try:
        name = runs.located(given.data)
        check_name(name)
        common = {"data": name, "draw": given.draw, "smoke": given.smoke}
        labels = fitting(name) if given.labels == LABELS else given.labels
        grid = make_grid(labels, given.recipes, given.seeds, given.wrong_labels, given.folds, **common)
        jobs = number(given.jobs) if given.jobs else places.at_a_time(grid, cores())
        runs.check_whole("JOBS", jobs)
        if not given.scheduler:
            runs.processor(given.device)
        elif given.device not in ("auto", "cpu", "cuda"):  # whether there is one, each worker sees
            raise ValueError(f"device={given.device!r}: allowed is auto, cpu or cuda")
        outputs = runs.ROOT / given.outputs
        lock = OutputsLock(outputs)
        if name in DATA_SETS:
            fetch(name, runs.ROOT / "data")
        else:
            look_at(name, outputs)
        place = places.Cluster(given.scheduler, given.device) if given.scheduler else places.Here(jobs, given.device)
    except (ValueError, DataError) as error:
        sys.exit(f"sweep: {error}")
    with lock.file:
        try:
            failures = sweep(grid, outputs, place, 1 if given.scheduler or not given.jobs else max(1, cores() // jobs))
            for execution, error in failures:
                print(f"FAILED {execution.run}: {error}\n  see {execution.failed / 'train.ipynb'}")
            without_page = _build_page(outputs, name, given.draw)
        except KeyboardInterrupt:
            sys.exit("sweep: interrupted; the finished runs are kept, and the same command goes on from there")
    if failures:
        sys.exit(f"sweep: {len(failures)} of {len(grid)} runs failed; the same command tries them again{without_page}")
    if without_page:
        sys.exit(f"sweep: the runs are finished{without_page}")


def _build_page(outputs: Path, data: str, draw: str) -> str:
    """Builds the results page; returns what to say if that failed."""
    try:
        page.build(outputs, data, draw)
        return ""
    except (OSError, RuntimeError, ValueError) as error:
        return f"; the results page could not be built, `make results` tries again: {error}"


if __name__ == "__main__":
    main()
