"""Intervals and comparisons of accuracies between 0 and 1, each measured on one finite test set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from ssl_core.forecast import N_TEST, Estimate
from ssl_core.forecast import Forecast as Forecast  # re-exported

from .words import tested

RESAMPLES = 1000
QUANTILES = 200  # of a posterior, over which a probability is averaged


def accuracy(values: np.ndarray, level: float = 0.95, n_test: int = N_TEST) -> Estimate:
    """The expected accuracy over seeds and test sets, from one accuracy per seed, all on the same `n_test` images.

    Two variances add up: that of the seeds, s²/n, and that of the test images, which all seeds share and more seeds do
    not reduce. The latter follows, on each side, from Wilson's bound, so that a perfect score is no certainty: one seed
    has exactly Wilson's interval. (If the seeds err on different images the interval is slightly too wide: both terms
    contain their test noise.)
    """
    values = np.asarray(values, float)
    mean = values.mean()
    low, high = (_reach(values, abs(bound - mean), level) for bound in wilson(mean, n_test, level))
    return Estimate(mean, max(0.0, mean - low), min(1.0, mean + high), len(values))


def _reach(values: np.ndarray, images: float, level: float) -> float:
    """The distance from the mean of `values`, one per seed, to a bound of its interval.

    `images` is the distance that the test images alone explain. Student's, with the degrees of freedom of Welch and
    Satterthwaite: those of the seeds as far as the variance is theirs.
    """
    n, z = len(values), stats.norm.ppf((1 + level) / 2)
    seeds = values.var(ddof=1) / n if n > 1 else 0.0
    variance = seeds + (images / z) ** 2
    share = seeds / variance if variance else 0.0
    quantile = stats.t.ppf((1 + level) / 2, (n - 1) / share**2) if share > 1e-6 else z
    return float(quantile * np.sqrt(variance))


def wilson(share: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of Wilson's interval (1927) of a probability, after the `share` of `n` trials came true; elementwise.

    `share * n` need not be a whole number: a mean over seeds is not.
    """
    share, n = np.asarray(share, float), np.asarray(n, float)
    z2 = stats.norm.ppf((1 + level) / 2) ** 2
    middle, half_width = share + z2 / (2 * n), np.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2))
    low, high = ((middle + sign * half_width) / (1 + z2 / n) for sign in (-1, 1))
    # Rounding must not push a bound beyond the share itself, nor beyond 0 and 1.
    return np.clip(low, 0, share), np.clip(high, share, 1)


