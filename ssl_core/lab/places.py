"""One run, executed: here in a process of its own, or through Dask on another machine, which sends back what came out.

On another machine nothing is shared: a worker has the project and its packages, fetches the data itself, and is sent the graph.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from ssl_core.data import load
from ssl_core.model import N_HIDDEN
from ssl_core.recipes import Pretraining

from . import runs, shared
from .runs import Run

TOPIC = "ssl-core-progress"  # under which workers tell how far they are


class Process:
    """The training notebook, executed by papermill into a folder. `tell` is given each line that it prints."""

    def __init__(self, run: Run, folder: Path, threads: int, device: str, tell: Callable[[str], None]):
        self.run, self.folder, self.threads, self.device, self.tell = run, folder, threads, device, tell
        self.process: subprocess.Popen | None = None
        self.stopped = False

    def execute(self) -> str:
        """Returns the error, or ''. Only a record that is whole counts: a kernel that died can leave a notebook that looks so."""
        parameters = asdict(self.run) | {"folder": str(self.folder), "threads": self.threads, "device": self.device}
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self.process = subprocess.Popen(
            runs.papermill(runs.NOTEBOOK, self.folder / "train.ipynb", parameters),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | runs.KEEP_MEMORY | threads,
        )
        if self.stopped:  # while it was starting
            self.process.terminate()
        lines: list[str] = []
        for line in self.process.stdout:
            lines = [*lines[-20:], line.rstrip()]
            self.tell(line)
        status = self.process.wait()
        record = runs.read(self.folder)
        if status == 0 and record and record["fingerprint"] == self.run.fingerprint:
            return ""
        return last_error(lines)

    def stop(self) -> None:
        """Ends the process; its kernel notices that its parent is gone and ends too."""
        self.stopped = True
        if self.process and self.process.poll() is None:
            self.process.terminate()


def memory(run: Run) -> float:
    """About how many bytes `run` takes at most: PyTorch, the images, once more those without a label, and the graph."""
    known, image = run.known, 4 * 28 * 28 * len(run.known.mean)
    found = 0.95e9 + image * (2.25 * known.n_images + known.n_test)
    if run.graph:  # features twice, neighbours, a score for each class
        found += known.n_images * (2 * 4 * N_HIDDEN + 12 * 3 * run.graph.neighbors + 28 * len(known.classes))
    return found


def at_a_time(grid: list[Run], cores: int) -> int:
    """How many runs of `grid` may go on at a time: one a core, but no more than there is free memory for."""
    return max(1, min(cores, int(psutil.virtual_memory().available // max(map(memory, grid)))))


def last_error(lines: list[str]) -> str:
    """Of what a notebook printed that failed, the line that says why."""
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (errors or [line for line in lines if line] or ["no output"])[-1][:300]


def end_orphans(folder: Path) -> None:
    """Ends what still works on `folder`: a sweep that is killed leaves its processes, which would write there beside new ones."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # one that has ended meanwhile, or is not ours to look at
            command = process.cmdline()
            if "papermill" in " ".join(command) and str(folder / "train.ipynb") in command:
                for each in (process, *process.children(recursive=True)):
                    with suppress(psutil.Error):
                        each.kill()
                        each.wait(10)


