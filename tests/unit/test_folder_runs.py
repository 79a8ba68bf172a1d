"""A run of a folder that has changed since, and its network as ONNX, read without PyTorch."""

import runpy
import shutil
import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssl_core import data, datasets, experiment
from ssl_core.datasets.pixels import decode
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, records
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import trained as trained_runs
from ssl_core.lab.tools.portable import export

SCRIPT = files.ROOT / "ssl_core" / "lab" / "tools" / "read_with_onnx.py"
N_LABELED, N_UNLABELED, N_TEST = 40, 20, 10


def write(folder, number, values):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder of images with twelve bits a pixel, and a short run on it."""
    folder, outputs = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("outputs")
    arrays = datasets.load("digits", files.DATA)[1]
    deep, y = arrays["x"][:, 0].astype(np.uint16) * 16, arrays["y"]
    for i in range(N_LABELED):
        write(folder / "labeled" / f"{y[i]}", i, deep[i])
    for i in range(N_LABELED, N_LABELED + N_UNLABELED):
        write(folder / "unlabeled", i, deep[i])
    for i in range(100, 100 + N_TEST):
        write(folder / "test" / f"{y[i]}", i, deep[i])
    run = Run(20, "supervised", 0, data=str(folder), smoke=True)
    task, result = experiment.run(data.load(run.data, files.DATA), run.labeling, run.settings)
    records.save(outputs / "run", run, task, result)
    yield folder, outputs
    for path in (files.DATA / "folders").glob(f"{datasets.slug(str(folder))}*"):
        path.unlink()


@pytest.fixture
def scans(kept, tmp_path):
    """The folder, which is put back after the test, and a copy of its run."""
    folder, outputs = kept
    shutil.copytree(folder, tmp_path / "as it was")
    yield folder, shutil.copytree(outputs / "run", tmp_path / "run")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tmp_path / "as it was", folder)


def predicted(run, *arguments, table="pseudo_labels.csv"):
    main(["predict", "--run", str(run), *map(str, arguments)])
    return pd.read_csv(run / table, dtype={"label": str}).set_index("file")


def same(one, other):
    """Whether two tables are of the same images, as far as the random views of test-time augmentation let them be."""
    return set(one.index) == set(other.index) and (one["confidence"] - other["confidence"]).abs().max() < 0.02


def test_one_brighter_image_does_not_darken_the_others(scans, capsys):
    """Images with more than 8 bits a pixel share one scale, which is the run's and not that of the folder as it is now."""
    folder, run = scans
    before = predicted(run)
    write(folder / "unlabeled", "bright", np.diag(np.full(28, 65535, np.uint16)))
    after = predicted(run)
    assert "have changed since the run: 61 to train with now" in capsys.readouterr().out
    assert set(after.index) - set(before.index) == {"unlabeled/bright.png"}
    assert same(before, after.drop("unlabeled/bright.png"))
    assert (after["far"] == "yes").mean() < 0.5


def test_images_far_from_those_of_training_are_not_said_to_be_far_in_a_graph(scans, capsys):
    folder, run = scans
    for i in range(N_UNLABELED):
        write(folder / "unlabeled", f"noise {i}", np.random.default_rng(i).integers(0, 4080, (28, 28)).astype(np.uint16))
    predicted(run)
    printed = capsys.readouterr().out
    assert "are far from all training images" in printed and "graph" not in printed


def test_files_of_a_folder_that_are_left_out_are_counted(scans, tmp_path, capsys):
    folder, run = scans
    for name in ("a.txt", "b.txt", "c.txt", "broken.png"):
        (folder / "unlabeled" / name).write_text("no image")
    predicted(run)
    printed = capsys.readouterr().out
    assert "left out: unlabeled/a.txt and 2 more: .txt is not read" in printed and "left out: unlabeled/broken.png: " in printed
    assert "4 files left out" in printed
    (tmp_path / "one").mkdir()
    shutil.copy(folder / "unlabeled" / "50.png", tmp_path / "one")
    predicted(run, "--images", tmp_path / "one", table="predictions.csv")
    assert "predict: 1 image in " in capsys.readouterr().out


