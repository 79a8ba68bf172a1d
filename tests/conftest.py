import os
import shutil
import subprocess
import sys

import pytest
import torch

from ssl_core import data
from ssl_core.lab import runs

torch.set_num_threads(1)
os.environ.update(runs.KEEP_MEMORY)  # for the kernels and sweeps that tests start: each evaluates in half the time


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


@pytest.fixture
def project(tmp_path):
    """A copy of the project, to break."""
    for name in ("ssl_core", "notebooks", "pyproject.toml"):
        source = runs.ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "data").symlink_to(runs.ROOT / "data")
    return tmp_path
