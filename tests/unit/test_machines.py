"""Machines as they are: containers, file systems without locks, other kernels, other users, old GPUs, full environments.

Whatever the machine, a user sees one line, and a run the same numbers.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
import torch
from filelock import Timeout
from hypothesis import given
from hypothesis import strategies as st

from ssl_core import device, graph_file
from ssl_core.datasets import DataError, fetch, machine
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import executors, files, graph_cache, notebook, sweep, warm
from ssl_core.lab.runs.spec import Run
from ssl_core.recipes import BEST

V1_MOUNT = "33 31 0:30 {root} /sys/fs/cgroup/{name} rw,relatime shared:9 - cgroup cgroup rw,{controllers}\n"
V2_MOUNT = "41 31 0:38 {root} /sys/fs/cgroup{name} rw,relatime - cgroup2 cgroup2 rw\n"


def system(folder, cgroup, mounts, groups):
    """A false / with /proc/self/cgroup, /proc/self/mountinfo, and files of control groups."""
    for name, content in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **groups}.items():
        (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def v2(folder, groups, *, place="/", root="/"):
    groups = {f"sys/fs/cgroup/{name}": content for name, content in groups.items()}
    return system(folder, f"0::{place}\n", V2_MOUNT.format(root=root, name=""), groups)


@pytest.fixture
def large(monkeypatch):
    """A host with 64 cores and 250 GB that are free."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=250_000_000_000))


# --- containers


@pytest.mark.parametrize(
    "quota, cores", [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("9900000 100000", 64)]
)
def test_cores_keep_to_the_quota_of_a_container(tmp_path, large, quota, cores):
    assert machine.cores(v2(tmp_path, {"cpu.max": f"{quota}\n"})) == cores


def test_limits_of_a_container_decide_the_number_of_jobs(tmp_path, large, monkeypatch):
    place = v2(tmp_path, {"memory.max": "4000000000\n", "memory.current": "0\n", "cpu.max": "400000 100000\n"})
    grid = [Run(50, "best", 0)]
    monkeypatch.setattr(machine.memory, "__defaults__", (place,))
    assert machine.memory() == 4_000_000_000 and machine.cores(place) == 4
    assert executors.jobs_in_memory(grid, machine.cores(place), "cpu") == 2


def test_the_narrowest_limit_of_nested_groups_counts(tmp_path, large):
    groups = {"a/b/memory.max": "max", "a/b/memory.high": "8000000000", "a/memory.max": "3000000000", "memory.max": "9000000000"}
    groups |= {"a/memory.current": "1500000000", "a/memory.stat": "anon 5\ninactive_file 300000000\nactive_file 200000000\n"}
    groups |= {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "other/cpu.max": "100000 100000"}
    place = v2(tmp_path, groups, place="/a/b")
    assert machine.memory(place) == 3_000_000_000 - 1_000_000_000  # cached files can be dropped
    assert machine.cores(place) == 3