def test_others_can_read_a_run_as_far_as_the_umask_lets_them(scans):
    _, run = scans
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.iterdir()}
    assert {"model.safetensors", "predictions.safetensors", "images.safetensors", "run.json"} <= set(modes)
    assert len(set(modes.values())) == 1, modes


def test_pages_that_are_not_read_are_told(scans, tmp_path, capsys):
    _, run = scans
    page = Image.new("L", (28, 28), 9)
    for name in ("a.tif", "b.tif"):
        page.save(tmp_path / name, save_all=True, append_images=[page, page])
    predicted(run, "--images", tmp_path, table="predictions.csv")
    assert "predict: a.tif and 1 more: 3 pages: the first is used.\n" in capsys.readouterr().out


def test_confidence_has_five_digits(scans):
    _, run = scans
    predicted(run)
    cells = [line.split(",")[2] for line in (run / "pseudo_labels.csv").read_text().splitlines()[1:]]
    assert cells and max(map(len, cells)) <= len("0.12345")


def test_run_that_cannot_be_written_to_is_told_before_it_classifies(scans, monkeypatch):
    folder, run = scans

    def refuses(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)
    with pytest.raises(SystemExit, match=r"^predict: RUN='.*': must be a folder that can be written to \(Permission denied\)$"):
        predicted(run, "--images", folder)


@pytest.mark.parametrize("name", ["run.json", "model.safetensors", "scan.png", "model", " "])
def test_onnx_replaces_no_file_of_another_kind(scans, name, capsys):
    _, run = scans
    (run / "scan.png").write_bytes(b"an image")
    before = {path: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(SystemExit, match=r"^predict: ONNX='.*': must be the name of a file that ends in \.onnx$"):
        predicted(run, "--onnx", run / name)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def odd_images(folder):
    """Images that must be turned, laid on white, scaled or decoded in part."""
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (120, 90)).astype(np.uint8)
    color = random.integers(0, 256, (700, 900, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(color).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.dstack([color, color[..., 0]])).save(folder / "transparent.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.gif")
    Image.fromarray(grey.astype(np.uint16) * 16).save(folder / "twelve bits.png")
    Image.fromarray(grey.astype(np.float32) / 255).save(folder / "float.tif")
    Image.new("L", (500, 1), 77).save(folder / "line.png")


@pytest.mark.slow
@pytest.mark.parametrize("scale", [None, (0.0, 4080.0)])
def test_script_in_plain_onnxruntime_reads_images_as_predict_does(scans, tmp_path, monkeypatch, capsys, scale):
    """Without what `predict` adds: views of each image, and another frame."""
    _, run = scans
    odd_images(new := tmp_path)
    trained = trained_runs.load(run)
    object.__setattr__(trained, "scale", scale)
    trained.model.precision = "float32"  # as every ONNX file is, whatever it was trained in
    export(trained, tmp_path / "model.onnx")
    paths = sorted(path for path in new.iterdir() if path.is_file() and path.suffix != ".onnx")
    monkeypatch.setattr(sys, "argv", ["read_with_onnx.py", str(tmp_path / "model.onnx"), *map(str, paths)])
    capsys.readouterr()
    runpy.run_path(str(SCRIPT))
    pixels = np.stack([decode(path, scale)[0] for path in paths])
    expected = trained.model(trained.normalized(trained.as_trained(pixels)))[0].softmax(dim=1).max(dim=1)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(paths) == 7
    for (name, label, confidence), path, value, index in zip(rows, paths, *expected, strict=True):
        assert (name, label) == (str(path), trained.classes[index])
        assert float(confidence) == pytest.approx(value.item(), abs=2e-5)
