"""Does a change of the code change a number? If it provably does not, finished runs stay finished.

A run is repeated when the code behind its numbers has another digest. `python -m ssl_core.lab.certify --since COMMIT` trains a
few steps of each recipe with the code as it was and as it is; if every weight is the same, bit for bit, it notes in `same.json`
that the digest of today stands for the earlier one.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from ssl_core import recipes

from . import runs


def code_of(commit: str, folder: Path) -> Path:
    """Writes the project as it was at `commit` into `folder`, with the data of today; ValueError if there is no such commit."""
    packed = subprocess.run(["git", "archive", commit], cwd=runs.ROOT, capture_output=True)
    if packed.returncode:
        raise ValueError(f"since={commit!r}: allowed is a commit ({packed.stderr.decode().strip()})")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    (folder / "data").mkdir(exist_ok=True)
    for source in (runs.ROOT / "data").iterdir():
        if not (target := folder / "data" / source.name).exists():
            target.symlink_to(source.resolve())
    return folder


def command(project: Path, *arguments: str) -> str:
    """What Python prints with the package of the folder `project`; RuntimeError with the last lines if it fails."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=os.environ | runs.KEEP_MEMORY | {"PYTHONPATH": str(project), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"{project}: {(result.stdout + result.stderr)[-1000:]}")
    return result.stdout.strip()


# Executes the training notebook, a few steps for each recipe, in a process with the package of one tree.
RUN_NOTEBOOK = """
import json, sys
from ssl_core.lab import runs

outputs, names = sys.argv[1:]
cells = [cell for cell in json.loads(runs.NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
for recipe in names.split():
    variables = {}
    for cell in cells:
        exec("".join(cell["source"]), variables)
        if "parameters" in cell["metadata"].get("tags", []):
            variables.update(recipe=recipe, n_labels=300, smoke=True, folder=f"{outputs}/{recipe}")
"""


def numbers(project: Path, names: str, outputs: Path) -> dict[str, tuple]:
    """By recipe, what a few steps of it learn with the code in `project`: weights, losses, accuracy."""
    command(project, "-c", RUN_NOTEBOOK, str(outputs), names)
    found = {}
    for path in sorted(outputs.glob("*/run.json")):
        record = json.loads(path.read_text())
        history = [{name: value for name, value in row.items() if name != "seconds"} for row in record["history"]]
        weights = (path.parent / "model.safetensors").read_bytes()
        found[path.parent.name] = (weights, history, record["accuracy"], record["nll"])
    return found


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.certify", description=__doc__.splitlines()[0])
    parser.add_argument("--since", required=True, help="the commit whose numbers today's code should make")
    parser.add_argument("--recipes", default=" ".join(recipes.RECIPES), help="names of the recipes to compare")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        (before := Path(folder) / "before").mkdir()
        try:
            code_of(given.since, before)
        except ValueError as error:
            sys.exit(f"certify: {error}")
        earlier = command(before, "-c", "from ssl_core.lab import runs; print(runs.code_digest())")
        if earlier == runs.code_digest():
            print("certify: the digest is the same already; nothing to do")
            return
        old = numbers(before, given.recipes, Path(folder) / "outputs before")
        new = numbers(runs.ROOT, given.recipes, Path(folder) / "outputs now")
    different = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    if different:
        sys.exit(f"certify: other numbers than at {given.since}: {', '.join(different)}; finished runs are void")
    known = json.loads(runs.SAME.read_text()) | {runs.bare_digest(): earlier}
    runs.write_atomically(runs.SAME, json.dumps(known, indent=1) + "\n")
    what = ", ".join(f"`{name}`" for name in new)
    print(f"certify: what {what} learns is the same as at {given.since}; what that code finished stays finished")


if __name__ == "__main__":
    main()
