"""Commands of the lab from a notebook: what a shell would print appears in the cell, and a command that fails stops it."""

import subprocess
import sys

from ..runs import files


def lab(*arguments: object) -> None:
    """Runs `python -m ssl_core.lab` with these arguments, and prints its output as it comes.

    Raises CalledProcessError if the command fails.
    """
    command = [sys.executable, "-m", "ssl_core.lab", *map(str, arguments)]
    pipe, same = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(command, cwd=files.ROOT, text=True, stdout=pipe, stderr=same) as process:
        assert process.stdout is not None  # a pipe
        for line in process.stdout:
            print(line, end="")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
