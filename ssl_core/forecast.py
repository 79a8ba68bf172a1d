"""How many labels for which accuracy? A learning curve, fitted to a few sizes, says what larger ones will bring."""

from dataclasses import dataclass

import numpy as np
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


class Forecast:
    """The learning curve as a saturating power law, error(M) = a·M^(−b) + c, with its uncertainty.

    Four or five sizes do not determine three parameters, so many curves are drawn (a Sobol sequence, the same every
    time): log a and log c uniformly, with c, the error that no label removes, up to the best measured error; b
    uniformly from 0 to 2. Each curve is weighted by its likelihood, given the interval of each mean and a deviation of
    `MISFIT` from the law. The weighted curves are the forecast. (The law: Hestness et al. 2017, Kaplan et al. 2020; the
    method: Bayes' rule by importance sampling.)
    """

    def __init__(self, accuracies: dict[int, np.ndarray], n_test: int = N_TEST):
        """`accuracies` maps numbers of labels to one accuracy per seed, all on the same `n_test` images.

        ValueError for fewer than three sizes.
        """
        if len(accuracies) < 3:
            raise ValueError(f"sizes={sorted(accuracies)}: must be three numbers of labels or more")
        self.sizes = np.array(sorted(accuracies), float)
        self.n_test = n_test
        # No error counts as less than half a test image: of zero, the law has no logarithm and the spread no ratio.
        errors = np.array([max(1 - np.mean(accuracies[int(m)]), 1 / (2 * n_test)) for m in self.sizes])
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
        misses = (((self._errors(self.sizes) - errors) / deviation) ** 2).sum(axis=1)
        # Where every curve misses by more than twice the deviation, that was too small: else one bad curve would outweigh all.
        weight = np.exp(-0.5 * (misses - misses.min()) / max(1, misses.min() / (4 * len(self.sizes))))
        self.weight = weight / weight.sum()

    def _errors(self, sizes: np.ndarray | list[int]) -> np.ndarray:
        return self.a[:, None] * np.asarray(sizes, float) ** -self.b[:, None] + self.c[:, None]

    def accuracy(self, n_labels: int, level: float = 0.9) -> Estimate:
        """The expected mean accuracy at `n_labels`, with its interval."""
        return self._summary((1 - self._errors([n_labels])[:, 0]).clip(0), level)

    def run(self, n_labels: int, n_seeds: int = 1, level: float = 0.9) -> Estimate:
        """As `accuracy`, for the mean that `n_seeds` runs would measure: with the noise of seeds and test set."""
        error = self._errors([n_labels])[:, 0].clip(max=1)
        noise = np.sqrt(error * (1 - error) / self.n_test + error**2 * (self.spread**2 / n_seeds + MISFIT**2))
        return self._summary((1 - error - self.chance * noise).clip(0, 1), level)

    def gain(self, n_labels: int, more: int, level: float = 0.9) -> Estimate:
        """The accuracy that `more` labels would add to `n_labels`."""
        errors = self._errors([n_labels, n_labels + more]).clip(max=1)
        return self._summary(errors[:, 0] - errors[:, 1], level)

    def labels_for(self, target: float, level: float = 0.9) -> Estimate:
        """The number of labels with which the expected mean accuracy reaches `target`; infinity where no number does."""
        left = 1 - target - self.c  # of the error, for the labels to remove
        with np.errstate(over="ignore", divide="ignore"):
            return self._summary(np.where(left > 0, (self.a / left.clip(1e-12)) ** (1 / self.b), np.inf), level)

    def _summary(self, values: np.ndarray, level: float) -> Estimate:
        order = np.argsort(values)
        cumulative = np.cumsum(self.weight[order])
        low, middle, high = values[order][
            np.searchsorted(cumulative, [(1 - level) / 2, 0.5, (1 + level) / 2]).clip(0, len(values) - 1)
        ]
        return Estimate(float(middle), float(low), float(high), 0)
