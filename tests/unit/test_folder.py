"""A folder of images: what is read, what is left out and why, and what is refused with a message that says what to fix."""

import csv
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_core import data, datasets
from ssl_core.datasets import DATA_SETS, DataError, decoding, describe, load, named, scan, store
from ssl_core.datasets.fetch import RawFiles
from ssl_core.datasets.pixels import UnreadableImage, decode

PROJECT_DATA = datasets.DATA


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The data folder of a test: empty, and the one that is meant where none is named."""
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    datasets.metadata.cache_clear()
    yield tmp_path
    datasets.metadata.cache_clear()


def load_images(name):
    return data.load(name, datasets.DATA)


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
    folder = tmp_path / "my scans"
    for i, (pixels, c) in enumerate(zip(*digits, strict=True)):
        part = f"labeled/{c}" if i < 100 else "unlabeled" if i < 160 else f"test/{c}"
        write(folder / part / f"{i}.png", pixels)
    return folder


def number(file):
    return int(file.rsplit("/", 1)[-1].split(".")[0])


def test_images_of_28_pixels_keep_their_values(pile, digits):
    info, arrays = load(str(pile))
    assert (info.n_images, info.n_labels, info.n_test, info.own_test) == (160, 100, 40, True)
    assert info.classes == tuple("0123456789") and info.channels == 1 and not info.inverted and not info.skipped
    for part, files in (("x", info.files), ("x_test", info.files_test)):
        assert np.array_equal(arrays[part][:, 0], digits[0][[number(file) for file in files]])
    expected = [digits[1][number(file)] if file.startswith("labeled") else -1 for file in info.files]
    assert arrays["y"].tolist() == expected and all(y >= 0 for y in expected[:100])


def test_tensors_are_normalized_by_the_folders_own_pixels(pile):
    images, info = load_images(str(pile)), describe(str(pile))
    assert images.x.shape == (160, 1, 28, 28) and abs(images.x[:].mean()) < 1e-5 and abs(images.x[:].std() - 1) < 1e-3
    assert info.background == pytest.approx(images.x[:].min().item())
    assert images.class_names(images.y[[0, -1]]) == [images.classes[images.y[0]], "?"]


def test_split_labels_no_unlabeled_image(pile):
    images = load_images(str(pile))
    parts = data.split(images.y, 50, 0)
    assert (images.y[parts.labeled] >= 0).all() and len(parts.unlabeled) == 110
    assert torch.equal(torch.cat([parts.labeled, parts.unlabeled]).sort().values, torch.arange(160))
    with pytest.raises(ValueError, match=r"^n_labels=101: must be a whole number from 1 to 100$"):
        data.split(images.y, 101, 0)


def test_labels_csv_equals_class_folders(pile, digits, tmp_path):
    by_class, _ = load(str(pile))
    flat = tmp_path / "flat"
    for i, pixels in enumerate(digits[0][:160]):
        write(flat / "a folder" / f"{i}.png", pixels)
    (pile / "test").rename(flat / "test")
    rows = [[f"a folder/{i}.png", digits[1][i], "a note"] for i in range(100)]
    with (flat / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "note"], *rows])
    info, arrays = load(str(flat))
    assert info.classes == by_class.classes and (info.n_labels, info.n_test) == (100, 40) and not info.skipped
    assert [digits[1][number(file)] for file in info.files[:100]] == arrays["y"][:100].tolist()


def test_flat_folder_lists_non_images_in_test_once(digits, tmp_path):
    flat = tmp_path / "flat"
    for i in range(30):
        write(flat / f"{i}.png", digits[0][i])
    (flat / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{i % 3}\n" for i in range(30)))
    write(flat / "test" / "0" / "30.png", digits[0][30])
    (flat / "test" / "0" / "notes.txt").write_text("none")
    assert [file for file, _ in scan.scan(flat).skipped] == ["test/0/notes.txt"]


def test_a_fifth_of_each_class_is_tested_with_if_there_is_no_test_folder(pile):
    for path in sorted((pile / "test").rglob("*.png")):
        path.unlink()
    info, arrays = load(str(pile))
    per_class = np.bincount([int(path.parent.name) for path in (pile / "labeled").rglob("*.png")])
    assert np.bincount(arrays["y_test"]).tolist() == (per_class // 5).tolist() and not info.own_test
    assert info.n_labels + info.n_test == 100 and not set(info.files) & set(info.files_test)


def test_folder_is_decoded_once_and_again_after_a_change(pile, digits, monkeypatch):
    first = load(str(pile))[0]
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_frame", lambda *_, **__: pytest.fail("read twice"))
        assert load(str(pile))[0] == first
    write(pile / "unlabeled" / "more.png", digits[0][0])
    second = load(str(pile))[0]
    assert second.n_images == 161 and second.checksum != first.checksum
    for kept in (datasets.DATA / "folders").glob("*.safetensors"):
        kept.write_bytes(kept.read_bytes()[:1000])
    assert load(str(pile))[0] == second


@pytest.mark.parametrize("size", [(28, 28), (56, 56), (400, 100), (100, 400), (8, 8), (1, 1)])
def test_image_of_any_size_is_centered_and_padded_with_its_border(tmp_path, size):
    pixels = np.full((size[1], size[0]), 200, np.uint8)
    inside = [slice(side // 4, side - side // 4) for side in size[::-1]]
    pixels[tuple(inside)] = 10  # a dark middle, half as long and as wide
    write(tmp_path / "image.png", pixels)
    framed, _ = decode(tmp_path / "image.png")
    assert framed.shape == (28, 28, 3) and framed[14, 14, 0] < 110
    if min(size) > 1:
        assert framed[0, 0, 0] == framed[27, 27, 0] == 200
        columns, rows = (np.flatnonzero((framed[..., 0] < 110).any(axis=axis)) for axis in (0, 1))
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


def test_dark_ink_on_light_paper_is_inverted(pile):
    for path in pile.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    info, arrays = load(str(pile))
    assert info.inverted and np.median(arrays["x"][:, :, 0]) == 0


def test_color_is_kept(pile):
    for path in pile.rglob("*.png"):
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.dstack([grey, grey // 2, grey * 0])).save(path)
    images, info = load_images(str(pile)), describe(str(pile))
    assert info.channels == 3 and images.x.shape == (160, 3, 28, 28) and len(info.mean) == 3
    assert images.x[:].isfinite().all(), "a channel that is the same everywhere has no deviation to divide by"


def test_skipped_files_are_listed_with_their_reason(pile, digits):
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
    info = describe(str(pile))
    assert (info.n_images, info.n_labels, info.n_test) == (160, 100, 40)
    expected = {
        f"labeled/{digits[1][160]}/tested.png": "the same image is a test image",
        "labeled/3/nothing.png": "an empty file",
        "labeled/3/text.png": "not an image of a kind that is read: PNG, JPEG, TIFF, BMP",
        "labeled/3/notes.txt": ".txt is not read: must be .png .jpg",
        "labeled/11": "a class without an image",
        "labeled/loose.png": "not in the folder of a class",
        "unlabeled/cut.png": "can't be read",
        "unlabeled/gone.png": "a link to nothing",
        "unlabeled/circle": "a link that leads back",
        "unlabeled/above": "a link that leads back",
        "labeled/0/both.png": "the same image has two labels: 0, 1",
        "labeled/1/both too.png": "the same image has two labels: 0, 1",
        "elsewhere": "not in labeled/, unlabeled/ or test/",
    }
    reasons = dict(info.skipped)
    assert reasons.keys() == expected.keys()
    for file, reason in expected.items():
        assert reasons[file].startswith(reason), file


def test_very_large_image_is_skipped_unopened(pile):
    Image.new("1", (20_000, 20_000)).save(pile / "unlabeled" / "large.png")
    ((file, reason),) = describe(str(pile)).skipped
    assert file == "unlabeled/large.png" and reason.endswith("million pixels: must be at most 80 million")


def test_names_are_plain_text(pile, digits):
    names = ["with blanks", "quo\"tes' and <b>marks</b>", "日本語", "..", "=1+1", "$x$"]
    for i, name in enumerate(names[:3] + names[4:]):
        for j in range(2):
            write(pile / "labeled" / name.replace("/", "") / f"{i}{j} é.png", digits[0][i] // (2 + j))
    images = load_images(str(pile))
    assert {"with blanks", "日本語", "$x$"} <= set(images.classes) and not describe(str(pile)).skipped
    assert datasets.slug(str(pile)).startswith("my-scans-") and "/" not in datasets.slug(str(pile))


@pytest.mark.parametrize(
    "rows, reason",
    [
        ("../outside.png,1", "outside the folder"),
        ("/etc/passwd,1", "outside the folder"),
        ("missing.png,1", "named in labels.csv, but not there (line 2)"),
        ("missing.png,1\nmissing.png,2", "named in labels.csv, but not there (line 2)"),
    ],
)
def test_invalid_rows_of_labels_csv_are_listed(digits, tmp_path, rows, reason):
    flat = tmp_path / "flat"
    for i in range(30):
        write(flat / f"{i}.png", digits[0][i])
    usual = "\n".join(f"{i}.png,{i % 2}" for i in range(10, 30))
    (flat / "labels.csv").write_text(f"file,label\n{rows}\n{usual}\n")
    info = describe(str(flat))
    assert info.n_labels + info.n_test == 20 and [reason in why for _, why in info.skipped] == [True]


def remove(place, pattern):
    for path in sorted(place.glob(pattern)):
        path.unlink() if path.is_file() else path.rmdir()


def unlabel(place):
    for path in place.glob("labeled/*/*"):
        path.rename(place / "unlabeled" / path.name)


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda place: remove(place, "*/**/*.png"), "no image that can be read; must be labeled/<class>/"),
        (unlabel, "no labelled image that can be read: label some"),
        (lambda place: [remove(place, f"labeled/{c}/*") for c in range(1, 10)], "one class only, '0': must be from 2 to 1000"),
        (lambda place: remove(place, "labeled/7/*"), "classes of test images without a labelled image: '7'; label some"),
        (lambda place: (place / "labels.csv").write_text("file,label\n"), "must have labeled/ or labels.csv, not both"),
    ],
)
def test_unusable_folder_raises_and_says_what_to_fix(pile, harm, message):
    harm(pile)
    with pytest.raises(ValueError) as stop:
        describe(str(pile))
    assert str(stop.value).startswith(f"data={str(pile)!r}: {message}")


def test_too_few_labels_to_test_with(pile):
    remove(pile, "test/*/*")
    for c in range(10):
        for path in sorted(pile.glob(f"labeled/{c}/*"))[4:]:
            path.unlink()
    with pytest.raises(ValueError, match=r"no image to test with: add test/<class>/, or label 5 or more of a class \('"):
        describe(str(pile))


def test_images_of_one_color_are_refused(tmp_path):
    for c in "ab":
        for i in range(6):  # of different sizes: the same file under two labels would be told before
            write(tmp_path / "flat" / "labeled" / c / f"{i}.png", np.full((28, 28 + i + 6 * (c == "a")), 128, np.uint8))
    with pytest.raises(ValueError, match="all images are of one colour; there is nothing to tell apart"):
        describe(str(tmp_path / "flat"))


@pytest.mark.parametrize("table", ["", "image,label\n", "file\n", b"\xff\xfe\x00"])
def test_invalid_labels_csv_is_named(tmp_path, table):
    flat = tmp_path / "flat"
    write(flat / "1.png", np.zeros((9, 9), np.uint8))
    (flat / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ValueError, match=r"labels\.csv: must be a table "):
        describe(str(flat))


@pytest.mark.parametrize("name", ["letters", "no/such/folder", "", None, 5])
def test_unknown_data_set_is_named(name):
    with pytest.raises(ValueError, match=r"^data=.*: must be one of mnist, fashion-mnist, .*, or the path of a folder"):
        describe(name)


def test_scikit_learns_digits_need_no_download():
    images, info = load_images("digits"), describe("digits")
    assert images.x.shape == (1437, 1, 28, 28) and len(images.x_test) == 360 and info.n_labels == 1437
    assert torch.bincount(images.y).min() >= 138 and datasets.slug("digits") == "digits" and not info.inverted


def test_set_that_no_mirror_has_is_named(monkeypatch):
    monkeypatch.setattr(
        "torchvision.datasets.USPS.__init__", lambda *_, **__: (_ for _ in ()).throw(OSError("no route\nto host"))
    )
    with pytest.raises(DataError, match=r"^USPS is not there, and its mirrors did not give it: no route to host$"):
        load_images("usps")


@pytest.fixture
def mnist_here(tmp_path):
    """MNIST's files in the data folder of this test."""
    (tmp_path / "MNIST").symlink_to(PROJECT_DATA / "MNIST")


