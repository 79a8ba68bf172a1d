"""How close the project comes to what the machine can do, in ratios that are measured alternately in one run.

`make bench` writes `outputs/bench.json` and `outputs/bench.png`. A measurement is taken in processes of their own, as a sweep
uses them: one for each core, each of one thread. Nothing here is part of a run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms
from torchvision.transforms import functional as TF

from ssl_core import recipes, train
from ssl_core.data import Task, load, split
from ssl_core.datasets import MEAN, STD, fetch
from ssl_core.datasets.checks import check_whole
from ssl_core.model import Net, init_net

from ..page import reference
from ..runs import files, graph_cache, notebook, records, sweep
from ..studies import speed

TARGETS = {"throughput_ratio": 5.0, "arithmetic_efficiency": 0.7, "sweep_overhead": 1.10, "scaling": 1.85}
WORDS = {
    "throughput_ratio": "images a second in training, over the report's loop as printed",
    "arithmetic_efficiency": "operations a second in training, over those of a large matrix product",
    "sweep_overhead": "time of a sweep, over that of its training alone",
    "scaling": "runs an hour with a job on each core, over those of one job",
}
N_LABELS = 6000  # where the report's loop is measured
STEPS = 30  # of a measurement; what the report's epoch has at 6000 labels
SIZE = 2048  # rows and columns of the large matrix product


# --- the report's loop


def printed_logits(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and features of images `x`, as the report computes them: ReLU, then pooling."""
    x = F.max_pool2d(F.relu(net.conv1(x)), 2)
    x = F.max_pool2d(F.relu(net.conv2(x)), 2)
    features = F.relu(net.conv3(x)).flatten(1)
    return net.linear2(F.relu(net.linear1(features))), features


def printed_step(net: Net, optimizer: torch.optim.Optimizer, x_l: Tensor, y_l: Tensor, x_u: Tensor, centroids: Tensor) -> Tensor:
    """One step of the report's loop, transcribed; its call of the affine map with the arguments that it lacks. The total loss."""
    turned = TF.affine(x_u, angle=15, translate=[0.1, 0.1], scale=1.0, shear=[0.0, 0.0])
    logits_l, _ = printed_logits(net, x_l)
    logits_u, features_u = printed_logits(net, x_u)
    p, p_turned = F.softmax(logits_u, 1), F.softmax(printed_logits(net, turned)[0], 1)
    distances = torch.stack([(features_u - c).norm(dim=1) for c in centroids], 1)
    clustering = distances.min(1).values.mean()
    entropy = (p * torch.log(p + 1e-8)).sum(1).mean()
    total = F.cross_entropy(logits_l, y_l) + 0.1 * clustering + 0.5 * F.mse_loss(p, p_turned) + 0.05 * entropy
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total


