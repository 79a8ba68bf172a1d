"""A finished run and its folder of images, which grew, changed, moved or is gone since."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssl_core import data, datasets, experiment
from ssl_core.lab.__main__ import main
from ssl_core.lab.page import build
from ssl_core.lab.runs import records
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.tools import trained


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The data folder of a test."""
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    monkeypatch.setattr("ssl_core.lab.runs.files.DATA", tmp_path / "data")
    datasets.metadata.cache_clear()
    yield tmp_path / "data"
    datasets.metadata.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Thirty labelled and fifty unlabelled scans of digits, and ten to test with."""
    x = datasets.load("digits")[1]["x"][:, 0]
    y = datasets.load("digits")[1]["y"]
    top = tmp_path / "scans"
    for i in range(90):
        part = f"labeled/{y[i] % 2}" if i < 30 else "unlabeled" if i < 80 else f"test/{y[i] % 2}"
        (top / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(top / part / f"{i:02}.png")
    return top


@pytest.fixture
def run(folder, tmp_path):
    """The folder of a finished run with twenty of the labels. Its recipe reads an image once, whatever others there are."""
    run = Run(20, "published", 0, data=str(folder), smoke=True)
    images = data.load(str(folder))
    records.save(tmp_path / "run", run, *experiment.run(images, run.labeling, run.settings))
    return tmp_path / "run"


def predict(run, *arguments):
    """What `predict` writes, by file."""
    datasets.metadata.cache_clear()
    main(["predict", "--run", str(run), *map(str, arguments)])
    return (
        pd.read_csv(run / ("predictions.csv" if arguments else "pseudo_labels.csv"), dtype={"label": str})
        .set_index("file")
        .sort_index()
    )


def test_labels_that_a_run_had_are_not_predicted_after_the_folder_grew(run, folder, capsys):
    before = predict(run)
    assert len(before) == 60 and "have changed" not in capsys.readouterr().out
    for i in range(10):  # more labels, some of images that had none
        (folder / "unlabeled" / f"{30 + i}.png").rename(folder / "labeled" / "0" / f"{30 + i}.png")
    (folder / "labeled" / "1" / "new.png").write_bytes(
        (folder / "test" / "1" / next(iter(sorted((folder / "test" / "1").iterdir()))).name).read_bytes()
    )
    after = predict(run)
    told = capsys.readouterr().out
    assert (
        "its images have changed since the run: 80 to train with now. All are read as the run read its own; 20 had a label."
        in told
    )
    kept = [name for name in before.index if name in after.index]
    assert len(after) == 60 and len(kept) == 50
    pd.testing.assert_frame_equal(after.loc[kept, ["label", "confidence"]], before.loc[kept, ["label", "confidence"]])


def test_colour_that_was_added_does_not_disturb_a_grey_run(run, folder):
    before = predict(run)
    for i in range(40):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (9, 9, 3), np.uint8)).save(
            folder / "unlabeled" / f"colour{i}.png"
        )
    after = predict(run)
    assert len(after) == 100
    pd.testing.assert_frame_equal(after.loc[before.index, ["label", "confidence"]], before[["label", "confidence"]])
    assert (after.loc[after.index.str.contains("colour"), "far"] == "yes").mean() > 0.8


@pytest.mark.parametrize("light", [False, True])
def test_run_reads_by_its_own_light_and_dark(run, folder, light):
    """Most images are replaced by dark ones on white: today's folder would be inverted, and the run was not."""
    before = predict(run)
    for i in range(200):
        image = np.full((28, 28), 255 if light else 0, np.uint8)
        image[8:20, i % 20 : i % 20 + 4] = i
        Image.fromarray(image).save(folder / "unlabeled" / f"more{i}.png")
    after = predict(run)
    pd.testing.assert_frame_equal(after.loc[before.index, ["label", "confidence"]], before[["label", "confidence"]])


def test_images_of_a_folder_that_is_gone_are_those_that_were_read_last(run, folder, capsys):
    before = predict(run)
    shutil.rmtree(folder)
    after = predict(run)
    assert "this folder is not there any more; its images are those that were read last" in capsys.readouterr().err
    assert list(after.index) == list(before.index) and (after["confidence"] == before["confidence"]).all()


