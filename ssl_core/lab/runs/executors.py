"""Execution of runs on this machine, each in a process of its own; cluster.py executes them on other machines."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import psutil

from ssl_core.datasets import machine
from ssl_core.model import N_HIDDEN

from ..features import kept
from . import gpu, notebook, records
from .fingerprint import fingerprint
from .notebook import Execution, NotebookFailed
from .progress import Tell
from .spec import Run, tell_cpu


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
    """The memory in bytes that `run` takes at most, estimated: PyTorch, images, unlabelled images once more, the graph."""
    info, image = run.info, 4 * 28 * 28 * len(run.info.mean)
    size = 0.95e9 + image * (2.25 * info.n_images + info.n_test)
    if run.pretraining:  # features twice, neighbours, a score for each class
        size += info.n_images * (2 * 4 * N_HIDDEN + 12 * 3 * run.pretraining.neighbors + 28 * len(info.classes))
    return size + (4 * kept.size(run.data, run.features) if run.features else 0)


def gpu_memory(run: Run) -> float:
    """The memory of a GPU in bytes that `run` takes, estimated: the context, the images twice, a batch with its gradients."""
    return 1.5e9 + 8 * 28 * 28 * len(run.info.mean) * run.info.n_images


def jobs_in_memory(grid: list[Run], cores: int, device: str = "auto") -> int:
    """The number of runs of `grid` that may be executed at a time: one per core, as far as free memory goes, at least 1.

    On a GPU, its own memory counts as well: they share it. Says why, if `auto` cannot use the one that is there.
    """
    jobs = min(cores, int(machine.memory() // max(map(memory, grid))))
    if device != "cpu":
        why, free = gpu.ask()
        if why:
            tell_cpu(why)
        else:
            jobs = min(jobs, int(free // max(map(gpu_memory, grid))))
    return max(1, jobs)


def too_many(grid: list[Run], jobs: int, cores: int) -> str:
    """A line of warning if `jobs` that a user asked for are more than there are cores, or than fit into memory; else ''."""
    jobs = min(jobs, len(grid))
    need, free = max(map(memory, grid), default=0), machine.memory()
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
