"""Sweeps that are killed at random moments lose nothing: KILLS=100 says how often (`make test-faults`; 3 in `make test`)."""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pandas as pd
import psutil

from ssl_core.lab import runs

KILLS = int(os.environ.get("KILLS", "3"))
SEEDS = "0 1" if KILLS > 9 else "0"
OPTIONS = ("--labels", "50", "--recipes", "supervised published", "--seeds", SEEDS, "--smoke", "--jobs", "2")


def start(outputs):
    command = [sys.executable, "-m", "ssl_core.lab.sweep", *OPTIONS, "--outputs", str(outputs)]
    return subprocess.Popen(command, cwd=runs.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def victims(sweep):
    """By what it is, a process of the sweep that runs now."""
    found = {"sweep": psutil.Process(sweep.pid)}
    try:
        for worker in found["sweep"].children():
            found["worker"] = worker
            for kernel in worker.children():
                found["kernel"] = kernel
    except psutil.NoSuchProcess:
        pass
    return found


def records(outputs):
    """What is finished: of each run, the record's bytes."""
    return {path: path.read_bytes() for path in outputs.glob("*/*/m*/seed?/run.json")}


def result(outputs):
    table = pd.read_csv(outputs / "results.csv").drop(columns="seconds")
    return table, [path.read_bytes() for path in sorted(outputs.glob("*/*/m*/seed?/model.safetensors"))]


def test_a_sweep_that_is_killed_again_and_again_ends_as_one_that_is_not(images, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    assert start(undisturbed).wait() == 0
    expected, weights = result(undisturbed)
    moments, kills, rounds = random.Random(KILLS), Counter(), 0
    while kills.total() < KILLS:
        rounds += 1
        outputs = tmp_path / f"round{rounds}"
        finished, done = {}, False
        while not done:
            sweep = start(outputs)
            if kills.total() < KILLS:
                time.sleep(moments.uniform(0, 25))
                what, victim = moments.choice(sorted(victims(sweep).items()))
                if sweep.poll() is None and victim.is_running():
                    victim.kill()
                    kills[what] += 1
            done = sweep.wait(300) == 0
            now = records(outputs)
            assert finished.items() <= now.items(), "what was finished is not touched"
            finished = now
        table, found = result(outputs)
        pd.testing.assert_frame_equal(table, expected)
        assert found == weights
        assert not list(outputs.glob("*/*/m*/*.part")) and not list(outputs.glob("*/*/m*/*.failed"))
    print(f"killed {dict(kills)} in {rounds} sweeps of {len(weights)} runs: 0 runs lost, 0 records changed, final tables equal")
