"""Fixtures for all tests. Heavy packages are imported in the fixture that needs them: a test of a loss needs no browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent  # of the project
# Returned to the system at every step, memory makes training slow: for the kernels and sweeps that tests start, it is kept.
os.environ.update({"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)})
# One thread a process, as in sweeps: the number of threads changes the last digits.
os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
LAB_SETTINGS = {  # of JupyterLab in tests: every cell is in the page, also where it can't be seen; and nothing is asked
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Markers that follow from the folder, the file or what a test of another subject happens to need; pyproject.toml explains them.
MARKERS_OF = {
    "notebooks": ("notebooks",),
    "system/test_browser.py": ("browser",),
    "system/test_browser_lab.py": ("browser", "notebooks"),
    "system/test_browser_check.py": ("browser", "notebooks"),
    "system/test_browser_label.py": ("browser", "notebooks"),
    "system/test_certify.py": ("slow",),
    "system/test_cluster.py": ("cluster",),
    "system/test_faults.py": ("slow",),
    "system/test_sweep.py": ("slow",),
    "system/test_large_images.py": ("slow",),
    "unit/test_fetch.py::test_pypi_package_has_the_same_files": ("network",),
    "unit/test_fetch.py::test_debian_package_has_fashion_mnist": ("network",),
    "unit/test_lab.py": ("slow",),
    "unit/test_packaged.py::test_packaged_set_is_as_described": ("network", "slow"),
}


def pytest_collection_modifyitems(items):
    for item in items:
        file = item.path.relative_to(TESTS)
        for place, markers in MARKERS_OF.items():
            name, _, test = place.partition("::")
            if file.is_relative_to(name) and test in ("", getattr(item, "originalname", "")):
                for marker in markers:
                    item.add_marker(marker)


@pytest.fixture(scope="session")
def images():
    """Real MNIST."""
    from ssl_core import data

    return data.load("mnist", ROOT / "data")


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits."""
    from ssl_core import data

    return data.load("digits")


@pytest.fixture(scope="session")
def similar(digits):
    """The graph of scikit-learn's digits, by pixels."""
    from ssl_core.graph import Neighbors, neighbors

    features = digits.x[:].flatten(1)
    return Neighbors(*neighbors(features, 10), features)


@pytest.fixture(scope="session")
def ten_groups():
    """300 images of ten classes in as many tight groups, their graph, and its features (300, 300)."""
    import numpy as np
    import torch

    from ssl_core.data import Images
    from ssl_core.graph import Neighbors, neighbors

    random = np.random.default_rng(0)
    y = torch.arange(300) % 10
    features = torch.from_numpy(np.eye(300)[:10][y] + 0.05 * random.standard_normal((300, 300))).float()
    images = Images("digits", torch.zeros(300, 1, 28, 28), y, torch.zeros(20, 1, 28, 28), y[:20], tuple("0123456789"))
    return images, Neighbors(*neighbors(features, 10), features.half()), features


@pytest.fixture
def command():
    """Runs a module of the project as a user's shell would; gives its exit status and what it printed."""

    def run(*arguments: str, **environment: str) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.fixture(scope="session")
def copy_project():
    """Copies the project into a folder, to break or to run there; the data stays where it is."""

    def copy(folder: Path) -> Path:
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in ("ssl_core", "notebooks"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "data").symlink_to(ROOT / "data")
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
    from playwright.sync_api import sync_playwright

    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def start_lab(tmp_path_factory):
    """Starts JupyterLab as `make lab` does, in a folder of the project; gives the process, its address, and its token."""
    processes = []

    def start(project: Path = ROOT):
        recipe = re.search(r"\$\(BIN\)/python (-m jupyterlab .*) \$\(LAB\)", (ROOT / "Makefile").read_text())[1]
        command = [sys.executable, *recipe.split(), "--no-browser", "--ServerApp.port=0", "--allow-root"]
        own = tmp_path_factory.mktemp("jupyter")  # nothing of the user's own settings
        for name, values in LAB_SETTINGS.items():
            (file := own / "settings" / f"{name}.jupyterlab-settings").parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "spaces",
        }
        environment = os.environ | {name: str(own / place) for name, place in places.items()} | {"PYTHONPATH": str(project)}
        log = own / "log"
        with log.open("w") as file:
            processes.append(subprocess.Popen(command, cwd=project, env=environment, stderr=file))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and processes[-1].poll() is None:
            if match := re.search(r"(http://127\.0\.0\.1:\d+)/lab/tree/\S+\?token=(\w+)", log.read_text()):
                return processes[-1], *match.groups()
            time.sleep(0.1)
        pytest.fail(f"JupyterLab gave no address: {log.read_text()}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)
