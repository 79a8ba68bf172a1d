import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core import data
from ssl_core.datasets import checks
from ssl_core.lab.runs import files

RAW = files.DATA / "MNIST" / "raw"


def test_tensors_are_the_raw_files_normalised(images):
    pixels = np.frombuffer((RAW / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(60_000, 1, 28, 28)
    labels = np.frombuffer((RAW / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
    for i in (0, 59_999):
        assert np.allclose(images.x[i].numpy(), (pixels[i] / 255 - 0.1306) / 0.3081, atol=1e-5)
    assert images.y.tolist() == labels.tolist()
    assert images.x.shape == (60_000, 1, 28, 28) and images.x_test.shape == (10_000, 1, 28, 28)
    assert images.x[:2].dtype == torch.float32 and images.y.dtype == torch.int64
    assert images.x[:].mean().abs() < 0.01 and (images.x[:].std() - 1).abs() < 0.01
    assert images.x[:].min().item() == pytest.approx(data.BACKGROUND)


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_read_as_a_tensor_of_normalised_images_is(channels):
    random = np.random.default_rng(0)
    values = torch.from_numpy(random.integers(0, 256, (20, channels, 6, 6), np.uint8))
    mean, std = (0.2, 0.3, 0.4)[:channels], (0.5, 0.6, 0.7)[:channels]
    whole, x = data.normalize(values, mean, std), data.Pixels(values, mean, std)
    part = torch.tensor([19, 0, 7, 7, 3])
    for bytes_, floats in (
        (x, whole),
        (x.part(part), whole[part]),
        (x.part(part).part(part[1:3] // 7), whole[part][part[1:3] // 7]),
    ):
        assert len(bytes_) == len(floats) and bytes_.shape == floats.shape and torch.equal(bytes_.to("cpu")[:], floats)
        assert all(map(torch.equal, bytes_.split(3), floats.split(3)))
        for index in (0, [1, 0], torch.tensor([1, 1]), slice(1, None), (1, 0), (slice(None), 0), (slice(2), 0, 2)):
            assert torch.equal(bytes_[index], floats[index])
    assert [len(part) for part in x.part(part[:0]).split(3)] == [0], "as of an empty tensor"
    assert torch.equal(x[whole[:, 0, 0, 0] > 0], whole[whole[:, 0, 0, 0] > 0]) and x.part(part).values is values


sizes, seeds, draws = st.integers(1, 60_000), st.integers(0, 2**32 - 1), st.sampled_from(("random", "class-balanced"))


@settings(deadline=None, max_examples=30)
@given(n=sizes, seed=seeds, draw=draws)
def test_split_is_a_deterministic_partition(images, n, seed, draw):
    one, two = (data.split(images.y, n, seed, draw) for _ in range(2))
    assert torch.equal(one.labeled, two.labeled) and torch.equal(one.unlabeled, two.unlabeled)
    assert len(one.labeled) == n
    assert torch.equal(torch.cat([one.labeled, one.unlabeled]).sort().values, torch.arange(60_000))


@settings(deadline=None, max_examples=30)
@given(n=sizes, more=sizes, seed=seeds, draw=draws)
def test_smaller_draw_begins_a_larger_one(images, n, more, seed, draw):
    n, more = sorted((n, more))
    small, large = (data.drawn(images.y, size, seed, draw) for size in (n, more))
    assert torch.equal(small, large[:n])


@settings(deadline=None, max_examples=30)
@given(n=sizes, seed=seeds, draw=draws)
def test_split_depends_on_which_images_are_labeled_alone(images, n, seed, draw):
    parts = data.split(images.y, n, seed, draw)
    known = torch.full_like(images.y, -1)
    known[parts.labeled] = images.y[parts.labeled]
    again = data.split(known, n, seed)
    assert torch.equal(parts.labeled, again.labeled) and torch.equal(parts.unlabeled, again.unlabeled)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 50_000), seed=seeds)
def test_class_balanced_draw_is_even_to_within_one(images, n, seed):
    counts = torch.bincount(images.y[data.split(images.y, n, seed, "class-balanced").labeled], minlength=10)
    assert counts.max() - counts.min() <= 1


def test_random_draw_is_uniform_and_can_miss_a_class(images):
    draws = [images.y[data.split(images.y, 50, seed).labeled] for seed in range(400)]
    counts = torch.stack([torch.bincount(y, minlength=10) for y in draws])
    expected = torch.bincount(images.y) * 50 / 60_000
    assert torch.allclose(counts.float().mean(dim=0), expected, atol=0.5)
    missed = (counts == 0).any(dim=1).float().mean().item()
    assert missed == pytest.approx(0.053, abs=0.035)


@pytest.mark.parametrize("n_labels", [0, -1, 60_001, 10.0, "50", True, None])
def test_bad_n_labels_is_named(images, n_labels):
    with pytest.raises(ValueError, match=r"^n_labels=.*must be a whole number from 1 to 60000$"):
        data.split(images.y, n_labels, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", 2**32, None])
def test_bad_seed_is_named(images, seed):
    with pytest.raises(ValueError, match=r"^seed=.*must be a whole number from 0"):
        data.split(images.y, 50, seed)


def test_bad_draw_and_data_are_named(images):
    with pytest.raises(ValueError, match=r"^draw='lucky': must be one of random, class-balanced, typical$"):
        data.split(images.y, 50, 0, "lucky")
    with pytest.raises(ValueError, match=r"^data='letters': must be one of mnist, fashion-mnist, digits, "):
        data.load("letters")


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 300), size=st.integers(1, 100), count=st.integers(1, 40))
def test_full_batches_are_full_and_even(n, size, count):
    stream = data.FullBatches(n, size, torch.Generator().manual_seed(0))
    batches = [next(stream) for _ in range(count)]
    assert {len(batch) for batch in batches} == {size}
    times = torch.bincount(torch.cat(batches), minlength=n)
    assert times.max() - times.min() <= 1


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 300), seed=seeds)
def test_typical_draw_labels_the_selection(images, n, seed):
    chosen = torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))[:n]
    parts = data.split(images.y, n, seed, "typical", chosen)
    assert torch.equal(parts.labeled.sort().values, chosen.sort().values)
    assert torch.equal(torch.cat([parts.labeled, parts.unlabeled]).sort().values, torch.arange(60_000))