@pytest.mark.slow
def test_few_eights_are_mnist_with_fewer_eights(images, mnist_here):
    few, info = load_images("mnist-few-eights"), describe("mnist-few-eights")
    counts, of_all = torch.bincount(few.y), torch.bincount(images.y)
    assert counts[8] == of_all[8] // 10 == 585 and (counts - of_all)[[0, 1, 2, 3, 4, 5, 6, 7, 9]].eq(0).all()
    assert torch.equal(few.y_test, images.y_test) and not info.uniform_prior and info.n_labels == len(few.y)
    assert info.n_labels == DATA_SETS["mnist-few-eights"].n_labels
    before = (few.x_test * info.std[0] + info.mean[0] - (images.x_test * data.STD + data.MEAN)).abs().max()
    assert before < 1e-5


@pytest.mark.slow
def test_clothes_among_digits_have_no_label(images, mnist_here, monkeypatch):
    read, clothes = RawFiles.read, np.full((60_000, 28, 28), 7, np.uint8)
    fashion = (clothes, np.zeros(60_000, np.int64), clothes[:9], np.zeros(9, np.int64))
    monkeypatch.setattr(RawFiles, "read", lambda raw, root: fashion if raw.folder == "FashionMNIST" else read(raw, root))
    with pytest.raises(DataError, match=r"^mnist-and-clothes: its images have the checksum \w{12}…, not d0cea6373983…$"):
        load_images("mnist-and-clothes")  # these are not the clothes that its metadata are of
    monkeypatch.setitem(DATA_SETS, "mnist-and-clothes", replace(DATA_SETS["mnist-and-clothes"], facts=None))
    mixed = load_images("mnist-and-clothes")
    assert len(mixed.x) == 60_000 and torch.equal(mixed.y[:48_000], images.y[:48_000]) and (mixed.y[48_000:] == -1).all()
    assert (mixed.x[48_000:].std(dim=(1, 2, 3)) == 0).all() and mixed.classes == images.classes
    assert (data.split(mixed.y, 250, 0).labeled < 48_000).all()
    assert describe("mnist-and-clothes").n_labels == DATA_SETS["mnist-and-clothes"].n_labels


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "digits"])
def test_metadata_of_a_named_set_agree_with_its_images(name):
    info, arrays = load(name, PROJECT_DATA)
    assert info.n_labels == DATA_SETS[name].n_labels == (arrays["y"] >= 0).sum() and info.n_images == len(arrays["x"])
    assert info.n_test == len(arrays["x_test"]) and info.channels == arrays["x"].shape[1] and info.slug == name
    assert not info.files and not info.skipped and not info.problem


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_published_set_is_described_without_files(name, root):
    assert describe(name).as_published and DATA_SETS[name].n_labels == describe(name).n_images == 60_000
    assert not list(root.iterdir())


