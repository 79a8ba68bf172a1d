"""Images at another side than 28 pixels: how they are read, which network they get, and which runs they make."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from ssl_core import data, datasets, recipes
from ssl_core.augment import Augment
from ssl_core.datasets import DATA_SETS, SIDE, describe, duplicates, folder, load, store
from ssl_core.datasets.checks import LARGER
from ssl_core.datasets.pixels import FITTING, UnreadableImage, decode, fitting_side, framed, longer_side, reduced
from ssl_core.experiment import Labeling, network, prepare
from ssl_core.graph import Encoder
from ssl_core.lab.runs import executors
from ssl_core.lab.runs.fingerprint import fingerprint, former_fingerprints, non_default
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.runs.sweep import make_grid
from ssl_core.model import first_step, init_net, last_side, network_for

PROJECT_DATA = datasets.DATA
SIDES = st.sampled_from([SIDE, *LARGER])


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The data folder of a test: empty, and the one that is meant where none is named."""
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    datasets.metadata.cache_clear()
    yield tmp_path
    datasets.metadata.cache_clear()


def smooth(height, width, seed=0):
    """An image (H, W, 3), bytes, without fine detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pile(tmp_path):
    """Makes a folder of 20 labelled images of two classes, `size` pixels large, and 10 without a label."""

    def make(size, name="pile"):
        for i in range(30):
            image = smooth(size, size, i).copy()
            image[size // 4 : size // 2, size // 4 * (1 + i % 2) :][: size // 4, : size // 4] = 250
            write(tmp_path / name / (f"labeled/{'ab'[i % 2]}" if i < 20 else "unlabeled") / f"{i:02}.png", image)
        return str(tmp_path / name)

    return make


# --- the network


@given(SIDES, st.sampled_from([1, 3]), st.integers(2, 12))
@settings(deadline=None, max_examples=40)
def test_network_takes_images_of_any_side(side, channels, n_classes):
    model = init_net(0, n_classes, channels, side)
    logits, features = model(torch.randn(2, channels, side, side))
    assert logits.shape == (2, n_classes) and features.shape == (2, 64 * last_side(side) ** 2) and features.min() >= 0
    assert features.shape[1] >= 576  # as many as the report's, or more


@pytest.mark.parametrize(("side", "features"), [(28, 576), (32, 1024), (48, 576), (64, 1024), (96, 1024)])
def test_network_of_the_common_sides_has_about_as_many_features_as_the_reports(side, features):
    assert init_net(0, side=side).linear1.in_features == features


def test_network_of_28_pixels_is_the_reports_bit_for_bit():
    torch.manual_seed(5)
    layers = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3), nn.Linear(576, 300), nn.Linear(300, 10)
    printed = [weights for layer in layers for weights in layer.parameters()]
    model = init_net(5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), printed, strict=True))
    assert first_step(SIDE) == (1, 0) and network_for(SIDE) == "report"


@given(SIDES)
@settings(deadline=None, max_examples=10)
def test_encoder_has_the_features_of_the_network(side):
    assert Encoder(0, 16, 3, side).features(torch.randn(2, 3, side, side)).shape == (2, 300)


# --- shrinking


@given(SIDES, st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_longer_side_is_resized_as_torchvision_does_without_aliasing(side, height, width, seed):
    image = Image.fromarray(smooth(height, width, seed))
    found, scale = framed(image, side).astype(int), side / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - rows) // 2, (side - columns) // 2
    assert found.shape == (side, side, 3)
    assume(columns > 1)  # of a single column, PyTorch repeats the first pixel
    exact = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().contiguous()
    expected = tv.resize(exact, [rows, columns], antialias=True).permute(1, 2, 0).numpy()
    difference = np.abs(found[top : top + rows, left : left + columns] - expected)
    # From six pixels to one on, Pillow first takes means of whole pixels, which takes less time: nearly the same. Of 12,000
    # long and narrow images the mean difference was 8.3 levels at most, and 1 level where it does not.
    if max(height / rows, width / columns) < 6:
        assert difference.max() <= 1.01
    else:
        assert difference.mean() <= 12


@given(SIDES, st.integers(2, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_shrinking_keeps_the_mean_of_each_part(side, factor, seed):
    """A block average, the plainest way without aliasing, differs by what overlaps into neighbouring blocks alone."""
    noise = np.random.default_rng(seed).integers(0, 256, (side * factor, side * factor, 1), np.uint8).repeat(3, axis=2)
    blocks = noise[..., 0].reshape(side, factor, side, factor).mean(axis=(1, 3))
    found = framed(Image.fromarray(noise), side)[..., 0]
    assert abs(found.mean() - blocks.mean()) < 1
    assert np.corrcoef(found.ravel(), blocks.ravel())[0, 1] > 0.8 and found.std() < blocks.std() * 1.05


@pytest.mark.parametrize("side", [28, 32, 64, 96])
def test_stripes_finer_than_a_pixel_become_grey(side):
    stripes = np.zeros((4 * side + 2, 4 * side + 2, 3), np.uint8)
    stripes[::2] = 255
    found = framed(Image.fromarray(stripes), side)[2:-2]
    assert found.min() > 110 and found.max() < 145


@given(st.lists(st.integers(1, 5000), max_size=30))
def test_fitting_side_enlarges_at_most_half_of_the_images(longer):
    side = fitting_side(longer)
    assert side in FITTING
    assert side == SIDE or sum(each < side for each in longer) <= len(longer) / 2


@pytest.mark.parametrize(("size", "side"), [(1, 28), (8, 28), (28, 28), (40, 28), (47, 28), (48, 48), (64, 64), (4000, 64)])
def test_images_of_one_size_get_the_side_that_fits_them(size, side):
    assert fitting_side([size] * 3) == side


def test_head_of_an_image_tells_its_longer_side(tmp_path):
    write(tmp_path / "a.png", smooth(40, 90))
    (tmp_path / "b.png").write_bytes(b"no image")
    assert [longer_side(tmp_path / name) for name in ("a.png", "b.png", "none.png")] == [90, 0, 0]


# --- what is measured in pixels


def test_distortion_of_an_enlarged_image_is_the_enlarged_distortion():
    x = torch.from_numpy(smooth(28, 28)[..., 0].astype(np.float32))[None, None].expand(16, 1, 28, 28) / 255
    augment = Augment(rotation=(-15, 15), scale=(0.9, 1.1), shear=(-9, 9), translate=(-2.5, 2.5), elastic=0.7, fill=0.4)
    large = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    expected, found = (a(each, torch.Generator().manual_seed(3)) for a, each in ((augment, x), (augment.scaled(2), large)))
    assert (nn.functional.avg_pool2d(found, 2) - expected)[..., 4:-4, 4:-4].abs().max() < 0.05
    assert (expected - x).abs().max() > 0.2  # it is a distortion


@given(SIDES)
def test_recipe_for_larger_images_grows_with_them(side):
    recipe = recipes.BEST.for_images(-0.5, side=side)
    assert recipe.network == ("report" if side == SIDE else "strided")
    assert recipe.augment_strong.translate == pytest.approx((-2 * side / 28, 2 * side / 28))
    assert recipe.augment_strong.elastic == pytest.approx(0.2 * side / 28)
    overlay = recipe.pretraining.augment.overlay
    assert overlay % 2 == 1 and abs(overlay - 9 * side / 28) <= 1
    assert recipe.augment_strong.rotation == recipes.BEST.augment_strong.rotation


def test_recipe_for_28_pixels_is_as_it_was():
    for recipe in (recipes.RECIPES | recipes.ABLATIONS).values():
        assert recipe.for_images(data.BACKGROUND, side=28) == recipe
        assert "network" not in non_default(recipe)


def test_overlay_that_covers_an_image_is_named():
    with pytest.raises(ValueError, match=r"^overlay=29: must be below 28, the side of the images$"):
        Augment(overlay=29)(torch.zeros(2, 1, 28, 28), torch.Generator())


# --- which sides there are


@pytest.mark.parametrize("side", [7, 27, 29, 31, 97, 1000, -28, 0.5, "64", True, None])
def test_bad_side_is_named_before_any_folder_is_opened(side):
    for call in (load, describe, data.load):
        with pytest.raises(ValueError, match=rf"^side={side!r}: must be 28, or a whole number from 32 to 96; 0: as it fits"):
            call("no/such folder", side=side)
    with pytest.raises(ValueError, match=rf"^side={side!r}: must be 28"):
        Run(50, "best", 0, data="no/such folder", side=side)


def test_published_images_have_their_own_side():
    with pytest.raises(ValueError, match=r"^side=64: must be 28 for data='mnist', whose images are used as published$"):
        Run(50, "best", 0, side=64)
    assert Run(50, "best", 0, side=28) == Run(50, "best", 0)


def test_recipe_with_the_printed_network_takes_28_pixels_alone(pile, root, capsys):
    with pytest.raises(ValueError, match=r"^side=64: must be 28: recipe='published' has the report's network, printed for"):
        Run(50, "published", 0, data="no/such folder", side=64)
    large = pile(64)
    with pytest.raises(ValueError, match=r"^side=64: must be 28: recipe='published'"):
        make_grid("8", "published", "0", data=large)
    grid = make_grid("8", "supervised published corrected", "0", data=large)
    assert [run.recipe for run in grid] == ["supervised", "corrected"]
    assert "RECIPES: not published, whose network is for 28 × 28 pixels, not 64 × 64" in capsys.readouterr().out
    assert len(make_grid("8", "supervised published", "0", data=large, side=28)) == 2


def test_recipe_that_was_not_made_for_these_images_is_refused(pile, root):
    images = data.load(pile(64))
    with pytest.raises(ValueError, match=r"^network='report': must be 'strided' for images of 64 × 64 pixels"):
        prepare(images, Labeling(8, 0), recipes.SUPERVISED)
    assert network(images, 0).side == 64


def test_side_is_part_of_what_a_run_is(pile, root):
    small, asked, own = (Run(8, "supervised", 0, data=pile(64), side=side) for side in (28, 48, 0))
    assert [str(run).split("/")[2] for run in (small, asked, own)] == ["m8-side28", "m8-side48", "m8"]
    assert len({fingerprint(run) for run in (small, asked, own)}) == 3
    assert [run.info.side for run in (small, asked, own)] == [28, 48, 64]
    assert "side" not in non_default(own) and executors.memory(small) < executors.memory(asked) < executors.memory(own)
    assert executors.seconds(small) < executors.seconds(asked) < executors.seconds(own)


# --- folders and named sets


def test_folder_is_read_at_the_side_that_fits_or_is_asked_for(pile, root):
    large, small = pile(70), pile(40, "small")
    assert (describe(large).side, describe(small).side) == (64, 28)
    assert load(large)[1]["x"].shape[1:] == (3, 64, 64) and load(small)[1]["x"].shape[1:] == (3, 28, 28)
    info, arrays = load(large, side=33)
    assert info.side == 33 and arrays["x"].shape == (26, 3, 33, 33) and arrays["x_test"].shape == (4, 3, 33, 33)
    assert data.load(large, side=33).side == 33
    assert info.files == describe(large).files  # the same images to train with
    first = root / "pile" / info.files[0]
    assert np.array_equal(arrays["x"][0].transpose(1, 2, 0), framed(Image.open(first), 33))


def test_kept_files_of_28_pixels_stay_where_they_were(pile, root):
    small = pile(28)
    path = folder.prepared(small, root)
    listing = folder.scan(root / "pile")
    files = [(file, label, *listing.states[file]) for file, label in listing.entries]
    assert path == store.place(root, folder.slug(small), [files, listing.skipped, listing.notes, listing.hint])
    assert folder.prepared(small, root, 28) == path  # and is not decoded again
    assert folder.prepared(small, root, 64) != path
    assert store.read(path)[0] == describe(small)


def test_side_that_enlarges_all_images_is_told(pile, root):
    told = [text for _, text in describe(pile(40), side=64).notes]
    assert "SIDE=64: no image has more than 40 pixels, so all are enlarged: this shows no more, and takes longer" in told
    assert not [text for _, text in describe(pile(64, "large"), side=64).notes if "enlarged" in text]


def test_folder_that_is_gone_is_read_at_its_side(pile, root, capsys):
    large = pile(64)
    own, asked = load(large), load(large, side=32)
    (root / "pile").rename(root / "moved")
    datasets.metadata.cache_clear()
    assert load(large)[0] == own[0] and np.array_equal(load(large, side=32)[1]["x"], asked[1]["x"])
    with pytest.raises(ValueError, match="this folder is not there"):
        load(large, side=96)


def test_sweep_keeps_to_the_images_of_its_side(pile, root, monkeypatch):
    large = pile(64)
    before = describe(large, side=32)
    monkeypatch.setenv(*next(iter(datasets.pinned([large], side=32).items())))
    (root / "pile" / "unlabeled" / "29.png").unlink()
    datasets.metadata.cache_clear()
    assert describe(large, side=32) == before and describe(large).n_images == before.n_images - 1


def test_collected_set_is_made_at_another_side(root):
    info, arrays = load("digits", PROJECT_DATA)
    assert info.side == 28 and info.checksum == DATA_SETS["digits"].facts.checksum and arrays["x"].shape[2:] == (28, 28)
    large, larger_arrays = load("digits", root, side=32)
    assert large.side == 32 and larger_arrays["x"].shape == (1437, 1, 32, 32) and large.checksum != info.checksum
    assert [text for _, text in large.notes if "no image has more than 8 pixels" in text]
    assert np.array_equal(larger_arrays["y"], arrays["y"])
    assert Run(50, "best", 0, data="digits", side=28) == Run(50, "best", 0, data="digits")


# --- copies


def test_copies_are_looked_for_at_28_pixels():
    random = np.random.default_rng(0)
    large = np.stack([smooth(64, 64, seed) for seed in range(8)] + [smooth(64, 64, 3) // 2 + 40])
    assert [pair[:2] for pair in duplicates.near_pairs(large)] == [(3, 8)]
    small = random.integers(0, 256, (3, 28, 28, 3), np.uint8)
    assert reduced(small) is small
    exact = torch.from_numpy(large).permute(0, 3, 1, 2).float().contiguous()
    expected = tv.resize(exact, [28, 28], antialias=True).permute(0, 2, 3, 1).numpy()
    assert np.abs(reduced(large) - expected).max() <= 1


def test_unreadable_image_is_told_at_any_side(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("side", [0, 32, 48, 64, 96])
def test_runs_from_before_contrast_are_known_at_every_side(side):
    stronger = Augment(rotation=(-10, 10), scale=(0.9, 1.1), shear=(-6, 6), translate=(-2, 2), elastic=0.4)
    former = replace(
        recipes.BEST,
        threshold=0.95,
        graph_alpha=(0.999, 0.999),
        graph_margin=0.6,
        augment_labeled=stronger,
        augment_strong=stronger,
        augment_constrained=replace(stronger, overlay=9),
        pretraining=recipes.Pretraining(augment=replace(recipes.STRONG, overlay=9), gradients=0.7),
    )
    run = Run(50, "best", 0, data="digits", side=side)
    assert fingerprint(run, run.followed(former)) in former_fingerprints(run)
    former = replace(recipes.BEST, graph_alpha=(0.999, 0.999))  # the version after that one
    assert fingerprint(run, run.followed(former)) in former_fingerprints(run)
    assert fingerprint(run) not in former_fingerprints(run)