@pytest.mark.parametrize("place, root", [("/docker/1", "/docker/1"), ("/docker/1", "/"), ("/../1", "/"), ("/a", "/b")])
def test_version_1_has_a_tree_for_each_controller(tmp_path, large, place, root):
    cgroup = f"12:cpu,cpuacct:{place}\n4:memory:{place}\n1:name=systemd:/x\n0::/x\n"
    mounts = V1_MOUNT.format(root=root, name="cpu,cpuacct", controllers="cpu,cpuacct")
    mounts += V1_MOUNT.format(root=root, name="memory", controllers="memory") + V2_MOUNT.format(root="/", name="/unified")
    groups = {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    groups |= {"memory/memory.limit_in_bytes": "5000000000", "memory/memory.usage_in_bytes": "2000000000"}
    groups |= {"memory/memory.stat": "inactive_file 7\ntotal_inactive_file 1000000000\ntotal_active_file 0\n"}
    groups |= {"memory/docker/1/memory.limit_in_bytes": str(2**63 - 4096), "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "-1"}
    tree = system(tmp_path, cgroup, mounts, {f"sys/fs/cgroup/{name}": content for name, content in groups.items()})
    assert (machine.cores(tree), machine.memory(tree)) == (3, 4_000_000_000)


def test_without_control_groups_the_host_counts(tmp_path, large):
    assert (machine.cores(tmp_path), machine.memory(tmp_path)) == (64, 250_000_000_000)
    assert machine.memory(v2(tmp_path, {"memory.max": "1000", "memory.current": "2000"})) == 0


@given(st.text("0123456789 max-\n:/,.", max_size=40), st.text("0123456789 max-\n:/,.", max_size=40))
def test_damaged_files_of_the_kernel_are_no_limit(tmp_path_factory, text, other):
    tree = v2(tmp_path_factory.mktemp("tree"), dict.fromkeys(("cpu.max", "memory.max", "memory.current", "memory.stat"), text))
    assert machine.cores(tree) >= 1 and machine.memory(tree) >= 0
    (tree / "proc/self/cgroup").write_text(other)
    (tree / "proc/self/mountinfo").write_text(f"{text}\n{V2_MOUNT.format(root='/', name='')}{other}")
    assert machine.cores(tree) >= 1 and machine.memory(tree) >= 0


@pytest.mark.slow
def test_real_limit_is_seen_by_a_process_in_it():
    """In a control group of version 1 or 2 that is made for the test, with 1.5 GB of memory."""
    top = next(iter(machine.control_groups("memory")), None)
    name = f"ssl-core-{os.getpid()}"
    try:
        (group := top / name).mkdir()
    except (OSError, TypeError) as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit = next((file for file in ("memory.max", "memory.limit_in_bytes") if (group / file).exists()), None)
        if limit is None:
            pytest.skip("the groups around this process limit no memory")
        try:
            (group / limit).write_text("1500000000")
        except OSError as error:
            pytest.skip(f"no limit can be set here: {error}")
        program = "import sys; input(); from ssl_core.datasets import machine; print(machine.memory())"
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
        except OSError as error:
            process.communicate("\n")
            pytest.skip(f"no process can be put into a control group here: {error}")
        assert 1e9 < int(process.communicate("\n")[0]) <= 1.5e9
    finally:
        group.rmdir()


def test_jobs_that_do_not_fit_are_told(large, monkeypatch):
    grid = sweep.make_grid("50", "supervised", "0 1 2 3 4 5 6 7")
    assert executors.too_many(grid, 8, 64) == ""
    monkeypatch.setattr(machine, "memory", lambda: 4.5e9)
    assert executors.too_many(grid, 2, 2) == "" == executors.too_many(grid, 1, 2) == executors.too_many(grid[:1], 64, 2)
    told = executors.too_many(grid, 64, 64)
    assert told.startswith("JOBS=8: 4.5 GB of memory are free for them, enough for 3: runs may be killed")
    assert executors.too_many(grid, 3, 2) == "JOBS=3: more than the 2 cores here: the runs will slow each other down"
    assert executors.too_many([], 4, 2) == ""
    monkeypatch.setattr(machine, "memory", lambda: 1_000_000_000)
    told = executors.too_many(grid, 1, 2)
    assert re.match(r"a run takes up to 1\.\d GB of memory, and 1\.0 GB are free: it may be killed", told)


# --- locks


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL])
def test_file_system_without_locks_is_told_once_and_used(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with sweep.lock(tmp_path):
            (tmp_path / "written").touch()
        with machine.lock(tmp_path / "graph.lock"):
            pass
    told = f"{tmp_path}: this file system has no locks ({os.strerror(number)}); let no two programs write there at once\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_only_another_process_means_another_sweep(tmp_path, monkeypatch, number):
    with sweep.lock(tmp_path), pytest.raises(ValueError, match="another sweep is at work there"), sweep.lock(tmp_path):
        pass
    with machine.lock(tmp_path / "x"), pytest.raises(Timeout), machine.lock(tmp_path / "x", timeout=0.1):
        pass
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(number, "held")))
    with pytest.raises(ValueError, match="another sweep is at work there"), sweep.lock(tmp_path):
        pass