def printed_epoch() -> Callable[[], None]:
    """An epoch of the report at 6000 labels, ready to run: torchvision's data set, an image at a time, the default layout."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    images = datasets.MNIST(files.DATA, train=True, transform=transform)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labeled, unlabeled = (
        DataLoader(Subset(images, part.tolist()), batch_size=200, shuffle=True)
        for part in (shuffled[:N_LABELS], shuffled[N_LABELS:])
    )
    net = init_net(0).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)

    def epoch() -> None:
        with torch.no_grad():
            known = [(printed_logits(net, x)[1], y) for x, y in labeled]
        features, y = torch.cat([f for f, _ in known]), torch.cat([y for _, y in known])
        centroids = torch.stack([features[y == c].mean(0) for c in range(10)])
        for (x_l, y_l), (x_u, _) in zip(labeled, unlabeled, strict=False):
            printed_step(net, optimizer, x_l, y_l, x_u, centroids)

    return epoch


# --- what a worker measures


def training(name: str, n_labels: int = N_LABELS) -> tuple[Callable[[], None], int]:
    """STEPS steps of a recipe, ready to run, and how many images they pass through the network."""
    images = load("mnist", files.DATA)
    parts = split(images.y, n_labels, 0)
    recipe = recipes.get(name)
    recipe = replace(recipe, epochs=1, epochs_at={}, steps_per_epoch=recipe.steps_per_epoch and STEPS)
    # What the candidates are does not matter to the cost.
    candidates = F.one_hot(images.y[parts.unlabeled], 10).bool() if recipe.pretraining else None
    task = Task(images.x[parts.labeled], images.y[parts.labeled], images.x[parts.unlabeled], candidates)
    assert recipe.steps_for(n_labels, len(task.x_u)) == STEPS
    return lambda: train.fit(init_net(0), task, recipe, 0), recipe.images_for(n_labels, len(task.x_u))


def multiplication() -> tuple[Callable[[], None], int]:
    """Ten large matrix products, and the operations that they take."""
    matrix = torch.randn(SIZE, SIZE)

    def multiply() -> None:
        for _ in range(10):
            matrix @ matrix

    return multiply, 10 * 2 * SIZE**3


def operations(run: Callable[[], None]) -> int:
    """Floating-point operations of matrix products and convolutions, forwards and backwards, and of the optimiser's."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def costliest(run: Callable[[], None], most: int = 5) -> list[tuple[str, float]]:
    """The kernels in which most time goes, each with its share of all."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    found = sorted(((e.key.removeprefix("aten::"), e.self_cpu_time_total) for e in profiled.key_averages()), key=lambda e: -e[1])
    total = sum(time for _, time in found)
    return [(name, time / total) for name, time in found[:most]]


def work() -> None:
    """A worker: reads tasks, a line each, and answers each with a line of JSON."""
    ready: dict[str, tuple[Callable[[], None], int]] = {}
    for line in sys.stdin:
        verb, _, what = line.strip().partition(" ")
        if what not in ready:
            make = {"multiply": multiplication, "printed": lambda: (printed_epoch(), 3 * 200 * STEPS)}
            ready[what] = make.get(what, lambda what=what: training(what))()
            ready[what][0]()  # the first time is slower
        run, amount = ready[what]
        if verb == "rate":  # images a second; of the multiplication, operations
            start = time.perf_counter()
            run()
            answer = amount / (time.perf_counter() - start)
        else:
            answer = {"operations": operations, "profile": costliest}[verb](run)
        print(json.dumps(answer), flush=True)


class Workers:
    """Processes that measure, at once when asked; to be used in a `with` statement, which ends them."""

    def __init__(self, n: int, threads: int, environment: dict[str, str]):
        command = [sys.executable, "-m", "ssl_core.lab", "bench", "--worker"]
        environment = os.environ | environment | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(n)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def ask(self, task: str, n: int | None = None) -> list:
        """The answers of the first `n` workers, or of all, to one task."""
        asked = self.processes[:n]
        for process in asked:
            process.stdin.write(f"{task}\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in asked]

    def rate(self, what: str, n: int | None = None) -> float:
        """What the workers do a second, all together."""
        return sum(self.ask(f"rate {what}", n))


# --- what is made of it


def of_the_loop(repeats: int) -> dict:
    """The three ratios of the training loop, with the samples they are medians of."""
    cores = sweep.cores()
    with ExitStack() as stack:
        # As printed: one process, all cores, and the system's memory allocation as it comes.
        printed = stack.enter_context(Workers(1, cores, {}))
        ours = stack.enter_context(Workers(cores, 1, notebook.KEEP_MEMORY))
        names = ("published", "supervised", "best")
        for what in ("multiply", *names):
            ours.rate(what)  # makes it ready
        printed.rate("printed")
        per_image = {name: ours.ask(f"operations {name}", 1)[0] / training(name)[1] for name in names}
        samples = {"printed": [], "multiply": [], "one job": []} | {name: [] for name in names}
        for repeat in range(repeats):
            print(f"bench · training loop, round {repeat + 1}/{repeats}", flush=True)
            samples["printed"].append(printed.rate("printed"))
            samples["multiply"].append(ours.rate("multiply"))
            samples["one job"].append(ours.rate("best", 1))
            for name in names:
                samples[name].append(ours.rate(name))
        shares = ours.ask("profile best", 1)[0]

    def ratio(above: str, below: str, factor: float = 1.0) -> float:
        return median(factor * a / b for a, b in zip(samples[above], samples[below], strict=True))

    efficiency = {name: ratio(name, "multiply", per_image[name]) for name in names}
    return {
        "throughput_ratio": ratio("published", "printed"),
        "arithmetic_efficiency": efficiency["best"],
        "scaling": ratio("best", "one job"),
        "arithmetic_efficiency_by_recipe": efficiency,
        "operations_per_image": per_image,
        "rates": {name: median(values) for name, values in samples.items()},
        "samples": samples,
        "profile": shares,
    }


def of_a_sweep(outputs: Path, arguments: list[str]) -> dict:
    """Runs a sweep into `outputs`; tells its time over that of its training, and its memory at most, in bytes.

    The graph counts as training, if it was not there and the sweep made it.
    """
    before, start = set(graph_cache.FOLDER.glob("*.safetensors")), time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "ssl_core.lab", "sweep", "--outputs", str(outputs), *arguments])
    peaks = {"sweep": 0, "run": 0}
    while process.poll() is None:
        of_runs = [tree_memory(child) for child in process.children()]
        peaks = {"sweep": max(peaks["sweep"], tree_memory(process)), "run": max([peaks["run"], *of_runs])}
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"the sweep failed with status {process.returncode}")
    wall = time.perf_counter() - start
    seconds = [record.seconds for record in records.read_all(outputs)]
    graphs = [graph_cache.seconds(path) for path in set(graph_cache.FOLDER.glob("*.safetensors")) - before]
    return {
        "sweep_overhead": wall / packed(seconds + graphs, sweep.cores()),
        "sweep": {"seconds": wall, "runs": len(seconds), "training_seconds": sum(seconds), "graph_seconds": sum(graphs)},
        "memory": peaks,
    }


def tree_memory(process: psutil.Process) -> int:
    """Memory in bytes of a process and all that it started; what several of them share is counted once."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # one ended while it was looked at
    return total


