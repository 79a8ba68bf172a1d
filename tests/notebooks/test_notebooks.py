"""Every notebook, executed by papermill with short parameters on real MNIST, and its copy again by nbval."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict

import nbformat
import pandas as pd
import papermill
import pytest
from bs4 import BeautifulSoup

from ssl_core import data, datasets, graph, graph_file
from ssl_core.graph import Neighbors
from ssl_core.lab.page import build
from ssl_core.lab.runs import files, graph_cache, notebook, records
from ssl_core.lab.runs.fingerprint import fingerprint
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import label_images

NOTEBOOKS = sorted(notebook.FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def outputs(images, tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


def execute(outputs, name, parameters):
    copy = outputs / name
    papermill.execute_notebook(
        notebook.FOLDER / name, copy, parameters, kernel_name="python3", progress_bar=False, cwd=notebook.FOLDER
    )
    return copy


def prepare(outputs, name, parameters):
    """The copy with its parameters, for nbval to execute."""
    copy = outputs / name
    papermill.execute_notebook(notebook.FOLDER / name, copy, parameters, kernel_name="python3", prepare_only=True)
    return copy


def nbval(copy, **environment):
    """`pytest --nbval-lax` runs each cell again and fails if one raises: the notebooks' own asserts decide."""
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, str(copy)]
    return subprocess.run(command, capture_output=True, text=True, cwd=copy.parent, env=os.environ | environment, check=False)


def test_train_then_results(outputs):
    for recipe in ("supervised", "best"):
        folder = outputs / "mnist" / recipe / "m50" / "seed0"
        short = {"n_labels": 50, "recipe": recipe, "smoke": True, "folder": str(folder)}
        copy = execute(outputs, "train.ipynb", short)
        assert records.read(folder).run.recipe == recipe
        copy.rename(folder / "train.ipynb")
    checked = nbval(folder / "train.ipynb")
    assert checked.returncode == 0, checked.stdout

    checked = nbval(execute(outputs, "results.ipynb", {"outputs": str(outputs)}))
    assert checked.returncode == 0, checked.stdout


def test_results_without_usable_prices_lack_only_costs(outputs):
    copy = execute(outputs, "results.ipynb", {"outputs": str(outputs), "wage_per_hour": -1.0})
    text = copy.read_text()
    assert "**No costs:** wage_per_hour=-1.0: must be a finite number from 0" in text
    assert "*Cheapest in total:* left out" in text and "The smallest M beyond which" in text
    assert json.loads((outputs / "answers.json").read_text())["best_value_n_labels"] == {"left_out": "the prices cannot be used"}


def test_results_of_a_table_alone(tmp_path):
    """As of the reference: every answer that needs no single image is there, from rows of today's code."""
    right = {"supervised": {50: 0.9, 100: 0.95, 500: 0.98, 1000: 0.985}, "best": {50: 0.993, 100: 0.994, 500: 0.995, 1000: 0.996}}
    rows = []
    for recipe, by_size in right.items():
        for n, accuracy in by_size.items():
            kinds = [{"seed": seed} for seed in range(3)] + [{"seed": 0, "draw": "typical"}, {"seed": 0, "label_noise": 0.1}]
            for kind in kinds + [{"seed": 0, "fold": fold} for fold in range(1, 6)]:
                run = Run(n, recipe, **kind)
                measured = {
                    "accuracy": accuracy + 0.001 * run.seed,
                    "nll": 0.1,
                    "seconds": 60,
                    "missing_classes": 0,
                    "n_test": 10_000,
                }
                rows.append(asdict(run) | measured | {"held_out": accuracy, "fingerprint": fingerprint(run)})
    rows.append(rows[0] | {"seed": 3, "accuracy": 0.1, "fingerprint": "of older code"})
    written = pd.DataFrame(rows).drop(columns="smoke").rename(columns={"label_noise": "wrong_labels"}).to_csv(index=False)
    (tmp_path / "results.csv").write_text(written)
    for name in (notebook.RESULTS, notebook.FOLDER / "label_studies.ipynb"):
        build.build(tmp_path, notebook=name)
    assert (tmp_path / "results.csv").read_text() == written, "the table is all that there is: it stays as it was"
    text, studies = (
        BeautifulSoup((tmp_path / f"{name}.html").read_text(), "html.parser").get_text(" ", strip=True)
        for name in ("results", "label_studies")
    )
    assert "90.10 ± 0.10 (3)" in text and "needs 50 labels ." in text and " 3 10.00 %" not in text
    assert text.count("Only the summary table of these runs is available") == 4
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert answers["labels_saved"]["best"]["50"]["value"] is None, "supervised does not get there"
    assert set(answers["forecast"]["best"]["check"]) == {"1000"}
    for section in ("Which images to label", "When labels are wrong", "Without test images"):
        assert f"{section} " in studies
    assert "No size was run" not in text + studies and "make label-studies trains them" not in studies


def test_future_work_of_the_reference(outputs):
    copy = execute(outputs, "future_work.ipynb", {})
    text = copy.read_text()
    assert "measurements are made by today's code" in text and text.count("image/png") >= 5
    assert "No variant was measured" not in text and "No other package was measured" not in text


def test_ablation(outputs):
    """Beside the run of `supervised` from above, one with a loss more."""
    recipe = "supervised-plus-entropy"
    folder = outputs / "mnist" / recipe / "m50" / "seed0"
    execute(outputs, "train.ipynb", {"recipe": recipe, "smoke": True, "folder": str(folder)})
    copy = execute(outputs, "ablation.ipynb", {"outputs": str(outputs)})
    text = copy.read_text()
    assert recipe in text and "(1)" in text and "image/png" in text
    checked = nbval(copy)
    assert checked.returncode == 0, checked.stdout