def proportion(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a probability, after `right` of `n` trials came true; from 0 to 1 after no trial."""
    if not n:
        return 0.0, 1.0
    low, high = wilson(right / n, n, level)
    return float(low), float(high)


def paired(differences: np.ndarray, level: float = 0.95, n_test: int = N_TEST) -> Estimate:
    """The expected difference of two recipes, from one difference per seed on the same `n_test` images.

    The interval is that of `accuracy`, over seeds and test images, and at least Student's over seeds. Of the images it
    knows only how many more the one recipe classifies correctly, and takes these for the only ones on which the two
    disagree: the least variance that the images can have. Their bounds are Wilson's of both kinds of disagreement,
    combined by their squares (MOVER, Zou & Donner 2008). NaN for one seed.
    """
    differences = np.asarray(differences, float)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    more, none = abs(mean), float(wilson(0, n_test, level)[1])
    least, most = (float(bound) for bound in wilson(more, n_test, level))
    student = stats.t.ppf((1 + level) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    inner, outer = (max(student, _reach(differences, images, level)) for images in (np.hypot(more - least, none), most - more))
    low, high = (mean - inner, mean + outer) if mean >= 0 else (mean - outer, mean + inner)
    return Estimate(mean, max(-1.0, low), min(1.0, high), n)


def mcnemar(right_one: np.ndarray, right_two: np.ndarray) -> tuple[int, int, float]:
    """Compares two models on one test set, each given as which images (N,) it classifies correctly.

    Returns the number of images that only the first classifies correctly, that only the second does, and the p-value of
    McNemar (1947), exact: a binomial test of the images on which the two disagree.
    """
    one, two = int((right_one & ~right_two).sum()), int((~right_one & right_two).sum())
    return one, two, stats.binomtest(one, one + two).pvalue if one + two else 1.0


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> tuple[pd.DataFrame, float]:
    """Calibration: `confidence` (N,) is the probability of each prediction, `right` (N,) whether it was correct.

    Returns the mean `confidence`, the `accuracy` and the `count` of each of `bins` equal intervals of confidence that
    is not empty; and the expected calibration error, the mean gap of the two weighted by count (Guo et al. 2017,
    equation 3); NaN without predictions.
    """
    which = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": which, "confidence": confidence, "right": right}).groupby("bin")
    table = table.agg(confidence=("confidence", "mean"), accuracy=("right", "mean"), count=("right", "size")).reset_index(
        drop=True
    )
    gap = (table["accuracy"] - table["confidence"]).abs()
    return table, float(np.average(gap, weights=table["count"])) if len(table) else float("nan")


def selective(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and accuracy if a model may abstain from the images of which it is least confident.

    Both (N,), coverage ascending to 1; the first entry is the most confident image alone (Geifman & El-Yaniv 2017).
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(np.asarray(right)[order]) / answered


@dataclass(frozen=True)
class Threshold:
    """The least confidence from which the test images show that answers have the accuracy `target`; see `threshold`."""

    target: float
    value: float  # the confidence; infinity if the test images show the target at none
    answered: int  # test images with this confidence or more
    right: int  # of these
    low: float  # the accuracy that these show, at most `right / answered`
    n_test: int
    most: float  # the highest accuracy that the test images show at any confidence
    most_answered: int  # test images that show it
    most_right: int  # of these

    @property
    def coverage(self) -> float:
        """The fraction of the test images that is answered; 0 without test images."""
        return self.answered / max(1, self.n_test)

    def sentence(self) -> str:
        """The count behind the threshold, or why there is none.

        `8 test images can't show 99 %: all 8 of 8 right shows 74.7 %`
        """
        if np.isfinite(self.value):
            count = f"{self.right:,} of the {self.answered:,} test images answered ({self.n_test:,} in all) are right"
            return f"{count}, which shows {_floored(self.low)} %"
        if not self.n_test:
            return f"without test images nothing shows {100 * self.target:g} %"
        every = "all " if self.most_right == self.n_test else "at best "
        count = f"{every}{self.most_right:,} of {self.most_answered:,} right"
        return f"{tested([self.n_test])} can't show {100 * self.target:g} %: {count} shows {_floored(self.most)} %"


def _floored(accuracy: float) -> str:
    """Per cent, rounded down to a tenth: no more than was shown."""
    return f"{np.floor(1000 * accuracy + 1e-9) / 10:g}"


def threshold(confidence: np.ndarray, correct: np.ndarray, target: float, level: float = 0.9) -> Threshold:
    """The least confidence from which the predictions for the test images show the accuracy `target`.

    `confidence` (N,) is the probability of each prediction, `correct` (N,) whether it is right. An accuracy counts as
    shown if the lower bound of Wilson's interval of `level` reaches it: 8 right of 8 show 75 %, whatever the target.
    """
    order = np.argsort(-np.asarray(confidence, float), kind="stable")
    confidence, right = np.asarray(confidence, float)[order], np.cumsum(np.asarray(correct, bool)[order])
    # Images of equal confidence are answered together.
    ends = np.flatnonzero(np.diff(confidence, append=-np.inf))
    if not len(ends):
        return Threshold(target, float("inf"), 0, 0, 0.0, 0, 0.0, 0, 0)
    low, _ = wilson(right[ends] / (ends + 1), ends + 1, level)
    best = int(low.argmax())
    most = float(low[best]), int(ends[best]) + 1, int(right[ends[best]])
    if not len(shown := np.flatnonzero(low >= target)):
        return Threshold(target, float("inf"), 0, 0, 0.0, len(order), *most)
    at = shown[-1]
    end = ends[at]
    return Threshold(target, float(confidence[end]), int(end) + 1, int(right[end]), float(low[at]), len(order), *most)


def chance_to_reach(values: np.ndarray, target: float, n_test: int = N_TEST) -> float:
    """The probability that a run with another seed is at least `target` accurate, of all images like the test images.

    The mean accuracy has Jeffreys' posterior, Beta(k + ½, n_test − k + ½) after k right ones of `n_test`; around it the
    run scatters as Student's distribution of the `values`, one per seed, says. NaN for one seed.
    """
    values = np.asarray(values, float)
    n, right = len(values), values.mean() * n_test
    if n < 2:
        return float("nan")
    posterior, spread = stats.beta(right + 0.5, n_test - right + 0.5), values.std(ddof=1) * np.sqrt(1 + 1 / n)
    if spread < 1e-9:
        return float(posterior.sf(target))
    means = posterior.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    return float(stats.t.sf((target - means) / spread, n - 1).mean())


def resampled(accuracies: Sequence[np.ndarray], n_test: int = N_TEST) -> np.ndarray:
    """What else the mean accuracies of several sizes or recipes might have been: (number of them, RESAMPLES).

    Each of `accuracies` has one value per seed, all on the same `n_test` images. The seeds are drawn with replacement
    (bootstrap). The images have the posterior of `chance_to_reach`: by it the k images that are misclassified have the
    weight Gamma(k + ½). The whole images of all sizes are the same ones as far as possible; the half image, by which a
    perfect score is no certainty, is each size's own. The same samples every time.
    """
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(values), size=(RESAMPLES, len(values))) for values in accuracies]
    means = np.array([np.asarray(values, float)[drawn].mean(axis=1) for values, drawn in zip(accuracies, draws, strict=True)])
    wrong = (n_test * (1 - means)).clip(0, n_test)
    # A size misclassifies the images of the sizes that misclassify fewer, and some more.
    order = wrong.argsort(axis=0)
    steps = np.diff(np.take_along_axis(wrong, order, 0), axis=0, prepend=0.0, append=float(n_test)).clip(0)
    weight = rng.standard_gamma(steps).cumsum(axis=0)
    shared = np.empty_like(wrong)
    np.put_along_axis(shared, order, weight[:-1], 0)
    halves = rng.standard_gamma(0.5, size=(2, *wrong.shape))
    return 1 - (shared + halves[0]) / (weight[-1] + halves.sum(axis=0))