@pytest.mark.parametrize("draw, chosen", [("typical", None), ("typical", torch.arange(3)), ("random", torch.arange(5))])
def test_typical_images_need_their_draw(images, draw, chosen):
    with pytest.raises(ValueError, match=r"^typical=.*: must be the indices of 5 images for draw='typical', else None"):
        data.split(images.y, 5, 0, draw, chosen)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(5, 300), seed=seeds)
def test_folds_partition_the_labels(images, n, seed):
    parts = data.split(images.y, n, seed)
    held = []
    for fold in range(1, checks.FOLDS + 1):
        rest, out = data.withhold_fold(parts, fold)
        assert torch.equal(torch.cat([rest.labeled, out]).sort().values, parts.labeled.sort().values)
        assert len(rest.labeled) + len(rest.unlabeled) == 60_000 and len(out) in (n // 5, -(-n // 5))
        held.append(out)
    assert torch.equal(torch.cat(held).sort().values, parts.labeled.sort().values)


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 300), seed=seeds, fraction=st.floats(0, 0.99), n_classes=st.integers(2, 10))
def test_label_noise_corrupts_the_fraction_asked_for(n, seed, fraction, n_classes):
    y = torch.arange(n) % n_classes
    wrong = data.corrupt_labels(y, fraction, seed, n_classes)
    assert int((wrong != y).sum()) == round(fraction * n) and wrong.min() >= 0 and wrong.max() < n_classes
    assert torch.equal(wrong, data.corrupt_labels(y, fraction, seed, n_classes))


def test_label_noise_is_uniform_over_other_classes():
    wrong = data.corrupt_labels(torch.zeros(9000, dtype=torch.int64), 0.9, 0, 10)
    counts = torch.bincount(wrong, minlength=10)
    assert counts[0] == 900 and (counts[1:] - 900).abs().max() < 120  # four standard deviations


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), "some", True, None])
def test_bad_label_noise_is_named(fraction):
    with pytest.raises(ValueError, match=r"^label_noise=.*: must be a number from 0 to below 1"):
        checks.check_label_noise(fraction)


@pytest.mark.parametrize("fold, n", [(-1, 50), (6, 50), (1.0, 50), ("1", 50), (True, 50), (1, 4)])
def test_bad_fold_is_named(fold, n):
    with pytest.raises(ValueError, match=rf"^fold=.*: must be a whole number from 0 to {5 if n >= 5 else 0} with {n} labels"):
        checks.check_fold(fold, n)
