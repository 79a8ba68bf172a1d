"""A sweep on a Dask scheduler and two workers, over TCP: each worker in its own copy of the project, nothing shared."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest

from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, records
from ssl_core.lab.runs.cluster import DaskExecutor, RunFiles
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.runs.sweep import cores


@pytest.fixture
def start(tmp_path):
    """Starts a program of Dask; gives its process and the file of what it prints. All are ended after the test."""
    processes = []

    def run(program, *arguments, cwd=tmp_path):
        log = tmp_path / f"{program}{len(processes)}.log"
        command = [sys.executable, "-m", "distributed.cli.dask_" + program, *arguments, "--no-dashboard"]
        environment = os.environ | {"PYTHONPATH": str(cwd), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "30s"}
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(command, cwd=cwd, stdout=file, stderr=file, env=environment, start_new_session=True)
            )
        return processes[-1], log

    yield run
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(pattern, log, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if match := re.search(pattern, log.read_text()):
            return match
        time.sleep(0.2)
    raise TimeoutError(log.read_text())


@pytest.fixture
def copy_of_the_project(copy_project, tmp_path):
    """A copy that shares nothing with the others: the data is its own."""

    def copy(name):
        (tmp_path / name).mkdir()
        target = copy_project(tmp_path / name)
        (target / "data").unlink()
        shutil.copytree(files.ROOT / "data" / "MNIST", target / "data" / "MNIST")
        return target

    return copy


@contextlib.contextmanager
def killed_at_the_first_epoch(process):
    """While a sweep runs on a cluster: `process`, with all that it started, is killed as soon as some run trains."""
    killed = []
    original = DaskExecutor.submit

    def submit(executor, run, folder, threads, tell, begin):
        def noted(event):
            if event["stage"] == "epoch" and not killed:
                os.killpg(process.pid, signal.SIGKILL)
                killed.append(run)
            tell(event)

        return original(executor, run, folder, threads, noted, begin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DaskExecutor, "submit", submit)
        yield killed


def test_lost_worker_changes_no_number(images, start, copy_of_the_project, tmp_path, capsys):
    _, log = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    address = wait_for(r"tcp://127\.0\.0\.1:\d+", log)[0]
    options = ("--nthreads", "1", "--nworkers", "1", "--death-timeout", "60")
    for name in ("one", "two"):
        worker, log = start("worker", address, *options, cwd=copy_of_the_project(name))
        wait_for("Registered to", log)
    seeds = "0 1 2 3 4 5" if "KILLS" in os.environ else "0"  # twelve runs in `make test-faults`
    grid = ("--labels", "50", "--recipes", "supervised published", "--seeds", seeds, "--smoke")

    n = 2 * len(seeds.split())
    # The second worker is killed as soon as it has begun a run.
    with killed_at_the_first_epoch(worker) as killed:
        main(["sweep", *grid, "--scheduler", address, "--outputs", str(tmp_path / "there")])
    assert killed and f"{n} runs: 0 finished before, {n} to do, 2 at a time on 2 workers of tcp://" in capsys.readouterr().out
    main(["sweep", *grid, "--jobs", str(cores()), "--outputs", str(tmp_path / "here")])
    there, here = (pd.read_csv(tmp_path / place / "results.csv").drop(columns="seconds") for place in ("there", "here"))
    pd.testing.assert_frame_equal(there, here)
    places_of = ([*sorted((tmp_path / place).glob("*/*/m*/seed*/model.safetensors"))] for place in ("there", "here"))
    weights = [[path.read_bytes() for path in paths] for paths in places_of]
    assert len(weights[0]) == n and weights[0] == weights[1]


@pytest.mark.skipif("KILLS" not in os.environ, reason="make test-faults")
def test_lost_scheduler_ends_the_sweep_and_the_same_command_resumes(images, start, copy_of_the_project, tmp_path):
    place = copy_of_the_project("there")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    command = [
        "sweep",
        "--labels",
        "50",
        "--recipes",
        "supervised",
        "--smoke",
        "--scheduler",
        address,
        "--outputs",
        str(tmp_path / "outputs"),
    ]

    def begin():
        scheduler, log = start("scheduler", "--host", "127.0.0.1", "--port", port)
        wait_for("Scheduler at", log)
        _, log = start("worker", address, "--nthreads", "1", "--nworkers", "1", "--death-timeout", "20", cwd=place)
        wait_for("Registered to", log)
        return scheduler

    with killed_at_the_first_epoch(begin()) as killed, pytest.raises(SystemExit, match="1 of 1 runs failed; the same command"):
        main(command)
    assert killed and records.read(Run(50, "supervised", 0).folder(tmp_path / "outputs")) is None
    begin()
    main(command)
    assert records.finished(Run(50, "supervised", 0, smoke=True), tmp_path / "outputs")


def test_silent_scheduler_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"^sweep: SCHEDULER='tcp://127.0.0.1:1': must be the address of a Dask scheduler"):
        main(["sweep", "--labels", "50", "--smoke", "--scheduler", "tcp://127.0.0.1:1", "--outputs", str(tmp_path / "outputs")])
    assert not list((tmp_path / "outputs").glob("*/*"))


def test_files_of_a_worker_stay_in_the_folder_of_the_run(tmp_path):
    RunFiles("", {"../escaped": b"x", "/tmp/escaped": b"x", "run.json": b"{}"}).write(tmp_path / "part")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["part", "run.json"]


def test_workers_do_not_fit_features(monkeypatch):
    monkeypatch.setattr("ssl_core.lab.features.kept.prepare", lambda *_: "table-0123abcd")
    grid = ["--labels", "50", "--recipes", "linear", "--data", "digits", "--features", "table.npy"]
    with pytest.raises(SystemExit, match=r"^sweep: SCHEDULER='tcp://127.0.0.1:1': must be empty with recipe='linear'"):
        main(["sweep", *grid, "--scheduler", "tcp://127.0.0.1:1"])