@pytest.mark.slow
def test_killed_holder_leaves_no_lock(tmp_path):
    program = "import sys, time; from pathlib import Path; from ssl_core.datasets import machine\n"
    program += "with machine.lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Timeout), machine.lock(tmp_path / "lock", timeout=0):
        pass
    process.kill()
    process.wait()
    with machine.lock(tmp_path / "lock", timeout=5):
        pass


def as_nobody(program, *arguments):
    """The output of a Python program that another user runs, from its second line on; root would be allowed everything."""
    if os.geteuid():
        pytest.skip("needs root, to be another user")
    first, rest = program.strip().split("\n", 1)
    program = f"{first}\nimport os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n{rest}"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=files.ROOT, text=True, capture_output=True, check=True).stdout


@pytest.fixture
def open_folder():
    """A folder that everybody may enter; pytest keeps its own to their user."""
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name)).chmod(0o755)
        yield folder


LOCK = """from ssl_core.datasets import machine
import sys
from pathlib import Path
try:
    with machine.lock(Path(sys.argv[1]), timeout=0): print("held")
except OSError as error: print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_lock_of_another_user_is_named(open_folder):
    lock = open_folder / "lock"
    refused = f"OSError {lock}: must be a file that can be written to (Permission denied; {{}} belongs to root)\n"
    assert as_nobody(LOCK, lock) == refused.format(open_folder.name)
    open_folder.chmod(0o777)
    lock.touch(mode=0o644)
    assert as_nobody(LOCK, lock) == refused.format("lock")


def test_graph_that_is_there_needs_no_right_to_write(tmp_path, monkeypatch):
    """Of another user's checkout, say: neither a lock nor anything else is written."""
    target, events = graph_cache.path("digits", BEST.pretraining, tmp_path), []
    made = graph_cache.Neighbors(torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.long), torch.ones(3, 4), 1.5)
    graph_file.write(target, made)
    monkeypatch.setattr(graph_file, "lock", lambda *_, **__: pytest.fail("locked"))
    images = SimpleNamespace(name="digits", side=0)
    assert graph_cache.load(images, BEST.pretraining, events.append, tmp_path).seconds == 1.5
    assert events == [{"stage": "graph ready", "k": 2, "images": 3, "seconds": 1.5}] and list(tmp_path.iterdir()) == [target]


def test_graph_that_cannot_be_kept_ends_the_sweep_at_its_start(tmp_path, monkeypatch):
    (blocked := tmp_path / "graphs").touch()
    monkeypatch.setattr(graph_cache.path, "__defaults__", (blocked,))
    must = rf"^data='{blocked}': must be a folder that can be written to \(it is a file\)$"
    with pytest.raises(ValueError, match=must):
        sweep.check_graphs([Run(50, "supervised", 0), Run(50, "best", 0)])
    sweep.check_graphs([Run(50, "supervised", 0)])


# --- folders


def test_folder_says_why_it_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    reasons = {
        "file": "it is a file",
        "file/below": "Not a directory",
        "x" * 300: "File name too long",
        "a\0b": "embedded null byte",
    }
    reasons |= dict.fromkeys(("dangling", "loop"), "a link to what is not there")
    for name, reason in reasons.items():
        with pytest.raises(ValueError) as error:
            files.writable("OUTPUTS", files.outputs(f"{tmp_path}/{name}"))
        assert str(error.value) == f"OUTPUTS={f'{tmp_path}/{name}'!r}: must be a folder that can be written to ({reason})"


