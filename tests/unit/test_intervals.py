"""Intervals against simulated truth, and what SciPy computes too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve

from ssl_core import forecast as law
from ssl_core.lab.studies import intervals


def simulated(rng, error, n_seeds, spread, n_test=10_000):
    """Accuracies of `n_seeds` runs whose true errors scatter by `spread`, relative, on one test set of shared difficulty."""
    true = np.clip(error * (1 + spread * rng.standard_normal(n_seeds)), 0, 1)
    # Which images are hard is common to all runs: one draw shifts all of them.
    shared = rng.standard_normal() * np.sqrt(error * (1 - error) / n_test)
    return np.clip(1 - true - shared, 0, 1)


@pytest.mark.parametrize("error, spread", [(0.01, 0.05), (0.1, 0.3), (0.02, 0.0)])
def test_the_interval_of_an_accuracy_covers_as_often_as_it_claims(error, spread):
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        found = intervals.accuracy(simulated(rng, error, 5, spread))
        inside += found.low <= 1 - error <= found.high
    assert inside / 1000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("right, n", [(9_800, 10_000), (40, 40), (19, 20), (0, 8), (1, 1)])
def test_with_one_seed_the_interval_is_wilsons(right, n):
    found, theirs = intervals.accuracy([right / n], n_test=n), stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high)) and found.n == 1
    assert intervals.proportion(right, n) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("n_test", [20, 40, 100])
@pytest.mark.parametrize("right", [0.9, 0.98, 1.0])
def test_the_interval_of_few_test_images_covers_as_often_as_it_claims(right, n_test):
    """Three runs that err on the same images, but for one image in fifty, which each reads as it happens."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        shared, by_chance = rng.uniform(size=n_test) < right, rng.uniform(size=(3, n_test)) < 0.02
        runs = np.where(by_chance, rng.uniform(size=(3, n_test)) < right, shared)
        found = intervals.accuracy(runs.mean(axis=1), n_test=n_test)
        inside += found.low <= right <= found.high
    assert inside / 1000 > 0.92


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(1, 60))
def test_an_interval_holds_its_mean_stays_within_bounds_and_has_a_width(values, n_test):
    found = intervals.accuracy(values, n_test=n_test)
    assert 0 <= found.low <= found.mean + 1e-12 and found.mean - 1e-12 <= found.high <= 1
    assert found.high - found.low > 1 / (2 * n_test)


def test_the_paired_interval_is_scipys_where_the_test_images_do_not_count():
    differences = np.array([0.01, 0.03, 0.02, 0.015])
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    found = intervals.paired(differences, n_test=np.inf)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(intervals.paired([0.1]).low)
    few = intervals.paired(differences, n_test=200)
    assert few.low < expected.low and few.high > expected.high


@pytest.mark.parametrize("n_test", [20, 60, 400])
def test_seeds_that_agree_on_a_difference_decide_no_sooner_than_mcnemar(n_test):
    for more in range(12):
        found, mirrored = (intervals.paired([sign * more / n_test] * 3, n_test=n_test) for sign in (1, -1))
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
        # Without continuity correction: (b − c)²/(b + c) = b.
        surely = stats.chi2.sf(more, 1) < 0.05
        assert (found.low > 0) <= surely and found.low < found.mean < found.high
        assert (found.low > 0) == surely or more == 4  # a p-value of 0.0455
    assert intervals.paired([1.0, 1.0], n_test=n_test).high == 1


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=5), st.integers(1, 60))
def test_a_paired_interval_is_never_without_width_and_at_least_students(differences, n_test):
    found = intervals.paired(differences, n_test=n_test)
    half_width = stats.t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / len(differences) ** 0.5
    assert -1 <= found.low < found.high <= 1 and found.low <= found.mean <= found.high
    assert found.low <= max(-1, found.mean - half_width) + 1e-9 and found.high >= min(1, found.mean + half_width) - 1e-9


def test_mcnemar_counts_disagreement_and_is_the_sign_test():
    one = np.array([True] * 12 + [False] * 3 + [True] * 85)
    two = np.array([False] * 12 + [True] * 3 + [True] * 85)
    assert intervals.mcnemar(one, two) == (12, 3, pytest.approx(stats.binomtest(12, 15).pvalue))
    assert intervals.mcnemar(one, one) == (0, 0, 1.0)


def test_the_chance_to_reach_a_target_comes_true():
    rng = np.random.default_rng(1)
    expected, reached = 0.0, 0
    for _ in range(1000):
        error = rng.uniform(0.01, 0.05)
        target = 1 - error * rng.uniform(0.8, 1.3)
        expected += intervals.chance_to_reach(simulated(rng, error, 5, 0.1), target)
        reached += simulated(rng, error, 1, 0.1)[0] >= target
    assert expected / 1000 == pytest.approx(reached / 1000, abs=0.03)
    assert np.isnan(intervals.chance_to_reach([0.99], 0.9))


