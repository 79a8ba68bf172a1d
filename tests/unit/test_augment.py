import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode

from ssl_core.augment import Augment, _grid
from ssl_core.data import BACKGROUND

angles = st.floats(-40, 40)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=50)
@given(
    angle=angles, scale=st.floats(0.6, 1.5), shear=angles, shift=st.integers(-5, 5), mode=st.sampled_from(["bilinear", "nearest"])
)
def test_affine_equals_torchvision(images, angle, scale, shear, shift, mode):
    x = images.x[:4]
    augment = Augment((angle,) * 2, (scale,) * 2, (shear,) * 2, (shift,) * 2, interpolation=mode, fill=0.0)
    theirs = TF.affine(x, angle, [shift, shift], scale, [shear, shear], InterpolationMode(mode))  # outside: 0
    differs = (augment(x, generator()) - theirs).abs() > 1e-3
    if mode == "nearest":  # of a point half-way between two pixels rounding decides which is the nearer
        comes_from = ((_grid(augment._inverse_matrices(4, 28, 28, generator()), 28, 28) + 1) * 28 - 1) / 2
        differs &= ((comes_from % 1 - 0.5).abs() > 1e-4).all(dim=-1)[:, None]
    assert differs.float().mean() < 0.002


def test_default_changes_nothing(images):
    assert torch.allclose(Augment()(images.x[:5], generator()), images.x[:5], atol=1e-5)


def test_outside_is_background(images):
    moved = Augment(translate=(28, 28))(images.x[:5], generator())
    assert torch.allclose(moved, torch.full_like(moved, BACKGROUND), atol=1e-6)


def test_each_image_has_its_own_draw(images):
    same = images.x[:1].repeat(8, 1, 1, 1)
    for augment in (Augment(rotation=(-20, 20)), Augment(elastic=0.5), Augment(contrast=0.5)):
        moved = augment(same, generator())
        assert len({tuple(image.flatten().tolist()) for image in moved}) == 8


def test_images_are_never_mirrored():
    with pytest.raises(TypeError, match="flip"):
        Augment(flip=True)


def test_draws_depend_on_the_generator_alone(images):
    augment = Augment(rotation=(-20, 20), translate=(-3, 3), elastic=0.7, contrast=0.5)
    torch.manual_seed(1)
    first = augment(images.x[:8], generator(5))
    torch.manual_seed(2)
    assert torch.equal(first, augment(images.x[:8], generator(5)))
    assert not torch.equal(first, augment(images.x[:8], generator(6)))


def test_elastic_displaces_by_about_its_pixels():
    shift = Augment(elastic=0.7)._displacement(500, 28, 28, generator()) * 14  # from [-1, 1] coordinates to pixels
    at_knot = shift[:, 0, 0]  # a corner is a knot: nothing is interpolated there
    assert at_knot.std().item() == pytest.approx(0.7, rel=0.1)
    assert shift.mean().abs().item() < 0.02
    step = (shift[:, :, 1:] - shift[:, :, :-1]).abs().mean().item()
    assert step < 0.25  # smooth: neighbouring pixels move together


@pytest.mark.parametrize(
    "field, value",
    [
        ("rotation", (5, -5)),
        ("scale", (0.0, 1.0)),
        ("elastic", -1.0),
        ("overlay", 8),
        ("overlay", -1),
        ("contrast", -1.0),
        ("interpolation", "cubic"),
    ],
)
def test_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}=.*: must be"):
        Augment(**{field: value})


def test_grid_equals_pytorch():
    matrices = torch.randn(5, 2, 3, generator=generator())
    assert torch.allclose(_grid(matrices, 28, 20), F.affine_grid(matrices, [5, 1, 28, 20], align_corners=False), atol=1e-5)


def test_overlay_shows_a_brighter_square_of_another_image(images):
    x = images.x[:50]
    overlaid = Augment(overlay=9)(x, generator())
    before = x.roll(1, dims=0)
    changed = overlaid != Augment()(x, generator())
    assert torch.allclose(overlaid[changed], before[changed], atol=1e-5) and (before[changed] > x[changed] - 1e-5).all()
    for mask in changed[:, 0]:
        ys, xs = mask.nonzero(as_tuple=True)
        assert len(ys) == 0 or (ys.max() - ys.min() < 9 and xs.max() - xs.min() < 9)
    assert changed.any(dim=(1, 2, 3)).float().mean() > 0.5


@settings(deadline=None, max_examples=30)
@given(contrast=st.floats(0.01, 2), fill=st.floats(-3, 3), seed=st.integers(0, 1000))
def test_contrast_keeps_the_background_and_the_order_of_pixels(images, contrast, fill, seed):
    x = images.x[:4].repeat(1, 3, 1, 1)
    x[:, :, 0, 0] = fill
    other = Augment(contrast=contrast, fill=fill)._contrasted(x, generator(seed))
    assert torch.allclose(other[:, :, 0, 0], torch.full((4, 3), fill), atol=1e-5)
    brightest, before = ((each - fill).abs().amax(dim=(1, 2, 3)) for each in (other, x))
    assert ((brightest / before).log().abs() <= contrast + 1e-4).all(), "the farthest pixel is moved by the factor alone"
    order = x.flatten(1).argsort(dim=1)
    assert (other.flatten(1).gather(1, order).diff(dim=1) >= -1e-5).all(), "what was brighter is brighter"
    assert torch.equal(other[:, 0], other[:, 1]), "channels share a draw"


def test_contrast_follows_its_two_draws(images):
    augment, x = Augment(contrast=0.5), images.x[:6]
    draws = generator(3)
    factor, exponent = (torch.empty(6).uniform_(-0.5, 0.5, generator=draws).exp().numpy().astype("f8") for _ in range(2))
    for image, a, b, got in zip(x, factor, exponent, augment._contrasted(x, generator(3)), strict=True):
        light = (image - BACKGROUND).numpy().astype("f8")
        assert got.numpy() - BACKGROUND == pytest.approx(a * light.max() * (light / light.max()).clip(0) ** b, abs=1e-4)
