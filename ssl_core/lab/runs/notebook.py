"""Notebooks: the run that a notebook's parameters describe, and the execution of a notebook in a process of its own."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from ssl_core.datasets.checks import check_whole
from ssl_core.device import check_device
from ssl_core.progress import EVENTS, new_events

from .. import LabError
from ..features import kept
from . import files, warm
from .spec import Run

FOLDER = files.ROOT / "notebooks"
TRAIN, RESULTS = FOLDER / "train.ipynb", FOLDER / "results.ipynb"
# For a process that trains: memory of large tensors, freed at every step, is kept and not returned to the system.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
# Beginnings of names: variables of a user's shell that would change what a notebook does, or how its numbers are rounded.
NOT_PASSED_ON = (
    *("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONIOENCODING"),
    *("OMP_", "GOMP_", "KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_", "ATEN_CPU_CAPABILITY", "DNNL_", "ONEDNN_"),
)
PASSED_ON = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
DONE = "done"
KILLED = "its kernel was killed or crashed, most often for want of memory: with JOBS=1 each run has most"


class NotebookFailed(LabError):
    """A notebook did not run to its end; the message is one line that says why."""


def run_of(namespace: Mapping[str, Any]) -> Run:
    """The run that the variables of the training notebook describe, checked.

    papermill only warns of a parameter that a notebook does not have, and then uses the defaults. Here it is an error: its cell
    of injected parameters is looked up in IPython's list of executed cells, `In`.
    """
    former = {"wrong_labels": "label_noise"}
    injected: set[str] = set()
    names = set(parameter_names(TRAIN))
    for cell in namespace.get("In", []):
        if cell.startswith("# Parameters\n"):
            injected |= set(_assigned(cell))
    if unknown := sorted(injected - names - former.keys()):
        raise ValueError(f"unknown notebook parameter {', '.join(unknown)}: must be one of {', '.join(sorted(names))}")
    check_whole("threads", namespace["threads"])
    check_device(namespace["device"])
    parameters = {name: namespace[name] for name in Run.__dataclass_fields__ if name in namespace}  # an older copy lacks some
    parameters |= {former[name]: namespace[name] for name in injected if name in former}
    name = files.located(parameters["data"])
    elsewhere = kept.prepare(parameters["features"], name) if parameters.get("features") else ""
    return Run(**parameters | {"data": name, "features": elsewhere}).check()


def parameter_names(notebook: Path) -> list[str]:
    """The names that a notebook's `parameters` cell assigns."""
    for cell in json.loads(notebook.read_text())["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return _assigned("".join(cell["source"]))
    raise LookupError(f"{notebook.name} has no cell tagged 'parameters'")


def _assigned(cell: str) -> list[str]:
    """The names that a cell assigns, in its order."""
    statements = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    return [target.id for node in statements for target in node.targets if isinstance(target, ast.Name)]


class Execution:
    """The execution of a notebook by papermill with `parameters` into the file `executed`, in a process of its own.

    A process of its own can be stopped, and its memory is returned. `tell` is given the events that the notebook writes into
    the folder of `executed`; see progress.py.
    """

    def __init__(
        self, notebook: Path, executed: Path, parameters: Mapping[str, object], tell: Callable[[dict], None] | None = None
    ):
        self.arguments = [str(notebook.absolute()), str(executed.absolute()), json.dumps(dict(parameters))]
        self.events, self.tell = executed.parent / EVENTS, tell or (lambda event: None)
        self.process: subprocess.Popen | warm.Process | None = None
        self.stopped = False

    def run(self, **environment: str) -> None:
        """Waits until it ends; raises NotebookFailed with the error of the cell that failed."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as settings:
            self._run(child_environment(settings) | environment)

    def _run(self, environment: dict[str, str]) -> None:
        # The pipe of the answer is apart from what the notebook prints.
        (output, out), (answer, channel) = os.pipe(), os.pipe()
        with open(output, errors="replace") as lines, open(answer) as answers:
            try:
                self.process = (warm.start if warm.AVAILABLE else start)(self.arguments, environment, out, channel)
            except OSError as error:
                raise NotebookFailed(str(error)) from None
            finally:
                os.close(out)
                os.close(channel)
            self._follow(lines, answers)

    def _follow(self, lines: TextIO, answers: TextIO) -> None:
        assert self.process is not None  # that has started
        if self.stopped:  # while it was starting
            self.process.terminate()
        last, position = "", 0
        for line in lines:
            last = line.strip() or last
            events, position = new_events(self.events, position)
            for event in events:
                self.tell(event)
        if (error := answers.read()) == DONE:
            self.process.wait()
            return
        if (self.process.wait() in (-9, None) and not error) or error.startswith("DeadKernelError"):
            raise NotebookFailed(KILLED)
        raise NotebookFailed(error or last[:300] or "its process ended and printed nothing")

    def stop(self) -> None:
        """Ends the process; its kernel notices that its parent is gone and ends too."""
        self.stopped = True
        if self.process:
            self.process.terminate()


def start(arguments: Sequence[str], environment: Mapping[str, str], out: int, channel: int) -> subprocess.Popen:
    """As warm.start, a process that begins from nothing: seconds later."""
    program = "import sys; from ssl_core.lab.runs.notebook import execute; execute(*sys.argv[1:4], int(sys.argv[4]))"
    command = [sys.executable, "-c", program, *arguments, str(channel)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
    # Not in the user's folder, which may hold a matplotlibrc, or a file called random.py.
    return subprocess.Popen(command, pass_fds=[channel], env=environment, cwd=files.ROOT, **streams)  # type: ignore[call-overload]


def child_environment(settings: str) -> dict[str, str]:
    """The variables of a process that executes a notebook, so that what a user has set up elsewhere changes nothing there.

    It imports this project, reads and writes UTF-8, and has Matplotlib's own defaults. IPython's start-up files and history are
    those of the empty folder `settings`, and the files of Jupyter's connections go there: a home may not be writable.
    """
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON or not name.startswith(NOT_PASSED_ON)}
    path = os.pathsep.join(filter(None, (str(files.ROOT), os.environ.get("PYTHONPATH"))))
    own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"), settings)
    return kept | own | {"PYTHONPATH": path, "PYTHONUTF8": "1", "MATPLOTLIBRC": os.devnull}


def import_papermill() -> ModuleType:
    """The module papermill, two seconds sooner.

    nbformat's JSON validator builds a grammar of web addresses when it is imported, and nothing here asks for it
    (python-jsonschema, issue 1428). It does without if there is no such module.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill

    return papermill


def execute(notebook: str, executed: str, parameters: str, channel: int) -> None:
    """Executes a notebook: the program of the process. What its cells print is printed; DONE or an error go to the channel."""
    import logging

    papermill = import_papermill()
    from .kernels import OwnKernelManager

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answer = DONE
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            json.loads(parameters),
            kernel_name="python3",
            kernel_manager_class=OwnKernelManager,
            progress_bar=False,
            log_output=True,
        )
    except papermill.PapermillExecutionError as error:
        answer = f"{error.ename}: {error.evalue}"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    with open(channel, "w") as file:
        file.write(" ".join(answer.split())[:300])
