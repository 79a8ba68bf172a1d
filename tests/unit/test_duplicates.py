"""Images that are there twice: what is found, what is not, what is told of it, and groups that stay on one side."""

import csv
import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from ssl_core import datasets
from ssl_core.datasets import copy_table, describe, duplicates, grouping, load
from ssl_core.datasets.copy_table import Copy
from ssl_core.datasets.duplicates import Pair
from ssl_core.datasets.pixels import decode, framed
from ssl_core.lab.page.sweep_and_build import sentences
from ssl_core.lab.runs import files
from ssl_core.lab.tools import duplicates as tool


@pytest.fixture(scope="module")
def digits():
    """MNIST's images as bytes (60000, 28, 28)."""
    return load("mnist", files.DATA)[1]["x"][:, 0]


@pytest.fixture(scope="module")
def clothes():
    return load("fashion-mnist", files.DATA)[1]["x"][:, 0]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The data folder of a test: empty, and the one that is meant where none is named."""
    monkeypatch.setattr(datasets, "DATA", tmp_path / "data")
    datasets.metadata.cache_clear()
    yield tmp_path
    datasets.metadata.cache_clear()


def scan_of(picture):
    """A digit as a scan of 112 × 112 pixels."""
    return Image.fromarray(picture).resize((112, 112), Image.Resampling.BICUBIC).convert("RGB")


def as_jpeg(image, quality=50):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def moved(image, share):
    d = share * image.width
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, d, 0, 1, -d / 2), Image.Resampling.BICUBIC)


def burst(image):
    """The same scene a moment later: moved, turned by a degree, other light, noise."""
    turned = ImageEnhance.Brightness(moved(image.rotate(1, Image.Resampling.BICUBIC), 0.015)).enhance(0.94)
    noise = np.random.default_rng(0).normal(0, 6, (*image.size, 3))
    return Image.fromarray(np.clip(np.asarray(turned) + noise, 0, 255).astype(np.uint8))


CHANGES = {
    "saved as JPEG": as_jpeg,
    "half the size": lambda x: x.resize((56, 56), Image.Resampling.LANCZOS),
    "enlarged": lambda x: x.resize((28, 28)).resize((90, 90), Image.Resampling.BILINEAR),
    "another size, as JPEG": lambda x: as_jpeg(x.resize((90, 90)), 75),
    "darker": lambda x: ImageEnhance.Brightness(x).enhance(0.7),
    "brighter": lambda x: ImageEnhance.Brightness(x).enhance(1.25),
    "less contrast": lambda x: ImageEnhance.Contrast(x).enhance(0.7),
    "moved by 1 %": lambda x: moved(x, 0.01),
    "moved by 2 %": lambda x: moved(x, 0.02),
    "moved by 4 %": lambda x: moved(x, 0.04),
    "burst": burst,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["digits", "clothes"])
def test_near_copies_are_found_among_others(name, change, request):
    pictures = request.getfixturevalue(name)
    scans = [scan_of(picture) for picture in pictures[:300]]
    changed = [CHANGES[change](scan) for scan in scans[:40]]
    found = {(i, j) for i, j, _ in duplicates.near_pairs(np.stack([framed(image) for image in (*scans, *changed)]))}
    assert sum((i, 300 + i) in found for i in range(40)) >= 38
    assert sum(j != 300 + i for i, j in found) <= 4  # clothes that look alike, and their copies


def test_digits_that_look_alike_are_no_copies(digits):
    assert len(duplicates.near_pairs(digits[:4000, :, :, None])) <= 2
    small, arrays = load("digits", files.DATA)
    pixels = np.concatenate([arrays["x"], arrays["x_test"]]).transpose(0, 2, 3, 1)
    assert len(duplicates.near_pairs(pixels)) <= 10 and small.n_images + small.n_test == 1797


def test_1500_images_take_less_than_a_second(digits):
    start = time.process_time()
    duplicates.near_pairs(digits[:1500, :, :, None])
    assert time.process_time() - start < 1


def test_pairs_are_those_of_all_pairs_one_by_one(clothes):
    """The steps that leave pairs out leave out none that the last one, alone on all pairs, would accept."""
    pictures = clothes[np.r_[:50, :50]].copy()
    pictures[50:] = np.roll(pictures[50:], 1, axis=2)
    i, j = np.triu_indices(len(pictures), 1)
    mean = pictures.mean(axis=0).astype(np.float32)
    parts = [duplicates.aligned(pictures[i[k : k + 5000]], pictures[j[k : k + 5000]], mean) for k in range(0, len(i), 5000)]
    likeness, content = (np.concatenate(each) for each in zip(*parts, strict=True))
    same = (likeness >= duplicates.SAME) & (content >= duplicates.SAME_CONTENT)
    expected = set(zip(i[same].tolist(), j[same].tolist(), strict=True))
    found = {pair[:2] for pair in duplicates.near_pairs(pictures[..., None])}
    assert found <= expected and len(found) >= 0.95 * len(expected) and len(expected) >= 45


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 59), min_size=2, max_size=40, unique=True), st.randoms(use_true_random=False))
def test_order_does_not_matter(digits, chosen, random):
    """Neither for the pairs, nor for the table."""
    pictures = np.concatenate([digits[:30], np.roll(digits[:30], 1, axis=1)])[..., None]
    shuffled = random.sample(chosen, len(chosen))
    one, other = (
        copy_table.table(
            [str(i) for i in order],
            ["labelled"] * len(order),
            [""] * len(order),
            duplicates.pairs(pictures[order], [str(i % 30 if i % 3 == 0 else i) for i in order]),
        )
        for order in (chosen, shuffled)
    )
    assert [row[:6] for row in one] == [row[:6] for row in other]
    assert [float(row.likeness) for row in one] == pytest.approx([float(row.likeness) for row in other], abs=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_likeness_is_symmetric_and_that_of_an_image_with_itself_is_1(digits, i, j):
    mean = digits[:1000].mean(axis=0).astype(np.float32)
    one, other = (duplicates.aligned(digits[[a]], digits[[b]], mean)[0][0] for a, b in ((i, j), (j, i)))
    assert one == pytest.approx(other, abs=1e-4) and one <= 1 + 1e-5
    assert duplicates.aligned(digits[[i]], digits[[i]], mean)[0][0] == pytest.approx(1, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_groups_of_copies_are_transitive(links):
    """Two images are in one group if and only if a chain of pairs joins them: SciPy's connected components."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [Pair(min(link), max(link), 0.99) for link in links if link[0] != link[1]]
    rows = copy_table.table([f"{i:02}" for i in range(12)], ["test"] * 12, [""] * 12, pairs)
    i, j = np.array([pair[:2] for pair in pairs], int).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(12, 12)), directed=False)
    assert {row.file for row in rows} == {f"{k:02}" for pair in pairs for k in pair[:2]}
    for row in rows:
        members = {f"{k:02}" for k in np.flatnonzero(component == component[int(row.file)])}
        assert row.group == min(members) and row.copy_of in members - {row.file}
        assert (min(int(row.file), int(row.copy_of)), max(int(row.file), int(row.copy_of))) in {pair[:2] for pair in pairs}


