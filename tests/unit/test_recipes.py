from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_core import recipes
from ssl_core.recipes import ABLATIONS, BEST, CORRECTED, PUBLISHED, RECIPES, SUPERVISED


def test_published_follows_the_report_as_printed():
    assert PUBLISHED.weights == {"supervised": 1.0, "clustering": 0.1, "consistency": 0.5, "entropy": -0.05}
    assert (PUBLISHED.batch_labeled, PUBLISHED.batch_unlabeled, PUBLISHED.learning_rate) == (200, 200, 1e-3)
    assert PUBLISHED.epochs_for(6000) == 15 and {PUBLISHED.epochs_for(m) for m in (2000, 1000, 500, 250, 50)} == {50}
    steps = {m: PUBLISHED.steps_for(m, 60_000 - m) for m in (6000, 2000, 1000, 500, 250, 50)}
    assert steps == {6000: 30, 2000: 10, 1000: 5, 500: 3, 250: 2, 50: 1}
    assert PUBLISHED.steps_for(59_700, 300) == 2  # the shorter of the two lists


def test_corrected_fixes_the_sign_and_the_number_of_steps():
    assert CORRECTED.weights == PUBLISHED.weights | {"entropy": 0.05}
    assert {CORRECTED.epochs_for(m) * CORRECTED.steps_for(m, 60_000 - m) for m in (6000, 50, 1)} == {1500}


def test_supervised_uses_no_unlabelled_image():
    assert SUPERVISED.terms == ("supervised",) and SUPERVISED.batch_unlabeled == 0


def test_zero_weight_removes_a_term():
    assert "pseudo_label" not in replace(BEST, weights=BEST.weights | {"pseudo_label": 0.0}).terms


def test_cosine_falls_from_one_to_zero():
    decay = [BEST.decay_at(i / 10) for i in range(11)]
    assert decay[0] == 1 and decay[-1] == pytest.approx(0) and decay == sorted(decay, reverse=True)
    assert PUBLISHED.decay_at(0.0) == PUBLISHED.decay_at(1.0) == 1


@pytest.mark.parametrize(
    "field, value",
    [
        ("weights", {"supervised": float("nan")}),
        ("weights", {"clusterring": 1.0}),
        ("weights", {"supervised": 0.0}),
        ("epochs", 0),
        ("steps_per_epoch", 0),
        ("batch_labeled", 0),
        ("batch_unlabeled", 0),
        ("tta_views", -1),
        ("tta_augment", None),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("ema_decay", 1.0),
        ("threshold", 1.1),
        ("align_decay", -0.1),
        ("muon_rate", -0.1),
        ("graph_alpha", (0.999, 0.99)),
        ("graph_alpha", (0.9, 1.0)),
        ("graph_alpha", 0.9),
        ("check_alpha", (0.0, 0.99)),
        ("graph_margin", 0.0),
        ("graph_warmup", 1.1),
        ("graph_constrained", 0.1),
    ],
)
def test_bad_field_is_named_with_what_it_must_be(field, value):
    with pytest.raises(ValueError, match=f"^{field}=.*must be"):
        replace(BEST, **{field: value})


@pytest.mark.parametrize(
    "field, value",
    [
        ("steps", 0),
        ("batch", 1),
        ("temperature", 0.0),
        ("learning_rate", 0.0),
        ("muon_rate", -1.0),
        ("neighbors", 0),
        ("seed", -1),
    ],
)
def test_bad_field_of_the_pretraining_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}={value}: must be"):
        replace(BEST.pretraining, **{field: value})


def test_ablation_changes_one_recipe_and_says_what():
    for name, recipe in ABLATIONS.items():
        base = RECIPES[recipe.base]
        changed = {f.name for f in fields(recipe) if getattr(recipe, f.name) != getattr(base, f.name)}
        assert recipes.get(name) is recipe and len(changed - {"name", "summary", "base"}) >= 1, name
        assert name.startswith(f"{recipe.base}-")
        assert recipe.name == name and recipe.summary != base.summary
    assert (
        ABLATIONS["supervised-plus-entropy-printed"].weights["entropy"]
        < 0
        < ABLATIONS["supervised-plus-entropy"].weights["entropy"]
    )
    assert (
        len({recipe.pretraining for recipe in ABLATIONS.values()}) == 4
    )  # none, that of `best`, without overlay, without gradients


@given(n_labels=st.integers(0, 60_000), n_classes=st.integers(0, 100))
def test_labels_spread_as_far_as_one_has_to(n_labels, n_classes):
    near, far = BEST.graph_alpha
    alpha = BEST.graph_alpha_for(n_labels, n_classes)
    assert near <= alpha <= far
    if n_labels <= n_classes:
        assert alpha == far
    elif near < alpha < far:
        assert 1 - alpha == pytest.approx((1 - far) * n_labels / n_classes, abs=1e-6)
    exact, checked = BEST.for_labels(n_labels, n_classes), BEST.check_alpha_for(n_labels, n_classes)
    assert BEST.check_alpha[0] <= checked <= BEST.check_alpha[1] <= alpha
    assert exact.check_alpha_for(n_labels, n_classes) == exact.check_alpha_for(10 * n_labels, n_classes) == checked
    assert exact.graph_alpha_for(n_labels, n_classes) == exact.graph_alpha_for(10 * n_labels, n_classes) == alpha
    assert exact.for_labels(n_labels, n_classes) == exact


def test_recipe_is_a_value():
    with pytest.raises(TypeError, match="treshold"):
        replace(BEST, treshold=0.5)
    with pytest.raises(TypeError, match="weight_decay"):
        replace(BEST, weight_decay=-1.0)
    with pytest.raises(FrozenInstanceError):
        BEST.threshold = 0.5
    assert replace(BEST) == BEST


def test_recipes_are_found_by_name():
    assert {name: recipes.get(name).name for name in RECIPES} == {name: name for name in RECIPES}
    for bad in ("bset", "", None, 3):
        with pytest.raises(
            ValueError,
            match=r"^recipe=.*must be one of published, supervised, corrected, best, quick, linear, or of recipes\.ABLATIONS$",
        ):
            recipes.get(bad)


@given(n=st.integers(2, 100_000), name=st.sampled_from(["best", "quick"]))
def test_pretraining_on_a_small_set_takes_fewer_steps(n, name):
    """No more than 50 passes, but for the last step; large sets take the recipe's own steps, and so does training."""
    recipe = recipes.get(name)
    adapted = recipe.for_images(0.0, n_images=n)
    made, full = adapted.pretraining, recipe.pretraining
    assert 1 <= made.steps <= full.steps and (made.steps - 1) * min(full.batch, n) < 50 * n
    former = {"augment": full.augment, "augment_few": full.augment_few}
    assert replace(made, steps=full.steps, **former) == full and adapted.steps_per_epoch == recipe.steps_per_epoch
    if n >= 7680:
        assert made.steps == full.steps
    views = full.augment if made.steps == full.steps else full.augment_few
    assert made.augment == replace(views, fill=0.0) and made.augment_few is None, "few images teach more if they vary more"
    patient = replace(recipe, pretraining=replace(full, passes=10**6)).for_images(0.0, n_images=n)
    assert patient.pretraining.steps == full.steps