def test_home_is_expanded_and_an_unknown_one_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.outputs("~/results") == tmp_path / "results"
    assert files.located("~/images") == str(tmp_path / "images")
    for call, parameter in ((files.outputs, "OUTPUTS"), (files.located, "data")):
        with pytest.raises(
            ValueError, match=rf"^{parameter}='~no-such-user/x': must be a path without ~: this machine does not know"
        ):
            call("~no-such-user/x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"^data='.*/loop': must be the path of a folder \("):
        files.located(f"{tmp_path}/loop")


def test_data_of_another_user_are_refused_before_any_mirror_is_asked(tmp_path, capsys):
    (tmp_path / "MNIST").touch()  # as a folder that belongs to another user: nothing can be made in it
    raw = tmp_path / "MNIST" / "raw"
    with pytest.raises(
        DataError, match=rf"^{raw}: must be a folder that can be written to \(Not a directory\); copy the project"
    ):
        fetch("mnist", tmp_path)
    assert "fetching MNIST from" not in capsys.readouterr().err


# --- notebooks: the same kernel and the same numbers, whatever the user has set up


SHOWN = """
import os, sys, warnings, json, locale
import matplotlib, torch
x = torch.linspace(-3, 3, 4096).reshape(64, 64)
shown = {
    "python": sys.executable, "prefix": sys.prefix, "optimize": sys.flags.optimize,
    "encoding": open(folder + "/letter.txt").read(), "module": __import__("ssl_core").__file__,
    "threads": torch.get_num_threads(),
    "usetex": matplotlib.rcParams["text.usetex"], "started": "started" in globals(),
    "sum": (x @ x.T).exp().log1p().sum().item(), "number": f"{1.5}",
}
print(json.dumps(shown))
print("Grüße → · \\udcff".encode("utf-8", "replace").decode())
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Executes a notebook of one cell with further variables; gives what it printed."""

    def execute(**environment):
        folder = tmp_path_factory.mktemp("notebook")
        (folder / "letter.txt").write_text("ß", encoding="utf-8")
        (here := folder / "here").mkdir()  # where the user calls the program
        (here / "matplotlibrc").write_text("text.usetex: True\n")
        (here / "papermill.py").write_text("raise ImportError('of the user')")
        cell = nbformat.v4.new_code_cell(f"folder = {str(folder)!r}\n{SHOWN}")
        parameters = nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=[parameters, cell], metadata={"kernelspec": kernel}), folder / "one.ipynb")
        program = f"import sys; sys.path[0] = {str(files.ROOT)!r}\n"  # as if it were called in the project's folder
        program += "from pathlib import Path; from ssl_core.lab.runs.notebook import Execution\n"
        program += "Execution(Path(sys.argv[1]), Path(sys.argv[2]), {'a': 2}).run(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')"
        command = [sys.executable, "-c", program, folder / "one.ipynb", folder / "executed.ipynb"]
        done = subprocess.run(
            command,
            cwd=here,
            env={"PYTHONPATH": str(files.ROOT)} | os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs = nbformat.read(folder / "executed.ipynb", as_version=4).cells[-1].outputs
        assert [output.get("name") for output in outputs] == ["stdout"], outputs
        return json.loads(outputs[0].text.splitlines()[0])

    return execute


@pytest.fixture(scope="module")
def plain(shown):
    result = shown()
    assert result["python"] == sys.executable and result["encoding"] == "ß"
    return result


def other_kernel(folder):
    """A kernel called python3 that is not this Python, in a folder of Jupyter."""
    (kernel := folder / "kernels" / "python3" / "kernel.json").parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}))
    return str(folder)


@pytest.mark.slow
def test_kernel_is_this_python_whatever_jupyter_holds(shown, plain, tmp_path):
    home = tmp_path / "home"
    other_kernel(home / ".local" / "share" / "jupyter")
    paths = {"JUPYTER_PATH": other_kernel(tmp_path / "jupyter"), "JUPYTER_PREFER_ENV_PATH": "0"}
    assert shown(HOME=str(home), JUPYTER_DATA_DIR=other_kernel(tmp_path / "data"), **paths) == plain


