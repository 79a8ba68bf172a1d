"""Copies: the same pixels on both sides, near copies, and groups that stay on one side."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ssl_core import data
from ssl_core.datasets import copies, describe, load
from ssl_core.datasets.pixels import decode


@pytest.fixture(scope="session")
def digits(images):
    """MNIST as bytes: images (60000, 28, 28), and test images (10000, 28, 28)."""
    return [(x[:, 0] * data.STD + data.MEAN).mul(255).round().byte().numpy() for x in (images.x[:], images.x_test)]


def as_jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


CHANGES = {
    "saved as JPEG": lambda x: as_jpeg(x, 60),
    "moved": lambda x: np.roll(x, (1, -1), (0, 1)),
    "moved and saved": lambda x: as_jpeg(np.roll(x, (0, 1), (0, 1)), 75),
    "darker": lambda x: (x * 0.6 + 20).astype(np.uint8),
    "noise": lambda x: np.clip(x + np.random.default_rng(0).normal(0, 5, x.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_are_found_among_others(digits, change):
    changed = np.stack([CHANGES[change](x) for x in digits[0][:100]])
    found = copies.near_copies(changed, digits[0][:2000])
    assert sum((i, i) in found for i in range(100)) >= 97 and sum(i != j for i, j in found) <= 1


def test_different_digits_are_no_near_copies(digits):
    labeled = digits[0][np.random.default_rng(0).permutation(60_000)[:1000]]
    assert len({i for i, _ in copies.near_copies(digits[1], labeled)}) < 10


def test_things_before_a_still_camera_are_no_near_copies():
    """A scene that is the same everywhere, with a small thing in it that is elsewhere each time."""
    random = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(random.normal(0, 1, (28, 28)), 3)
    scene = 120 + 80 * scene / abs(scene).max()
    pictures = np.repeat(scene[None], 40, axis=0)
    for picture, (y, x) in zip(pictures, random.integers(2, 22, (40, 2)), strict=True):
        picture[y : y + 4, x : x + 4] += 45
    pictures = np.clip(pictures + random.normal(0, 1, pictures.shape), 0, 255).astype(np.uint8)
    assert len(copies.near_copies(pictures)) <= 5
    noisy = np.clip(pictures + random.normal(0, 1, pictures.shape), 0, 255).astype(np.uint8)
    found = copies.near_copies(noisy, pictures)
    assert sum((i, i) in found for i in range(40)) >= 36


def test_empty_pictures_are_copies_of_nothing():
    assert not copies.near_copies(np.full((3, 28, 28), 7, np.uint8)) and not copies.near_copies(np.zeros((0, 28, 28), np.uint8))


def write(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)


def test_same_pixels_in_another_format_are_the_same_image(digits, tmp_path):
    top = tmp_path / "f"
    for i in range(40):
        write(top / f"labeled/{'ab'[i % 2]}/{i}.png", digits[0][i])
    for i in range(8):
        write(top / f"test/{'ab'[i % 2]}/{i}_copy.bmp", digits[0][i])
    write(top / "labeled/a/other.tif", digits[0][9])  # which is also b/9.png
    info, _ = load(str(top), tmp_path / "data")
    reasons = dict(info.skipped)
    assert [reasons[f"labeled/{'ab'[i % 2]}/{i}.png"] for i in range(8)] == ["the same image is a test image"] * 8
    assert reasons["labeled/a/other.tif"] == reasons["labeled/b/9.png"] == "the same image has two labels: a, b"
    assert info.n_labels == 31 and not info.near_copies


def test_near_copies_of_labelled_images_are_told(digits, tmp_path):
    top = tmp_path / "f"
    for i in range(40):
        write(top / f"labeled/{'ab'[i % 2]}/{i}.png", digits[0][i])
    for i in range(10):
        write(top / f"test/{'ab'[i % 2]}/{i}.jpg", digits[0][i] if i < 4 else digits[1][i], quality=80)
    info, _ = load(str(top), tmp_path / "data")
    assert info.near_copies == tuple((f"test/{'ab'[i % 2]}/{i}.jpg", f"labeled/{'ab'[i % 2]}/{i}.png") for i in (0, 2, 1, 3))
    told = "nearly the same as a labelled one, such as test/a/0.jpg and labeled/a/0.png: the accuracy may be too high"
    assert (".", f"4 of 10 test images are {told}") in info.notes and info.n_labels == 40


def test_near_copy_with_another_label_is_told(digits, tmp_path):
    for i in range(40):
        write(tmp_path / f"f/labeled/{'ab'[i % 2]}/{i}.png", digits[0][i])
    for i in range(2):
        write(tmp_path / f"f/test/{'ba'[i % 2]}/{i}.jpg", digits[0][i], quality=80)
    notes = dict(load(str(tmp_path / "f"), tmp_path / "data")[0].notes)
    assert notes["test/b/0.jpg"] == "nearly the same as labeled/a/0.png, which has another label, a"


def test_test_images_among_the_unlabelled_are_told(digits, tmp_path):
    for i in range(40):
        write(tmp_path / f"f/labeled/{'ab'[i % 2]}/{i}.png", digits[0][i])
        write(tmp_path / f"f/test/{'ab'[i % 2]}/{i}.png", digits[1][i])
    for i in range(3):
        write(tmp_path / f"f/unlabeled/{i}.bmp", digits[1][i])
    info, _ = load(str(tmp_path / "f"), tmp_path / "data")
    told = "also among the unlabelled images of training: on new ones the accuracy may be lower"
    assert (".", f"3 test images are {told}") in info.notes and info.n_images == 43


@pytest.mark.parametrize("kind", ["bursts", "versions of Roboflow"])
def test_groups_stay_on_one_side(digits, tmp_path, kind):
    top = tmp_path / "f"
    for i in range(40):
        for j in range(3):
            picture = digits[0][i] if kind == "bursts" else digits[0][3 * i + j]
            name = f"{i}_{j}.png" if kind == "bursts" else f"photo{i}_jpg.rf.{i:016}{j:016}.png"
            write(top / f"labeled/{'ab'[i % 2]}/{name}", (picture * (1 - j * 0.15)).astype(np.uint8))
    info, _ = load(str(top), tmp_path / "data")
    test, train = ({file.split("_")[0] for file in files} for files in (info.files_test, info.files))
    assert not test & train and not info.near_copies and info.n_test == 24


def test_class_that_is_one_group_is_drawn_from_all_the_same(digits, tmp_path):
    top = tmp_path / "f"
    for i in range(20):
        write(top / f"labeled/a/{i}.png", (digits[0][0] * (1 - i * 0.02)).astype(np.uint8))
        write(top / f"labeled/b/{i}.png", digits[0][i + 1])
    info, arrays = load(str(top), tmp_path / "data")
    assert np.bincount(arrays["y_test"]).tolist() == [4, 4] and len(info.near_copies) == 4


def test_draw_without_groups_is_that_of_the_files_alone(digits, tmp_path):
    """The order is that of the digests of the files: runs that were finished before groups were known stay finished."""
    top = tmp_path / "f"
    for i in range(60):
        write(top / f"labeled/{'ab'[i % 2]}/{i}.png", digits[0][i])
    info, _ = load(str(top), tmp_path / "data")
    order = {c: sorted((decode(path)[1], f"labeled/{c}/{path.name}") for path in (top / "labeled" / c).iterdir()) for c in "ab"}
    assert set(info.files_test) == {file for c in "ab" for _, file in order[c][:6]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_no_test_image_of_a_published_set_is_a_training_image(name):
    _, arrays = load(name)
    training = {picture.tobytes() for picture in arrays["x"]}
    assert sum(picture.tobytes() in training for picture in arrays["x_test"]) == 0


def test_labels_of_several_lines_are_told_in_one(tmp_path):
    one, other, third = np.random.default_rng(0).integers(0, 255, (3, 8, 8), np.uint8)
    for name, pixels in {"1": one, "2": one, "3": other, "4": third}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text('file,label\n1.png,a\n2.png,"x\ny"\n3.png,a\n4.png,"x\ny"\n')
    info = describe(str(tmp_path), tmp_path / "data", for_training=False)
    reasons = {reason for file, reason in info.skipped if file in ("1.png", "2.png")}
    assert len(reasons) == 1 and "the same image has two labels: a, x" in min(reasons) and "\n" not in min(reasons)