def test_moved_folder_is_read_as_new_images(run, folder, root, capsys):
    before = predict(run)
    folder.rename(folder.with_name("moved"))
    shutil.rmtree(root / "folders")
    with pytest.raises(
        SystemExit,
        match="this folder is not there any more, and nothing of it is kept; give IMAGES=folder, where the images are now",
    ):
        predict(run)
    after = predict(run, "--images", folder.with_name("moved") / "unlabeled")
    assert len(after) == 50
    for name, row in after.iterrows():
        assert row["label"] == before.loc[f"unlabeled/{name}", "label"]
        assert row["confidence"] == pytest.approx(before.loc[f"unlabeled/{name}", "confidence"], abs=2e-5)


def test_former_record_of_a_changed_folder_is_refused(run, folder):
    (run / records.IMAGES).unlink()
    (folder / "unlabeled" / "30.png").unlink()
    with pytest.raises(SystemExit, match="its images have changed since the run, and an earlier version made it"):
        predict(run)


def test_deep_images_are_read_by_the_scale_of_the_run(tmp_path):
    """One dark new image of 12 bits would be stretched to full contrast on its own."""
    top = tmp_path / "deep"
    random = np.random.default_rng(0)
    for i in range(40):
        part = f"labeled/{'ab'[i % 2]}" if i < 30 else f"test/{'ab'[i % 2]}"
        (top / part).mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 4096, (28, 28)).astype(np.uint16)
        image[0, :2] = 0, 4095
        Image.fromarray(image).save(top / part / f"{i}.tif")
    run = Run(20, "published", 0, data=str(top), smoke=True)
    images = data.load(str(top))
    records.save(tmp_path / "run", run, *experiment.run(images, run.labeling, run.settings))
    assert trained.load(tmp_path / "run").scale == (0, 4095)
    (tmp_path / "new").mkdir()
    dark = Image.fromarray(random.integers(0, 300, (28, 28)).astype(np.uint16))
    dark.save(tmp_path / "new" / "dark.tif")
    seen = predict(tmp_path / "run", "--images", tmp_path / "new")
    grey = Image.fromarray((np.asarray(dark) / 4095 * 255).round().astype(np.uint8))
    (tmp_path / "eight").mkdir()
    grey.save(tmp_path / "eight" / "dark.png")
    as_bytes = predict(tmp_path / "run", "--images", tmp_path / "eight")
    assert seen["confidence"].iloc[0] == pytest.approx(as_bytes["confidence"].iloc[0], abs=1e-5)


def test_results_of_a_folder_that_is_gone_or_has_changed(run, folder, tmp_path):
    found = records.read(run)
    place = found.run.folder(tmp_path / "outputs")
    shutil.copytree(run, place)
    shutil.move(folder, folder.with_name("elsewhere"))
    datasets.metadata.cache_clear()
    (gone,) = records.read_all(tmp_path / "outputs")
    assert gone.current and gone.has_todays_images
    shutil.move(folder.with_name("elsewhere"), folder)
    (folder / "unlabeled" / "30.png").unlink()
    datasets.metadata.cache_clear()
    (changed,) = records.read_all(tmp_path / "outputs")
    assert not changed.current and not changed.has_todays_images
    message = r"^1 finished run of data=.*, but not of today's images or code: `make sweep` repeats them"
    with pytest.raises(LookupError, match=message):
        build.build(tmp_path / "outputs", str(folder))


def test_results_that_were_asked_for_at_another_side_are_not_called_outdated():
    found = records.table([]).assign(current=True).astype(object)
    found.loc[0] = {"data": "x", "draw": "random", "side": 64, "features": "", "precision": "auto", "current": True}
    said = records.nothing_to_show(found, "x", "random", "outputs")
    assert said.startswith("no such run of data='x'") and "1 finished run there, of others: {'side': 64," in said
    assert "not of today's" in records.nothing_to_show(found.assign(current=False), "x", "random", "outputs")
