"""Sweeps on failing machines: the same command completes after each fault, and finished runs stay as they were.

They are killed at random moments, as often as KILLS says: 3 times in `make test`, 100 in `make test-faults`, which also injects
the other faults that take long.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import psutil
import pytest

from ssl_core.lab.runs import files
from ssl_core.lab.runs.spec import Run

KILLS = int(os.environ.get("KILLS", "3"))
LONG = KILLS > 9
SEEDS = "0 1" if LONG else "0"
OPTIONS = ("--labels", "50", "--recipes", "supervised published", "--seeds", SEEDS, "--smoke", "--jobs", "2")
DISTURBED = Run(50, "supervised", 0, smoke=True)


def start(outputs, project=files.ROOT, **environment):
    command = [sys.executable, "-m", "ssl_core.lab", "sweep", *OPTIONS, "--outputs", str(outputs)]
    environment = os.environ | {"PYTHONPATH": str(project)} | environment
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def output_of(sweep):
    """The output of a sweep, when it has ended; never a traceback of its own."""
    text = sweep.communicate(timeout=300)[0]
    assert "Traceback" not in text, text
    return text


def family(sweep):
    """A running process of the sweep, of each kind."""
    processes = {"sweep": psutil.Process(sweep.pid)}
    with contextlib.suppress(psutil.NoSuchProcess):
        for server in processes["sweep"].children():
            processes["server"] = server
            for worker in server.children():
                processes["worker"] = worker
                for kernel in worker.children():
                    processes["kernel"] = kernel
    return processes


def records(outputs):
    """What is finished: of each run, the record's bytes."""
    return {path: path.read_bytes() for path in outputs.glob("*/*/m*/seed?/run.json")}


def result(outputs):
    table = pd.read_csv(outputs / "results.csv").drop(columns="seconds")
    return table, [path.read_bytes() for path in sorted(outputs.glob("*/*/m*/seed?/model.safetensors"))]


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("undisturbed") / "outputs"
    sweep = start(outputs)
    assert "FAILED" not in output_of(sweep) and sweep.returncode == 0
    return outputs


class Report:
    """Counts, for each fault, how often it was caused, and what it did to finished runs and to the final table."""

    columns = ("injected", "runs lost", "records changed", "final tables unequal")

    def __init__(self):
        self.counts = Counter()

    def compare(self, fault, before, after):
        """Counts records of `before` that are lost or changed in `after`."""
        self.counts[fault, "runs lost"] += len(before.keys() - after.keys())
        self.counts[fault, "records changed"] += sum(after[path] != before[path] for path in before.keys() & after.keys())

    def end(self, fault, outputs, undisturbed, injected=1):
        """Counts the fault, and whether its sweep did not end as the undisturbed one; the test fails if anything is not 0."""
        self.counts[fault, "injected"] += injected
        try:
            check_same(outputs, undisturbed)
        except AssertionError:
            self.counts[fault, "final tables unequal"] += 1
            raise
        finally:
            print(f"{fault}: {', '.join(f'{self.counts[fault, column]} {column}' for column in self.columns)}", flush=True)
        assert [self.counts[fault, column] for column in self.columns[1:]] == [0, 0, 0]

    def __str__(self):
        faults = list(dict.fromkeys(fault for fault, _ in self.counts))
        width = max(map(len, faults), default=0)
        lines = [f"{'fault':{width}}  {'  '.join(self.columns)}"]
        for fault in faults:
            cells = (f"{self.counts[fault, column]:{len(column)}}" for column in self.columns)
            lines.append(f"{fault:{width}}  {'  '.join(cells)}")
        return "\n".join(lines)


@pytest.fixture(scope="module")
def report():
    """The report, printed at the end."""
    report = Report()
    yield report
    print(f"\n{report}")


def check_same(outputs, undisturbed):
    """The final table and the weights are those of an undisturbed sweep, and nothing half-finished is left."""
    (table, trained), (expected, weights) = result(outputs), result(undisturbed)
    pd.testing.assert_frame_equal(table, expected)
    assert trained == weights
    assert not list(outputs.glob("*/*/m*/*.part")) and not list(outputs.glob("*/*/m*/*.failed"))


def test_killed_sweep_ends_as_an_undisturbed_one(undisturbed, report, tmp_path):
    moments, kills, rounds = random.Random(KILLS), Counter(), 0
    while kills.total() < KILLS:
        rounds += 1
        outputs = tmp_path / f"round{rounds}"
        finished, done, in_round = {}, False, Counter()
        while not done:
            sweep = start(outputs)
            while kills.total() < KILLS and sweep.poll() is None:  # one sweep may lose several of its kernels
                with contextlib.suppress(subprocess.TimeoutExpired):
                    sweep.wait(moments.uniform(0, 18))
                    break
                what, victim = moments.choice(sorted(family(sweep).items()))
                if victim.is_running():
                    victim.kill()
                    kills[what] += 1
                    in_round[what] += 1
                    print(f"{kills.total()} of {KILLS} kills, round {rounds}: a {what}", flush=True)
            sweep.communicate(timeout=300)
            done = sweep.returncode == 0
            now = records(outputs)
            report.compare("kills", finished, now)
            assert finished.items() <= now.items(), "finished runs stay as they were"
            finished = now
        report.end("kills", outputs, undisturbed, injected=in_round.total())
    print(f"{dict(kills)} in {rounds} rounds")


