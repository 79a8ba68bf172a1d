import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from playwright.sync_api import sync_playwright

from ssl_core import data
from ssl_core.lab import runs

torch.set_num_threads(1)
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
os.environ.update(runs.KEEP_MEMORY)  # for the kernels and sweeps that tests start: each evaluates in half the time
LAB_SETTINGS = {  # of JupyterLab in tests: every cell is in the page, also where it can't be seen; and nothing is asked
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="session")
def images():
    """Real MNIST."""
    return data.load("mnist", runs.ROOT / "data")


@pytest.fixture
def command():
    """Runs a module of the project as a user's shell would; gives its exit status and what it printed."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=runs.ROOT, env=os.environ | environment
        )
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.fixture(scope="session")
def copy_project():
    """Copies the project into a folder, to break or to run there; the data stays where it is."""

    def copy(folder: Path) -> Path:
        for name in ("ssl_core", "notebooks", "pyproject.toml"):
            source = runs.ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        (folder / "data").symlink_to(runs.ROOT / "data")
        return folder

    return copy


@pytest.fixture
def project(copy_project, tmp_path):
    """A copy of the project, to break."""
    return copy_project(tmp_path)


@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is here: apt install chromium")
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def start_lab(tmp_path_factory):
    """Starts JupyterLab as `make lab` does, in a folder of the project; gives the process, its address, and its token."""
    processes = []

    def start(project: Path = runs.ROOT):
        recipe = re.search(r"\$\(BIN\)/(jupyter lab .*) \$\(LAB\)", (runs.ROOT / "Makefile").read_text())[1]
        command = [*recipe.split(), "--no-browser", "--ServerApp.port=0", "--allow-root"]
        command[0] = str(Path(sys.executable).with_name("jupyter"))
        own = tmp_path_factory.mktemp("jupyter")  # nothing of the user's own settings
        for name, values in LAB_SETTINGS.items():
            (file := own / "settings" / f"{name}.jupyterlab-settings").parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        places = {
            "CONFIG_DIR": "config",
            "RUNTIME_DIR": "runtime",
            "LAB_SETTINGS_DIR": "settings",
            "LAB_WORKSPACES_DIR": "spaces",
        }
        places = {f"JUPYTER{name if name.startswith('LAB') else '_' + name}": str(own / place) for name, place in places.items()}
        environment = os.environ | places | {"PYTHONPATH": str(project)}
        log = (own / "log").open("w+")
        processes.append(subprocess.Popen(command, cwd=project, env=environment, stderr=log))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and processes[-1].poll() is None:
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab/tree/\S+\?token=(\w+)", (own / "log").read_text()):
                return processes[-1], *found.groups()
            time.sleep(0.1)
        pytest.fail(f"JupyterLab gave no address: {(own / 'log').read_text()}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)
