"""What labels cost, and the answers: by hand where they are plain, and from runs that lack what an answer needs."""

import json

import numpy as np
import pandas as pd
import pytest

from ssl_core.lab.studies import answers, cost, forecast
from ssl_core.lab.studies.cost import Prices


def results(accuracy, seeds=3, scatter=0.0005):
    """A table of runs: `accuracy` maps recipes to {number of labels: mean accuracy}."""
    rows = [
        (recipe, n, seed, mean + scatter * (seed - (seeds - 1) / 2), 60.0)
        for recipe, sizes in accuracy.items()
        for n, mean in sizes.items()
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows, columns=["recipe", "n_labels", "seed", "accuracy", "seconds"])
    return table.assign(data="mnist", missing_classes=0, n_test=10_000)


TWO = {
    "best": {50: 0.99, 250: 0.991, 1000: 0.992, 6000: 0.993},
    "supervised": {50: 0.90, 100: 0.94, 250: 0.97, 500: 0.98, 1000: 0.985, 6000: 0.992},
}


def test_costs_by_hand():
    prices = Prices(seconds_per_label=3.6, wage_per_hour=10, compute_per_hour=6, cost_per_error=0.5, future_images=1000)
    table = cost.costs(results(TWO), prices).set_index(["recipe", "n_labels"])
    row = table.loc["supervised", 250]
    assert prices.label == pytest.approx(0.01)
    assert row[["labels", "computing", "errors", "total"]].tolist() == pytest.approx([2.5, 0.1, 15.0, 17.6])
    assert row["next tenth"] == pytest.approx(1.5 / 30)  # 150 labels for three points
    assert np.isnan(table.loc["supervised", 50]["next tenth"])


@pytest.mark.parametrize("field", ["seconds_per_label", "wage_per_hour", "compute_per_hour", "cost_per_error", "future_images"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "much"])
def test_a_price_that_is_none_is_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}=.*: must be a finite number from 0"):
        Prices(**{field: value})


def test_dear_labels_ask_for_few_and_dear_mistakes_for_many():
    table = results(TWO)
    few = cost.best_value(table, Prices(seconds_per_label=1000))
    many = cost.best_value(table, Prices(future_images=1e8))
    assert {name: answer["value"] for name, answer in few.items()} == {"best": 50, "supervised": 50}
    assert {name: answer["value"] for name, answer in many.items()} == {"best": 6000, "supervised": 6000}
    assert all(answer["low"] <= answer["value"] <= answer["high"] for answer in many.values())


def test_the_target_is_the_smallest_size_that_reaches_it_almost_surely():
    found = answers.reach(results(TWO), "supervised", 0.975)
    assert found["value"] == found["low"] == found["high"] == 500
    assert found["chance"][250] < 0.1 and found["chance"][500] > 0.9
    beyond = answers.reach(results(TWO), "supervised", 0.999)
    assert beyond["value"] is None and beyond["low"] is None


def test_labels_saved_are_interpolated_and_have_an_interval():
    found = answers.saved(results(TWO), "best", "supervised")
    assert 1000 < found[50]["value"] < 6000 and found[50]["low"] <= found[50]["value"] <= found[50]["high"]
    assert found[6000] == {"value": None, "low": None, "high": None}  # more than was measured


def test_the_forecast_checks_itself_on_sizes_that_it_was_not_shown():
    law = {n: 1 - 0.5 * n**-0.5 for n in (50, 100, 250, 500, 1000, 2000, 6000)}
    found = forecast.forecast(results({"supervised": law}), "supervised")
    assert list(found["check"]) == [1000, 2000, 6000] and all(guess["inside"] for guess in found["check"].values())
    assert list(found["beyond"]) == [12_000, 24_000]
    assert found["beyond"][12_000]["value"] == pytest.approx(1 - 0.5 * 12_000**-0.5, abs=0.002)
    assert found["next_100"][50]["value"] == pytest.approx(0.5 * (50**-0.5 - 150**-0.5), rel=0.2)
    broken = forecast.forecast(results({"supervised": law | {6000: 0.9}}), "supervised")
    assert not broken["check"][6000]["inside"]


def test_a_run_without_a_label_of_some_class_bends_no_forecast():
    law = {n: 1 - 0.5 * n**-0.5 for n in (50, 100, 250, 500, 1000)}
    table = results({"best": law})
    lacking = table[table["n_labels"] == 50].assign(seed=lambda rows: rows["seed"] + 3, accuracy=0.7, missing_classes=2)
    small = lacking.assign(n_labels=10)
    found = forecast.forecast(pd.concat([table, lacking, small]), "best")
    assert found == forecast.forecast(table, "best") and 10 not in found["next_100"]
    said = answers.sentences(answers.answers(pd.concat([table, small]), Prices(future_images=0), 0.9), Prices())
    assert "**10** with `best`" in said and "*The next 100 labels* after 1000 would add" in said


def test_what_cant_be_answered_is_left_out_with_its_reason_and_the_rest_is_there():
    table = results({"best": {50: 0.99, 250: 0.991}}, seeds=1)
    found = answers.answers(table, None, 1.5)
    assert found["best_value_n_labels"] == {"left_out": "the prices cannot be used"}
    assert found["target_n_labels"]["best"] == {"left_out": "target_accuracy=1.5: must be a number above 0, to 1"}
    assert "one seed at each size" in answers.answers(table, None, 0.9)["target_n_labels"]["best"]["left_out"]
    assert found["labels_saved"]["best"] == {"left_out": "no run of supervised to compare best with"}
    assert "three numbers of labels" in found["forecast"]["best"]["left_out"]
    said = answers.sentences(answers.answers(table, Prices(), 0.9), Prices())
    assert "**50** with `best`" in said and said.count("left out") == 2


def test_the_answers_are_json_and_sentences():
    found = answers.answers(results(TWO), Prices(), 0.98)
    assert set(found) == {"n_test", "best_value_n_labels", "target_n_labels", "labels_saved", "forecast"}
    assert json.loads(json.dumps(found, allow_nan=False))["target_n_labels"]["supervised"]["value"] == 1000
    said = answers.sentences(found, Prices())
    assert "`supervised` needs **1000 labels**" in said and "with 50, `best` is as good as `supervised` with **about" in said
    assert forecast.table(results(TWO)[lambda rows: rows["recipe"] == "supervised"]).loc["supervised", "labels M"].tolist() == [
        1000,
        6000,
    ]
