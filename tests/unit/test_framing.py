"""Figures that are found on an even background, whatever it is, and framed as those of training."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_core import data, datasets
from ssl_core.datasets.framing import Framing
from ssl_core.familiarity import LEAST, Familiarity
from ssl_core.lab.runs import files
from ssl_core.model import init_net


@pytest.fixture(scope="module")
def digits():
    """Training images of MNIST, bytes (N, 28, 28)."""
    x = datasets.load("mnist", files.DATA)[1]["x"][:, 0]
    return x[np.random.default_rng(0).permutation(len(x))[:3000]]


def test_framing_of_mnist_is_known_and_of_clothes_and_noise_is_not(digits):
    assert Framing.of(digits) == Framing(20) and Framing(20).fits(digits).mean() > 0.99
    assert Framing.of(datasets.load("fashion-mnist", files.DATA)[1]["x"][:3000, 0]) is None
    assert Framing.of(np.random.default_rng(0).integers(0, 255, (100, 28, 28), np.uint8)) is None
    assert Framing.of(np.zeros((100, 28, 28), np.uint8)) is None
    assert Framing.of(np.concatenate([digits[:80], np.zeros((20, 28, 28), np.uint8)])) is None


@settings(deadline=None, max_examples=60)
@given(
    index=st.integers(0, 2999),
    background=st.integers(0, 255),
    contrast=st.integers(80, 255),
    size=st.integers(30, 300),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_digit_is_found_wherever_it_is_and_whatever_its_light(digits, index, background, contrast, size, place):
    """Moved, enlarged, on any even background, lighter or darker than it: it comes back as it was, but for the smoothing."""
    digit = digits[index]
    ink = 255 if background < 128 else 0
    contrast = min(contrast, abs(ink - background))
    side = max(28, size * 2 // 3)
    frame = np.zeros((max(size, side), max(size, side)))
    top, left = (round(share * (len(frame) - side)) for share in place)
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR))
    frame[top : top + side, left : left + side] = large
    image = (background + np.sign(ink - background) * contrast * frame / 255).round().astype(np.uint8)
    found = list(Framing(20).framed(image))
    assert len(found) == 1
    (framed, inverted) = found[0]
    assert inverted == (background >= 128)
    moved = [np.roll(framed, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert (
        max(np.corrcoef(each.ravel(), digit.ravel())[0, 1] for each in moved) > 0.7
    )  # without specks of dust; of two digits: 0.4


@pytest.mark.parametrize("image", [np.zeros((40, 60), np.uint8), np.full((1, 1), 200, np.uint8), np.full((5000, 1), 9, np.uint8)])
def test_no_figure_is_found_on_one_colour(image):
    assert not list(Framing(20).framed(image))


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)), seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 3, 256])
)
def test_any_image_gives_frames_or_none(shape, seed, levels):
    image = np.random.default_rng(seed).integers(0, levels, shape) * (255 // (levels - 1))
    for framed, _ in Framing(20).framed(image.astype(np.uint8)):
        assert framed.shape == (28, 28) and framed.dtype == np.uint8 and framed.any()


def test_training_images_are_familiar_and_foreign_ones_are_not(digits):
    """Even to a network that knows nothing, noise is far; of further digits, as many as were said."""
    info = datasets.describe("mnist")
    x = data.normalize(torch.from_numpy(digits[:, None]), info.mean, info.std)
    familiarity = Familiarity(init_net(0), x[:2000])
    further = familiarity.distance(x[2000:])
    for share in (0.1, 0.3):
        assert (further > familiarity.limit(share)).float().mean() == pytest.approx(share, abs=0.05)
    noise = data.normalize(
        torch.randint(256, (100, 1, 28, 28), generator=torch.Generator().manual_seed(0)).byte(), info.mean, info.std
    )
    assert (familiarity.distance(noise) > familiarity.limit(0.1)).all()


def test_too_few_images_cannot_tell():
    with pytest.raises(ValueError, match=f"x={LEAST - 1} images: must be {LEAST} or more"):
        Familiarity(init_net(0), torch.zeros(LEAST - 1, 1, 28, 28))
