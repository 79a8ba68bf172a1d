"""Measures the speed of training and of a sweep, as ratios of what one run of the benchmark measures in turns.

`make bench` writes `outputs/bench.json` and `outputs/bench.png`. Processes of their own measure, as in a sweep: one per core,
each with one thread. Nothing here is part of a run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ssl_core import experiment, graph, recipes, report_loop, train
from ssl_core.data import Task, load, split
from ssl_core.datasets import fetch
from ssl_core.datasets.checks import check_whole
from ssl_core.datasets.machine import cores
from ssl_core.device import best_precision
from ssl_core.model import PRECISIONS, init_net

from .. import LabError
from ..page import reference
from ..runs import files, graph_cache, notebook, records
from ..runs.certify import code_of
from ..runs.executors import tree_memory
from ..runs.spec import Run
from ..studies import speed

RATIOS = {
    "throughput_ratio": "images per second in training by `published`, relative to the report's loop as printed",
    "throughput_ratio_best": "the same by `best`",
    "arithmetic_efficiency": "operations per second of `best` in float32, relative to those of a large matrix product",
    "arithmetic_efficiency_bfloat16": "the same, both in bfloat16",
    "sweep_overhead": "time of a sweep, relative to that of its training alone",
    "scaling": "runs per hour with one job per core, relative to those of one job",
}
PRECISE, ROUGH = PRECISIONS
TRAINED = ("published", "supervised", "best")  # the recipes that are measured; and in the precision that `auto` does not choose:
BOTH = (f"supervised {PRECISE}", f"best {PRECISE}", f"multiply {ROUGH}") if best_precision() == ROUGH else ()
N_LABELS = 6000  # where the report's loop is measured
STEPS = 30  # of a measurement: an epoch of the report at 6000 labels
SIZE = 2048  # rows and columns of the large matrix product
Work = tuple[Callable[[], object], int]  # a function that is timed, and the images or operations of a call


# --- what a worker measures


def training(name: str, n_labels: int = N_LABELS) -> Work:
    """STEPS steps of a recipe, `best` or `best float32`, ready to run, and the number of images that pass through the network."""
    images = load("mnist", files.DATA)
    parts = split(images.y, n_labels, 0)
    name, _, precision = name.partition(" ")
    recipe = recipes.get(name).in_precision(precision or best_precision())
    recipe = replace(recipe, epochs=1, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and STEPS)
    # Which classes are candidates does not change the cost.
    candidates = F.one_hot(images.y[parts.unlabeled], 10).bool() if recipe.pretraining else None
    task = Task(images.part(parts.labeled), images.y[parts.labeled], images.part(parts.unlabeled), candidates)
    assert recipe.steps_for(n_labels, len(task.x_u)) == STEPS
    return lambda: train.fit(init_net(0), task, recipe, 0), recipe.images_for(n_labels, len(task.x_u))


def multiplication(precision: str) -> Work:
    """Ten large matrix products in that precision, and their operations."""
    matrix = torch.randn(SIZE, SIZE, dtype=getattr(torch, precision))

    def multiply() -> None:
        for _ in range(10):
            matrix @ matrix

    return multiply, 10 * 2 * SIZE**3


def prepared(name: str) -> Work:
    """The work called `name`: `multiply`, `printed` (the report's loop), or a recipe. It has run once: that is slower.

    Of products and recipes the precision may follow, as in `multiply bfloat16`.
    """
    if name.startswith("multiply"):
        work = multiplication(name.partition(" ")[2] or PRECISE)
    elif name == "printed":
        work = report_loop.printed_epoch(files.DATA, N_LABELS), 3 * report_loop.BATCH * STEPS
    else:
        work = training(name)
    work[0]()
    return work


def rate(work: Work) -> float:
    """Images, or operations, per second."""
    start = time.perf_counter()
    work[0]()
    return work[1] / (time.perf_counter() - start)


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions, forwards and backwards, and of the optimiser's."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def kernels(run: Callable[[], object], most: int = 5) -> list[tuple[str, float]]:
    """The kernels that take most time, each with its fraction of the total."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    times = [(event.key.removeprefix("aten::"), event.self_cpu_time_total) for event in profiled.key_averages()]
    total = sum(seconds for _, seconds in times)
    return [(name, seconds / total) for name, seconds in sorted(times, key=lambda pair: -pair[1])[:most]]


def seconds_to_99(n_labels: int = 50) -> dict[str, float | None]:
    """The seconds of one core from the raw images of MNIST to 99 % of the test images by `best`: of the graph, and of training.

    Training counts until the first snapshot of that accuracy, None if none has it; evaluation does not count.
    """
    start, images = time.perf_counter(), load("mnist", files.DATA)
    run = Run(n_labels, "best", 0, draw="class-balanced")
    assert run.pretraining is not None  # of this recipe
    neighbors = graph.build(images.x, run.pretraining)
    task = experiment.prepare(images, run.labeling, run.settings, neighbors)
    until = time.perf_counter() - start
    training = train.fit(experiment.network(images, run.seed), task, run.settings, run.seed)
    seconds = {row["epoch"]: row["seconds"] for row in training.history}
    good = (e for e, model in training.snapshots.items() if train.evaluate(model, images.x_test, images.y_test).accuracy >= 0.99)
    first = next(good, None)
    return {"graph": until, "training": None if first is None else seconds[first]}


def serve() -> None:
    """A worker: reads tasks, one per line, and answers each with a line of JSON."""
    works: dict[str, Work] = {}
    measures: dict[str, Callable[[Work], object]] = {
        "rate": rate,
        "operations": lambda work: operations(work[0]),
        "profile": lambda work: kernels(work[0]),
    }
    for line in sys.stdin:
        verb, _, name = line.strip().partition(" ")
        if verb == "seconds_to_99":
            print(json.dumps(seconds_to_99()), flush=True)
            continue
        if name not in works:
            works[name] = prepared(name)
        print(json.dumps(measures[verb](works[name])), flush=True)


class Workers:
    """Processes that measure at the same time; to be used in a `with` statement, which ends them."""

    def __init__(self, n: int, threads: int, environment: Mapping[str, str], project: Path = files.ROOT):
        command = [sys.executable, "-m", "ssl_core.lab", "bench", "--worker"]
        environment = os.environ | environment | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment |= {"PYTHONPATH": str(project)}  # also of an earlier version
        environment["KINETO_LOG_LEVEL"] = "6"  # the profiler else reports an error where there is no GPU
        pipe = subprocess.PIPE
        self.processes = [
            subprocess.Popen(command, env=environment, cwd=project, stdin=pipe, stdout=pipe, text=True) for _ in range(n)
        ]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.communicate()

    def ask(self, task: str, n: int | None = None) -> list:
        """The answers of the first `n` workers, or of all, to one task."""
        workers = self.processes[:n]
        for process in workers:
            assert process.stdin is not None  # a pipe
            process.stdin.write(f"{task}\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in workers]  # type: ignore[union-attr]  # pipes

    def rate(self, name: str, n: int | None = None) -> float:
        """The rate of all workers together."""
        return sum(self.ask(f"rate {name}", n))


# --- what the measurements say


def measure_loop(repeats: int, before: Path | None = None) -> dict:
    """The ratios of the training loop, with the samples whose medians they are; and the rates of the version in `before`."""
    with ExitStack() as stack:
        # As printed: one process, all cores, and the system's memory allocation as it is.
        printed = stack.enter_context(Workers(1, cores(), {}))
        ours = stack.enter_context(Workers(cores(), 1, notebook.KEEP_MEMORY))
        former = stack.enter_context(Workers(cores(), 1, notebook.KEEP_MEMORY, before)) if before else None
        for name in ("multiply", *TRAINED, *BOTH):
            ours.rate(name)  # prepares it
        if former:
            former.rate("best")
        printed.rate("printed")
        per_image = {name: ours.ask(f"operations {name}", 1)[0] / training(name)[1] for name in TRAINED}
        samples = sample(printed, ours, former, repeats)
        to_99 = ours.ask("seconds_to_99", 1)[0]
        profiled = ours.ask("profile best", 1)[0]

    def ratio(above: str, below: str, factor: float = 1.0) -> float:
        return median(factor * a / b for a, b in zip(samples[above], samples[below], strict=True))

    exact = {name: f"{name} {PRECISE}" if f"{name} {PRECISE}" in BOTH else name for name in TRAINED}
    efficiency = {name: ratio(exact[name], "multiply", per_image[name]) for name in TRAINED}
    rough = {"arithmetic_efficiency_bfloat16": ratio("best", f"multiply {ROUGH}", per_image["best"])} if BOTH else {}
    since = {f"{name} over before": ratio(name, f"{name} before") for name in TRAINED} if before else {}
    return {
        "throughput_ratio": ratio("published", "printed"),
        "throughput_ratio_best": ratio("best", "printed"),
        "arithmetic_efficiency": efficiency["best"],
        **rough,
        "scaling": ratio("best", "one job"),
        "seconds_to_99": to_99,
        "since": since,
        "arithmetic_efficiency_by_recipe": efficiency,
        "operations_per_image": per_image,
        "rates": {name: median(values) for name, values in samples.items()},
        "samples": samples,
        "profile": profiled,
    }


def sample(printed: Workers, ours: Workers, former: Workers | None, repeats: int) -> dict[str, list[float]]:
    """The rates of `repeats` rounds. In a round, all that is compared takes turns."""
    samples: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats):
        print(f"bench · training loop, round {repeat + 1}/{repeats}", flush=True)
        samples["printed"].append(printed.rate("printed"))
        samples["one job"].append(ours.rate("best", 1))
        for name in ("multiply", *TRAINED, *BOTH):
            samples[name].append(ours.rate(name))
        for name in TRAINED:
            if former:
                samples[f"{name} before"].append(former.rate(name))
    return dict(samples)


def measure_sweep(outputs: Path, arguments: list[str]) -> dict:
    """Runs a sweep into `outputs`; its time relative to that of its training, and its peak memory in bytes.

    A graph that the sweep makes counts as training.
    """
    before, start = set(graph_cache.FOLDER.glob("*.safetensors")), time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "ssl_core.lab", "sweep", "--outputs", str(outputs), *arguments])
    peaks = {"sweep": 0, "run": 0}
    while process.poll() is None:
        of_runs = [tree_memory(run) for server in process.children() for run in server.children()]
        peaks = {"sweep": max(peaks["sweep"], tree_memory(process)), "run": max([peaks["run"], *of_runs])}
        time.sleep(0.5)
    if process.returncode:
        raise LabError(f"the sweep failed with status {process.returncode}")
    wall = time.perf_counter() - start
    seconds = [record.seconds for record in records.read_all(outputs)]
    graphs = [graph_cache.seconds(path) for path in set(graph_cache.FOLDER.glob("*.safetensors")) - before]
    return {
        "sweep_overhead": wall / makespan(seconds + graphs, cores()),
        "sweep": {"seconds": wall, "runs": len(seconds), "training_seconds": sum(seconds), "graph_seconds": sum(graphs)},
        "memory": peaks,
    }


