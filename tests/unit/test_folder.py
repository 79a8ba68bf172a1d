"""A folder of one's own images: what is read, what is left out and why, and what stops with a message that says what to mend."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core import data, folder, sets
from ssl_core.fetch import DataError
from ssl_core.folder import known, load
from ssl_core.pixels import decode


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "CACHE", tmp_path / "cache")
    known.cache_clear()
    yield
    known.cache_clear()


@pytest.fixture(scope="session")
def digits(images):
    """The first images of MNIST as bytes (N, 28, 28), with their classes."""
    pixels = (images.x[:200, 0] * data.STD + data.MEAN).mul(255).round().byte().numpy()
    return pixels, images.y[:200].tolist()


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def pile(digits, tmp_path):
    """100 labelled images by class, 60 unlabelled ones, 40 to test with."""
    place = tmp_path / "my scans"
    for i, (pixels, c) in enumerate(zip(*digits, strict=True)):
        part = f"labeled/{c}" if i < 100 else "unlabeled" if i < 160 else f"test/{c}"
        write(place / part / f"{i}.png", pixels)
    return place


def number(file):
    return int(file.rsplit("/", 1)[-1].split(".")[0])


def test_images_of_the_right_size_are_read_as_they_are(pile, digits):
    about, found = load(str(pile))
    assert (about.n_images, about.n_labels, about.n_test, about.own_test) == (160, 100, 40, True)
    assert about.classes == tuple("0123456789") and about.channels == 1 and not about.inverted and not about.skipped
    for part, files in (("x", about.files), ("x_test", about.files_test)):
        assert np.array_equal(found[part][:, 0], digits[0][[number(file) for file in files]])
    expected = [digits[1][number(file)] if file.startswith("labeled") else -1 for file in about.files]
    assert found["y"].tolist() == expected and all(y >= 0 for y in expected[:100])


def test_the_tensors_are_normalised_by_the_folders_own_pixels(pile):
    images, about = data.load(str(pile)), data.known(str(pile))
    assert images.x.shape == (160, 1, 28, 28) and abs(images.x.mean()) < 1e-5 and abs(images.x.std() - 1) < 1e-3
    assert about.background == pytest.approx(images.x.min().item())
    assert images.called(images.y[[0, -1]]) == [images.classes[images.y[0]], "?"]


def test_a_split_labels_none_of_the_unlabeled(pile):
    images = data.load(str(pile))
    parts = data.split(images.y, 50, 0)
    assert (images.y[parts.labeled] >= 0).all() and len(parts.unlabeled) == 110
    assert torch.equal(torch.cat([parts.labeled, parts.unlabeled]).sort().values, torch.arange(160))
    with pytest.raises(ValueError, match=r"^n_labels=101: must be a whole number from 1 to 100$"):
        data.split(images.y, 101, 0)


def test_a_table_of_labels_says_the_same_as_folders(pile, digits, tmp_path):
    by_class, _ = load(str(pile))
    flat = tmp_path / "flat"
    for i, pixels in enumerate(digits[0][:160]):
        write(flat / "a folder" / f"{i}.png", pixels)
    (pile / "test").rename(flat / "test")
    rows = [[f"a folder/{i}.png", digits[1][i], "a note"] for i in range(100)]
    with (flat / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "note"], *rows])
    about, found = load(str(flat))
    assert about.classes == by_class.classes and (about.n_labels, about.n_test) == (100, 40) and not about.skipped
    assert [digits[1][number(file)] for file in about.files[:100]] == found["y"][:100].tolist()


def test_what_is_no_image_in_the_test_images_of_a_flat_folder_is_listed_once(digits, tmp_path):
    flat = tmp_path / "flat"
    for i in range(30):
        write(flat / f"{i}.png", digits[0][i])
    (flat / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{i % 3}\n" for i in range(30)))
    write(flat / "test" / "0" / "30.png", digits[0][30])
    (flat / "test" / "0" / "notes.txt").write_text("none")
    assert [file for file, _ in folder.scan(flat).skipped] == ["test/0/notes.txt"]


def test_without_test_images_a_fifth_of_each_class_is_kept_aside(pile):
    for path in sorted((pile / "test").rglob("*.png")):
        path.unlink()
    about, found = load(str(pile))
    per_class = np.bincount([int(path.parent.name) for path in (pile / "labeled").rglob("*.png")])
    assert np.bincount(found["y_test"]).tolist() == (per_class // 5).tolist() and not about.own_test
    assert about.n_labels + about.n_test == 100 and not set(about.files) & set(about.files_test)


def test_it_is_read_once_and_again_when_something_changed(pile, digits, monkeypatch):
    first = load(str(pile))[0]
    with monkeypatch.context() as patch:
        patch.setattr(folder, "decode", lambda path: pytest.fail("read twice"))
        assert load(str(pile))[0] == first
    write(pile / "unlabeled" / "more.png", digits[0][0])
    second = load(str(pile))[0]
    assert second.n_images == 161 and second.checksum != first.checksum
    (kept,) = (folder.CACHE).glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert load(str(pile))[0] == second


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (400, 100), (100, 400), (8, 8), (1, 1)])
def test_any_size_is_centred_and_filled_up_with_the_border(tmp_path, size):
    pixels = np.full((size[1], size[0]), 200, np.uint8)
    inside = [slice(side // 4, side - side // 4) for side in size[::-1]]
    pixels[tuple(inside)] = 10  # a dark middle, half as long and as wide
    write(tmp_path / "image.png", pixels)
    found, _ = decode(tmp_path / "image.png")
    assert found.shape == (28, 28, 3) and found[14, 14, 0] < 110
    if min(size) > 1:
        assert found[0, 0, 0] == found[27, 27, 0] == 200
        columns, rows = (np.flatnonzero((found[..., 0] < 110).any(axis=axis)) for axis in (0, 1))
        for seen, side in ((columns, size[0]), (rows, size[1])):
            assert abs(len(seen) - 14 * side / max(size)) <= 2 and abs(seen.mean() - 13.5) <= 1


@pytest.mark.parametrize("kind", ["jpg", "tif", "bmp", "colour", "palette", "alpha", "16 bit", "turned"])
def test_kinds_of_image_files(tmp_path, digits, kind):
    grey = digits[0][0]
    image, options, suffix = Image.fromarray(grey), {}, kind if len(kind) == 3 else "png"
    if kind == "colour":
        image = image.convert("RGB")
    elif kind == "palette":
        image = image.quantize(256)
    elif kind == "alpha":  # black ink on nothing
        image = Image.fromarray(np.dstack([np.zeros((28, 28, 3), np.uint8), grey]))
    elif kind == "16 bit":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif kind == "turned":
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned by a quarter to the right when it is shown
        options, image, suffix = {"exif": exif}, image.transpose(Image.Transpose.ROTATE_90), "png"
    image.save(tmp_path / f"image.{suffix}", **options)
    pixels, _ = decode(tmp_path / f"image.{suffix}")
    expected = 255 - grey if kind == "alpha" else grey
    assert np.abs(pixels.astype(int) - expected[..., None]).max() <= (60 if kind == "jpg" else 3 if kind == "palette" else 1)


def test_dark_ink_on_light_paper_is_exchanged(pile):
    for path in pile.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    about, found = load(str(pile))
    assert about.inverted and np.median(found["x"][:, :, 0]) == 0


def test_colour_is_kept_where_there_is_colour(pile):
    for path in pile.rglob("*.png"):
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.dstack([grey, grey // 2, grey * 0])).save(path)
    images, about = data.load(str(pile)), data.known(str(pile))
    assert about.channels == 3 and images.x.shape == (160, 3, 28, 28) and len(about.mean) == 3
    assert images.x.isfinite().all(), "a channel that is the same everywhere has no deviation to divide by"


def test_what_is_not_used_is_listed_with_its_reason(pile, digits):
    (pile / "labeled/3/nothing.png").touch()
    (pile / "labeled/3/text.png").write_text("no image at all")
    (pile / "labeled/3/notes.txt").write_text("notes")
    (pile / "labeled/11").mkdir()
    write(pile / "labeled/loose.png", digits[0][0])
    whole = (pile / "unlabeled/100.png").read_bytes()
    (pile / "unlabeled/cut.png").write_bytes(whole[: len(whole) // 2])
    (pile / "unlabeled/gone.png").symlink_to(pile / "nowhere.png")
    (pile / "unlabeled/circle").symlink_to(pile / "unlabeled", target_is_directory=True)
    (pile / "unlabeled/above").symlink_to(pile, target_is_directory=True)
    write(pile / "labeled/0/both.png", digits[0][1] // 2)
    write(pile / "labeled/1/both too.png", digits[0][1] // 2)
    write(pile / f"labeled/{digits[1][160]}/tested.png", digits[0][160])
    (pile / "elsewhere").mkdir()
    about = known(str(pile))
    assert (about.n_images, about.n_labels, about.n_test) == (160, 100, 40)
    expected = {
        f"labeled/{digits[1][160]}/tested.png": "the same image is a test image",
        "labeled/3/nothing.png": "an empty file",
        "labeled/3/text.png": "not an image of a kind that is read: BMP, JPEG, PNG, TIFF",
        "labeled/3/notes.txt": "not an image by its ending",
        "labeled/11": "a class without an image",
        "labeled/loose.png": "not in the folder of a class",
        "unlabeled/cut.png": "can't be read",
        "unlabeled/gone.png": "can't be read",
        "unlabeled/circle": "a link that leads back",
        "unlabeled/above": "a link that leads back",
        "labeled/0/both.png": "the same image has two labels: 0, 1",
        "labeled/1/both too.png": "the same image has two labels: 0, 1",
        "elsewhere": "not in labeled/, unlabeled/ or test/",
    }
    reasons = dict(about.skipped)
    assert reasons.keys() == expected.keys()
    for file, reason in expected.items():
        assert reasons[file].startswith(reason), file


def test_a_very_large_image_is_left_out_without_being_opened(pile):
    Image.new("1", (20_000, 20_000)).save(pile / "unlabeled" / "large.png")
    ((file, reason),) = known(str(pile)).skipped
    assert file == "unlabeled/large.png" and reason.endswith("million pixels: must be 80 million")


def test_names_are_text_and_nothing_else(pile, digits):
    names = ["with blanks", "quo\"tes' and <b>marks</b>", "日本語", "..", "=1+1", "$x$"]
    for i, name in enumerate(names[:3] + names[4:]):
        for j in range(2):
            write(pile / "labeled" / name.replace("/", "") / f"{i}{j} é.png", digits[0][i] // (2 + j))
    images = data.load(str(pile))
    assert {"with blanks", "日本語", "$x$"} <= set(images.classes) and not data.known(str(pile)).skipped
    assert data.slug(str(pile)).startswith("my-scans-") and "/" not in data.slug(str(pile))


@pytest.mark.parametrize(
    "rows, reason",
    [
        ("../outside.png,1", "outside the folder"),
        ("/etc/passwd,1", "outside the folder"),
        ("0.png,1\n0.png,2", "two labels in labels.csv (1, 2)"),
        ("missing.png,1", "named in labels.csv, but not there"),
    ],
)
def test_rows_of_the_table_that_make_no_sense_are_listed(digits, tmp_path, rows, reason):
    flat = tmp_path / "flat"
    for i in range(30):
        write(flat / f"{i}.png", digits[0][i])
    usual = "\n".join(f"{i}.png,{i % 2}" for i in range(10, 30))
    (flat / "labels.csv").write_text(f"file,label\n{rows}\n{usual}\n")
    about = known(str(flat))
    assert about.n_labels + about.n_test == 20 and [reason in why for _, why in about.skipped] == [True]


def remove(place, pattern):
    for path in sorted(place.glob(pattern)):
        path.unlink() if path.is_file() else path.rmdir()


def unlabel(place):
    for path in place.glob("labeled/*/*"):
        path.rename(place / "unlabeled" / path.name)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda place: remove(place, "*/**/*.png"), "no image that can be read, of "),
        (unlabel, "no labelled image that can be read: label some"),
        (lambda place: [remove(place, f"labeled/{c}/*") for c in range(1, 10)], "one class only, '0': must be 2 to 1000"),
        (lambda place: remove(place, "labeled/7/*"), "classes of test images without a labelled image: '7'; label some"),
        (lambda place: (place / "labels.csv").write_text("file,label\n"), "it has both labeled/ and labels.csv"),
    ],
)
def test_what_can_not_be_trained_with_stops_and_says_what_to_mend(pile, harm, message):
    harm(pile)
    with pytest.raises(ValueError) as stop:
        data.known(str(pile))
    assert str(stop.value).startswith(f"data={str(pile)!r}: {message}")


def test_too_few_labels_to_test_with(pile):
    remove(pile, "test/*/*")
    for c in range(10):
        for path in sorted(pile.glob(f"labeled/{c}/*"))[4:]:
            path.unlink()
    with pytest.raises(ValueError, match=r"no image to test with: add test/<class>/, or label 5 or more of a class \('"):
        data.known(str(pile))


def test_images_of_one_colour_have_nothing_to_tell(tmp_path):
    for c in "ab":
        for i in range(6):  # of different sizes: the same file under two labels would be told before
            write(tmp_path / "flat" / "labeled" / c / f"{i}.png", np.full((28, 28 + i + 6 * (c == "a")), 128, np.uint8))
    with pytest.raises(ValueError, match="all images are of one colour; there is nothing to tell apart"):
        data.known(str(tmp_path / "flat"))


@pytest.mark.parametrize("table", ["", "image,label\n", "file\n", b"\xff\xfe\x00"])
def test_a_table_that_is_none_is_named(tmp_path, table):
    flat = tmp_path / "flat"
    write(flat / "1.png", np.zeros((9, 9), np.uint8))
    (flat / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ValueError, match=r"labels\.csv: must be a table "):
        data.known(str(flat))


@pytest.mark.parametrize("name", ["letters", "no/such/folder", "", None, 5])
def test_what_is_no_data_set_is_named(name):
    with pytest.raises(ValueError, match=r"^data=.*: must be mnist, fashion-mnist, .*, or the path of a folder"):
        data.known(name)


def test_scikit_learns_digits_need_no_download():
    images, about = data.load("digits"), data.known("digits")
    assert images.x.shape == (1437, 1, 28, 28) and len(images.x_test) == 360 and about.n_labels == 1437
    assert torch.bincount(images.y).min() >= 138 and data.slug("digits") == "digits" and not about.inverted


def test_a_set_that_no_mirror_gives_is_named(monkeypatch):
    monkeypatch.setattr(
        "torchvision.datasets.USPS.__init__", lambda *_, **__: (_ for _ in ()).throw(OSError("no route\nto host"))
    )
    with pytest.raises(DataError, match=r"^USPS is not there, and its mirrors did not give it: no route to host$"):
        data.load("usps")


@pytest.fixture
def mnist_here(tmp_path):
    """MNIST's files beside the cache of this test."""
    (tmp_path / "MNIST").symlink_to(Path(folder.__file__).parents[1] / "data" / "MNIST")


