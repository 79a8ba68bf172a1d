"""One run in sentences, Markdown: what the training notebook tells."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_core.data import Task
from ssl_core.datasets.tables import counted
from ssl_core.experiment import Result
from ssl_core.label_errors import LabelCheck

from ..runs.spec import Run
from . import intervals
from .words import plain, tested


def names(classes: tuple[str, ...], n_clusters: int) -> tuple[str, ...]:
    """The names of a network's outputs: of the classes, or, without labels, the numbers of the clusters."""
    return tuple(f"cluster {c}" for c in range(n_clusters)) if n_clusters else classes


def names_by_class(classes: tuple[str, ...], n_clusters: int) -> tuple[str, ...]:
    """The names of the columns of an evaluation: the classes, then, without labels, the clusters that none is named by."""
    return classes + tuple(f"left over {i + 1}" for i in range(n_clusters - len(classes)))


def task_list(task: Task, y: Tensor, missing: Sequence[str]) -> str:
    """The numbers of labelled images, of labels held back and replaced; `y` (N,) has the true classes, `missing` has no label."""
    if task.n_clusters:
        return f"no label; {task.n_clusters} clusters, each with an image that stands for it, of {len(y)} images"
    assert task.split is not None  # of a task that was prepared
    assert task.held_out is not None
    labeled, y_l = (task.split.labeled, task.y_l) if task.check is None else (task.check.labeled, task.check.y_l)
    replaced = int((y_l != y[labeled]).sum())
    return "\n".join(
        [
            f"{len(task.x_l)} labelled, {len(task.x_u)} unlabelled images; {len(task.held_out)} labels held back",
            f"labels replaced by another class: {replaced}",
            f"classes that no label covers: {', '.join(missing) or 'none'}",
        ]
    )


def check_sentences(check: LabelCheck | None, classes: tuple[str, ...]) -> str:
    """What the labels say of one another: how many are wrong, which are left out, and how many could not be checked."""
    if check is None:
        return ""
    if not check.checked.any():
        return "No label could be checked: no class has two."
    if check.graph_misleads:
        return (
            f"**The labels hardly follow from one another over the graph** (Cohen's kappa {check.agreement:.2f}). Images are"
            " alike in another way than their classes, or most labels are wrong: training uses all labels, and neither the graph"
            " nor unlabelled images."
        )
    order = [i for i in check.p_wrong.argsort(descending=True).tolist() if check.left_out[i]]
    shown = ", ".join(f"{plain(classes[check.y_l[i]])} (rather {plain(classes[check.suggested[i]])})" for i in order[:10])
    more = f" and {len(order) - 10} more" if len(order) > 10 else ""
    unchecked = int((~check.checked).sum())
    return (
        f"Of {len(check.y_l)} labels, **{check.n_wrong:.0f}** are wrong by estimate ({check.low:.0f} to {check.high:.0f})."
        + (f" Left out: {len(order)}: {shown}{more}." if order else " None is left out.")
        + (f" {counted(unchecked, 'label')} could not be checked: the only one of its class." if unchecked else "")
    )


def candidates_sentences(candidates: Tensor, y: Tensor) -> str:
    """The share of unlabelled images with a single candidate class, and how often it is right.

    `candidates` is (N, C), `y` (N,) the true classes. Without the second part if some class is not known, −1.
    """
    if not len(y):
        return "No image is without a label: there is nothing to narrow."
    single = candidates.sum(dim=1) == 1
    share = f"**{100 * single.float().mean():.1f} %** of the unlabelled images have a single candidate"
    if (y < 0).any():
        return f"{share}."
    kept = candidates[torch.arange(len(y)), y]
    return (
        f"{share}, and for {100 * kept[single].float().mean():.2f} % of these it is the true class."
        f" Of all unlabelled images, {100 * kept.float().mean():.2f} % have the true class among their candidates."
        " (These shares use labels that training never sees.)"
    )


def prior_sentences(prior: Tensor, classes: tuple[str, ...], *, uniform: bool) -> str:
    """The class frequencies (C,) that the graph estimates; of many classes the six most and the six least frequent.

    `uniform`: training assumes equal frequencies instead.
    """
    order = prior.argsort(descending=True, stable=True).tolist()
    shown = order if len(order) <= 12 else [*order[:6], *order[-6:]]
    shares = ", ".join(f"{plain(classes[c])} {100 * prior[c]:.1f}" for c in shown)
    used = "Training assumes equally frequent classes" if uniform else "Training estimates the class frequencies"
    return f"{used}; by the graph, in per cent: {shares}."


def metrics_list(result: Result, classes: tuple[str, ...]) -> str:
    """The measurements of an experiment, before and after training, as a list."""
    lines, views = [], result.training.recipe.tta_views
    for name, evaluation in (("untrained", result.untrained), ("trained", result.trained)):
        correct, n = int(evaluation.correct.sum()), len(evaluation.correct)
        lines.append(f"- {name}: average NLL {evaluation.nll:.4f}, accuracy {correct}/{n} ({100 * evaluation.accuracy:.2f} %)")
    if views:
        once = 100 * list(result.test_accuracy.values())[-1]
        lines.append(f"- without test-time augmentation {once:.2f} %; the accuracy above averages {1 + views} views")
    counts, shares = result.trained.confusion.sum(dim=1).tolist(), result.trained.recall.tolist()
    recall = [f"{plain(c)} {100 * r:.1f} of {n}" for c, r, n in zip(classes, shares, counts, strict=True) if n]
    lines.append(f"- recall of each class, per cent of its test images: {', '.join(recall)}")
    if untested := [plain(c) for c, n in zip(classes, counts, strict=True) if not n]:
        lines.append(f"- without a test image: {', '.join(untested)}")
    if result.held_out:
        correct, n = int(result.held_out.correct.sum()), len(result.held_out.correct)
        lines.append(f"- on the labels held out: {correct}/{n} ({100 * result.held_out.accuracy:.2f} %)")
    return "\n".join(lines)


def run_sentences(run: Run, result: Result, seconds: float, missing: list[str]) -> str:
    """The result of one run, before and after training; `missing` names the classes without a label."""
    trained, clustering = result.trained, result.clustering
    right, n = int(trained.correct.sum()), len(trained.correct)
    low, high = (f"{100 * bound:.2f}" for bound in intervals.proportion(right, n))
    sentences = []
    if clustering and n:
        sentences.append(
            f"**Without a label** `{run.recipe}` finds {len(clustering.names)} clusters. Named by the classes that fit them best,"
            f" they are right for **{100 * trained.accuracy:.2f} %** of the {tested([n])} (*clustering accuracy*, 95 % interval:"
            f" {low} to {high}); adjusted Rand index {clustering.ari:.4f}, normalised mutual information {clustering.nmi:.4f}."
        )
    elif clustering:
        sentences.append(
            f"**Without a label** `{run.recipe}` finds {len(clustering.names)} clusters; no image tells how good they are."
        )
    else:
        sentences.append(
            f"With **{run.n_labels} labels** `{run.recipe}` classifies **{100 * trained.accuracy:.2f} %** of the"
            f" {tested([n])} correctly (95 % interval: {low} to {high}), against {100 * result.untrained.accuracy:.2f} % before"
            f" training, after {seconds:.0f} seconds."
        )
    if missing:
        sentences.append(f"No label covers {', '.join(map(plain, missing))}: the network cannot learn such a class.")
    if run.smoke:
        sentences.append("*This was a smoke run: the numbers mean nothing.*")
    return " ".join(sentences)
