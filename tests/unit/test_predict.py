"""Predictions of a finished run for other images, its abstentions, and its export as ONNX."""

import json
import shutil

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ssl_core import data, datasets, experiment, graph, train
from ssl_core.datasets import describe
from ssl_core.graph import Neighbors
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, graph_cache, records
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import trained as trained_runs

RUN = Run(100, "supervised", 0, data="digits", smoke=True)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", files.DATA)


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A short run, recorded; and how it did."""
    folder = tmp_path_factory.mktemp("outputs")
    task, result = experiment.run(digits, RUN.labeling, RUN.settings)
    records.save(folder, RUN, task, result)
    return folder, result.trained


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def call(folder, *arguments):
    main(["predict", "--run", str(folder), *arguments])


def test_new_images_are_classified_as_test_images_were(copied, finished, digits, tmp_path, capsys):
    info = describe("digits")
    for i, x in enumerate(digits.x_test):
        pixels = (x[0] * info.std[0] + info.mean[0]).mul(255).round().byte().numpy()
        folder = tmp_path / "new" / f"{i // 120}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:03} é.png")
    (tmp_path / "new" / "broken.png").write_text("no image")
    call(copied, "--images", str(tmp_path / "new"))
    printed = capsys.readouterr().out
    assert "left out: broken.png: not an image of a kind that is read" in printed and "360 images in" in printed
    assert "360 test images can't show 99 %: at best " in printed
    assert "far from all training images" in printed and "were changed" not in printed
    table = pd.read_csv(copied / "predictions.csv", dtype={"label": str}).set_index("file")
    assert (table["far"] == "yes").mean() < 0.3
    expected = finished[1].probabilities.max(dim=1)
    for i in range(0, 360, 37):
        row = table.loc[f"{i // 120}/{i:03} é.png"]
        assert row["label"] == digits.classes[expected.indices[i]]
        assert row["confidence"] == pytest.approx(expected.values[i].item(), abs=2e-5)


def test_run_without_its_training_images_says_what_it_cannot_tell(copied, digits, tmp_path, monkeypatch, capsys):
    """As on a machine without network, to which the run alone was copied."""

    def unreachable(*_):
        raise datasets.DataError("no source of the images can be reached")

    Image.fromarray(np.diag(np.full(28, 255, np.uint8))).save(tmp_path / "new.png")
    monkeypatch.setattr(datasets, "load", unreachable)
    call(copied, "--images", str(tmp_path))
    assert "can't be told, nor are they changed: those are not here" in capsys.readouterr().out
    assert list(pd.read_csv(copied / "predictions.csv")) == ["file", "label", "confidence", "abstain"]


def test_own_unlabeled_images_come_least_confident_first(copied, digits):
    call(copied)
    table = pd.read_csv(copied / "pseudo_labels.csv")
    assert len(table) == len(digits.x) - RUN.n_labels and table["file"].is_unique
    assert not set(table["file"]) & set(data.split(digits.y, RUN.n_labels, RUN.seed).labeled.tolist())
    assert table["confidence"].is_monotonic_increasing and table["abstain"].isin(["yes", "no"]).all()


def test_labels_of_a_withheld_fold_count_as_unlabeled(copied, digits):
    damage_record(copied, run=dict(records.read(copied).parameters) | {"fold": 1})
    call(copied)
    assert len(pd.read_csv(copied / "pseudo_labels.csv")) == len(digits.x) - RUN.n_labels * 4 // 5


def test_run_with_a_label_of_every_image_has_no_other_to_classify(copied, digits):
    damage_record(copied, run=dict(records.read(copied).parameters) | {"n_labels": len(digits.x)})
    with pytest.raises(SystemExit, match=r"^predict: data='digits': the run had a label of every image; give IMAGES=folder$"):
        call(copied)
    assert not (copied / "pseudo_labels.csv").exists()


def test_images_far_from_every_label_come_first(copied, digits, monkeypatch, capsys):
    """As if the run were one of `best`, and fifty images without a label like each other, but like no digit."""
    damage_record(copied, run=dict(records.read(copied).parameters) | {"recipe": "best"})
    foreign = data.split(digits.y, RUN.n_labels, RUN.seed).unlabeled[:50]
    features = torch.cat([digits.x[:].flatten(1) - digits.x[:].min(), torch.zeros(len(digits.x), 20)], dim=1)
    features[foreign] = torch.cat([torch.zeros(50, 784), torch.rand(50, 20)], dim=1)
    neighbors = Neighbors(*graph.neighbors(features, 5), features)
    monkeypatch.setattr(graph_cache, "for_run", lambda run, images: neighbors)
    call(copied)
    table = pd.read_csv(copied / "pseudo_labels.csv")
    assert set(table["file"][:50]) == set(foreign.tolist()) and (table["far"] == "yes").sum() == 50
    assert table["confidence"][:50].is_monotonic_increasing and table["confidence"][50:].is_monotonic_increasing
    assert "50 images (3.7 %) are far from every label in the graph; they may belong to no class" in capsys.readouterr().out


def test_onnx_gives_the_same_probabilities_and_says_how_it_must_be_fed(copied, digits, tmp_path):
    call(copied, "--onnx", str(tmp_path / "digits.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "digits.onnx")
    contract = session.get_modelmeta().custom_metadata_map  # how it must be fed
    assert contract["classes"].split("\n") == list(digits.classes)
    assert contract["input"] == "pixels: float32 (N, 1, 28, 28), channels first"
    assert contract["range"].startswith("0 to 1") and contract["channels"].startswith("grey: ")
    assert (contract["data"], contract["recipe"]) == ("digits", "supervised") and "longer side" in contract["framing"]
    assert json.loads(contract["run"]) == dict(records.read(copied).parameters)
    trained, info = trained_runs.load(copied), describe("digits")
    trained.model.precision = "float32"  # as every ONNX file is, whatever it was trained in
    for n in (1, 7):
        pixels = (digits.x_test[:n] * info.std[0] + info.mean[0]).numpy()
        (probabilities,) = session.run(["probabilities"], {"pixels": pixels})
        expected = train.probabilities(trained.model, digits.x_test[:n])
        torch.testing.assert_close(torch.from_numpy(probabilities), expected, atol=1e-5, rtol=1e-4)


def test_list_that_a_person_changed_is_kept(copied, capsys):
    call(copied)
    call(copied)
    assert "changed by hand" not in capsys.readouterr().out and len(list(copied.glob("*.csv"))) == 1
    typed = (copied / "pseudo_labels.csv").read_text() + "mine,7,1,no\n"
    (copied / "pseudo_labels.csv").write_text(typed)
    call(copied)
    (kept,) = copied.glob("pseudo_labels.*.csv")
    assert kept.read_text() == typed and "mine" not in (copied / "pseudo_labels.csv").read_text()
    assert f"pseudo_labels.csv was changed by hand: it is kept as {kept.name}" in capsys.readouterr().out


def test_list_of_another_folder_is_kept(copied, tmp_path, capsys):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.diag(np.full(28, 255, np.uint8))).save(tmp_path / name / f"of {name}.png")
    for name in ("one", "one", "other"):
        call(copied, "--images", str(tmp_path / name))
    (kept,) = copied.glob("predictions.*.csv")
    assert "of one.png" in kept.read_text() and "of other.png" in (copied / "predictions.csv").read_text()
    said = f"predictions.csv was of {tmp_path / 'one'}: it is kept as {kept.name}"
    assert capsys.readouterr().out.count(said) == 1


def damage_record(folder, **changes):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | changes))


def not_finite(folder):
    weights = load_file(folder / "model.safetensors")
    weights["conv1.weight"][0, 0, 0, 0] = np.nan
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda folder: (folder / "run.json").unlink(), "must be the folder of a finished run, with a run.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"weights"), "its files can't be read, or do not fit"),
        (lambda folder: (folder / "predictions.safetensors").unlink(), "its files can't be read, or do not fit"),
        (lambda folder: damage_record(folder, images={}), "an earlier version made it"),
        (
            lambda folder: damage_record(folder, images={"classes": ["a"], "mean": [0.1]}),
            "its files can't be read, or do not fit",
        ),
        (not_finite, "its weights are not all finite numbers"),
    ],
)
def test_incomplete_run_is_named(copied, harm, message):
    harm(copied)
    with pytest.raises(SystemExit, match=f"^predict: RUN='.*': {message}"):
        call(copied)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--target", "2"), "TARGET='2': must be a number above 0, to 1"),
        (("--target", "most"), "TARGET='most': must be a number above 0, to 1"),
        (("--images", "no/such/folder"), "IMAGES='.*no/such/folder': must be a folder of images"),
        (("--images", "tests"), "IMAGES='.*tests': no image that can be read among "),
        (("--onnx", "tests"), "ONNX='.*tests': must be the name of a file that ends in .onnx"),
        (("--images", "~no-such-user/x"), "IMAGES='~no-such-user/x': must be a path without ~"),
        (("--onnx", "/proc/nowhere/model.onnx"), "ONNX='/proc/nowhere': must be a folder that can be written to"),
    ],
)
def test_bad_input_is_named(copied, arguments, message):
    with pytest.raises(SystemExit, match=f"^predict: {message}"):
        call(copied, *arguments)
    assert not list(copied.glob("*.csv"))
