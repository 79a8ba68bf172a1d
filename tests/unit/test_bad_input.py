"""Every request is carried out, or refused by the name of its parameter: no traceback. The same examples every time."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core import train
from ssl_core.augment import Augment
from ssl_core.data import Task
from ssl_core.datasets.checks import DRAWS
from ssl_core.lab.runs.fingerprint import fingerprint
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.runs.sweep import make_grid
from ssl_core.model import init_net
from ssl_core.recipes import BEST, RECIPES, TERMS, WEAK, Pretraining

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.tuples(st.floats(), st.floats()),
    st.dictionaries(st.sampled_from((*TERMS, "other")), st.floats(), max_size=2),
)


def refused_by_name(error, names):
    message = str(error)
    return any(message.startswith(f"{name}=") for name in names) and ": must be " in message


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    parameters=st.fixed_dictionaries(
        {
            "n_labels": junk | st.integers(1, 60_000),
            "recipe": junk | st.sampled_from(list(RECIPES)),
            "seed": junk | st.integers(0, 9),
        },
        optional={
            "data": junk | st.sampled_from(["mnist", "fashion-mnist"]),
            "draw": junk | st.sampled_from(DRAWS),
            "smoke": junk,
            "label_noise": junk | st.floats(0, 0.5),
            "fold": junk | st.integers(0, 5),
            "side": junk | st.sampled_from([0, 28, 64]),
        },
    )
)
def test_run_is_made_or_its_parameter_named(parameters):
    try:
        run = Run(**parameters)
    except ValueError as error:
        assert refused_by_name(error, parameters), error
    else:
        assert len(fingerprint(run)) == 16 and ".." not in str(run)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts=st.lists(st.text(alphabet="0123456789-+.e, abest", max_size=8), min_size=5, max_size=5))
def test_grid_is_made_or_its_variable_named(texts):
    try:
        grid = make_grid(*texts, data="mnist", draw="random", smoke=True)
    except ValueError as error:
        names = ("LABELS", "RECIPES", "SEEDS", "LABEL_NOISE", "FOLDS", "n_labels", "recipe", "seed", "label_noise", "fold")
        assert refused_by_name(error, names), error
    else:
        assert grid


# Values near those that make sense; sizes that a test can train.
near = {
    int: st.integers(0, 12),
    int | None: st.integers(0, 12),
    float: st.floats(0, 1),
    tuple[float, float]: st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(sorted).map(tuple),
}


@pytest.mark.slow
def test_recipe_trains_or_its_field_is_named(images):
    x, y = images.x[:60], images.y[:60]
    trained = []

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(changes=st.data(), owner=st.sampled_from([WEAK, BEST.pretraining, BEST]))
    def check(changes, owner):
        each = changes.draw(st.sampled_from(fields(owner)))
        sensible = each.type in near and changes.draw(st.booleans())
        value = changes.draw(near[each.type] if sensible else junk)
        try:
            changed = replace(owner, **{each.name: value})
            recipe = replace(BEST, augment_strong=changed) if isinstance(changed, Augment) else changed
            if isinstance(recipe, Pretraining) or max(recipe.batch_labeled, recipe.batch_unlabeled) > 500:
                return
            short = replace(recipe, epochs=1, epochs_at={}, steps_per_epoch=1)
        except ValueError as error:
            assert refused_by_name(error, [name.name for name in fields(owner)]), error
            return
        try:
            result = train.fit(init_net(0), Task(x[:20], y[:20], x[20:]), short, 0)
        except FloatingPointError as error:
            assert "is not finite at step 1" in str(error)
        else:
            assert all(math.isfinite(value) for value in result.history[0].values())
            trained.append(each.name)

    check()
    assert len(trained) >= 30 and len(set(trained)) >= 5, trained


@pytest.mark.parametrize(
    "field, value", [("rotation", 5), ("scale", (0.0, 1.0)), ("shear", (0, 81)), ("overlay", 97), ("fill", math.nan)]
)
def test_impossible_distortion_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}=.*: must be "):
        Augment(**{field: value})
    assert torch.isfinite(
        Augment(shear=(80, 80), scale=(0.01, 0.01))(torch.ones(2, 1, 28, 28), torch.Generator().manual_seed(0))
    ).all()
