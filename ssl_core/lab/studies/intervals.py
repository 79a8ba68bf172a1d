"""Intervals, comparisons and forecasts of accuracies between 0 and 1, each measured on one finite test set."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats import qmc

N_TEST = 10_000  # test images of MNIST
DRAWS = 16  # log₂ of the number of curves that a forecast weights
MISFIT = 0.05  # standard deviation of a learning curve from the power law, relative to the error


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval over `n` seeds. With one seed, the interval covers the finite test set only."""

    mean: float
    low: float
    high: float
    n: int

    def percent(self, sign: str = "") -> str:
        """`98.12 (98.01 to 98.23)`, in per cent."""
        return f"{100 * self.mean:{sign}.2f} ({100 * self.low:{sign}.2f} to {100 * self.high:{sign}.2f})"


def accuracy(values: np.ndarray, level: float = 0.95, n_test: int = N_TEST) -> Estimate:
    """The expected accuracy over seeds and test sets, from one accuracy per seed, all on the same `n_test` images.

    Two variances add up: that of the seeds, s²/n, and that of the test images, p(1 − p)/n_test, which all seeds share
    and more seeds do not reduce. The interval is Student's, with the degrees of freedom of Welch and Satterthwaite. (If
    the seeds err on different images it is slightly too wide: both terms contain their test noise.)
    """
    values = np.asarray(values, float)
    n, mean = len(values), values.mean()
    seeds = values.var(ddof=1) / n if n > 1 else 0.0
    images = mean * (1 - mean) / n_test
    freedom = (seeds + images) ** 2 / (seeds**2 / (n - 1)) if seeds else np.inf
    half_width = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(seeds + images)
    return Estimate(mean, max(0.0, mean - half_width), min(1.0, mean + half_width), n)


def proportion(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of a probability, after `right` of `n` trials came true."""
    interval = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def paired(differences: np.ndarray, level: float = 0.95) -> Estimate:
    """The expected difference of two recipes, from one difference per seed; Student's interval, NaN for one seed."""
    differences = np.asarray(differences, float)
    n, mean = len(differences), differences.mean()
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    half_width = stats.t.ppf((1 + level) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return Estimate(mean, mean - half_width, mean + half_width, n)


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
    equation 3).
    """
    which = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    table = pd.DataFrame({"bin": which, "confidence": confidence, "right": right}).groupby("bin")
    table = table.agg(confidence=("confidence", "mean"), accuracy=("right", "mean"), count=("right", "size")).reset_index(
        drop=True
    )
    gap = (table["accuracy"] - table["confidence"]).abs()
    return table, float((gap * table["count"]).sum() / table["count"].sum())


def selective(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and accuracy if a model may abstain from the images of which it is least confident.

    Both (N,), coverage ascending to 1; the first entry is the most confident image alone (Geifman & El-Yaniv 2017).
    """
    order = np.argsort(-np.asarray(confidence), kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(np.asarray(right)[order]) / answered


def chance_to_reach(values: np.ndarray, target: float, n_test: int = N_TEST) -> float:
    """The probability that a new run, with another seed and test set, reaches `target`; NaN for one seed."""
    values = np.asarray(values, float)
    n, mean = len(values), values.mean()
    if n < 2:
        return float("nan")
    spread = np.sqrt(values.var(ddof=1) * (1 + 1 / n) + mean * (1 - mean) / n_test)
    return float(stats.t.sf((target - mean) / spread, n - 1)) if spread else float(mean >= target)


class Forecast:
    """The learning curve as a saturating power law, error(M) = a·M^(−b) + c, with its uncertainty.

    Four or five sizes do not determine three parameters, so many curves are drawn (a Sobol sequence, the same every
    time): log a and log c uniformly, with c, the error that no label removes, up to the best measured error; b
    uniformly from 0 to 2. Each curve is weighted by its likelihood, given the interval of each mean and a deviation of
    `MISFIT` from the law. The weighted curves are the forecast. (The law: Hestness et al. 2017, Kaplan et al. 2020; the
    method: Bayes' rule by importance sampling.)
    """

    def __init__(self, accuracies: dict[int, np.ndarray], n_test: int = N_TEST):
        """`accuracies` maps numbers of labels to one accuracy per seed; ValueError for fewer than three sizes."""
        if len(accuracies) < 3:
            raise ValueError(f"sizes={sorted(accuracies)}: must be three numbers of labels or more")
        self.sizes = np.array(sorted(accuracies), float)
        self.n_test = n_test
        errors = np.array([1 - np.mean(accuracies[int(m)]) for m in self.sizes])
        counts = np.array([len(accuracies[int(m)]) for m in self.sizes])
        # The spread over seeds shrinks with the error; their ratio is pooled over the sizes.
        relative = [
            np.std(accuracies[int(m)], ddof=1) / e for m, e in zip(self.sizes, errors, strict=True) if len(accuracies[int(m)]) > 1
        ]
        self.spread = float(np.sqrt(np.mean(np.square(relative)))) if relative else 0.3
        deviation = np.sqrt(errors * (1 - errors) / n_test + errors**2 * (self.spread**2 / counts + MISFIT**2))
        draws = qmc.Sobol(4, seed=0).random_base2(DRAWS)
        first, best = errors[0], errors.min()
        self.b, self.c = 2 * draws[:, 1], (best + 2 * deviation[errors.argmin()]) * 10 ** (-2.5 * draws[:, 2])
        self.chance = stats.norm.ppf(draws[:, 3].clip(1e-9, 1 - 1e-9))
        self.a = first * 10 ** (4 * draws[:, 0] - 3) * self.sizes[0] ** self.b
        misses = (self._errors(self.sizes) - errors) / deviation
        log_weight = -0.5 * (misses**2).sum(axis=1)
        weight = np.exp(log_weight - log_weight.max())
        self.weight = weight / weight.sum()

    def _errors(self, sizes: np.ndarray | list[int]) -> np.ndarray:
        return self.a[:, None] * np.asarray(sizes, float) ** -self.b[:, None] + self.c[:, None]

    def accuracy(self, n_labels: int, level: float = 0.9) -> Estimate:
        """The expected mean accuracy at `n_labels`, with its interval."""
        return self._summary(1 - self._errors([n_labels])[:, 0], level)

    def run(self, n_labels: int, n_seeds: int = 1, level: float = 0.9) -> Estimate:
        """As `accuracy`, for the mean that `n_seeds` runs would measure: with the noise of seeds and test set."""
        error = self._errors([n_labels])[:, 0]
        noise = np.sqrt(error * (1 - error) / self.n_test + error**2 * (self.spread**2 / n_seeds + MISFIT**2))
        return self._summary(1 - error - self.chance * noise, level)

    def gain(self, n_labels: int, more: int, level: float = 0.9) -> Estimate:
        """The accuracy that `more` labels would add to `n_labels`."""
        errors = self._errors([n_labels, n_labels + more])
        return self._summary(errors[:, 0] - errors[:, 1], level)

    def _summary(self, values: np.ndarray, level: float) -> Estimate:
        order = np.argsort(values)
        cumulative = np.cumsum(self.weight[order])
        low, middle, high = values[order][
            np.searchsorted(cumulative, [(1 - level) / 2, 0.5, (1 + level) / 2]).clip(0, len(values) - 1)
        ]
        return Estimate(float(middle), float(low), float(high), 0)