@pytest.mark.slow
def test_start_up_files_and_settings_of_a_user_change_nothing(shown, plain, tmp_path):
    (startup := tmp_path / "ipython" / "profile_default" / "startup" / "0.py").parent.mkdir(parents=True)
    startup.write_text("started = True\n")
    (tmp_path / "start.py").write_text("started = True\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nno.such: key\n")
    (package := tmp_path / "ssl_core" / "__init__.py").parent.mkdir()
    package.write_text("raise ImportError('another project')")
    assert plain == shown(
        IPYTHONDIR=str(tmp_path / "ipython"),
        PYTHONSTARTUP=str(tmp_path / "start.py"),
        MATPLOTLIBRC=str(tmp_path),
        MPLCONFIGDIR="/proc/nowhere",
        PYTHONOPTIMIZE="2",
        TMPDIR="/proc/nowhere",
    ) | {"module": plain["module"]}
    assert shown(PYTHONPATH=str(tmp_path), PYTHONWARNINGS="error::UserWarning")["module"] == plain["module"]


@pytest.mark.slow
def test_locale_and_settings_of_libraries_change_no_number(shown, plain):
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "PYTHONHASHSEED": "7"}
    threads = {"OMP_DYNAMIC": "true", "OMP_PROC_BIND": "true", "KMP_AFFINITY": "compact", "MKL_CBWR": "COMPATIBLE"}
    assert shown(**old, **threads, ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41") == plain


@pytest.mark.slow
def test_killed_kernel_is_told_with_the_way_out(tmp_path):
    cell = nbformat.v4.new_code_cell("import os, signal\nprint('epoch 3/10', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    with pytest.raises(notebook.NotebookFailed) as error:
        notebook.Execution(tmp_path / "one.ipynb", tmp_path / "executed.ipynb", {}).run()
    assert str(error.value) == notebook.KILLED and "JOBS=1" in notebook.KILLED


def test_killed_process_is_told_and_not_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "AVAILABLE", False)  # as where none is forked
    monkeypatch.setattr(notebook.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho epoch 3/10\nkill -9 $$\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(notebook.NotebookFailed, match="most often for want of memory"):
        notebook.Execution(tmp_path / "one.ipynb", tmp_path / "executed.ipynb", {}).run()


OLD_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
def test_command_reads_and_writes_utf8_in_an_old_locale(command):
    status, text = command("ssl_core.lab", "sweep", "--data", "/nowhere/Größe", **OLD_LOCALE)
    assert status == 1 and "Traceback" not in text and text.startswith("sweep: data='/nowhere/Gr") and "Unicode" not in text
    assert text.count("\n") == 1


# --- macOS


@pytest.mark.slow
def test_without_affinity_all_cores_count(tmp_path):
    """As on macOS, whose Python has no `os.sched_getaffinity`, and which has no /proc."""
    (tmp_path / "sitecustomize.py").write_text("import os\ndel os.sched_getaffinity")
    program = "import os; from pathlib import Path; from ssl_core.datasets import machine\n"
    program += "import ssl_core.lab.page.sweep_and_build, ssl_core.lab.tools.bench, ssl_core.lab.tools.predict\n"
    program += (
        "assert not hasattr(os, 'sched_getaffinity'); print(machine.cores(Path('/none')) == os.cpu_count(), machine.cores() >= 1)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{files.ROOT}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


def test_memory_of_processes_is_known_without_shares_of_pages(monkeypatch):
    """On macOS, psutil knows no `pss`."""
    process = SimpleNamespace(memory_full_info=lambda: SimpleNamespace(uss=5), children=lambda recursive: [])
    assert executors.tree_memory(process) == 5


# --- GPUs


@pytest.fixture
def card(monkeypatch):
    """A GPU, as far as PyTorch tells."""

    def make(capability=(8, 6), fails=""):
        def attempt():
            if fails:
                raise RuntimeError(fails)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_120", "compute_120"])
        monkeypatch.setattr(device, "attempt", attempt)
        device.tell_cpu.cache_clear()

    return make


@pytest.mark.parametrize(
    "capability, fails, why",
    [
        ((6, 1), "", "the GPU has compute capability 6.1, and PyTorch .* needs 7.5"),
        ((7, 5), "CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA", "CUDA error: no kernel image"),
        ((8, 6), "CUDA-capable device(s) is/are busy or unavailable", "CUDA-capable device"),
    ],
)
def test_gpu_that_cannot_be_used_is_passed_over_with_one_line(card, capsys, capability, fails, why):
    card(capability, fails)
    assert device.training_device("auto") == device.training_device("auto") == torch.device("cpu")
    told = capsys.readouterr().out
    assert re.match(rf"device='auto': the CPU is used: {why}.*\n$", told) and told.count("\n") == 1
    with pytest.raises(ValueError, match=rf"^device='cuda': must be a GPU that PyTorch can use: {why}"):
        device.training_device("cuda")
    assert device.training_device("cpu") == torch.device("cpu")


def test_unserved_gpu_is_refused_before_anything_starts(card, tmp_path):
    card((6, 1))
    with pytest.raises(
        SystemExit, match=r"^sweep: device='cuda': must be a GPU that PyTorch can use: the GPU has compute capability 6.1"
    ):
        main(["sweep", "--device", "cuda", "--outputs", str(tmp_path), "--labels", "50", "--recipes", "supervised", "--smoke"])
    assert list(tmp_path.iterdir()) == []


def test_old_driver_is_told(monkeypatch, capsys):
    def is_available():
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\nUpdate", stacklevel=1
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(device, "_warned", [])
    device.tell_cpu.cache_clear()
    assert device.training_device("auto") == torch.device("cpu")
    assert capsys.readouterr().out.startswith("device='auto': the CPU is used: CUDA initialization: The NVIDIA driver")


def test_machine_without_a_gpu_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.tell_cpu.cache_clear()
    assert device.training_device("auto") == torch.device("cpu") and device.ask() == (device.NONE, 0)
    assert executors.jobs_in_memory([Run(50, "supervised", 0)], 2) <= 2
    assert capsys.readouterr() == ("", "")


def test_jobs_share_the_memory_of_a_gpu(large, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 64e9)
    grid = [Run(50, "supervised", 0), Run(50, "best", 0)]
    for free, at_a_time in ((8e9, 4), (80e9, 16), (1e9, 1)):
        monkeypatch.setattr(executors, "ask", lambda free=free: ("", int(free)))
        assert executors.jobs_in_memory(grid, 16) == at_a_time and executors.jobs_in_memory(grid, 16, "cpu") == 16
    monkeypatch.setattr(executors, "ask", lambda: ("no kernels", 0))
    assert executors.jobs_in_memory(grid, 16) == 16


def test_gpu_is_asked_in_a_process_of_its_own(card, tmp_path, monkeypatch):
    card()
    for answer, expected in (
        ("echo a warning; echo '[\"\", 8000000000]'", ("", 8_000_000_000)),
        ("kill -9 $$", ("a program that tried the GPU ended with status -9", 0)),
    ):
        (tmp_path / "python").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(device.sys, "executable", str(tmp_path / "python"))
        assert device.ask() == expected


# --- make


def make(*arguments, cwd=files.ROOT, **environment):
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    result = subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=cwd, env=alone | environment, check=False)
    return result.stdout + result.stderr


def test_make_takes_no_variable_from_the_environment_and_says_so():
    shown = make("help", DATA="/scratch/$me", JOBS="64", N="50", SEEDS="0")
    told = [line for line in shown.splitlines() if "from the environment" in line]
    assert told == [  # N and SEEDS are as they would be anyway
        "DATA=/scratch/$me from the environment is not used; give it to make: make sweep DATA=…",
        "JOBS=64 from the environment is not used; give it to make: make sweep JOBS=…",
    ]
    assert "DATA=mnist (" in shown and "JOBS=number of cores" in shown
    assert "from the environment" not in make("help", "DATA=digits", "JOBS=2", DATA="/scratch/me", JOBS="64")
    assert "DATA=digits (" in make("help", "DATA=digits", DATA="/scratch/me")
    assert "make label-next N=…" in make("-n", "label-next", N="7")


def copied(folder, **stand_in):
    """The Makefile in a folder with a virtual environment whose Python prints its arguments and `variables`."""
    shutil.copy(files.ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    (python := folder / ".venv" / "bin" / "python").parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "<%s>" "$@"; echo; env | grep -E "^(PYTHON|DATA|JOBS)"\n')
    python.chmod(0o755)
    time.sleep(0.01)
    (folder / ".venv" / ".ready").touch()
    return folder


def test_make_works_in_a_folder_with_a_blank_and_shields_its_python(tmp_path):
    (folder := tmp_path / "a b").mkdir()
    text = make(
        "sweep", cwd=copied(folder), PYTHONPATH="/other", PYTHONWARNINGS="error", PYTHONHOME="/x", DATA="/scratch", JOBS="9"
    )
    assert "<-m><ssl_core.lab><sweep><--data><mnist>" in text and "<--jobs>" not in text
    variables = set(re.findall(r"^(\w+=.*)$", text, re.MULTILINE))
    assert variables >= {f"PYTHONPATH={folder}", "PYTHONUTF8=1"}
    assert not {line for line in variables if line.startswith(("PYTHONWARNINGS", "PYTHONHOME"))}


def test_lab_of_root_is_allowed_and_of_this_python(tmp_path):
    text = make("lab", "LAB=--port 8899", cwd=copied(tmp_path))
    assert "<-m><jupyterlab>" in text and "<--port><8899>" in text
    assert ("<--allow-root>" in text) == ("lab: as root" in text) == (os.geteuid() == 0)
    assert "<--ServerApp.kernel_spec_manager_class=ssl_core.lab.runs.kernels.OwnKernel>" in text


@pytest.mark.slow
def test_own_kernel_is_the_only_one_that_the_lab_offers(tmp_path):
    program = "from ssl_core.lab.runs.kernels import OwnKernel; import json; print(json.dumps(OwnKernel().get_all_specs()))"
    environment = os.environ | {"JUPYTER_PATH": other_kernel(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=files.ROOT, env=environment, capture_output=True, text=True, check=True
    )
    specs = json.loads(done.stdout)
    assert specs.keys() == {"python3"} and specs["python3"]["spec"]["argv"][0] == sys.executable


def test_setup_says_that_space_or_rights_or_python_are_missing(tmp_path):
    (tools := tmp_path / "tools").mkdir()
    for name, script in {
        "python3": '#!/bin/sh\ncase "$*" in *"-m venv"*) mkdir -p .venv/bin; cp $0 .venv/bin/python;; *"pip in"*) exit 1;; esac',
        "df": "#!/bin/sh\necho Filesystem; echo x 9 9 ${FREE:-9000000000} 1% /",
        "uname": "#!/bin/sh\necho ${SYSTEM:-Linux}",
    }.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    (folder := tmp_path / "project").mkdir()
    shutil.copy(files.ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    path = f"{tools}:{os.environ['PATH']}"
    assert "setup: the packages take about 6 GB, and 2.5 GB are free here" in make("setup", cwd=folder, PATH=path, FREE="2500000")
    assert "setup: the packages could not be installed, see above" in make("setup", cwd=folder, PATH=path)
    assert "setup: tested on Debian and Ubuntu alone; macOS should work" in make("setup", cwd=folder, PATH=path, SYSTEM="Darwin")
    # An environment whose Python is gone, after an upgrade of the system, is made anew.
    (folder / ".venv" / ".ready").touch()
    (folder / ".venv" / "bin" / "python").unlink()
    assert "python3 -m venv --clear .venv" in make("sweep", cwd=folder, PATH=path)