def test_explore(outputs, tmp_path):
    """In the runs from above; the first view of each menu is kept with the notebook. Then again where there are no widgets."""
    copy = execute(outputs, "explore.ipynb", {"outputs": str(outputs)})
    shown = [output for cell in nbformat.read(copy, 4).cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 6
    assert "OutputModel" not in copy.read_text(), "nbclient may wait for ever for such a widget (its issue 312)"
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["ipywidgets"] = sys.modules["anywidget"] = None\n')
    checked = nbval(copy, PYTHONPATH=f"{tmp_path}:{files.ROOT}")
    assert checked.returncode == 0, checked.stdout


def test_watch(outputs):
    """The curve that grew is one figure in the notebook."""
    copy = execute(outputs, "watch.ipynb", {"recipe": "supervised", "data": "digits", "smoke": True})
    (_,) = (o for cell in nbformat.read(copy, 4).cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {}))
    assert "test accuracy, after" in copy.read_text() and "reading the images" not in copy.read_text()
    checked = nbval(copy)
    assert checked.returncode == 0, checked.stdout


def test_quickstart(outputs, tmp_path):
    copy = execute(outputs, "quickstart.ipynb", {"data": "digits", "n_labels": 50, "smoke": True, "graphs": str(tmp_path)})
    text = copy.read_text()
    assert "% test accuracy with 50 labels" in text and "suspect labels, among them" in text
    outputs_of = [o for cell in nbformat.read(copy, 4).cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs_of) == 6
    assert len(list(tmp_path.glob("*.safetensors"))) == 2, "each graph is made once"


def test_label_next(outputs):
    """On the smallest data set, with features of a few steps."""
    checked = nbval(
        prepare(outputs, "label_next.ipynb", {"data": "digits", "rounds": "12 12 20", "n_seeds": 1, "users": 6, "steps": 3})
    )
    assert checked.returncode == 0, checked.stdout


def test_label(outputs):
    """Where nobody answers: the first images are shown, nothing is written, and no picture is kept in place of the panel."""
    copy = execute(outputs, "label.ipynb", {"data": "digits", "outputs": str(outputs / "hand")})
    assert "0 answered, 1437 to go; the answers are in" in copy.read_text()
    assert not (outputs / "hand" / "label_next.csv").exists()
    checked = nbval(copy)
    assert checked.returncode == 0, checked.stdout


def test_check_labels(images, outputs, monkeypatch):
    """On the smallest data set, with a graph by pixels; the labels are its own, and nothing is decided."""
    project = outputs / "check"
    shutil.copytree(files.ROOT / "ssl_core", project / "ssl_core", ignore=shutil.ignore_patterns("__pycache__"))
    digits, info = data.load("digits"), datasets.describe("digits")
    target = graph_cache.path("digits", label_images.pretraining_of(info), project / "data" / "graphs")
    target.parent.mkdir(parents=True)
    x = (digits.x[:] - digits.x[:].min()).flatten(1)
    graph_file.write(target, Neighbors(*graph.neighbors(x, 10), x.half()))
    monkeypatch.setenv("PYTHONPATH", str(project))  # of the kernel
    copy = execute(outputs, "check_labels.ipynb", {"data": "digits", "outputs": str(outputs / "checked")})
    assert "1437 labels of 10 classes checked, about " in copy.read_text()
    assert "0 labels decided, " in copy.read_text() and (outputs / "checked" / "label_errors.png").exists()
    checked = nbval(copy)
    assert checked.returncode == 0, checked.stdout


def test_own_images(outputs):
    checked = nbval(prepare(outputs, "own_images.ipynb", {"smoke": True, "folder": str(outputs / "own")}))
    assert checked.returncode == 0, checked.stdout
    (run,) = (outputs / "own").glob("scans-*/supervised/m160/seed0")
    assert (run / "predictions.csv").exists() and (run / "pseudo_labels.csv").exists()


def test_nbval_notices_a_cell_that_fails(outputs):
    """The check above can fail: a results notebook without results does."""
    (outputs / "empty").mkdir()
    with pytest.raises(papermill.PapermillExecutionError, match="no finished run there"):
        execute(outputs / "empty", "results.ipynb", {"outputs": str(outputs / "empty")})
    assert nbval(outputs / "empty" / "results.ipynb").returncode == 1


@pytest.mark.parametrize(
    "parameters, message",
    [
        (
            {"n_lables": 1000},
            "ValueError: unknown notebook parameter n_lables: must be one of data, device, draw, features, fold, folder, "
            "label_noise, n_clusters, n_labels, precision, recipe",
        ),
        ({"n_labels": -1}, "ValueError: n_labels=-1: must be a whole number from 0 to 60000"),
        ({"n_labels": 0, "recipe": "published"}, "ValueError: n_labels=0: must be 1 or more for recipe='published', which needs"),
        ({"smoke": "true"}, "ValueError: smoke='true': must be True or False"),
        ({"folder": "/proc/nowhere"}, "ValueError: folder='/proc/nowhere': must be a folder that can be written to"),
        ({"device": "gpu"}, "ValueError: device='gpu': must be auto, cpu, or cuda where PyTorch finds a GPU"),
        ({"threads": 0}, "ValueError: threads=0: must be a whole number from 1"),
    ],
)
def test_bad_parameter_stops_before_training(outputs, parameters, message):
    folder = outputs / "never"
    with pytest.raises(papermill.PapermillExecutionError) as error:
        execute(outputs, "train.ipynb", {"smoke": True, "folder": str(folder)} | parameters)
    assert message in str(error.value)
    assert not folder.exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:  # nbstripout, in `make check`, is stricter
        assert not cell.get("outputs") and cell.get("execution_count") is None