@dataclass(frozen=True)
class Outcome:
    """What became of a run that another machine executed: the error, or '', and the files that it left."""

    error: str
    files: dict[str, bytes] = field(repr=False)

    def write(self, folder: Path) -> str:
        """Writes the files into `folder` and returns the error."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in {*runs.FILES, runs.CHECKPOINT} & self.files.keys():  # and no other name that a worker might send
            (folder / name).write_bytes(self.files[name])
        return self.error


def make_graph(data_name: str, settings: Pretraining, name: str, device: str, tell_as: str) -> bytes:
    """On a worker: the graph as the bytes of its file, from there or, the first time, made."""
    path = shared.path(data_name, settings)
    _same_code(path.name, name)
    shared.load_graph(load(data_name, runs.ROOT / "data"), settings, _teller(tell_as), device=device)
    return path.read_bytes()


def execute_there(run: Run, threads: int, device: str, fingerprint: str, graph: bytes | None) -> Outcome:
    """On a worker: executes `run` in a temporary folder. `graph` is the file of the graph that it needs."""
    _same_code(run.fingerprint, fingerprint)
    load(run.data, runs.ROOT / "data")  # fetched once, before a notebook starts
    if graph is not None and not (path := shared.path(run.data, run.graph)).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        runs.write_atomically(path, graph)
    with tempfile.TemporaryDirectory() as folder:
        error = Process(run, Path(folder), threads, device, _teller(str(run))).execute()
        return Outcome(error, {path.name: path.read_bytes() for path in Path(folder).iterdir()})


def _same_code(mine: str, wanted: str) -> None:
    if mine != wanted:
        raise RuntimeError("this worker has another version of the project than the sweep: both must be of the same commit")


def _teller(run: str) -> Callable[[str], None]:
    """Sends lines that tell how far a run is to whoever called for it."""
    from distributed import get_worker

    worker = get_worker()
    return lambda line: worker.log_event(TOPIC, {"run": run, "line": line})


class Here:
    """This machine: `jobs` runs at a time, each in a process of its own, on `device`."""

    def __init__(self, jobs: int, device: str = "auto"):
        self.jobs, self.device = jobs, device
        self.pool = ThreadPoolExecutor(jobs)  # a thread waits for a process
        self.processes: list[Process] = []

    def __str__(self) -> str:
        return f"{self.jobs} at a time"

    def submit(self, run: Run, folder: Path, threads: int, tell: Callable[[str], None], begin: Callable[[], None]) -> Future:
        """The future error of a run, or '', whose files are written to `folder`; `begin` is called before it starts."""
        self.processes.append(process := Process(run, folder, threads, self.device, tell))

        def execute() -> str:
            begin()
            return process.execute()

        return self.pool.submit(execute)

    def close(self, stop: bool) -> None:
        """Ends; with `stop`, also the runs that are on their way."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in self.processes if stop else ():
            process.stop()
        self.pool.shutdown()


class Cluster:
    """The workers of a Dask scheduler, wherever they are, each on the `device` that it has."""

    def __init__(self, address: str, device: str = "auto"):
        try:
            from distributed import Client
        except ImportError:
            raise ValueError(f"SCHEDULER={address!r}: needs Dask; install it: .venv/bin/pip install '.[cluster]'") from None
        try:
            self.client = Client(address, timeout=10)
        except (OSError, ValueError) as error:
            allowed = f"allowed is the address of a Dask scheduler that answers ({error})"
            raise ValueError(f"SCHEDULER={address!r}: {allowed}") from None
        self.address, self.device = address, device
        self.pool = self.client.get_executor(pure=False, retries=3)  # a worker that is lost takes no run with it
        self.graphs: dict[Path, object] = {}
        self.tell: dict[str, Callable[[str], None]] = {}
        self.client.subscribe_topic(TOPIC, lambda event: self.tell.get(event[1]["run"], print)(event[1]["line"]))

    def __str__(self) -> str:
        threads = sum(self.client.nthreads().values())
        return f"{threads} at a time on {len(self.client.nthreads())} workers of {self.address}"

    def submit(self, run: Run, folder: Path, threads: int, tell: Callable[[str], None], begin: Callable[[], None]) -> Future:
        """The future outcome of a run: its files are sent, not written to `folder`."""
        self.tell[str(run)] = tell
        return self.pool.submit(execute_there, run, threads, self.device, run.fingerprint, self._graph(run))

    def _graph(self, run: Run) -> object:
        """The graph that `run` needs, on the cluster or to be made there; None if it needs none."""
        if run.graph is None:
            return None
        if (path := shared.path(run.data, run.graph)) not in self.graphs:
            if path.exists():
                self.graphs[path] = self.client.scatter(path.read_bytes())
            else:
                what = run.data, run.graph, path.name, self.device, str(run)
                self.graphs[path] = self.client.submit(make_graph, *what, pure=False, retries=3)
        return self.graphs[path]

    def close(self, stop: bool) -> None:
        """Ends; with `stop`, runs that no worker has begun are not begun. Those that are on their way end by themselves."""
        self.pool.shutdown(wait=False)
        self.client.close()
