"""New images unlike those of training: what a network trained on MNIST answers to photographs, letters and clothes.

With TEST_RUN=outputs/mnist/best/m50/seed0 a finished run is tested, instead of one that is trained here; `-s` prints the shares.
"""

import os
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from ssl_core import data, datasets, experiment
from ssl_core.datasets.framing import centered
from ssl_core.lab.__main__ import main
from ssl_core.lab.runs import files, records
from ssl_core.lab.runs.spec import Run

pytestmark = pytest.mark.slow
RUN = Run(6000, "supervised", 0)
N = 1000 if os.environ.get("TEST_RUN") else 500  # images of each kind
LIKE_DIGITS = "OoIlZzSsqgBbij"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run on MNIST."""
    folder = tmp_path_factory.mktemp("outputs") / "run"
    if given := os.environ.get("TEST_RUN"):
        return shutil.copytree(files.ROOT / given, folder)
    images = data.load("mnist", files.DATA)
    records.save(folder, RUN, *experiment.run(images, RUN.labeling, RUN.settings))
    return folder


def shadowed(digit, random):
    y, x = np.mgrid[0:28, 0:28] / 27
    angle = random.uniform(0, 2 * np.pi)
    light = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    light = (light - light.min()) / np.ptp(light)
    return (150 + 80 * light) * (1 - 0.8 * digit / 255)


def in_a_third(digit, random):
    frame = np.zeros((84, 84))
    top, left = random.integers(0, 57, 2)
    frame[top : top + 28, left : left + 28] = digit
    return frame


def cropped(digit, _random):
    rows, columns = np.nonzero(digit > 20)
    return digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def photographed(digit, random):
    """Paper with a grain, lit from one side; a pen; blur and noise of a camera; 120 to 400 pixels."""
    size = int(random.integers(120, 400))
    side = int(size * random.uniform(0.35, 0.8))
    ink = np.zeros((size, size))
    top, left = random.integers(0, size - side + 1, 2)
    ink[top : top + side, left : left + side] = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))
    ink = ((gaussian_filter(ink / 255, side / 60) - 0.3) / 0.4).clip(0, 1)
    y, x = np.mgrid[0:size, 0:size] / size
    angle = random.uniform(0, 2 * np.pi)
    light = 1 + random.uniform(0.1, 0.5) * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    paper = random.uniform(150, 230) * light * (1 + 0.08 * gaussian_filter(random.normal(size=(size, size)), 2))
    image = gaussian_filter(paper * (1 - ink * random.uniform(0.5, 0.85)), random.uniform(0.5, size / 100))
    return image + random.normal(0, random.uniform(1, 8), (size, size))


DIGITS = {
    "as MNIST": lambda digit, _: digit,
    "dark on light": lambda digit, _: 255 - digit,
    "shadowed": shadowed,
    "a third of the frame": in_a_third,
    "a third, dark on light": lambda digit, random: 255 - in_a_third(digit, random),
    "cut close": cropped,
    "cut close, dark on light": lambda digit, random: 255 - cropped(digit, random),
    "photographed": photographed,
    "rotated by 90°": lambda digit, _: np.rot90(digit),
}


def letters(light):
    """Printed letters that look like no digit, framed as MNIST's digits are, or dark on light."""
    for font in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf")):
        if "Display" in font.name:
            continue
        for letter in set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") - set(LIKE_DIGITS):
            image = Image.new("L", (160, 160))
            ImageDraw.Draw(image).text((80, 80), letter, 255, font=ImageFont.truetype(str(font), 64), anchor="mm")
            ink = np.asarray(image)
            yield centered(ink) if light else 255 - ink


def clothes():
    return datasets.load("fashion-mnist", files.DATA)[1]["x_test"][:N, 0]


FOREIGN = {
    "letters": lambda: letters(True),
    "letters, dark on light": lambda: letters(False),
    "clothes": clothes,
    "clothes, dark on light": lambda: 255 - clothes(),
}


def predicted(run, images, folder):
    """The rows of predictions.csv for images (H, W), in their order."""
    for i, image in enumerate(images):
        Image.fromarray(np.asarray(image).round().clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.png")
    main(["predict", "--run", str(run), "--images", str(folder)])
    return pd.read_csv(run / "predictions.csv").sort_values("file")


@pytest.mark.parametrize("kind", DIGITS)
def test_answers_to_changed_digits_are_right(kind, run, tmp_path):
    _, arrays = datasets.load("mnist", files.DATA)
    chosen = np.random.default_rng(0).permutation(10_000)[:N]
    random = np.random.default_rng(1)
    rows = predicted(run, [DIGITS[kind](digit, random) for digit in arrays["x_test"][chosen, 0]], tmp_path)
    answered = (rows["abstain"] == "no").to_numpy()
    right = rows["label"].to_numpy() == arrays["y_test"][chosen]
    of_answered = right[answered].mean()
    shares = [f"{100 * share:.2f} %" for share in (right.mean(), answered.mean(), of_answered)]
    print(f"{kind}: {shares[0]} right; {shares[1]} answered, {shares[2]} of them right")
    if "rotated" in kind:  # nobody can know which way is up: hardly any is answered
        assert answered.mean() <= 0.05
    else:
        assert of_answered >= 0.99 and answered.mean() > 0.6


def test_few_foreign_images_are_answered(run, tmp_path):
    answered = {}
    for kind, images in FOREIGN.items():
        (tmp_path / kind).mkdir()
        answered[kind] = predicted(run, images(), tmp_path / kind)["abstain"] == "no"
        print(f"{kind}: {100 * answered[kind].mean():.1f} % of {len(answered[kind])} answered")
    assert pd.concat(answered).mean() <= 0.05 and max(each.mean() for each in answered.values()) <= 0.08
