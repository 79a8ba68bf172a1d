"""JupyterLab as `make lab` starts it: for this machine only, and for whoever has its token."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from ssl_core.lab import runs


@pytest.fixture
def lab(tmp_path):
    """The process, its address, and its token."""
    recipe = re.search(r"\$\(BIN\)/(jupyter lab .*) \$\(LAB\)", (runs.ROOT / "Makefile").read_text())[1]
    command = [*recipe.split(), "--no-browser", "--ServerApp.port=0", "--allow-root"]
    command[0] = str(Path(sys.executable).with_name("jupyter"))
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    process = subprocess.Popen(command, cwd=runs.ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab/tree/notebooks/train\.ipynb\?token=(\w+)", line):
            yield process, *found.groups()
            break
    else:
        pytest.fail("JupyterLab gave no address")
    process.terminate()
    process.communicate(timeout=20)


def status(address):
    try:
        return urllib.request.urlopen(address, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def addresses(process):
    return {each.laddr.ip for each in psutil.Process(process.pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN}


def test_it_listens_on_this_machine_alone_and_wants_its_token(lab):
    process, address, token = lab
    deadline = time.monotonic() + 20
    while not (listening := addresses(process)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert listening and listening <= {"127.0.0.1", "::1"} and len(token) >= 32
    assert status(f"{address}/api/contents/notebooks") == 403
    assert status(f"{address}/api/contents/notebooks?token={'0' * len(token)}") == 403
    assert status(f"{address}/api/contents/notebooks?token={token}") == 200
