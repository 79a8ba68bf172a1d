"""The command `sweep`: a grid of runs, then the results page."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssl_core.data import load
from ssl_core.datasets import DATA_SETS, SIDE, DataSetInfo, PublishedSet, check_name, describe, fetch, pinned, slug, tables
from ssl_core.datasets.checks import check_whole
from ssl_core.datasets.scan import TABLES
from ssl_core.datasets.walk import WHOLE
from ssl_core.device import DEVICES, check_device
from ssl_core.recipes import LINEAR

from ..features import kept
from ..runs import executors, files, records
from ..runs.cluster import DaskExecutor
from ..runs.executors import Executor, LocalExecutor
from ..runs.notebook import FOLDER, NotebookFailed
from ..runs.spec import AUTO, Run, current_draw, side_of
from ..runs.sweep import LABELS, at_side, cores, fitting, lock, make_grid, number, recipe_names, sweep
from ..studies import registry, run_figures
from ..tools import clusters
from . import build

Rows = Sequence[tuple[str, str]]  # files, and what there is to say of each


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", default=LABELS, help="numbers of labelled images")
    parser.add_argument("--recipes", default="supervised published best", help="names of recipes; `ablations`: all of those")
    parser.add_argument("--seeds", default="0", help="whole numbers; each selects other labelled images and trains anew")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--draw", default="random", help="selection of the labelled images: random, class-balanced or typical")
    parser.add_argument("--side", default="", help="the side of the images in pixels, 28 or 32 to 96 (default: as it fits them)")
    parser.add_argument("--label-noise", "--wrong-labels", default="0", help="fractions of labels to replace by other classes")
    parser.add_argument("--folds", default="0", help="fifths of the labels, 1 to 5, to hold back; 0: none")
    parser.add_argument("--clusters", default="", help="with 0 labels: how many clusters (default: one a class, or by the graph)")
    parser.add_argument("--features", default="", help="from elsewhere: torchvision:NAME, timm:NAME, an ONNX file or a table")
    parser.add_argument("--precision", default=AUTO, help="of the network's products: float32, bfloat16, or auto: what is faster")
    parser.add_argument("--smoke", action="store_true", help="a few steps a run, to see that everything works")
    parser.add_argument("--study", nargs="+", default=[], metavar="NAME", help="run the grids of these studies instead")
    configure_machine(parser)


def configure_machine(parser: argparse.ArgumentParser) -> None:
    """The options that say where runs are executed, and where results go."""
    parser.add_argument("--jobs", default="", help="runs at a time (default: one per core, as far as memory goes)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU if there is one")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler whose workers do the runs: tcp://host:8786")
    parser.add_argument("--outputs", default="outputs", help="where results go, from the project's root")


def command(args: argparse.Namespace) -> None:
    outputs, data = files.outputs(args.outputs), files.located(args.data)
    check_name(data)
    side = _side(args, data)
    if data not in DATA_SETS:
        check_usable(data, outputs, side, for_training=not without_labels(args))
    if args.study:
        grid, notebooks = registry.runs(args.study, data, smoke=args.smoke), registry.notebooks(args.study)
    else:
        grid, notebooks = _grid(args, data, side), ["results"]

    def then() -> None:
        show_clusters(grid, outputs)
        info = describe(data, side=side, for_training=False)
        if data in DATA_SETS or not info.problem:  # without test images a page has nothing to say
            asked = {"side": side, "features": max(run.features for run in grid), "precision": args.precision}
            build_pages(outputs, notebooks, data, current_draw(args.draw), **asked)

    run_grid(grid, args, then)


def _side(args: argparse.Namespace, data: str) -> int:
    """The side of the images that the options ask for; ValueError if it is none, or if nothing asked for can be trained at it."""
    side = side_of(data, args.side)
    if args.study and args.precision != AUTO:
        raise ValueError(f"precision={args.precision!r}: must be {AUTO} with --study")
    if side and args.study:
        raise ValueError(f"side={side}: must be that of the data set with --study")
    if side:
        at_side(recipe_names(args.recipes), side)
    return side


def without_labels(args: argparse.Namespace) -> bool:
    """Whether the options ask for runs without labels alone."""
    return not args.study and {number(text) for text in args.labels.replace(",", " ").split()} == {0}


def show_clusters(grid: Sequence[Run], outputs: Path) -> None:
    """Writes the pictures of the clusters, and the table for their names, of the finished runs without labels."""
    for run in grid:
        if not run.n_labels and not run.smoke and records.finished(run, outputs):
            for sentence in clusters.write(run.folder(outputs)):
                print(f"{run}: {sentence}", flush=True)


def _grid(args: argparse.Namespace, data: str, side: int) -> list[Run]:
    """The runs that the options ask for."""
    labels = fitting(data, side) if args.labels == LABELS else args.labels
    n_clusters = number(args.clusters) if args.clusters else 0
    common = {"data": data, "draw": args.draw, "smoke": args.smoke, "n_clusters": n_clusters}
    common |= {"side": side, "precision": args.precision}
    axes = labels, args.recipes, args.seeds, args.label_noise, args.folds
    grid = make_grid(*axes, **common, features=kept.NOT_YET if args.features.strip() else "")
    if n_clusters and not any(run.n_clusters for run in grid):
        raise ValueError(f"CLUSTERS={args.clusters!r}: must be empty unless there are 0 labels, not LABELS={args.labels!r}")
    if not args.features.strip():
        return grid
    if not any(run.features for run in grid):
        used = "must be empty: these runs use no features, with RECIPES"
        raise ValueError(f"FEATURES={args.features!r}: {used}={args.recipes!r} and DRAW={args.draw!r}")
    _check_machine(grid, args)  # what else is wrong is said before they are read
    features = kept.prepare(args.features, data)
    return [replace(run, features=features) for run in grid]


def _check_machine(grid: Sequence[Run], args: argparse.Namespace) -> tuple[int | None, str]:
    """The runs at a time that the options ask for, None for as many as fit, and the device of runs on this machine.

    Raises ValueError if the device can't be had, or if workers of a scheduler can't do a run.
    """
    jobs = check_whole("JOBS", number(args.jobs)) if args.jobs else None
    if not args.scheduler:
        check_device(args.device)
        return jobs, args.device
    if args.device not in DEVICES:  # whether there is a GPU, each worker sees
        raise ValueError(f"device={args.device!r}: must be one of {', '.join(DEVICES)}")
    if any(run.recipe == LINEAR.name for run in grid):
        raise ValueError(f"SCHEDULER={args.scheduler!r}: must be empty with recipe={LINEAR.name!r}: workers have no features")
    return jobs, "cpu"  # workers have their own device


def run_grid(grid: list[Run], args: argparse.Namespace, then: Callable[[], None]) -> None:
    """Executes the runs of `grid` that are not finished, then calls `then`, also if some of them failed.

    `args` has the options of `configure_machine`. Exits with status 1 and one line if a run or `then` failed.
    """
    asked, device = _check_machine(grid, args)
    jobs = asked or executors.jobs_in_memory(grid, cores(), device)
    outputs = files.outputs(args.outputs)
    names, side = list(dict.fromkeys(run.data for run in grid)), grid[0].side  # one for all
    with lock(outputs), _environment(pinned(names, side=side)):  # runs and page read the images that are there now
        for name in names:
            if isinstance(published := DATA_SETS.get(name), PublishedSet):
                fetch(name, files.DATA)
                print(f"{published.title}: {published.copies}", flush=True)
            else:
                preview(name, outputs, side)
        executor: Executor = DaskExecutor(args.scheduler, args.device) if args.scheduler else LocalExecutor(jobs, args.device)
        threads = max(1, cores() // jobs) if asked and not args.scheduler else 1
        problem = ""
        try:
            failures = sweep(grid, outputs, executor, threads)
            for each, error in failures:
                print(f"FAILED {each.run}: {error}\n  see {each.failed / 'train.ipynb'}")
            try:
                then()
            except (OSError, NotebookFailed, ValueError, LookupError) as error:
                problem = f"the results page could not be built, `make results` tries again: {error}"
        except KeyboardInterrupt:
            sys.exit(f"{args.command}: interrupted; finished runs are kept, and the same command resumes")
    if failures:
        also = f"; {problem}" if problem else ""
        sys.exit(f"{args.command}: {len(failures)} of {len(grid)} runs failed; the same command tries them again{also}")
    if problem:
        sys.exit(f"{args.command}: the runs are finished; {problem}")


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables, for this process and those that it starts."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def build_pages(outputs: Path, notebooks: list[str], data: str, draw: str, **asked: Any) -> None:
    """Builds the page of each notebook."""
    for notebook in notebooks:
        build.build(outputs, data, draw, FOLDER / f"{notebook}.ipynb", **asked)


def check_usable(name: str, outputs: Path, side: int = 0, *, for_training: bool = True) -> None:
    """Raises ValueError if the folder `name` can't be trained with; what of it is not used, and why, is written before.

    Not `for_training` with labels, it must only have images.
    """
    try:
        info = describe(name, side=side, for_training=False)
        problem, skipped, notes = info.problem if for_training else "", info.skipped, info.notes
    except ValueError as error:
        problem, skipped, notes = str(error), getattr(error, "skipped", ()), ()
    if problem and (skipped or notes):
        problem += f"; see {write_skipped(outputs / slug(name), skipped, notes)}"
    if problem:
        raise ValueError(problem)


def write_skipped(folder: Path, skipped: Rows, notes: Rows) -> Path:
    """Writes skipped.csv: the files that are not used, and what there is to say about others. Returns its path."""
    path = files.writable("OUTPUTS", folder) / "skipped.csv"
    rows = [(*row, used) for used, rows in (("no", skipped), ("yes", notes)) for row in rows]
    columns = ("file", "reason", "used")
    tables.write(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])
    return path


def preview(name: str, outputs: Path, side: int = 0) -> None:
    """Tells what a folder of images holds; writes what of it is not used, and a sheet of what the network will see."""
    info, images = describe(name, side=side, for_training=False), load(name, side=side)
    folder = outputs / info.slug
    write_skipped(folder, info.skipped, info.notes)
    by_chance = torch.randperm(info.n_images, generator=torch.Generator().manual_seed(0))
    first = min(20, info.n_labels)
    shown = torch.cat([torch.arange(first), by_chance[by_chance >= first]])[:40]  # the labelled ones come first
    titles = [name[:12] for name in images.class_names(images.y[shown])]
    title = f"{info.title}: what the network sees" + (", light and dark exchanged" if info.inverted else "")
    run_figures.images(images.x[shown], titles, columns=10, title=title).savefig(folder / "preview.png")
    for sentence in sentences(info):
        print(f"{info.title}: {sentence}")
    print(f"{info.title}: see preview.png and skipped.csv in {folder}", flush=True)


def sentences(info: DataSetInfo) -> list[str]:
    """What there is to say about the data set before it is trained with."""
    if not info.files:
        origin = "of the set itself"
    else:
        origin = "given as such" if info.own_test else "taken from the labelled ones, since no others have a class"
    lines = [
        f"{info.n_images} images to train with, {info.n_labels} labelled, of {len(info.classes)} classes",
        f"{info.n_test} images to test with{', ' + origin if info.n_test else ''}; {_counted(info.skipped, 'left out')}",
    ]
    if info.side != SIDE:
        lines.append(f"the network sees {info.side} × {info.side} pixels; SIDE={SIDE} is faster")
    lines += [text for file, text in info.notes if file == WHOLE]
    lines += [f"{file}: {text}" for file, text in info.notes if file in TABLES]
    if about_files := [note for note in info.notes if note[0] not in (WHOLE, *TABLES)]:
        lines.append(_counted(about_files, "used in part, or with a remark"))
    if unfit := [row for row in info.skipped if "named in" in row[1]]:
        lines.append(f"{_counted(unfit, 'named in a table of labels, but not there')}")
    return lines


def _counted(rows: Rows, what: str) -> str:
    """How many files are `what`, with an example of the commonest reason."""
    if not rows:
        return f"0 files {what}"
    ((common, _),) = Counter(reason for _, reason in rows).most_common(1)
    example = f", such as {next(file for file, reason in rows if reason == common)} ({common})"
    return f"{len(rows)} file{'s' * (len(rows) != 1)} {what}{example}"
