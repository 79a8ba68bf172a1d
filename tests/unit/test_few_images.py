"""Folders with few test images: perfect scores, classes without a test image, one seed, one size. Every study, every sentence."""

import json
import math
import re
from dataclasses import dataclass
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ssl_core import train
from ssl_core.datasets.checks import FOLDS
from ssl_core.lab.runs import records
from ssl_core.lab.runs.notebook import FOLDER
from ssl_core.lab.runs.records import Record
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import answers, cost, forecast, learning_curve, registry, variants
from ssl_core.lab.studies.study import Results
from ssl_core.model import init_net

SIZES = (10, 20, 40, 80, 160, 640)
CLASSES = ("cat", "dog")


@dataclass(frozen=True)
class Folder(Results):
    """Results of a folder with two classes, some of whose test images are cats."""

    y: tuple[int, ...] = ()

    classes = CLASSES

    @property
    def y_test(self):
        return np.array(self.y)


def predicted(y, right):
    """Class probabilities (N, 2) of which the first `right` are correct, the more confident the earlier."""
    y, sure = np.array(y), np.linspace(0.99, 0.51, len(y))
    label = np.where(np.arange(len(y)) < right, y, 1 - y)
    return np.where(np.arange(2) == label[:, None], sure[:, None], 1 - sure[:, None])


def record(run, y, right):
    """The record of a run that classifies `right` of the test images correctly."""
    p = predicted(y, right).argmax(axis=1)
    confusion = [[int(((np.array(y) == true) & (p == label)).sum()) for label in (0, 1)] for true in (0, 1)]
    parameters = {name: getattr(run, name) for name in records.PARAMETERS}
    metrics = {"accuracy": right / len(y), "nll": 0.1, "seconds": 60.0, "confusion": confusion, "missing_classes": []}
    held_out = {"accuracy": right / len(y), "images": 2} if run.fold else None
    clustering = None if run.n_labels else {"names": [0, 1], "ari": 0.5, "nmi": 0.5}
    rest = {
        "clustering": clustering,
        "recipe": {},
        "images": {},
        "history": [],
        "test_accuracy": {1: right / len(y)},
        "held_out": held_out,
    }
    return Record(parameters=parameters, fingerprint="", current=True, untrained={"accuracy": 0.5, "nll": 0.7}, **metrics, **rest)


def runs_of(sizes, seeds, data="mnist"):
    """The runs that all studies read, at these sizes."""
    plain = [Run(n, recipe, seed, data) for recipe in ("best", "supervised") for n in sizes for seed in range(seeds)]
    n, more = sizes[-1], range(seeds)
    others = [Run(n, "supervised", seed, data, "typical") for seed in more]
    others += [Run(n, "best", seed, data, label_noise=0.1) for seed in more] + [Run(0, "best", seed, data) for seed in more]
    others += [Run(n, "best", 0, data, fold=fold) for fold in range(1, FOLDS + 1)]
    others += [Run(n, "best-without-muon", seed, data) for seed in more] + [Run(6000, "published", seed, data) for seed in more]
    return [*plain, *others, *(Run(n, "best", seed, "digits") for seed in more)]


def results(y, runs, rights, outputs=None):
    """The results of `runs`, which classify so many test images correctly; with predictions below `outputs`."""
    found = [record(run, y, right) for run, right in zip(runs, rights, strict=True)]
    for run, right in zip(runs, rights, strict=True) if outputs else ():
        run.folder(outputs).mkdir(parents=True, exist_ok=True)
        save_file({"probabilities": predicted(y, right)}, run.folder(outputs) / "predictions.safetensors")
    return Folder(records.table(found), "mnist", "random", found, outputs, y=tuple(y))