def makespan(seconds: list[float], n_cores: int) -> float:
    """The time that jobs take on `n_cores`, the longest first."""
    busy = [0.0] * n_cores
    for job in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += job
    return max(busy)


def seconds_to(outputs: Path, goals: Iterable[float] = (0.98, 0.99)) -> dict[str, dict[str, float | None]]:
    """By recipe, the seconds of training until a run with 50 labels first reached each test accuracy; None: never."""
    times = {}
    for record in records.select(records.read_all(outputs)):
        if (record.row["n_labels"], record.row["seed"]) == (50, 0):
            seconds = {row["epoch"]: row["seconds"] for row in record.history}
            reached = {
                goal: next((seconds[e] for e, accuracy in record.test_accuracy.items() if accuracy >= goal), None)
                for goal in goals
            }
            times[record.row["recipe"]] = {f"{100 * goal:g} %": value for goal, value in reached.items()}
    return times


def machine() -> dict[str, str | int]:
    """The machine that was measured."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "torch": torch.__version__,
    }


def table(measured: Mapping) -> str:
    """The ratios in Markdown."""
    rows = [f"| {words} | {measured[name]:.2f} |" for name, words in RATIOS.items() if name in measured]
    return "\n".join(["| what | measured |", "| --- | ---: |", *rows])


def sentences(measured: Mapping) -> str:
    """The machine and the figures that are not ratios, as a list in Markdown."""
    m, rates = measured["machine"], measured["rates"]
    kinds = [(PRECISE, "multiply"), (ROUGH, f"multiply {ROUGH}")]
    products = ", ".join(f"{rates[name] / 1e9:.0f} GFLOP/s in {kind}" for kind, name in kinds if name in rates)
    lines = [
        f"{m['cores']} cores of {m['processor']} ({m['instructions']}), {m['memory_gib']} GiB, torch {m['torch']}",
        f"images per second: `published` {rates['published']:.0f} (the report's loop as printed: {rates['printed']:.0f}), "
        f"`supervised` {rates['supervised']:.0f}, `best` {rates['best']:.0f}; "
        f"matrix product: {products}",
        "kernels with most time: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in measured["profile"]),
    ]
    if reached := measured.get("seconds_to_99"):
        there = "is never there" if reached["training"] is None else f"{reached['graph'] + reached['training']:.0f} s"
        lines.append(f"one core, raw images to 99 % with 50 labels: {there}, {reached['graph']:.0f} s of it for the graph")
    if since := measured.get("since"):
        lines.append("images per second, ratios: " + ", ".join(f"{name} {value:.2f}" for name, value in since.items()))
    if "sweep" in measured:
        lines.append(_sweep_sentence(measured["sweep"]))
    for recipe, reached in measured.get("seconds_to", {}).items():
        goals = ", ".join(f"{goal}: {'never' if s is None else f'{s:.0f} s'}" for goal, s in reached.items())
        lines.append(f"`{recipe}` with 50 labels reaches {goals}")
    if "memory" in measured:
        mb = {name: value / 2**20 for name, value in measured["memory"].items()}
        lines.append(f"peak memory: a run {mb['run']:.0f} MiB, the sweep {mb['sweep']:.0f} MiB")
    return "\n".join(f"- {line}" for line in lines)


def _sweep_sentence(sweep: Mapping[str, float]) -> str:
    graph = f", {sweep['graph_seconds']:.0f} s of it for the graph" if sweep["graph_seconds"] else ""
    training = f"{sweep['training_seconds'] + sweep['graph_seconds']:.0f} s of training on one core{graph}"
    return f"the sweep of {sweep['runs']} runs took {sweep['seconds'] / 60:.1f} minutes, with {training}"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=7, help="samples of each rate; the median counts")
    parser.add_argument("--sweep", default="", help="arguments of the sweep that is timed; empty: the default sweep")
    parser.add_argument("--skip-sweep", action="store_true", help="the training loop only")
    parser.add_argument("--since", default="HEAD", help="a commit whose speed is measured in turns with today's; HEAD: none")
    parser.add_argument("--outputs", default="outputs", help="where the result goes, from the project's root")
    parser.add_argument("--reference", action="store_true", help="also renew outputs/reference and its table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)


def command(args: argparse.Namespace) -> None:
    if args.worker:
        serve()
        return
    check_whole("REPEATS", args.repeats)
    outputs = files.writable("OUTPUTS", files.outputs(args.outputs))
    fetch("mnist", files.DATA)
    with tempfile.TemporaryDirectory() as folder:
        before = None
        if args.since != "HEAD":
            code_of(args.since, before := Path(folder))
        measured = {"machine": machine()} | measure_loop(args.repeats, before)
    if not args.skip_sweep:
        with tempfile.TemporaryDirectory(dir=outputs) as folder:
            measured |= measure_sweep(Path(folder), args.sweep.split())
            measured["seconds_to"] = seconds_to(Path(folder))
    for place in [outputs] + [files.REFERENCE] * args.reference:
        files.write_atomically(place / "bench.json", json.dumps(measured, indent=1) + "\n")
        speed.figure(measured).savefig(place / "bench.png", dpi=150)
    if args.reference:
        reference.place({"bench": f"{table(measured)}\n\n{sentences(measured)}"})
    print(f"{table(measured)}\n\n{sentences(measured)}\n\nbench: written to {outputs / 'bench.json'}")