def test_still_camera_and_empty_images_are_no_copies():
    random = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(random.normal(0, 1, (28, 28)), 3)
    pictures = np.repeat((120 + 80 * scene / abs(scene).max())[None], 40, axis=0)
    for picture, (y, x) in zip(pictures, random.integers(2, 22, (40, 2)), strict=True):
        picture[y : y + 4, x : x + 4] += 45
    pictures = np.clip(pictures + random.normal(0, 1, pictures.shape), 0, 255).astype(np.uint8)
    assert len(duplicates.near_pairs(pictures[..., None])) <= 5
    assert not duplicates.near_pairs(np.full((3, 28, 28, 1), 7, np.uint8)) and not duplicates.near_pairs(pictures[:0, ..., None])


def test_colours_tell_images_apart(digits):
    """Two images of the same brightness, one red, one green; and a darker red one."""
    red, green = np.zeros((2, 28, 28, 3), np.uint8)
    red[..., 0], green[..., 1] = digits[0] // 2 + 20, digits[0] // 4 + 10
    others = np.repeat(digits[1:30, :, :, None], 3, axis=3)
    pixels = np.stack([red, green, (red * 0.8).astype(np.uint8), *others])
    assert [pair[:2] for pair in duplicates.near_pairs(pixels)] == [(0, 2)]


TWINS = {2115: 18494, 2605: 11932, 4222: 20255, 4926: 18494, 4998: 13360, 6210: 6300, 7391: 37669, 9867: 58762}


