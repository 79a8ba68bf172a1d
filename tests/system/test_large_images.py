"""The whole way with images of 64 × 64 pixels in colour: a sweep, its page, predictions, and the network as ONNX."""

import json
import runpy
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from PIL import Image

from ssl_core import datasets
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, records

SCRIPT = files.ROOT / "ssl_core" / "lab" / "tools" / "read_with_onnx.py"


def picture(number, size):
    """A square of light in one of two corners, on a ground of colours."""
    random = np.random.default_rng(number)
    ground = random.integers(0, 140, (6, 6, 3), np.uint8)
    image = np.array(Image.fromarray(ground).resize((size, size), Image.Resampling.BILINEAR))
    at = size // 2 * (number % 2) + size // 8
    image[at : at + size // 4, at : at + size // 4] = 250
    return Image.fromarray(image)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder of 80 coloured images of 64 × 64 pixels, and the outputs of sweeps of it: at the side that fits, and at 33."""
    top, outputs = tmp_path_factory.mktemp("large"), tmp_path_factory.mktemp("outputs")
    for i in range(80):
        part = f"labeled/{'ab'[i % 2]}" if i < 30 else "unlabeled" if i < 60 else f"test/{'ab'[i % 2]}"
        (top / part).mkdir(parents=True, exist_ok=True)
        picture(i, 64).save(top / part / f"{i}.png")
    for side, recipes in (("auto", "supervised published best"), ("33", "supervised")):
        arguments = ["--labels", "20", "--recipes", recipes, "--smoke", "--jobs", "1", "--outputs", str(outputs)]
        main(["sweep", "--data", str(top), "--side", side, *arguments])
    slug = datasets.slug(str(top))
    yield top, outputs, outputs / slug
    for folder in ("folders", "graphs"):
        for path in (files.DATA / folder).glob(f"{slug}*"):
            path.unlink()


def test_sweep_trains_what_can_be_trained_at_this_side(large):
    _, outputs, runs = large
    assert sorted(path.parent.relative_to(runs).as_posix() for path in runs.glob("*/*/*/run.json")) == [
        "best/m20/seed0",
        "supervised/m20-side33/seed0",
        "supervised/m20/seed0",
    ]
    record = records.read(runs / "best" / "m20" / "seed0")
    assert record.current and record.images["side"] == 64 and record.recipe["network"] == "strided"
    assert records.read(runs / "supervised" / "m20-side33" / "seed0").images["side"] == 33
    table = pd.read_csv(outputs / "results.csv")
    assert sorted(table["side"]) == [0, 0, 33]
    assert (outputs / "results.html").exists() and (runs / "preview.png").exists()


@pytest.mark.parametrize("run", ["best/m20/seed0", "supervised/m20-side33/seed0"])
def test_predict_and_onnx_read_images_at_the_side_of_the_run(large, run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    place, new = large[2] / run, tmp_path / "new"
    new.mkdir()
    for i in range(6):
        picture(1000 + i, 150).save(new / f"{i}.png")
    main(["predict", "--run", str(place), "--images", str(new), "--onnx", str(tmp_path / "model.onnx")])
    answers = pd.read_csv(place / "predictions.csv").set_index("file")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    side = records.read(place).images["side"]
    contract = session.get_modelmeta().custom_metadata_map
    assert contract["side"] == str(side) and f"(N, 3, {side}, {side})" in contract["input"]
    assert session.get_inputs()[0].shape[1:] == [3, side, side] and json.loads(contract["run"])["data"]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path / "model.onnx"), *map(str, sorted(new.iterdir()))])
    runpy.run_path(str(SCRIPT))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0].rsplit("/", 1)[-1] for row in rows] == sorted(answers.index)
    for (_, _, confidence), expected in zip(rows, answers.sort_index()["confidence"], strict=True):
        assert float(confidence) == pytest.approx(expected, abs=0.05)  # predict averages over distorted views
    main(["predict", "--run", str(place)])
    assert len(pd.read_csv(place / "pseudo_labels.csv")) == 40


@pytest.mark.parametrize(
    ("side", "recipes", "message"),
    [
        ("0.5", "best", "side='0.5': must be 28, or a whole number from 32 to 96; 0: as it fits the images"),
        ("7", "best", "side=7: must be 28, or a whole number from 32 to 96; 0: as it fits the images"),
        ("1000", "best", "side=1000: must be 28, or a whole number from 32 to 96; 0: as it fits the images"),
        ("large", "best", "side='large': must be 28, or a whole number from 32 to 96; 0: as it fits the images"),
        ("64", "published", "side=64: must be 28: recipe='published' has the report's network"),
    ],
)
def test_bad_side_is_one_line_before_the_folder_is_read(side, recipes, message, tmp_path):
    (tmp_path / "scans").mkdir()
    arguments = ["--recipes", recipes, "--side", side, "--outputs", str(tmp_path / "outputs")]
    with pytest.raises(SystemExit) as error:
        main(["sweep", "--data", str(tmp_path / "scans"), *arguments])
    assert str(error.value).startswith(f"sweep: {message}")
    assert not (tmp_path / "outputs").exists()