@pytest.mark.parametrize("name", ["digits", "mnist-few-eights", "mnist-and-clothes", "animals", "solar-cells"])
def test_collected_set_is_described_without_files(name, root):
    assert describe(name).n_labels == DATA_SETS[name].n_labels and not list(root.iterdir())


@pytest.mark.parametrize("name", ["digits", pytest.param("mnist-few-eights", marks=pytest.mark.slow)])
def test_facts_of_a_collected_set_are_those_of_its_images(name, mnist_here, root):
    written, computed = asdict(describe(name)), asdict(store.read_info(DATA_SETS[name].fetch(root)))
    floats = ("mean", "std", "background")
    assert all(written.pop(key) == pytest.approx(computed.pop(key), rel=1e-12) for key in floats)
    assert written == computed


def test_distorted_set_is_mnist_and_copies_of_it(mnist_here, images, root, monkeypatch):
    small = replace(DATA_SETS["mnist-250000"], n_labels=60_500)
    monkeypatch.setitem(DATA_SETS, small.name, small)
    monkeypatch.setattr(named, "COPIES", 300)
    info, arrays = load(small.name)
    published = DATA_SETS["mnist"].load(root)[1]
    assert np.array_equal(arrays["x"][:60_000], published["x"]) and np.array_equal(arrays["x_test"], published["x_test"])
    assert np.array_equal(arrays["y"][60_000:], published["y"][:500]) and info.n_images == info.n_labels == 60_500
    copies, originals = (part.reshape(500, -1).astype(float) for part in (arrays["x"][60_000:], published["x"][:500]))
    assert not (copies == originals).all(axis=1).any(), "each copy is distorted"
    itself = [np.corrcoef(one, two)[0, 1] for one, two in zip(copies, originals, strict=True)]
    others = [np.corrcoef(one, two)[0, 1] for one, two in zip(copies, np.roll(originals, 1, axis=0), strict=True)]
    assert np.mean(itself) > 0.5 and np.mean(others) < 0.4, "and is of its original"
    again, _ = small._make(root, 28)
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    assert load_images(small.name).x[60_000:].amin() == pytest.approx(info.background) and info.uniform_prior
    with pytest.raises(ValueError, match=r"^side=32: must be 28 for data='mnist-250000'$"):
        small.fetch(root, 32)


def test_name_and_slug_need_no_folder():
    datasets.check_name("no/such/folder")
    assert datasets.slug("no/such/folder").startswith("folder-") and datasets.slug("mnist") == "mnist"
    assert datasets.slug("no/such/folder") == datasets.slug("no/such/../such/folder") != datasets.slug("no/other/folder")


def test_folder_is_decoded_again_when_the_code_that_reads_it_changes(pile, monkeypatch, root):
    first = load(str(pile))[0]
    monkeypatch.setattr(store, "code_digest", lambda: "of other code")
    assert load(str(pile))[0] == first and len(list((root / "folders").glob("*.safetensors"))) == 2


def test_sets_of_like_names_keep_their_files_apart(pile, root):
    """A folder called digits, and the data set of that name."""
    pile = pile.rename(pile.with_name("digits"))
    for name in ("digits", str(pile), "digits"):
        load(name)
    assert len(list((root / "folders").glob("*.safetensors"))) == 2


def test_unreadable_image_raises(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImage, match=r"^an empty file$"):
        decode(tmp_path / "empty.png")
