"""Processes that execute notebooks are forked from one that has imported everything: what that changes, and what it must not."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest

from ssl_core.lab.runs import files, notebook, warm

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not warm.AVAILABLE, reason="processes are forked on Linux alone")]


def written(folder, *sources):
    """A notebook with these cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "one.ipynb")
    return folder / "one.ipynb"


def texts(path):
    cells = nbformat.read(path, as_version=4).cells
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells if cell.cell_type == "code"]


def execution(folder, *sources):
    return notebook.Execution(written(folder, *sources), folder / "executed.ipynb", {})


def family():
    """The servers of this process, the processes that they forked, and their kernels."""
    servers = [each for each in psutil.Process().children() if "warm" in " ".join(each.cmdline())]
    workers = [worker for server in servers for worker in server.children()]
    return servers, workers, [kernel for worker in workers for kernel in worker.children()]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
    return found


@pytest.fixture
def fresh(monkeypatch):
    """Other servers than those of other tests."""
    monkeypatch.setenv("SERVERS", os.urandom(4).hex())


WHO = "import os, json\nprint(json.dumps([os.getpid(), os.environ['PLACE']]))"
MARK = "import sys, json\nmine = sys.mine = json.mine = 3"
LEFT = "import sys, json\nprint('torch' in sys.modules, 'mine' in dir(), hasattr(sys, 'mine'), hasattr(json, 'mine'))"


def test_notebooks_share_their_imports_and_nothing_else(fresh, tmp_path):
    seen = []
    for _ in range(2):
        execution(tmp_path, LEFT, WHO, MARK).run(PLACE="here")
        left, who, _ = texts(tmp_path / "executed.ipynb")
        assert left == "True False False False\n"
        seen.append(json.loads(who))
    assert len(family()[0]) == 1, "one server for both"
    assert seen[0][0] != seen[1][0] and seen[0][1] == seen[1][1] == "here"


def test_other_variables_need_another_server_and_idle_ones_end(fresh, tmp_path):
    for place in ("one", "two"):
        execution(tmp_path, "import os; print(os.environ['PLACE'], os.environ.get('MPLBACKEND'))").run(PLACE=place)
        assert texts(tmp_path / "executed.ipynb")[0].split()[0] == place
        assert len(family()[0]) == 1


def test_figures_and_errors_are_as_in_a_process_of_its_own(fresh, monkeypatch, tmp_path):
    figure = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])"
    seen = {}
    for forked in (True, False):
        monkeypatch.setattr(warm, "AVAILABLE", forked)
        (folder := tmp_path / f"{forked}").mkdir()
        with pytest.raises(notebook.NotebookFailed) as failed:
            execution(folder, figure, "print('before')", "1 / 0").run()
        cells = [cell for cell in nbformat.read(folder / "executed.ipynb", as_version=4).cells if cell.cell_type == "code"]
        outputs = [output for cell in cells for output in cell.outputs]
        kinds = [(o.output_type, sorted(o.get("data", {})), o.get("data", {}).get("image/png")) for o in outputs]
        seen[forked] = str(failed.value), kinds
    assert seen[True] == seen[False] and seen[True][0] == "ZeroDivisionError: division by zero"
    assert any(kind[2] for kind in seen[True][1]), "the figure is there"


@contextlib.contextmanager
def under_way(folder):
    """An execution whose kernel is at work, in a thread: the execution, its future, and the family."""
    waiting = execution(folder, f"import time\nopen({str(folder / 'begun')!r}, 'w').close()\ntime.sleep(600)")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(waiting.run)
        try:
            until((folder / "begun").exists)
            yield waiting, future, family()
        finally:
            waiting.stop()


def gone(processes):
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


@pytest.mark.parametrize("who", [0, 1, 2], ids=["server", "worker", "kernel"])
def test_killed_process_is_told_and_the_next_notebook_works(fresh, tmp_path, who):
    with under_way(tmp_path) as (_, future, processes):
        assert [len(each) for each in processes] == [1, 1, 1]
        processes[who][0].kill()
        with pytest.raises(notebook.NotebookFailed) as failed:
            future.result(60)
    assert str(failed.value) == notebook.KILLED
    until(lambda: gone([*processes[1], *processes[2]]))
    execution(tmp_path, "print('fine')").run()
    assert texts(tmp_path / "executed.ipynb") == ["fine\n"]


def test_stopped_execution_leaves_no_process(fresh, tmp_path):
    with under_way(tmp_path) as (waiting, future, (_, workers, kernels)):
        waiting.stop()
        with pytest.raises(notebook.NotebookFailed):
            future.result(60)
    until(lambda: gone([*workers, *kernels]))
    waiting.stop()  # nobody is there any more


def test_all_end_with_the_process_that_began_them(tmp_path):
    written(tmp_path, "import time\ntime.sleep(600)")
    program = "import sys; from pathlib import Path; from ssl_core.lab.runs.notebook import Execution\n"
    program += "Execution(Path(sys.argv[1]), Path(sys.argv[2]), {}).run()"
    command = [sys.executable, "-c", program, tmp_path / "one.ipynb", tmp_path / "executed.ipynb"]
    began = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(files.ROOT)})
    processes = until(lambda: len(found := psutil.Process(began.pid).children(recursive=True)) == 3 and found, 120)
    began.send_signal(signal.SIGKILL)
    began.wait()
    until(lambda: gone(processes), 10)


def test_server_that_cannot_begin_is_told(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(warm.sys, "executable", "/bin/false")
    with pytest.raises(notebook.NotebookFailed, match="could be started"):
        execution(Path(tmp_path), "1").run()