def test_test_images_of_fashion_mnist_are_all_but_training_images():
    _, arrays = load("fashion-mnist", files.DATA)
    x, x_test = arrays["x"][:, 0], arrays["x_test"][:, 0]
    mean = np.concatenate([x, x_test]).mean(axis=0, dtype=np.float64).astype(np.float32)
    likeness, _ = duplicates.aligned(x[list(TWINS.values())], x_test[list(TWINS)], mean)
    assert (likeness >= 0.999).all() and (x[list(TWINS.values())] != x_test[list(TWINS)]).any(axis=(1, 2)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name, twins", [("mnist", set()), ("fashion-mnist", {*TWINS})])
def test_what_is_told_of_a_published_set_is_so(name, twins):
    """All 70,000 images with each other: no exact copy, and test images that are all but training images as told."""
    _, arrays = load(name, files.DATA)
    pixels, n = np.concatenate([arrays["x"], arrays["x_test"]]).transpose(0, 2, 3, 1), len(arrays["x"])
    assert len({picture.tobytes() for picture in pixels}) == 70_000
    found = {j - n for i, j, likeness in duplicates.near_pairs(pixels) if i < n <= j and likeness >= 0.999}
    assert found == twins and ("but eight are" in datasets.DATA_SETS[name].copies) == bool(twins)


# --- a folder


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


@pytest.fixture
def folder(digits, tmp_path):
    """60 labelled images, 20 unlabelled ones, 20 to test with; and copies across them."""
    top = tmp_path / "scans"
    for i in range(60):
        write(top / f"labeled/{'ab'[i % 2]}/{i:03}.png", digits[i])
    for i in range(60, 100):
        write(top / f"{'unlabeled' if i < 80 else 'test/' + 'ab'[i % 2]}/{i:03}.png", digits[i])
    write(top / "test/a/exact.bmp", digits[0])  # of labeled/a/000.png
    write(top / "test/a/near.jpg", as_jpeg(scan_of(digits[2])))  # of labeled/a/002.png
    write(top / "labeled/b/other label.jpg", as_jpeg(scan_of(digits[4])))  # of labeled/a/004.png
    write(top / "labeled/b/burst.png", burst(scan_of(digits[5])))  # of labeled/b/005.png
    write(top / "test/b/unlabelled.jpg", as_jpeg(scan_of(digits[60])))  # of unlabeled/060.png
    return top


def test_copies_across_the_parts_of_a_folder_are_told(folder, tmp_path, capsys):
    told = "\n".join(sentences(describe(str(folder))))
    assert "1 labelled image is also among the test images: left out of training" in told
    near = "nearly the same as a labelled one, such as test/a/near.jpg and labeled/a/002.png: the accuracy may be too high"
    assert f"1 of 23 test images are {near}" in told
    assert "1 of 23 test images are nearly the same as an unlabelled one, such as test/b/unlabelled.jpg" in told
    several = "such as labeled/a/004.png (a) and labeled/b/other label.jpg (b): at least one is wrong"
    assert f"1 group of copies has several labels, {several}" in told
    assert "10 images in 5 groups of copies, 2 exact (5 labelled, 1 unlabelled, 3 test, 1 left out)" in told


def run(folder, tmp_path):
    tool.command(type("Args", (), {"data": str(folder), "side": "", "outputs": str(tmp_path / "outputs")}))
    (written,) = (tmp_path / "outputs").iterdir()
    with (written / "duplicates.csv").open(encoding="utf-8-sig") as file:
        return written, list(csv.DictReader(file))


def test_table_lists_copies_the_worst_first(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    written, rows = run(folder, tmp_path)
    assert [row["file"] for row in rows[:2]] == ["labeled/a/004.png", "labeled/b/other label.jpg"]
    assert rows[0]["why"] == "labeled/b/other label.jpg has another label, b" and rows[0]["kind"] == "near"
    by_file = {row["file"]: row for row in rows}
    assert by_file["test/a/exact.bmp"]["kind"] == "exact" and by_file["labeled/a/000.png"]["part"] == "left out"
    assert by_file["test/a/near.jpg"]["why"] == "one is a test image, one labelled"
    assert by_file["test/b/unlabelled.jpg"]["why"] == "one is a test image, one unlabelled"
    assert by_file["labeled/b/burst.png"]["why"] == "" and by_file["labeled/b/burst.png"]["group"] == "labeled/b/005.png"
    assert not (written / "labels_with_groups.csv").exists() and "at least one is wrong" in capsys.readouterr().out


def test_folder_without_copies_says_so(digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    for i in range(30):
        write(tmp_path / f"f/labeled/{'ab'[i % 2]}/{i}.png", digits[i])
    _, rows = run(tmp_path / "f", tmp_path)
    assert rows == [] and "no image is there twice" in capsys.readouterr().out


# --- groups


@pytest.fixture
def pages(digits, tmp_path):
    """A folder of 20 pages of 6 labelled digits, and 2 without a label; its labels.csv without groups."""
    top = tmp_path / "pages"
    for i in range(160):
        write(top / f"{i:03}.png", digits[i])
    lines = [f"{i:03}.png,{'abc'[i % 3] if i % 8 < 6 else ''},page {i // 8}" for i in range(160)]
    return top, lines


def page(file):
    return int(file[:3]) // 8


def test_group_stays_on_one_side(pages, tmp_path):
    top, lines = pages
    (top / "labels.csv").write_text("\n".join(["file,label,group", *lines]))
    info, arrays = load(str(top))
    train, test = {*map(page, info.files)}, {*map(page, info.files_test)}
    assert not train & test and train | test == {*range(20)} and not info.own_test
    assert info.n_test == 24 and np.bincount(arrays["y_test"]).tolist() == [8, 8, 8]
    left_out = {file for file, reason in info.skipped if "is on the side of the test images" in reason}
    assert len(left_out) == 8 and {*map(page, left_out)} == test
    assert list(info.groups) == [f"page {page(file)}" for file in info.files]
    assert (".", "groups, by the column group: 16 to train with, 4 to test with") in info.notes


def test_folder_without_groups_is_as_it_was(pages, tmp_path):
    """The draw is that of the files alone: the first of each class by their digests. Finished runs stay finished."""
    top, lines = pages
    (top / "labels.csv").write_text("\n".join(["file,label", *(line.rpartition(",")[0] for line in lines)]))
    info = describe(str(top))
    label = dict(line.split(",")[:2] for line in lines)
    order = sorted((decode(top / file)[1], file) for file in label)
    expected = {file for c in "abc" for file in [file for _, file in order if label[file] == c][:8]}
    assert info.groups == () and {*info.files_test} == expected and not info.skipped


def test_group_on_both_sides_is_told(pages, tmp_path):
    top, lines = pages
    (top / "test").mkdir()
    for i in range(0, 32, 8):
        (top / f"{i:03}.png").rename(top / f"test/{i:03}.png")
    lines = [f"test/{line}" if int(line[:3]) in range(0, 32, 8) else line for line in lines]
    (top / "labels.csv").write_text("\n".join(["File,Label,Group", *lines]))
    info = describe(str(top))
    told = "4 groups are on both sides, such as page 0 (001.png to train with, test/000.png to test with)"
    assert info.own_test and info.n_images == 156 and any(told in note for _, note in info.notes)


def test_groups_that_are_too_large_are_told(pages, tmp_path):
    top, lines = pages
    lines = [f"{line.rpartition(',')[0]},class {line.split(',')[1]}" for line in lines if line.split(",")[1]]
    (top / "labels.csv").write_text("\n".join(["file,label,group", *lines]))
    info = describe(str(top))
    assert info.n_test == 24 and any("too large to stay on one side" in note for _, note in info.notes)


def test_two_groups_of_a_file_are_told(pages, tmp_path):
    top, lines = pages
    (top / "labels.csv").write_text("\n".join(["file,label,group", *lines, "000.png,a,page 9"]))
    info = describe(str(top))
    assert ("000.png", "several groups in labels.csv (page 0, page 9): page 0 is used") in info.notes


def test_proposed_groups_keep_copies_on_one_side(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    top = tmp_path / "bursts"
    for i in range(40):
        for k, image in enumerate((scan_of(digits[i]), burst(scan_of(digits[i])), moved(scan_of(digits[i]), 0.02))):
            write(top / f"{i:03}_{k}.png", image)
    names = sorted(path.name for path in top.iterdir())
    lines = [f"{name};{'ab'[int(name[:3]) % 2]};{'mine' if name == '000_0.png' else ''}" for name in names if name[:3] != "039"]
    (top / "labels.csv").write_text("\n".join(["file;label;group", *lines]))
    before = (top / "labels.csv").read_bytes()
    written, _ = run(top, tmp_path)
    assert (top / "labels.csv").read_bytes() == before
    (top / "labels.csv").write_bytes((written / "labels_with_groups.csv").read_bytes())
    datasets.metadata.cache_clear()
    info = describe(str(top))
    assert not {file[:3] for file in info.files} & {file[:3] for file in info.files_test} and not info.near_copies
    with (top / "labels.csv").open() as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    assert [groups[f"000_{k}.png"] for k in range(3)] == ["mine"] * 3 and groups["039_1.png"] == "copies of 039_0.png"


LABELED_GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(LABELED_GROUPS)
def test_draw_leaves_each_class_an_image_to_train_with(images):
    labels, groups = zip(*images, strict=True)
    members = grouping.drawn(labels, groups, 5)
    test = [label for label, group in images if group in members]
    for label in set(labels):
        assert test.count(label) < labels.count(label)
    if not members:  # no group could be taken: each holds all images of a class
        assert all(_holds_a_class(images, group) for group in groups)


def _holds_a_class(images, group):
    inside = [label for label, g in images if g == group]
    return any(inside.count(label) == sum(each == label for each, _ in images) for label in inside)


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 60), st.randoms(use_true_random=False))
def test_draw_of_small_groups_is_a_fifth_of_each_class(n_groups, random):
    images = [(label, group) for group in range(n_groups) for label in "abc"]
    random.shuffle(images)
    labels, groups = zip(*images, strict=True)
    members = grouping.drawn(labels, groups, 5)
    test = [label for label, group in images if group in members]
    assert all(test.count(label) == n_groups // 5 for label in "abc")


def test_sentences_of_no_copies_are_none():
    assert copy_table.sentences([], 10) == []
    row = Copy("a", "a", "labelled", "x", "b", "near", "0.9950")
    assert copy_table.why(row, [row]) == ""