# The other faults: one run is to do, the others are finished. Each takes the outputs folder, causes its fault while a sweep is at
# work, and returns the sweep's output and status.


def out_of_memory(outputs):
    """From the moment that its images are read, a kernel is given no more."""
    sweep = start(outputs)
    while sweep.poll() is None:
        with contextlib.suppress(psutil.Error, KeyError):
            kernel = family(sweep)["kernel"]
            if kernel.memory_info().rss > 600e6:
                kernel.rlimit(psutil.RLIMIT_AS, (kernel.memory_info().vms,) * 2)
                break
        time.sleep(0.02)
    return output_of(sweep), sweep.returncode


def full_disk(outputs):
    """All but 100 kB are taken."""
    filler = outputs / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(outputs).free - 100_000))
    sweep = start(outputs)
    text = output_of(sweep)
    filler.unlink()
    return text, sweep.returncode


def read_only(outputs):
    """From the moment that its kernel runs, nothing can be written where the run belongs."""
    folder = DISTURBED.folder(outputs).parents[1]
    mount("--bind", folder, folder)
    sweep = start(outputs)
    while "kernel" not in family(sweep) and sweep.poll() is None:
        time.sleep(0.02)
    while mount("-o", "remount,bind,ro", folder).returncode and sweep.poll() is None:
        time.sleep(0.02)  # refused while a file there is being written
    text = output_of(sweep)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    return text, sweep.returncode


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 20 MB, in memory; the test is passed over where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=20m", "none", folder)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("fault", [full_disk, *([out_of_memory, read_only] if LONG else [])], ids=lambda fault: fault.__name__)
def test_failed_machine_is_survived_by_the_same_command(small_disk, undisturbed, report, fault):
    outputs = shutil.copytree(undisturbed, small_disk, dirs_exist_ok=True)
    shutil.rmtree(DISTURBED.folder(outputs))
    before = records(outputs)
    text, status = fault(outputs)
    assert status != 0 and re.search(r"^FAILED mnist/supervised/m50/seed0: |^sweep: ", text, re.MULTILINE), text
    assert records(outputs) == before
    sweep = start(outputs)
    assert f"{len(before)} finished before, 1 to do" in output_of(sweep) and sweep.returncode == 0
    report.compare(fault.__name__, before, records(outputs))
    report.end(fault.__name__, outputs, undisturbed)


# Faults that the next sweep repairs by itself.


def half_a_record(outputs, project):
    """The record of a finished run is cut off in its text, as a disk that lost its power may leave it."""
    record = DISTURBED.folder(outputs) / "run.json"
    os.truncate(record, record.stat().st_size // 2)
    return {}


def damaged_data(outputs, project):
    """One file of images is cut off, of another a bit is flipped, a third is missing."""
    shutil.rmtree(DISTURBED.folder(outputs))
    cut, flipped, missing, _ = sorted((project / "data" / "MNIST" / "raw").iterdir())
    os.truncate(cut, cut.stat().st_size // 2)
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    missing.unlink()
    return {}


def clock_that_jumps(outputs, project):
    """In the sweep and in its runs, each look at the clock finds it a day ahead or behind."""
    shutil.rmtree(DISTURBED.folder(outputs))
    hook = project / "hook"
    hook.mkdir()
    ahead_or_behind = "real, days = time.time, itertools.cycle((1, -1))\ntime.time = lambda: real() + 86400 * next(days)"
    (hook / "sitecustomize.py").write_text(f"import itertools, time\n{ahead_or_behind}")
    return {"PYTHONPATH": f"{hook}:{project}"}


@pytest.mark.skipif(not LONG, reason="make test-faults")
@pytest.mark.parametrize("fault", [half_a_record, damaged_data, clock_that_jumps], ids=lambda fault: fault.__name__)
def test_sweep_repairs_damage(project, undisturbed, report, fault):
    (project / "data").unlink()
    shutil.copytree(files.ROOT / "data" / "MNIST", project / "data" / "MNIST")
    outputs = shutil.copytree(undisturbed, project / "outputs")
    before = {path: content for path, content in records(outputs).items() if DISTURBED.folder(outputs) not in path.parents}
    sweep = start(outputs, project, **fault(outputs, project))
    text = output_of(sweep)
    assert f"{len(before)} finished before, 1 to do" in text and sweep.returncode == 0, text
    report.compare(fault.__name__, before, records(outputs))
    report.end(fault.__name__, outputs, undisturbed)


@pytest.mark.skipif(not LONG, reason="make test-faults")
def test_second_sweep_on_a_folder_is_refused(undisturbed, report, tmp_path):
    outputs = shutil.copytree(undisturbed, tmp_path / "outputs")
    shutil.rmtree(DISTURBED.folder(outputs))
    first = start(outputs)
    while "kernel" not in family(first) and first.poll() is None:
        time.sleep(0.02)
    second = start(outputs)
    assert "another sweep is at work there" in output_of(second) and second.returncode != 0
    assert "FAILED" not in output_of(first) and first.returncode == 0
    report.end("two sweeps at once", outputs, undisturbed)