def test_few_test_images_promise_little_and_many_much():
    assert intervals.chance_to_reach([1.0, 1.0], 0.995, 20) == pytest.approx(stats.beta.sf(0.995, 20.5, 0.5))
    assert intervals.chance_to_reach([1.0, 1.0], 0.995, 20) < 0.5
    assert intervals.chance_to_reach([1.0, 1.0], 0.995, 10_000) == pytest.approx(1)
    chances = [intervals.chance_to_reach([1.0, 1.0], 0.995, n) for n in (1, 20, 100, 1000)]
    assert chances == sorted(chances) and chances[-1] > 0.99
    # A run with another seed: of two that differ, about half would be better than their mean.
    assert intervals.chance_to_reach([0.98, 0.99], 0.985) == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("n_test", [20, 100])
def test_the_chance_to_reach_a_target_comes_true_with_few_test_images(n_test):
    """True accuracies as likely beforehand as Jeffreys' prior says; the seeds scatter by half a point."""
    rng, chances, came_true = np.random.default_rng(2), [], []
    for _ in range(3000):
        right = rng.beta(0.5, 0.5)
        runs = rng.binomial(n_test, right) / n_test + 0.005 * rng.standard_normal(3)
        chances.append(intervals.chance_to_reach(runs.clip(0, 1), 0.9, n_test))
        came_true.append(right + 0.005 * rng.standard_normal() >= 0.9)
    chances, came_true = np.array(chances), np.array(came_true)
    for low, high in ((0, 0.1), (0.1, 0.9), (0.9, 1)):
        among = (low <= chances) & (chances <= high)
        assert came_true[among].mean() == pytest.approx(chances[among].mean(), abs=0.04)


@pytest.mark.slow
def test_forecasts_cover_at_least_as_often_as_they_claim(monkeypatch):
    """500 learning curves whose law is known, seen at up to 500 labels: the 90 % intervals at 1000, 2000 and 6000."""
    monkeypatch.setattr(law, "DRAWS", 14)  # a quarter of the curves, for speed
    rng = np.random.default_rng(0)
    inside = {1000: 0, 2000: 0, 6000: 0}
    measured = dict(inside)
    for _ in range(500):
        first, b, floor, spread = (
            10 ** rng.uniform(-2, -0.5),
            rng.uniform(0.3, 1.2),
            10 ** rng.uniform(-2, -0.1),
            rng.uniform(0.03, 0.3),
        )

        def error(n, first=first, b=b, floor=floor):
            return first * ((1 - floor) * (n / 50) ** -b + floor)

        forecast = intervals.Forecast({n: simulated(rng, error(n), 5, spread) for n in (50, 100, 250, 500)})
        for n in inside:
            guess, run = forecast.accuracy(n), forecast.run(n, 5)
            inside[n] += guess.low <= 1 - error(n) <= guess.high
            measured[n] += run.low <= simulated(rng, error(n), 5, spread).mean() <= run.high
    for covered in (*inside.values(), *measured.values()):
        assert 0.87 <= covered / 500 <= 0.985


def test_a_forecast_meets_what_it_was_shown_and_more_labels_never_hurt_it():
    measured = {n: 1 - 0.5 * n**-0.6 - 0.003 + np.array([-1, 0, 1]) * 1e-4 for n in (50, 250, 1000, 6000)}
    forecast = intervals.Forecast(measured)
    for n, values in measured.items():
        assert forecast.accuracy(n).mean == pytest.approx(values.mean(), rel=0.01)
    guesses = [forecast.accuracy(n).mean for n in (50, 100, 400, 3000, 20_000)]
    assert guesses == sorted(guesses)
    for target in (forecast.accuracy(400).mean, forecast.accuracy(20_000).mean):
        needed = forecast.labels_for(target)
        assert forecast.accuracy(needed.mean).mean == pytest.approx(target, abs=2e-4) and needed.low < needed.mean < needed.high
    assert forecast.labels_for(1.0).mean == np.inf
    gain = forecast.gain(250, 100)
    assert 0 <= gain.low <= gain.mean <= gain.high
    assert gain.mean == pytest.approx(0.5 * (250**-0.6 - 350**-0.6), rel=0.15)


@pytest.mark.parametrize(
    "sizes",
    [
        {10: [0.8, 0.9], 20: [0.95, 1.0], 40: [1.0, 1.0], 80: [1.0, 1.0]},
        {10: [0.8], 20: [0.95], 40: [1.0]},
        {10: [1.0], 20: [1.0], 40: [1.0]},
        {10: [1.0, 1.0], 20: [1.0, 1.0], 40: [1.0, 1.0]},
        {10: [0.0], 20: [0.0], 40: [0.0]},
        {10: [1.0, 1.0], 20: [0.0, 0.0], 40: [0.5, 0.5]},
    ],
)
@pytest.mark.parametrize("n_test", [1, 20, 10_000])
def test_a_perfect_score_is_forecast_as_well(sizes, n_test):
    forecast = intervals.Forecast(sizes, n_test)
    assert np.isfinite(forecast.weight).all()
    for guess in (forecast.accuracy(160), forecast.run(160), forecast.run(160, 2), forecast.gain(40, 100)):
        assert 0 <= guess.low < guess.mean < guess.high <= 1
    if all(set(values) == {1.0} for values in sizes.values()):
        assert forecast.accuracy(160).low < 1 - 1 / (10 * n_test), "so few test images can't rule out all mistakes"


