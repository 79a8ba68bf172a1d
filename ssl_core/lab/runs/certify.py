"""Does a change of the code change a number? If no probe shows that it does, finished runs stay finished.

A run is repeated when the code of the science has another digest. `python -m ssl_core.lab certify --since COMMIT` runs PROBES, a
few steps each, with the code as it was and as it is. If every weight, loss and metric is the same, bit for bit, it notes in
`certified.json` that today's digest stands for the earlier one. It checks no more than these probes: a path of the code that
none of them takes is not certified.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from ssl_core.recipes import LINEAR, RECIPES

from .. import LabError
from . import files, fingerprint, notebook

COLOR = "{color}"  # stands for a folder of coloured images, made for the probes
# What is run, by what it looks after. All use scikit-learn's digits but the last two: grey images of full size, and colour.
COMMON = {"recipe": "best", "n_labels": 60, "seed": 1, "data": "digits"}
PROBES: Mapping[str, Mapping[str, object]] = {
    **{f"recipe {name}": COMMON | {"recipe": name} for name in RECIPES if name != LINEAR.name},  # it trains no network
    "ablation best-without-teacher": COMMON | {"recipe": "best-without-teacher"},
    "ablation supervised-plus-consistency": COMMON | {"recipe": "supervised-plus-consistency"},
    "class-balanced draw": COMMON | {"draw": "stratified"},
    "typical draw": COMMON | {"draw": "typical"},
    "label noise": COMMON | {"label_noise": 0.2},
    "withheld fold": COMMON | {"fold": 2},
    "all images labelled": COMMON | {"n_labels": 1437},
    "grey, full size": COMMON | {"data": "mnist", "n_labels": 300},
    "colour, estimated class frequencies": COMMON | {"data": COLOR, "n_labels": 40},
    "no label": COMMON | {"n_labels": 0},
}
BY_SELECTION = ("typical draw", "no label")  # the probes of fingerprint.SELECTION_CODE: other runs do not depend on it


def code_of(commit: str, folder: Path) -> Path:
    """Writes the project as it was at `commit` into `folder`, with the data of today; ValueError if there is no such commit."""
    packed = subprocess.run(["git", "archive", commit], cwd=files.ROOT, capture_output=True, check=False)
    if packed.returncode:
        raise ValueError(f"since={commit!r}: must be a commit ({packed.stderr.decode().strip()})")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    (folder / "data").mkdir(exist_ok=True)
    for source in files.DATA.iterdir():  # but no cache of what the code makes
        if source.name not in ("graphs", "folders") and not (target := folder / "data" / source.name).exists():
            target.symlink_to(source.resolve())
    return folder


def python(project: Path, *arguments: str) -> str:
    """The output of Python with the package of the folder `project`; LabError with the last lines if it fails."""
    environment = os.environ | notebook.KEEP_MEMORY | {"PYTHONPATH": str(project), "MPLBACKEND": "agg"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"{project}: {(result.stdout + result.stderr)[-1000:]}")
    return result.stdout.strip()


# The program that prints the digests of the code, by name; older code lacks some.
CODE = ("SCIENCE", "GRAPH_CODE", "SELECTION_CODE", "CHECK_CODE")
DIGESTS = f"""
import json
from ssl_core.lab.runs import fingerprint as f
print(json.dumps({{name: f.code_digest(getattr(f, name)) for name in {CODE} if hasattr(f, name)}}))
"""
# The program that runs the probes, with the package of one tree: prints a digest of all numbers for each probe.
RUN_PROBES = """
import hashlib, json, sys
import torch
from ssl_core import data, experiment
from ssl_core.lab.runs import files, graph_cache
from ssl_core.lab.runs.spec import Run

