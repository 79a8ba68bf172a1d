"""Execution of runs on this machine, each in a process of its own; cluster.py executes them on other machines."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_core.datasets import DataSetInfo, machine
from ssl_core.device import ask, tell_cpu
from ssl_core.graph import MANY
from ssl_core.model import N_HIDDEN, init_net
from ssl_core.progress import Tell

from ..features import kept
from . import notebook, records
from .fingerprint import fingerprint
from .notebook import Execution, NotebookFailed
from .spec import Run

# What one core does in a second, as measured on one with AVX-512: it scales the time that is told before a sweep.
DISTORTED = 3.0e8  # values of images, as `best` distorts them
TRAINED = 1.1e11  # operations of the network, forwards and backwards
PRETRAINING = 1.2  # the cost of a view while the graph's features are learned, beside one in training
COMPARED = 2.0e8  # pairs of images, in the search of neighbours
INDEXED = 800  # images, where an index finds them


class Executor(Protocol):
    """Executes runs. The future of `submit` raises if the run fails; otherwise its files are in `folder`.

    `begin` is called before the run starts, and `tell` is given the events of its progress.
    """

    @property
    def jobs(self) -> int | None:
        """Runs at a time; None if that is not known."""

    def submit(self, run: Run, folder: Path, threads: int, tell: Tell, begin: Callable[[], None]) -> Future: ...

    def close(self, *, stop: bool) -> None:
        """Ends; with `stop`, does not wait for runs under way."""


class RunProcess:
    """The training notebook of a run, executed into `folder`."""

    def __init__(self, run: Run, folder: Path, threads: int, device: str, tell: Tell):
        self.run, self.folder, self.threads = run, folder, threads
        parameters = asdict(run) | {"folder": str(folder), "threads": threads, "device": device}
        self.execution = Execution(notebook.TRAIN, folder / "train.ipynb", parameters, tell)

    def execute(self) -> None:
        """Raises NotebookFailed unless the run is recorded: after a kernel's death the notebook alone can look finished."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.execution.run(**notebook.KEEP_MEMORY, **threads)
        record = records.read(self.folder)
        if record is None or record.fingerprint != fingerprint(self.run):
            raise NotebookFailed("the notebook ended without a record of this run")

    def stop(self) -> None:
        self.execution.stop()


class LocalExecutor:
    """This machine: `jobs` runs at a time on `device`."""

    def __init__(self, jobs: int, device: str = "auto"):
        self.jobs, self.device = jobs, device
        self.pool = ThreadPoolExecutor(jobs)  # a thread waits for a process
        self.processes: list[RunProcess] = []

    def __str__(self) -> str:
        return f"{self.jobs} at a time"

    def submit(self, run: Run, folder: Path, threads: int, tell: Tell, begin: Callable[[], None]) -> Future:
        self.processes.append(process := RunProcess(run, folder, threads, self.device, tell))

        def execute() -> None:
            begin()
            process.execute()

        return self.pool.submit(execute)

    def close(self, *, stop: bool) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in self.processes if stop else ():
            process.stop()
        self.pool.shutdown()


def memory(run: Run) -> float:
    """The memory in bytes that `run` takes at most, estimated: PyTorch, images, the graph.

    Images are bytes, twice while they are read from the disk, and test images floats. The views of a batch, with all that the
    network makes of them, count as 30,000 more.
    """
    info, values = run.info, _values(run.info)
    size = 0.95e9 + values * (2 * info.n_images + 6 * info.n_test + 120_000)
    if run.pretraining:  # larger batches; features twice, neighbours, a score for each class
        size += 0.2e9 + info.n_images * (2 * 4 * N_HIDDEN + 12 * 3 * run.pretraining.neighbors + 28 * len(info.classes))
    return size + (4 * kept.size(run.data, run.features) if run.features else 0)


def gpu_memory(run: Run) -> float:
    """The memory of a GPU in bytes that `run` takes, estimated: context, a batch, the images twice, the graph's features."""
    return 1.5e9 + (2 * _values(run.info) + (3200 if run.pretraining else 0)) * run.info.n_images


def seconds(run: Run) -> float:
    """The seconds of one core that training takes, without the graph, estimated from the operations; see `image_seconds`."""
    return run.settings.images_for(run.n_labels, run.info.n_images - run.n_labels) * image_seconds(run.info)


def graph_seconds(run: Run) -> float:
    """The seconds of one core that making the graph of `run` takes, estimated in the same way; 0 if it needs none."""
    if (pretraining := run.pretraining) is None:
        return 0.0
    views, n = 2 * pretraining.steps * min(pretraining.batch, run.info.n_images), run.info.n_images
    search = n**2 / COMPARED if n < MANY else n / INDEXED
    return views * PRETRAINING * image_seconds(run.info) + search


def image_seconds(info: DataSetInfo) -> float:
    """The seconds that a core takes to distort an image and to train with it: by its values and by the network's operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        init_net(0, max(2, len(info.classes)), info.channels, info.side)(torch.zeros(1, info.channels, info.side, info.side))
    return _values(info) / DISTORTED + 3 * counter.get_total_flops() / TRAINED


def _values(info: DataSetInfo) -> int:
    """The numbers that an image is made of."""
    return info.channels * info.side**2


def jobs_in_memory(grid: list[Run], cores: int, device: str = "auto") -> int:
    """The number of runs of `grid` that may be executed at a time: one per core, as far as free memory goes, at least 1.

    On a GPU, its own memory counts as well: they share it. Says why, if `auto` cannot use the one that is there.
    """
    jobs = min(cores, int(machine.memory() // max(map(memory, grid))))
    if device != "cpu":
        why, free = ask()
        if why:
            tell_cpu(why)
        else:
            jobs = min(jobs, int(free // max(map(gpu_memory, grid))))
    return max(1, jobs)


def too_many(grid: list[Run], jobs: int, cores: int) -> str:
    """A line of warning if `jobs` are more than there are cores, or than fit into memory, or one does not; else ''."""
    jobs = min(jobs, len(grid))
    need, free = max(map(memory, grid), default=0), machine.memory()
    if jobs and need > free:
        takes = f"takes up to {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        return f"a run {takes}: it may be killed for want of it; fewer images, or a smaller SIDE, take less"
    if jobs > 1 and jobs * need > free:
        room = f"{free / 1e9:.1f} GB of memory are free for them, enough for {max(1, int(free // need))}"
        return f"JOBS={jobs}: {room}: runs may be killed for want of it, and the same command tries those again"
    return f"JOBS={jobs}: more than the {cores} cores here: the runs will slow each other down" if jobs > cores else ""


def end_orphans(folder: Path) -> None:
    """Kills processes that a killed sweep left behind and that would still write into `folder`."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile, or belongs to somebody else
            command = process.cmdline()
            if str(folder / "train.ipynb") in command and "ssl_core.lab.runs.notebook" in " ".join(command):
                for each in (process, *process.children(recursive=True)):
                    with suppress(psutil.Error):
                        each.kill()
                        each.wait(10)


def tree_memory(process: psutil.Process) -> int:
    """Memory in bytes of a process and its descendants; pages that several of them share count once."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            info = each.memory_full_info()
            total += getattr(info, "pss", info.uss)  # macOS does not know the share of shared pages
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # one ended in the meantime
    return total