@st.composite
def tables(draw):
    """Test images and, of every run, how many of them are right: often all."""
    n_test, seeds = draw(st.integers(1, 60)), draw(st.integers(1, 3))
    sizes = SIZES[: draw(st.integers(1, len(SIZES)))] if draw(st.booleans()) else SIZES[-draw(st.integers(1, len(SIZES))) :]
    y = draw(st.sampled_from([[0] * n_test, [i % 2 for i in range(n_test)], [1] + [0] * (n_test - 1)]))
    runs = runs_of(sizes, seeds)
    right = st.just(n_test) | st.integers(0, n_test)
    few = draw(st.lists(right, min_size=1, max_size=6))  # in turns, or all runs alike
    return y, runs, [few[i % len(few)] for i in range(len(runs))]


def shown(study, found, *, draw):
    """Everything that a study shows, as text; the figure's limits are finite."""
    more = [cost.Prices()] if study.name == "cost" else []
    summary = study.summarize(found, *more)
    if summary.empty:
        return ""
    texts = [study.table(summary).to_string()] if study.table else []
    texts += [study.sentences(summary)] if study.sentences else []
    texts += [make(found) for make in study.markers.values()]
    if study.figure and draw:
        figure = study.figure(summary)
        figure.draw_without_rendering()
        for axis in figure.axes:
            assert np.isfinite([*axis.get_xlim(), *axis.get_ylim()]).all()
            texts += [axis.get_title(), *(label.get_text() for label in axis.get_yticklabels())]
        texts.append(figure.get_suptitle())
    return "\n".join(texts)


def numbers(content):
    """Every number in a nested answer."""
    for value in content.values() if isinstance(content, dict) else ():
        yield from numbers(value) if isinstance(value, dict) else [value] * isinstance(value, float)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=tables())
def test_no_study_fails_or_is_sure_of_few_images(table, tmp_path_factory):
    found = results(*table, tmp_path_factory.mktemp("runs"))
    for study in registry.studies().values():
        text = shown(study, found, draw=False)
        assert not re.search(r"\b(nan|inf|None)\b", text), (study.name, text)
    curve = learning_curve.summarize(found)
    said = learning_curve.sentences(curve) + learning_curve.verdict(curve)
    assert not re.search(r"\b(nan|inf|None)\b", said) and f"{len(table[0])} test image" in said
    assert (curve["low"] >= 0).all() and (curve["high"] <= 1).all() and (curve["low"] < curve["high"]).all()
    for name in ("unlabeled_gain", "ablation"):
        gains = registry.get(name).summarize(found)
        assert gains.empty or ((gains["low"] < gains["high"]) == (gains["n"] > 1)).all()
        assert gains.empty or (gains[["low", "high"]].abs().fillna(0) <= 1).all(axis=None)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(table=tables(), target=st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_answers_are_finite_and_between_nothing_and_all(table, target):
    runs = results(*table).runs
    found, prices = answers.answers(runs, cost.Prices(), target), cost.Prices()
    json.dumps(found, allow_nan=False)
    assert not re.search(r"\b(nan|inf|None)\b", answers.sentences(found, prices))
    for answer in found["forecast"].values():
        assert all(0 <= number <= 1 for number in numbers(answer))
        for guess in (*answer.get("beyond", {}).values(), *answer.get("next_100", {}).values()):
            assert guess["low"] < guess["high"]
    for answer in found["target_n_labels"].values():
        assert "left_out" in answer or all(0 <= chance <= 1 for chance in answer["chance"].values())
    images = learning_curve.n_test(runs)
    if target >= 0.99:  # 60 images, all right, are too few for that
        assert all("left_out" in answer for answer in found["target_n_labels"].values())
        assert f"{images} test image" in found["target_n_labels"]["best"]["left_out"]


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.studies())
def test_the_figures_of_perfect_scores_are_drawn(name, tmp_path):
    y, runs = [i % 2 for i in range(20)], runs_of(SIZES, 2)
    text = shown(registry.get(name), results(y, runs, [20] * len(runs), tmp_path), draw=True)
    assert text and not re.search(r"\b(nan|inf)\b", text)
    of_cells = ("strategies", "label_errors", "own_labels", "frontier", "pools", "peers", "robustness", *variants.STUDIES)
    assert name in ("report_claims", *of_cells) or "20 test images" in text, text  # these show other runs


