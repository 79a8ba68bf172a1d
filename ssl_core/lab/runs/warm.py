"""Processes that execute notebooks, forked from one that has imported everything: they begin in a tenth of a second.

A sweep starts one *server*. It imports what notebooks need, once, and then forks for each notebook a process that executes it,
which forks the notebook's kernel. When a server's parent is gone the server ends, and with a process end those that it forked.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from threading import Lock
from typing import Any, NoReturn

from ssl_core.datasets.folder import PINNED

from . import files

AVAILABLE = sys.platform == "linux"  # elsewhere a process may not be forked once libraries of the system are in use
# With what these use, and papermill, all that the notebooks use.
MODULES = ("ipykernel.kernelapp", "ssl_core.lab.studies.registry", "ssl_core.lab.tools.clusters")
# Variables that are read after the imports, and can differ from process to process.
OWN = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", PINNED)
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
STARTING = Lock()
_servers: list["Server"] = []  # of this process
_kernel: list["Waiting"] = []  # of a process that executes a notebook


class Process:
    """A process that a server forked; as much of subprocess.Popen as is needed."""

    def __init__(self, pid: int, server: "Server"):
        self.server, self.handle = server, -1
        with suppress(OSError):  # it has ended already
            self.handle = os.pidfd_open(pid)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            if self.handle >= 0:
                signal.pidfd_send_signal(self.handle, signal.SIGTERM)

    def wait(self) -> None:
        """To be called when its output has ended: no signal is sent any more."""
        self.server.running.discard(self)
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


class Kernel:
    """The process of a kernel that this process forked; as much of subprocess.Popen as jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int | None:
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # otherwise the number may be another process's by now
            os.kill(self.pid, number)


class Server:
    """The process that others are forked from. Allocation of memory and threads follow its `environment` when it starts."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment = dict(environment)
        self.running: set[Process] = set()  # threads add and discard at the same time
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = f"from ssl_core.lab.runs.warm import serve; serve({theirs.fileno()})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=self.environment,
            cwd=files.ROOT,
            start_new_session=True,  # Ctrl-C is its parent's affair
        )
        theirs.close()

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], out: int, channel: int) -> Process | None:
        """A process that executes a notebook; None if the server has ended."""
        request = json.dumps([list(arguments), dict(environment)]).encode()
        try:
            socket.send_fds(self.requests, [request], [out, channel])
            answer = self.requests.recv(100)
        except OSError:
            return None
        if not answer:
            return None
        self.running.add(process := Process(int(answer), self))
        return process

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with these variables can be forked from it."""
        here = self.environment.get
        return self.process.poll() is None and all(here(name) == environment[name] for name in environment if name not in OWN)

    def close(self) -> None:
        """Ends it, and with it what it forked."""
        self.requests.close()
        self.process.wait()


def start(arguments: Sequence[str], environment: Mapping[str, str], out: int, channel: int) -> Process:
    """A process that executes notebook.execute with `arguments`, prints to `out` and answers to `channel` (file descriptors).

    Raises OSError if none can be started, as where memory is short.
    """
    with STARTING:
        for _ in range(2):  # the second time with a new server, if the first was killed
            server = next((each for each in _servers if each.serves(environment)), None)
            if server is None:
                for idle in [each for each in _servers if not each.running]:
                    idle.close()
                    _servers.remove(idle)
                _servers.append(server := Server(environment))
            if process := server.fork(arguments, environment, out, channel):
                return process
            server.close()
            _servers.remove(server)
    raise OSError("no process for a notebook could be started: its imports fail, or memory is short")


def serve(requests: int) -> None:
    """The program of a server: forks for each request, until its parent is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries its children
    from .notebook import import_papermill

    import_papermill()
    for module in MODULES:
        import_module(module)
    gc.freeze()  # what is shared stays shared
    with socket.socket(fileno=requests) as asked:
        while True:
            message, descriptors, _, _ = socket.recv_fds(asked, 1 << 20, 2)
            if not message:
                os._exit(0)
            pid = os.fork()
            if not pid:
                asked.close()
                _execute(*json.loads(message), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            asked.send(str(pid).encode())


def _execute(arguments: list[str], environment: dict[str, str], out: int, channel: int) -> NoReturn:
    """The program of a process that executes a notebook."""
    from .notebook import execute

    _end_with_parent()
    _have(environment)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.close(out)
    _kernel.append(Waiting())
    notebook, executed, parameters = arguments
    _end_after(lambda: execute(notebook, executed, parameters, channel))


def _end_with_parent() -> None:
    """From now on this process ends when its parent does; it buries its own children."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)


def _have(environment: Mapping[str, str]) -> None:
    """Replaces the variables of this process."""
    os.environ.clear()
    os.environ.update(environment)


def _end_after(program: Callable[[], Any]) -> NoReturn:
    """Ends this process when `program` returns or raises, without what was registered for the end of the one it came from."""
    status = 1
    try:
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is one
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


class Waiting:
    """A kernel that was forked before there is any thread, and begins when it is told its connection file."""

    def __init__(self) -> None:
        read, self.write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(self.write)
            _end_with_parent()
            with suppress(PermissionError):
                os.setpgid(0, 0)  # signals to the kernel reach nobody else
            _end_after(lambda: _be_kernel(read))
        os.close(read)
        with suppress(OSError):  # it did so itself
            os.setpgid(pid, pid)
        self.process = Kernel(pid)

    def begin(self, connection_file: str, environment: Mapping[str, str]) -> Kernel:
        with os.fdopen(self.write, "w") as pipe:
            json.dump([connection_file, dict(environment)], pipe)
        return self.process


def _be_kernel(read: int) -> None:
    """Waits for the connection file, then runs IPython's kernel as `python -m ipykernel_launcher -f file` does."""
    from ipykernel.kernelapp import IPKernelApp

    with os.fdopen(read) as pipe:
        told = pipe.read()
    if not told:
        return
    connection_file, environment = json.loads(told)
    _have(environment)
    sys.path[:] = [folder for folder in sys.path if folder]
    sys.argv = ["ipykernel_launcher", "-f", connection_file]
    app = IPKernelApp.instance()
    app.initialize(sys.argv[1:])
    assert app.shell is not None  # once it is initialised
    app.shell.enable_matplotlib("inline")  # as where Matplotlib is imported after the kernel began
    app.start()


def waiting_kernel() -> Waiting | None:
    """The kernel that waits in this process, once; None if there is none."""
    return _kernel.pop() if _kernel else None
