"""Runs on the workers of a Dask scheduler. Nothing is shared with a worker: it has its own copy of the project at the same
commit, fetches the data itself, is sent the graph, and sends back the files of the run."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from ssl_core.data import load
from ssl_core.progress import Event, Tell

from .. import LabError
from . import files, graph_cache, records
from .executors import RunProcess
from .fingerprint import fingerprint
from .spec import Run

TOPIC = "ssl-core-progress"  # of the events that workers send


@dataclass(frozen=True)
class RunFiles:
    """The files that a run left on another machine, and the error if it failed."""

    error: str
    content: dict[str, bytes] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Writes the files into `folder`; then raises LabError if the run failed."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {*records.FILES, records.IMAGES, records.CHECKPOINT}  # and no other name that a worker might send
        for name in known & self.content.keys():
            (folder / name).write_bytes(self.content[name])
        if self.error:
            raise LabError(self.error)


def make_graph(run: Run, name: str, device: str) -> bytes:
    """On a worker: the bytes of the graph's file of that name, from the worker's cache or, the first time, made."""
    path = graph_cache.path_for(run)
    assert path is not None  # of a run that needs one
    _check_code(path.name, name)
    graph_cache.for_run(run, load(run.data, files.DATA, run.side), _sender(str(run)), device=device)
    return path.read_bytes()


def execute(run: Run, threads: int, device: str, digest: str, graph: bytes | None) -> RunFiles:
    """On a worker: executes `run` in a temporary folder. `graph` is the content of the graph's file, if it needs one."""
    _check_code(fingerprint(run), digest)
    load(run.data, files.DATA, run.side)  # fetched once, before a notebook starts
    if graph is not None and (path := graph_cache.path_for(run)) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, graph)
    with tempfile.TemporaryDirectory() as folder:
        error = ""
        try:
            RunProcess(run, Path(folder), threads, device, _sender(str(run))).execute()
        except LabError as problem:
            error = str(problem)
        return RunFiles(error, {path.name: path.read_bytes() for path in Path(folder).iterdir()})


def _check_code(mine: str, wanted: str) -> None:
    if mine != wanted:
        raise LabError("this worker has another version of the project than the sweep: both must be of the same commit")


def _sender(run: str) -> Tell:
    """Sends the events of a run to the sweep."""
    from distributed import get_worker

    worker = get_worker()
    return lambda event: worker.log_event(TOPIC, {"run": run, "event": event})


class DaskExecutor:
    """The workers of the Dask scheduler at `address`, each on the `device` that it has. ValueError if none answers."""

    jobs = None  # workers come and go

    def __init__(self, address: str, device: str = "auto"):
        try:
            from distributed import Client
        except ImportError:
            raise ValueError(f"SCHEDULER={address!r}: needs Dask; install it: .venv/bin/pip install '.[cluster]'") from None
        try:
            self.client = Client(address, timeout=10)
        except (OSError, ValueError) as error:
            must = f"must be the address of a Dask scheduler that answers ({error})"
            raise ValueError(f"SCHEDULER={address!r}: {must}") from None
        self.address, self.device = address, device
        self.pool = self.client.get_executor(pure=False, retries=3)  # a run survives the loss of its worker
        self.graphs: dict[Path, object] = {}
        self.listeners: dict[str, Tell] = {}
        self.client.subscribe_topic(TOPIC, lambda message: self._receive(message[1]["run"], message[1]["event"]))

    def __str__(self) -> str:
        threads = sum(self.client.nthreads().values())
        return f"{threads} at a time on {len(self.client.nthreads())} workers of {self.address}"

    def _receive(self, run: str, event: Event) -> None:
        if run in self.listeners:
            self.listeners[run](event)

    def submit(self, run: Run, folder: Path, threads: int, tell: Tell, begin: Callable[[], None]) -> Future:
        """The files of the run are sent back as `RunFiles` and not written to `folder`; a worker does not say when it begins."""
        self.listeners[str(run)] = tell
        return self.pool.submit(execute, run, threads, self.device, fingerprint(run), self._graph(run))

    def _graph(self, run: Run) -> object:
        """The graph that `run` needs, on the cluster or to be made there; None if it needs none."""
        if (path := graph_cache.path_for(run)) is None:
            return None
        if path not in self.graphs:
            if run.features:  # which are kept here alone
                graph_cache.for_run(run, load(run.data, files.DATA, run.side))
            if path.exists():
                self.graphs[path] = self.client.scatter(path.read_bytes())
            else:
                self.graphs[path] = self.client.submit(make_graph, run, path.name, self.device, pure=False, retries=3)
        return self.graphs[path]

    def close(self, *, stop: bool) -> None:
        """Runs that no worker has begun are not begun. Those under way end on their workers; their results are discarded."""
        self.pool.shutdown(wait=False)
        self.client.close()
