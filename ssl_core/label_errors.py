"""Which of the given labels are wrong: those that the other labels contradict, as they spread over the graph of neighbours.

Each label is scored by label spreading from the others alone. A model of how labels go wrong then weighs both: the true class t
of an image is as probable as its scores, sharpened, say; and the label y is given to class t with probability T[t, y], as in
Dawid & Skene 1979, with one rater, and in Patrini et al. 2017. How sharp the scores of this graph are, and T, are those under
which the labels are most probable. The labels that are probably wrong then count less, and all is done once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from . import graph
from .clusters import leading
from .graph import Neighbors

ALPHA = 0.99  # of label spreading, for few labels; at 0.999, as candidates are found, labels far away drown those near by
FOLDS = 10  # of the labels of each class: none is scored by itself, or by the others of its fold
ROUNDS = 3
SHARPNESS = 2.0 ** np.arange(-1, 5.5, 0.5)  # powers of the scores that are tried
ODD = (0.0, 0.05, 0.1, 0.2, 0.4)  # shares of odd images that are tried, for the interval
WRONG = np.array([1e-4, *np.geomspace(0.003, 0.7, 25)])  # fractions of wrong labels that are tried
UNREACHED = 0.5  # of a class's share of the label mass of the median image: as much speaks for each class in any case
PSEUDO_LABELS = 50  # of each class that are wrong as often as all labels together: what one class alone says is damped
SUSPECT = 0.6  # least probability: a right label at the border of two classes teaches more than a wrong one spoils
STEPS = 30  # of expectation maximisation
RESAMPLES = 50  # of the labels, for the interval of how many are wrong
FAIR = 0.2  # Cohen's kappa of labels and what the others say: below it, agreement is called slight (Landis & Koch 1977)
FEWEST = 40  # checked labels by which the graph itself is judged: with fewer, a good one may agree as little by chance


@dataclass(frozen=True)
class LabelCheck:
    """What the other labels say of each of M labels."""

    labeled: Tensor  # (M,), indices of the images
    p: Tensor  # (M, C), the probability of each class to be the true one, the label itself considered
    y_l: Tensor  # (M,), the labels
    checked: Tensor  # (M,), whether the label could be cross-checked: only if another one of its class speaks for the class
    confusion: Tensor  # (C, C), how often (row) a class is given each label (column)
    n_wrong: float  # the expected number of wrong labels
    low: float  # to `high` in nine of ten resamples
    high: float
    agreement: float = 1.0  # of the labels with what all others say of their images: Cohen's kappa, 0 by chance

    @property
    def p_wrong(self) -> Tensor:
        """The probability (M,) that the label is wrong; 0 where it could not be checked."""
        return (1 - self.p.gather(1, self.y_l[:, None])[:, 0]).clamp(min=0) * self.checked

    @property
    def suspect(self) -> Tensor:
        """Whether each label is wrong with more than SUSPECT (M,), and another class more probable."""
        return (self.p_wrong > SUSPECT) & (self.suggested != self.y_l)

    @property
    def graph_misleads(self) -> bool:
        """Whether the labels hardly follow from one another over the graph: it is wrong about the classes then, not they.

        Images may be alike in another way than their classes: figures in five shades, where the shade is the class. Right labels
        of which the graph knows nothing, and labels at random, look the same. Never with fewer than FEWEST checked labels.
        """
        return int(self.checked.sum()) >= FEWEST and self.agreement < FAIR

    @property
    def left_out(self) -> Tensor:
        """Whether training does without each label (M,): the suspects, but each class keeps its least doubtful label.

        None where the graph misleads.
        """
        if self.graph_misleads:
            return torch.zeros_like(self.checked)
        out = self.suspect.clone()
        believed = self.y_l[~out]
        lost = [c for c in self.y_l.unique().tolist() if c not in believed]
        kept = [int(self.p_wrong.where(self.y_l == c, torch.tensor(2.0)).argmin()) for c in lost]
        out[kept] = False
        return out

    @property
    def suggested(self) -> Tensor:
        """The most probable class (M,)."""
        return self.p.argmax(dim=1)


def check(
    neighbors: Neighbors, labeled: Tensor, y_l: Tensor, n_classes: int, *, uniform_prior: bool = True, alpha: float = ALPHA
) -> LabelCheck:
    """Which of the labels `y_l` (M,) of the images `labeled` (M,) the others contradict: a pure function of the arguments.

    The scores are those of graph.spread with the same `uniform_prior` and `alpha`; see Recipe.check_alpha_for. The label of a
    class that has no other can't be checked, and is believed.
    """
    y = y_l.numpy()
    spreading = _Spreading(neighbors, (labeled.numpy(), y), n_classes, uniform_prior=uniform_prior, alpha=alpha)
    weights = np.ones(len(y), np.float32)
    for turn in range(ROUNDS):
        scores, checked = spreading.scores(weights)
        if not checked.any():
            believed = torch.eye(n_classes)
            return LabelCheck(labeled, believed[y_l], y_l, torch.from_numpy(checked), believed, 0.0, 0.0, 0.0)
        if turn == 0:
            at_first, ((sharpness, _),) = scores, _sharpness(scores[checked], y[checked], np.ones((checked.sum(), 1)))
        model = _Model(sharpness, _confusion(_prior(scores[checked], sharpness), y[checked]))
        p = model.posterior(scores, y)
        wrong = np.where(checked, 1 - p[np.arange(len(y)), y], 0)
        weights = np.where(wrong < 0.98, 1 - wrong, 0).astype(np.float32)
    n_wrong, (low, high) = float(wrong.sum()), _interval(at_first[checked], scores[checked], y[checked])
    interval, confusion = (min(low, n_wrong), max(high, n_wrong)), torch.from_numpy(model.confusion).float()
    told, agreement = torch.from_numpy(checked), _kappa(at_first[checked].argmax(axis=1), y[checked], n_classes)
    return LabelCheck(labeled, torch.from_numpy(p).float(), y_l, told, confusion, n_wrong, *interval, agreement)


class _Spreading:
    """Label spreading from all labels but those of one fold, for each fold, in one go: it is linear in the labels."""

    def __init__(
        self,
        neighbors: Neighbors,
        labels: tuple[np.ndarray, np.ndarray],
        n_classes: int,
        *,
        uniform_prior: bool,
        alpha: float,
    ):
        self.system = graph.system(neighbors, alpha).astype(np.float32).tocsr()
        spectrum = leading(neighbors)
        self.vectors = spectrum.vectors.astype(np.float32)
        self.inverse = (1 / (1 - alpha * spectrum.values.clip(0, 1))).astype(np.float32)
        (self.labeled, self.y), self.n_classes, self.uniform_prior = labels, n_classes, uniform_prior
        self.fold = np.zeros(len(self.y), np.int64)  # the labels of each class are dealt out to the folds in turn
        for c in np.unique(self.y):
            members = np.flatnonzero(self.y == c)
            self.fold[members] = np.arange(len(members)) % FOLDS

    def scores(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What reaches each label of all others (M, C), 1 in all for the median image; and whether it can be checked (M,).

        Each label counts by its weight in `weights` (M,). The classes are balanced as graph.spread balances them.
        """
        part, n = self.y * FOLDS + self.fold, self.n_classes * FOLDS
        sums = np.bincount(part, weights, n).reshape(self.n_classes, FOLDS)
        by_part, whole = np.zeros((len(self.y), n)), np.zeros((self.system.shape[0], self.n_classes))
        for c in np.flatnonzero(sums.sum(axis=1) > 0):
            parts = c * FOLDS + np.flatnonzero(sums[c] > 0)
            mass = self._solve(parts, part, weights)
            by_part[:, parts], whole[:, c] = mass[self.labeled], mass.sum(axis=1) / sums[c].sum()
        rows, by_fold = np.arange(len(self.y)), by_part.reshape(len(self.y), self.n_classes, FOLDS)
        others = sums.sum(axis=1) - sums[:, self.fold].T  # (M, C), the weight of the labels of each class in other folds
        reached = by_fold.sum(axis=2) - by_fold[rows, :, self.fold]
        scores = np.where(others > 0, reached / np.maximum(others, 1e-12), 0).clip(0)
        return scores * self._class_scale(whole), others[rows, self.y] > 1e-6

    def _solve(self, parts: np.ndarray, part: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What the labels of each of `parts` (P,) bring to each image (N, P)."""
        sources = np.zeros((self.system.shape[0], len(parts)), np.float32)
        given = (weights > 0) & np.isin(part, parts)
        sources[self.labeled[given], np.searchsorted(parts, part[given])] = weights[given]
        # The part of the solution in the space of the leading eigenvectors is known; the rest needs a fifth of the steps.
        start = self.vectors @ (self.inverse[:, None] * (self.vectors.T @ sources))
        return graph.solve(self.system, sources, start)

    def _class_scale(self, whole: np.ndarray) -> np.ndarray:
        """The factor (C,) of each class that balances what all labels bring, (N, C), and brings 1 to the median image."""
        present = np.flatnonzero(whole.any(axis=0))
        mass, scale = whole[:, present].clip(0) + 1e-12, np.ones(len(present))
        for _ in range(50 if self.uniform_prior else 1):
            rows = mass * scale
            rows /= rows.sum(axis=1, keepdims=True)
            scale /= rows.sum(axis=0) * len(present) / len(rows)
        factors = np.zeros(self.n_classes)
        factors[present] = scale / np.median(mass @ scale)
        return factors


@dataclass(frozen=True)
class _Model:
    """How labels are given: what makes probabilities of the scores, see `_prior`, and the confusion (C, C) of classes."""

    sharpness: float
    confusion: np.ndarray
    odd: float = 0.0

    def posterior(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The probability (M, C) of each class, from the scores (M, C) and the labels `y` (M,)."""
        joint = _prior(scores, self.sharpness, self.odd) * self.confusion[:, y].T
        return joint / joint.sum(axis=1, keepdims=True).clip(1e-300)


def _sharpness(scores: np.ndarray, y: np.ndarray, times: np.ndarray, odd: Sequence[float] = (0.0,)) -> np.ndarray:
    """The sharpness, and the share of `odd` images, under which labels `y` (M,) with these scores (M, C) are most probable.

    A row for each resample (R, 2): each label counts as often in it as `times` (M, R) says. All classes are confused alike: a
    graph that does not tell two classes apart makes scores less sharp, and does not pass for a confusion of labels.
    """
    others, rows = max(scores.shape[1] - 1, 1), np.arange(len(y))

    def evidence(sharpness: float, share: float) -> np.ndarray:
        right = _prior(scores, sharpness, share)[rows, y]
        return (np.log(np.outer(1 - WRONG, right) + np.outer(WRONG / others, 1 - right)) @ times).max(axis=0)

    tried = list(product(SHARPNESS, odd))
    return np.array(tried)[np.argmax([evidence(*each) for each in tried], axis=0)]


def _prior(scores: np.ndarray, sharpness: float, odd: float = 0.0) -> np.ndarray:
    """The probability (M, C) of each class by the scores (M, C) of the other labels alone.

    Of the share `odd` of the images, whose nearest ones are of another class, the scores tell less: a power of a fourth.
    """
    logarithm = sharpness * np.log(scores + UNREACHED / scores.shape[1])
    p = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    return (1 - odd) * p + odd * _prior(scores, sharpness / 4) if odd else p


def _confusion(prior: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How often each class (row) is given each label (column), by expectation maximisation from one label in ten wrong.

    To the labels of each class are added PSEUDO_LABELS that are wrong as often as all are, in favour of no class.
    """
    n_classes = prior.shape[1]
    given = np.eye(n_classes)[y]
    confusion = _even(0.1, n_classes)
    for _ in range(STEPS):
        joint = prior * confusion[:, y].T
        counts = (joint / joint.sum(axis=1, keepdims=True).clip(1e-300)).T @ given
        wrong = 1 - np.trace(counts) / max(counts.sum(), 1)
        counts += PSEUDO_LABELS * _even(min(max(wrong, 1e-4), 0.9), n_classes)
        confusion = counts / counts.sum(axis=1, keepdims=True)
    return confusion


def _kappa(one: np.ndarray, two: np.ndarray, n_classes: int) -> float:
    """Cohen's kappa (1960) of two classifications of the same images: 1 if all agree, 0 if as many as by chance; 1 of none."""
    shares = [np.bincount(each, minlength=n_classes) / max(len(each), 1) for each in (one, two)]
    by_chance = float(shares[0] @ shares[1])
    return float(((one == two).mean() - by_chance) / (1 - by_chance)) if len(one) and by_chance < 1 else 1.0


def _even(wrong: float, n_classes: int) -> np.ndarray:
    """The confusion (C, C) where the fraction `wrong` of the labels of each class is that of another, all alike."""
    confusion = np.full((n_classes, n_classes), wrong / max(n_classes - 1, 1))
    np.fill_diagonal(confusion, 1 - wrong if n_classes > 1 else 1)
    return confusion


def _interval(at_first: np.ndarray, scores: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """How many of the labels `y` (M,) are wrong in nine of ten resamples of them.

    Each resample decides how sharp the scores are, half of them by those of the first round, how labels go wrong, and which are.
    It decides, too, how many images are odd: a label of theirs that the scores put second may be right.
    """
    random, rows, counts = np.random.default_rng(0), np.arange(len(y)), []
    draws = random.integers(0, len(y), (RESAMPLES, len(y)))
    times = np.stack([np.bincount(draw, minlength=len(y)) for draw in draws], axis=1).astype(np.float64)
    half = RESAMPLES // 2
    first, last = _sharpness(at_first, y, times[:, :half], ODD), _sharpness(scores, y, times[:, half:], ODD)
    for draw, (sharpness, odd) in zip(draws, np.concatenate([first, last]), strict=True):
        model = _Model(sharpness, _confusion(_prior(scores[draw], sharpness, odd), y[draw]), odd)
        counts.append((random.random(len(y)) < 1 - model.posterior(scores, y)[rows, y]).sum())
    low, high = np.quantile(counts, [0.05, 0.95])
    return float(low), float(high)