def packed(seconds: list[float], cores: int) -> float:
    """How long jobs take on so many cores, the longest first."""
    busy = [0.0] * cores
    for job in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += job
    return max(busy)


def time_to(outputs: Path, goals: Iterable[float] = (0.98, 0.99)) -> dict[str, dict[str, float | None]]:
    """By recipe, the seconds of training after which a run at 50 labels first reached each goal on its curve; None: never."""
    found = {}
    for record in records.select(records.read_all(outputs)):
        if (record.row["n_labels"], record.row["seed"]) == (50, 0):
            seconds = {row["epoch"]: row["seconds"] for row in record.history}
            reached = {
                goal: next((seconds[e] for e, accuracy in record.test_accuracy.items() if accuracy >= goal), None)
                for goal in goals
            }
            found[record.row["recipe"]] = {f"{100 * goal:g} %": value for goal, value in reached.items()}
    return found


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": sweep.cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "torch": torch.__version__,
    }


def as_table(found: dict) -> str:
    """The ratios in Markdown, each beside its target."""
    lines = ["| what | target | measured |", "| --- | ---: | ---: |"]
    for name, target in TARGETS.items():
        if name in found:
            at_most = "at most" if name == "sweep_overhead" else "at least"
            lines.append(f"| {WORDS[name]} | {at_most} {target:g} | {found[name]:.2f} |")
    return "\n".join(lines)


def in_words(found: dict) -> str:
    """The machine, and what is not a ratio, a line each."""
    m, rates = found["machine"], found["rates"]
    lines = [
        f"{m['cores']} cores of {m['processor']} ({m['instructions']}), {m['memory_gib']} GiB, torch {m['torch']}",
        f"images a second: {rates['published']:.0f} (the report's loop as printed: {rates['printed']:.0f}), "
        f"`supervised` {rates['supervised']:.0f}, `best` {rates['best']:.0f}; "
        f"matrix product: {rates['multiply'] / 1e9:.0f} GFLOP/s",
        "time goes to " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["profile"]),
    ]
    if "sweep" in found:
        s = found["sweep"]
        graph = f", of which the graph {s['graph_seconds']:.0f} s" if s["graph_seconds"] else ""
        trained = f"{s['training_seconds'] + s['graph_seconds']:.0f} s of training on one core{graph}"
        lines.append(f"the sweep of {s['runs']} runs took {s['seconds'] / 60:.1f} minutes, for {trained}")
    for recipe, reached in found.get("seconds_to", {}).items():
        told = ", ".join(f"{goal}: {'never' if s is None else f'{s:.0f} s'}" for goal, s in reached.items())
        lines.append(f"`{recipe}` at 50 labels reaches {told}")
    if "memory" in found:
        mb = {name: value / 2**20 for name, value in found["memory"].items()}
        lines.append(f"memory at most: a run {mb['run']:.0f} MiB, the sweep {mb['sweep']:.0f} MiB")
    return "\n".join(f"- {line}" for line in lines)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=7, help="samples of each rate; the median counts")
    parser.add_argument("--sweep", default="", help="arguments of the sweep that is timed; empty: the default sweep")
    parser.add_argument("--skip-sweep", action="store_true", help="the training loop only")
    parser.add_argument("--outputs", default="outputs", help="where the result goes, from the project's root")
    parser.add_argument("--reference", action="store_true", help="also renew outputs/reference and its table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)


def command(args: argparse.Namespace) -> None:
    if args.worker:
        work()
        return
    check_whole("REPEATS", args.repeats)
    outputs = files.writable("OUTPUTS", files.ROOT / args.outputs)
    fetch("mnist", files.DATA)
    found = {"machine": machine(), "targets": TARGETS} | of_the_loop(args.repeats)
    if not args.skip_sweep:
        with tempfile.TemporaryDirectory(dir=outputs) as folder:
            found |= of_a_sweep(Path(folder), args.sweep.split())
            found["seconds_to"] = time_to(Path(folder))
    for folder in [outputs] + [files.REFERENCE] * args.reference:
        files.write_atomically(folder / "bench.json", json.dumps(found, indent=1) + "\n")
        speed.figure(found).savefig(folder / "bench.png", dpi=150)
    if args.reference:
        reference.place({"bench": f"{as_table(found)}\n\n{in_words(found)}"})
    print(f"{as_table(found)}\n\n{in_words(found)}\n\nbench: written to {outputs / 'bench.json'}")