def test_a_perfect_score_is_drawn_at_the_tick_that_says_so():
    y, runs = [i % 2 for i in range(20)], runs_of(SIZES, 5)
    found = results(y, runs, [20 - (run.n_labels == 20 and run.seed == 0) for run in runs])
    axis = learning_curve.figure(learning_curve.summarize(found)).axes[0]
    ticks = {label.get_text(): place for label, place in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
    drawn = next(line.get_ydata() for line in axis.lines if len(line.get_ydata()) == len(SIZES))
    assert drawn[0] == ticks["100"] < drawn[1] == pytest.approx(1) == ticks["99"], "one mistake in five runs is one"


@pytest.mark.parametrize("right", [20, 15])
def test_costs_have_ticks_that_are_numbers(right):
    y, runs = [i % 2 for i in range(20)], runs_of(SIZES[:3], 1)
    costs = cost.costs(results(y, runs, [right] * len(runs)).runs, cost.Prices())
    drawn = cost.figure(costs)
    drawn.draw_without_rendering()
    (axis,) = drawn.axes
    low, high = axis.get_ylim()
    ticks = [label.get_text() for label in axis.get_yticklabels(minor=True) + axis.get_yticklabels() if label.get_text()]
    assert sum(low <= float(tick) <= high for tick in ticks) >= 2


@pytest.mark.parametrize(
    "sizes",
    [{10: [0.8, 0.9], 20: [0.95, 1.0], 40: [1.0, 1.0], 80: [1.0, 1.0]}, {10: [0.8], 20: [0.95], 40: [1.0]}],
)
def test_perfect_scores_have_answers(sizes):
    rows = [("supervised", n, s, a, 60.0, 0, 20, "mnist") for n, values in sizes.items() for s, a in enumerate(values)]
    columns = ["recipe", "n_labels", "seed", "accuracy", "seconds", "missing_classes", "n_test", "data"]
    found = answers.answers(pd.DataFrame(rows, columns=columns), cost.Prices(), 0.99)
    said = answers.sentences(found, cost.Prices())
    gain = r"\*The next 100 labels\* after \d+ would add \d\.\d\d points \(0\.\d\d to \d+\.\d\d\) with `supervised`"
    assert re.search(gain, said)
    few = "20 test images can't show 99 %: with all of them right, its probability would be 0.48, and must be 0.9"
    assert f"*To reach a target* with `supervised`: left out; {few}" in said
    assert said.endswith("These answers rest on 20 test images.")
    beyond = found["forecast"]["supervised"]["beyond"]
    assert all(0.5 < guess["low"] < guess["value"] < guess["high"] < 1 for guess in beyond.values())


def test_the_cheapest_of_sizes_that_differ_by_one_image_is_not_sure():
    rows = [("best", n, s, a, 60.0, 0, 20, "mnist") for n, a in ((10, 0.95), (20, 1.0), (40, 1.0)) for s in range(3)]
    columns = ["recipe", "n_labels", "seed", "accuracy", "seconds", "missing_classes", "n_test", "data"]
    few = cost.best_value(pd.DataFrame(rows, columns=columns), cost.Prices())["best"]
    assert (few["value"], few["low"], few["high"]) == (20, 10, 40)
    many = cost.best_value(pd.DataFrame(rows, columns=columns).assign(n_test=10_000), cost.Prices())["best"]
    assert many["value"] == many["low"] == 20


def test_the_band_of_a_forecast_is_that_of_its_test_images():
    sizes = {50: 0.8, 100: 0.9, 250: 0.95, 1000: 0.975}
    rows = [("best", n, seed, a, 60.0, 0, "mnist") for n, a in sizes.items() for seed in range(3)]
    runs = pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy", "seconds", "missing_classes", "data"])
    few, many = (forecast.figure(runs.assign(n_test=n)).axes[0] for n in (40, 10_000))
    bands = [axis.collections[0].get_paths()[0].vertices for axis in (few, many)]
    few_high, many_high = (np.ptp(band[band[:, 0] > 999, 1]) for band in bands)  # at the right end
    assert few_high > 1.5 * many_high
    assert few.get_title().endswith("(40 test images)") and many.get_title().endswith("(10,000 test images)")


def test_one_test_image_is_spoken_of_as_one():
    runs = pd.DataFrame([("best", 10, 0, 0.0, 1)], columns=["recipe", "n_labels", "seed", "accuracy", "n_test"])
    said = learning_curve.sentences(curve := learning_curve.curve(runs.assign(nll=0.1, seconds=1.0)))
    assert "on the 1 test image, which is evaluated once" in said and "One image counts 100 points" in said
    assert "With 1 test image, one counts 100 points" in learning_curve.verdict(curve)


def test_runs_with_different_test_images_are_not_compared_in_silence():
    rows = [("best", 10, 0, 0.9, 20), ("best", 20, 0, 0.95, 40)]
    runs = pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy", "n_test"]).assign(nll=0.1, seconds=1.0)
    curve = learning_curve.curve(runs)
    assert "on the 20 to 40 test images" in (said := learning_curve.sentences(curve))
    assert "**Not all runs had the same test images:**" in said and "One image counts 5 points" in said
    assert "20 to 40 test images" in learning_curve.figure(curve).axes[0].get_title()
    assert curve["low"][1] == pytest.approx(learning_curve.curve(runs.assign(n_test=20))["low"][1]), "the fewest count"
    same = learning_curve.sentences(learning_curve.curve(runs.assign(n_test=10_000)))
    assert "on the 10,000 test images, which" in same and "Not all" not in same and "counts" not in same


def test_a_class_without_a_test_image_is_named_and_has_no_recall(tmp_path):
    y, runs = [0] * 12, runs_of((10, 20), 1)
    found = results(y, runs, [12] * len(runs), tmp_path)
    study = registry.get("class_recall")
    recalls = study.summarize(found)
    assert recalls.loc[recalls["class"] == "dog", "recall"].isna().all()
    assert study.sentences(recalls) == (
        "The class with the fewest test images is cat, with 12: the 95 % interval of a recall of 100 % begins there at 75.8 %."
        " No test image shows dog: nothing is known of such a class."
    )
    assert math.isclose(recalls.loc[recalls["class"] == "cat", "recall"].min(), 1)


@pytest.mark.parametrize("n_classes", [2, 5, 8, 10, 100, 1000])
def test_the_check_before_training_holds_for_any_frequency_of_the_classes(n_classes):
    """The notebook's own cell, without test images: it asks how equal the probabilities are, not how the test images are."""
    cells = nbformat.read(FOLDER / "train.ipynb", as_version=4).cells
    (number,) = (i for i, cell in enumerate(cells) if "an untrained network knows nothing" in cell.source)
    assert number < next(i for i, cell in enumerate(cells) if "training = fit(" in cell.source), "no run is thrown away"
    pixels = torch.zeros(200, 1, 28, 28)
    pixels[:, :, 8:20, 8:20] = torch.rand(200, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    images, task = SimpleNamespace(x=(pixels - pixels.mean()) / pixels.std()), SimpleNamespace(n_clusters=0)

    def check(network):
        spaces = {"learner": SimpleNamespace(network=lambda *_: network), "training_device": str}
        spaces |= {"seen": images, "task": task, "names": range(n_classes)}
        exec(cells[number].source, spaces | {"torch": torch, "train": train, "seed": 0, "device": "cpu"})

    for seed in range(5):
        check(init_net(seed, n_classes, 1))
    biased = init_net(0, n_classes, 1)
    biased.linear2.bias.data[0] += 8
    with pytest.raises(AssertionError, match="an untrained network knows nothing"):
        check(biased)