def test_no_single_curve_is_the_forecast_where_none_fits():
    sizes = {10: [0.107, 0.107], 20: [0.706, 0.706], 40: [0.903, 0.903], 80: [0.451, 0.452], 160: [0.569, 0.569]}
    forecast = intervals.Forecast(sizes)
    assert 1 / (forecast.weight**2).sum() > 100  # the number of curves that count


def test_two_sizes_are_no_curve():
    with pytest.raises(ValueError, match=r"^sizes=\[50, 250\]: must be three numbers of labels or more"):
        intervals.Forecast({250: [0.9], 50: [0.8]})


def test_calibration_is_scikit_learns():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 5000)
    right = rng.uniform(size=5000) < confidence**2
    table, gap = intervals.calibration(confidence, right)
    true, predicted = calibration_curve(right, confidence, n_bins=15)
    assert table["accuracy"].tolist() == pytest.approx(true) and table["confidence"].tolist() == pytest.approx(predicted)
    assert table["count"].sum() == 5000 and gap == pytest.approx(np.mean(confidence - confidence**2), abs=0.02)
    assert intervals.calibration(np.ones(10), np.ones(10, bool))[1] == 0
    assert np.isnan(intervals.calibration([], [])[1]) and len(intervals.selective([], [])[0]) == 0
    assert intervals.calibration([0.6], [True])[1] == pytest.approx(0.4)
    assert intervals.mcnemar(*np.zeros((2, 0), bool)) == (0, 0, 1.0) and intervals.proportion(0, 0) == (0, 1)


def test_who_abstains_from_the_least_sure_is_right_more_often():
    confidence, right = np.array([0.9, 0.6, 0.99, 0.5]), np.array([True, False, True, True])
    coverage, accuracy = intervals.selective(confidence, right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])


@pytest.mark.parametrize("n", [1, 5, 8, 20, 40, 200])
def test_a_threshold_is_not_believed_beyond_what_its_test_images_show(n):
    confidence, shown = np.linspace(0.4, 0.9, n), stats.binomtest(n, n).proportion_ci(0.9, "wilson").low
    found = intervals.threshold(confidence, np.ones(n, bool), shown + 0.001)
    assert found.value == np.inf and (found.answered, found.coverage, found.n_test) == (0, 0, n)
    assert found.most == pytest.approx(shown) and (found.most_answered, found.most_right) == (n, n)
    found = intervals.threshold(confidence, np.ones(n, bool), shown - 0.001)
    assert found.value == 0.4 and found.low == pytest.approx(shown) and (found.coverage, found.right) == (1, n)


def test_a_threshold_is_told_with_its_count():
    eight = intervals.threshold(np.linspace(0.4, 0.9, 8), np.ones(8, bool), 0.99)
    assert eight.sentence() == "8 test images can't show 99 %: all 8 of 8 right shows 74.7 %"
    forty = intervals.threshold(np.linspace(0.4, 0.9, 40), np.arange(40) > 3, 0.99)
    assert forty.sentence() == "40 test images can't show 99 %: at best 36 of 36 right shows 93 %"
    forty = intervals.threshold(np.linspace(0.4, 0.9, 40), np.arange(40) > 3, 0.9)
    assert forty.sentence() == "36 of the 36 test images answered (40 in all) are right, which shows 93 %"
    one = intervals.threshold([0.9], [False], 0.5)
    assert one.sentence() == "1 test image can't show 50 %: at best 0 of 1 right shows 0 %"
    assert intervals.threshold([], [], 0.5).sentence() == "without test images nothing shows 50 %"


def test_images_of_equal_confidence_are_answered_together():
    confidence, correct = np.array([0.9] * 50 + [0.8] * 50), np.array([True] * 99 + [False])
    found = intervals.threshold(confidence, correct, 0.94)
    assert (found.value, found.answered, found.right) == (0.8, 100, 99)
    assert intervals.threshold(confidence[::-1], correct[::-1], 0.94) == found
    assert intervals.threshold(np.full(100, 0.5), np.arange(100) < 30, 0.5).value == np.inf


def test_what_a_threshold_shows_is_seldom_untrue():
    """The accuracy from confidence u on is known: 0.85 + 0.15 (1 + u) / 2."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(1000):
        confidence = rng.uniform(size=400)
        found = intervals.threshold(confidence, rng.uniform(size=400) < 0.85 + 0.15 * confidence, 0.95)
        wrong += np.isfinite(found.value) and 0.85 + 0.075 * (1 + found.value) < 0.95
    assert wrong / 1000 < 0.07


@given(right=st.integers(0, 200), wrong=st.integers(0, 200), level=st.sampled_from([0.5, 0.9, 0.95]))
def test_wilsons_bounds_hold_the_share_and_are_scipys(right, wrong, level):
    n = right + wrong + (not right + wrong)
    low, high = intervals.wilson(right / n, n, level)
    theirs = stats.binomtest(right, n).proportion_ci(level, "wilson")
    assert 0 <= low <= right / n <= high <= 1 and low < high
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
