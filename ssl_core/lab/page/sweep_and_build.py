"""The command `sweep`: a grid of runs, then the results page."""

import argparse
import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from ssl_core.data import load
from ssl_core.datasets import check_name, describe, fetch
from ssl_core.datasets.checks import check_whole

from ..runs import executors, files
from ..runs.cluster import DaskExecutor
from ..runs.executors import Executor, LocalExecutor
from ..runs.notebook import FOLDER, NotebookFailed
from ..runs.spec import DEVICES, Run, check_device, current_draw
from ..runs.sweep import LABELS, cores, fitting, lock, make_grid, number, sweep
from ..studies import registry, run_figures
from . import build


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", default=LABELS, help="numbers of labelled images")
    parser.add_argument("--recipes", default="supervised published best", help="names of recipes; `ablations`: all of those")
    parser.add_argument("--seeds", default="0", help="whole numbers; each selects other labelled images and trains anew")
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--draw", default="random", help="selection of the labelled images: random, class-balanced or typical")
    parser.add_argument("--label-noise", "--wrong-labels", default="0", help="fractions of labels to replace by other classes")
    parser.add_argument("--folds", default="0", help="fifths of the labels, 1 to 5, to hold back; 0: none")
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
    if args.study:
        grid, notebooks = registry.runs(args.study, data, smoke=args.smoke), registry.notebooks(args.study)
    else:
        grid, notebooks = _grid(args, data), ["results"]
    run_grid(grid, args, lambda: build_pages(outputs, notebooks, data, current_draw(args.draw)))


def _grid(args: argparse.Namespace, data: str) -> list[Run]:
    """The runs that the options ask for."""
    labels = fitting(data) if args.labels == LABELS else args.labels
    common = {"data": data, "draw": args.draw, "smoke": args.smoke}
    return make_grid(labels, args.recipes, args.seeds, args.label_noise, args.folds, **common)


def run_grid(grid: list[Run], args: argparse.Namespace, then: Callable[[], None]) -> None:
    """Executes the runs of `grid` that are not finished, then calls `then`, also if some of them failed.

    `args` has the options of `configure_machine`. Exits with status 1 and one line if a run or `then` failed.
    """
    jobs = check_whole("JOBS", number(args.jobs) if args.jobs else executors.jobs_in_memory(grid, cores()))
    if not args.scheduler:
        check_device(args.device)
    elif args.device not in DEVICES:  # whether there is a GPU, each worker sees
        raise ValueError(f"device={args.device!r}: must be one of {', '.join(DEVICES)}")
    outputs = files.outputs(args.outputs)
    with lock(outputs):
        for name in dict.fromkeys(run.data for run in grid):
            if describe(name).as_published:
                fetch(name, files.DATA)
            else:
                preview(name, outputs)
        executor: Executor = DaskExecutor(args.scheduler, args.device) if args.scheduler else LocalExecutor(jobs, args.device)
        threads = max(1, cores() // jobs) if args.jobs and not args.scheduler else 1
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


def build_pages(outputs: Path, notebooks: list[str], data: str, draw: str) -> None:
    """Builds the page of each notebook."""
    for notebook in notebooks:
        build.build(outputs, data, draw, FOLDER / f"{notebook}.ipynb")


def preview(name: str, outputs: Path) -> None:
    """Tells what a folder of images holds; writes what of it is not used, and a sheet of what the network will see."""
    info, images = describe(name), load(name)
    folder = outputs / info.slug
    folder.mkdir(parents=True, exist_ok=True)
    rows = io.StringIO()
    csv.writer(rows).writerows([("file", "reason"), *info.skipped])
    files.write_atomically(folder / "skipped.csv", rows.getvalue())
    by_chance = torch.randperm(info.n_images, generator=torch.Generator().manual_seed(0))
    shown = torch.cat([torch.arange(min(20, info.n_labels)), by_chance[by_chance >= 20]])[:40]  # the labelled ones come first
    titles = [name[:12] for name in images.class_names(images.y[shown])]
    title = f"{info.title}: what the network sees" + (", light and dark exchanged" if info.inverted else "")
    run_figures.images(images.x[shown], titles, columns=10, title=title).savefig(folder / "preview.png")
    given = "of test/" if info.files else "of the set itself"
    origin = given if info.own_test else "taken from the labelled ones, since there is no test/"
    print(f"{info.title}: {info.n_images} images to train with, {info.n_labels} labelled, of {len(info.classes)} classes")
    print(f"{info.title}: {info.n_test} images to test with, {origin}; {len(info.skipped)} files left out")
    print(f"{info.title}: see preview.png and skipped.csv in {folder}", flush=True)