torch.set_num_threads(1)
for name, parameters in json.loads(sys.argv[1]).items():
    exact = {"precision": "float32"} if hasattr(Run, "precision") else {}  # which all code has
    run = Run(**parameters, **exact, smoke=True)
    images = data.load(run.data, files.DATA)
    neighbors = graph_cache.for_run(run, images, lambda event: None, device="cpu")
    task, result = experiment.run(images, run.labeling, run.settings, neighbors)
    digest = hashlib.sha256()
    tensors = [images.x[:], images.y, task.x_l[:], task.y_l, task.x_u[:], *result.training.model.state_dict().values()]
    tensors += [] if task.candidates is None else [task.candidates, task.class_prior]
    tensors += [] if neighbors is None else [neighbors.similarity, neighbors.index, neighbors.features]
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in result.training.history]
    held_out = result.held_out and (result.held_out.accuracy, result.held_out.nll)
    numbers = [history, result.test_accuracy, result.trained.accuracy, result.trained.nll, result.untrained.nll, held_out]
    digest.update(json.dumps(numbers).encode())
    print(name, digest.hexdigest(), sep="\\t", flush=True)
"""


def numbers(project: Path, probes: Mapping[str, Mapping[str, object]], color: Path) -> dict[str, str]:
    """The digest of the numbers of each probe with the code in `project`."""
    filled = {
        name: {key: str(color) if value == COLOR else value for key, value in probe.items()} for name, probe in probes.items()
    }
    output = python(project, "-c", RUN_PROBES, json.dumps(filled))
    return dict(line.split("\t") for line in output.splitlines() if "\t" in line)


def write_color(folder: Path) -> Path:
    """A folder of small coloured images of two classes, of which some have no label: the same files at every call."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(120):
        part = f"labeled/{'ab'[i % 2]}" if i < 60 else "unlabeled" if i < 100 else f"test/{'ab'[i % 2]}"
        pixels = random.integers(0, 120, (20, 24, 3), np.uint8)
        pixels[4:16, 6 + 8 * (i % 2) : 10 + 8 * (i % 2), i % 3] = 250
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{i:03}.png")
    return folder


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", default="HEAD", help="the commit whose numbers today's code should make")
    parser.add_argument("--probes", default="", help="only probes whose name contains this text; nothing is certified then")


def command(args: argparse.Namespace) -> None:
    probes = {name: probe for name, probe in PROBES.items() if args.probes in name}
    with tempfile.TemporaryDirectory() as folder:
        (before := Path(folder) / "before").mkdir()
        code_of(args.since, before)
        earlier = json.loads(python(before, "-c", DIGESTS))
        today = {name: fingerprint.code_digest(getattr(fingerprint, name)) for name in CODE}
        if earlier == today:
            print("certify: the digest is the same already; nothing to do")
            return
        known = {name: probe for name, probe in probes.items() if "SELECTION_CODE" in earlier or name not in BY_SELECTION}
        color = write_color(Path(folder) / "color")
        old = numbers(before, known, color)
        new = numbers(files.ROOT, probes, color)
    different = [name for name in probes if old.get(name) != new[name]]
    for name in probes:
        print(f"certify: {name}: {'DIFFERENT' if name in different else 'the same'}")
    if others := [name for name in different if name not in BY_SELECTION]:
        raise LabError(f"other numbers than at {args.since}: {', '.join(others)}; finished runs are void")
    if args.probes:
        print("certify: only some probes were run; nothing is certified")
        return
    same = [name for name in earlier if not (different and name == "SELECTION_CODE")]
    bare = {fingerprint.digest(getattr(fingerprint, name)): earlier[name] for name in same}
    certified = json.loads(fingerprint.CERTIFIED.read_text()) | bare
    files.write_atomically(fingerprint.CERTIFIED, json.dumps(certified, indent=1) + "\n")
    void = f"; void are runs of {' and '.join(different)}" if different else ""
    same_probes = f"{len(probes) - len(different)} probes give the same numbers as at {args.since}"
    print(f"certify: {same_probes}; runs finished with that code stay finished{void}")