def test_few_eights_are_mnist_but_for_these(images, mnist_here):
    found, about = data.load("mnist-few-eights"), data.known("mnist-few-eights")
    counts, of_all = torch.bincount(found.y), torch.bincount(images.y)
    assert counts[8] == of_all[8] // 10 == 585 and (counts - of_all)[[0, 1, 2, 3, 4, 5, 6, 7, 9]].eq(0).all()
    assert torch.equal(found.y_test, images.y_test) and not about.uniform_prior and about.n_labels == len(found.y)
    before = (found.x_test * about.std[0] + about.mean[0] - (images.x_test * data.STD + data.MEAN)).abs().max()
    assert before < 1e-5


def test_clothes_among_digits_have_no_label(images, mnist_here, monkeypatch):
    read, clothes = sets.read, np.full((60_000, 28, 28), 7, np.uint8)
    fashion = (clothes, np.zeros(60_000, np.int64), clothes[:9], np.zeros(9, np.int64))
    monkeypatch.setattr(sets, "read", lambda name, root: fashion if name == "fashion-mnist" else read(name, root))
    found = data.load("mnist-and-clothes")
    assert len(found.x) == 60_000 and torch.equal(found.y[:48_000], images.y[:48_000]) and (found.y[48_000:] == -1).all()
    assert (found.x[48_000:].std(dim=(1, 2, 3)) == 0).all() and found.classes == images.classes
    assert (data.split(found.y, 250, 0).labeled < 48_000).all()
