"""Checks labels by each other: a list of those that are probably wrong, the worst first, and a sheet of pictures to decide from.

`make check-labels DATA=folder` writes both, and says how many labels are wrong by estimate. It changes no label: what somebody
decides in the list, or in `notebooks/check_labels.ipynb`, does; see label_decisions.py.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_core import datasets, label_errors
from ssl_core.datasets import DATA_SETS, DataSetInfo, check_name, describe, tables
from ssl_core.datasets.machine import lock
from ssl_core.datasets.tables import counted
from ssl_core.graph import Neighbors
from ssl_core.label_errors import LabelCheck
from ssl_core.recipes import BEST

from ..features import kept
from ..runs import files, graph_cache
from ..runs.spec import side_of
from ..studies import run_figures
from . import label_by_hand, label_decisions, label_images, label_next
from .label_decisions import LIST, is_suspect
from .label_file import lock_of
from .label_next import Earlier, Given, Pool

COLUMNS = ("given", "suggested", "evidence", "why", "decision")
LISTED = 0.05  # evidence from which a label is listed
MOST = 1000  # rows
ON_SHEET = 50  # images
NEAREST = 5  # labelled neighbours of which the reason tells
CONTRADICTORY = 0.4  # of the labels: if more are wrong, those that speak for a class may be the wrong ones
SHOWN = 3  # confused pairs, or classes, that are named
NONE = "nothing can be cross-checked"


# --- which labels


def labels_of(name: str, outputs: Path, side: int = 0) -> tuple[Pool, DataSetInfo, Given, list[str]]:
    """The images of the data set, or the folder, `name`, what is known of them, and their labels; also what is to be told.

    Of a folder these are its own. Of a named set they are those that somebody gave in the label_next.csv in `outputs`, or else
    the set's own. Raises ValueError if there is none.
    """
    if name in DATA_SETS:
        return _labels_of_set(name, outputs, side)
    info, arrays = datasets.load(name, files.DATA, side)
    told = [f"{counted(info.n_test, 'image')} in test/: not checked"] if info.own_test and info.n_test else []
    problem = info.problem
    info, images = label_images.whole(name, info, arrays)
    pool = Pool(images, "file", info.files, (), Path(name))
    given = label_next.given(pool, Earlier())
    if not len(given.labeled):
        raise ValueError(problem or f"data={name!r}: must have labels to check")
    return pool, info, given, told


def _labels_of_set(name: str, outputs: Path, side: int) -> tuple[Pool, DataSetInfo, Given, list[str]]:
    pool, info = label_next.pool(name, side), describe(name, files.DATA, side, for_training=False)
    path = outputs / label_by_hand.LIST
    earlier = label_next.read_list(path, pool)
    given = label_next.given(pool, earlier)
    if len(given.labeled):
        told = [f"{path.name}: {each}" for each in (*earlier.notes, *label_next.contradictions(earlier, pool))]
        return pool, info, given, [*told, f"the labels are those in {path}"]
    labeled = torch.nonzero(pool.images.y >= 0).flatten()
    own = f"the labels are the {len(labeled)} of {name} itself: nobody gave any in {path}"
    return pool, info, Given(labeled, pool.images.y[labeled], labeled[:0], pool.images.classes), [own]


# --- the check, in words


def sentences(check: LabelCheck, classes: Sequence[str]) -> Iterator[str]:
    """What the check found: how many labels are wrong, which classes are confused, and what could not be checked."""
    n_checked, n_suspects = int(check.checked.sum()), int(check.suspect.sum())
    n_wrong = f"about {check.n_wrong:.0f} wrong ({check.low:.0f} to {check.high:.0f} in nine of ten resamples)"
    yield f"{counted(n_checked, 'label')} of {len(classes)} classes checked, {n_wrong}, {counted(n_suspects, 'suspect')}"
    if pairs := confused(check, classes):
        told = [f"{true} labelled {given} (about {count:.0f})" for true, given, count in pairs[:SHOWN]]
        yield f"most often: {', '.join(told)}"
    if check.n_wrong > CONTRADICTORY * n_checked:
        share = 100 * check.n_wrong / n_checked
        yield f"the labels contradict each other so often ({share:.0f} %) that the list can't be trusted: label some anew"
    if check.graph_misleads:
        yield (
            f"the labels hardly follow from one another (Cohen's kappa {check.agreement:.2f}): images are alike in another way"
            " than their classes, or most labels are wrong. The list can't be trusted, and `best` learns from the labels alone"
        )
    yield from _unchecked(check, classes)


def _unchecked(check: LabelCheck, classes: Sequence[str]) -> Iterator[str]:
    alone = [classes[c] for c in check.y_l[~check.checked].unique().tolist()]
    if alone:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        which = f"{', '.join(alone[:SHOWN])}{more}"
        n = counted(len(check.y_l) - int(check.checked.sum()), "label")
        yield f"{n} not checked, for want of another believable label of the class: {which}"


def confused(check: LabelCheck, classes: Sequence[str]) -> list[tuple[str, str, float]]:
    """The pairs of a class and another one that it was given as, with the expected number, the most frequent first."""
    expected = torch.zeros(len(classes), len(classes)).index_add_(0, check.y_l, check.p * check.checked[:, None])
    expected.fill_diagonal_(0)  # (given, true)
    pairs = [(expected[given, true].item(), given, true) for given, true in torch.nonzero(expected >= 0.5).tolist()]
    return [(classes[true], classes[given], number) for number, given, true in sorted(pairs, reverse=True)]


# --- the list


def rows(pool: Pool, given: Given, check: LabelCheck, neighbors: Neighbors) -> tuple[list[dict[str, str]], int]:
    """The rows of the list, the worst first, then those that could not be checked; and how many more are not listed."""
    order = check.p_wrong.argsort(descending=True, stable=True)
    order = order[check.p_wrong[order] >= LISTED]
    alone = torch.nonzero(~check.checked).flatten()
    which = torch.cat([order, alone])[:MOST]
    near = nearest(neighbors.features, given.labeled, which)
    listed = [_row(pool, given, check, i, near_i) for i, near_i in zip(which.tolist(), given.y_l[near], strict=True)]
    return listed, len(order) + len(alone) - len(which)


def _row(pool: Pool, given: Given, check: LabelCheck, i: int, near: Tensor) -> dict[str, str]:
    """The row of the label `i`, whose nearest labelled images have the classes `near` (K,)."""
    y, suggested = int(given.y_l[i]), int(check.suggested[i])
    row = {pool.column: str(pool.names[int(given.labeled[i])]), "given": given.classes[y], "suggested": "", "evidence": ""}
    if not check.checked[i]:
        return row | {"why": _alone(int((given.y_l == y).sum()))}
    if suggested == y:  # listed, since another class is possible
        suggested = int(check.p[i].clone().index_fill_(0, torch.tensor([y]), -1).argmax())
    why = reason(Counter(given.classes[c] for c in near.tolist()), given.classes[y], given.classes[suggested])
    return row | {"suggested": given.classes[suggested], "evidence": f"{check.p_wrong[i]:.3f}", "why": why}


def _alone(n: int) -> str:
    return "the only label of its class" if n == 1 else "the other labels of its class are not believed"


def reason(near: Counter[str], given: str, suggested: str) -> str:
    """What the nearest labelled neighbours, of which `near` are of each class, say of the label `given`."""
    n = near.total()
    if not near[suggested]:
        are = _are(near[given])
        return f"labels further off say {suggested}; {near[given] or 'none'} of its {n} nearest labelled neighbours {are} {given}"
    also = f", {near[given]} {_are(near[given])} {given}" if near[given] else ""
    return f"{near[suggested]} of its {n} nearest labelled neighbours {_are(near[suggested])} {suggested}{also}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def nearest(features: Tensor, labeled: Tensor, which: Tensor) -> Tensor:
    """The NEAREST labelled images of some labelled images, by cosine similarity: positions (W, NEAREST) in `labeled` (M,).

    `which` (W,) are positions in `labeled`, too.
    """
    x = F.normalize(features[labeled].float(), dim=1)
    found = []
    for part in which.split(200):  # 48 MB for 60,000 labels
        similarity = x[part] @ x.T
        similarity[torch.arange(len(part)), part] = -torch.inf
        found.append(similarity.topk(min(NEAREST, len(labeled) - 1), dim=1).indices)
    return torch.cat(found) if found else which.new_zeros((0, 0))


def write_list(path: Path, pool: Pool, fresh: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], str]:
    """Writes the list with what somebody typed into the earlier one; its rows, and what is to be said of the earlier one.

    Raises ValueError if that can't be read.
    """
    with lock(lock_of(path)):
        columns, typed, told = _read_typed(path, pool.column)
        numbers = pool.numbers([row[pool.column] for row in typed])
        of_image: dict[str, dict[str, str]] = {}
        rest = []
        for row, number in zip(typed, numbers, strict=True):
            name = str(pool.names[number]) if number is not None and number >= 0 else ""
            if not name or name in of_image:
                rest.append(row)
            else:
                of_image[name] = row
        listed = [_merged(row, of_image.pop(row[pool.column], None)) for row in fresh]
        listed += [*of_image.values(), *rest]
        tables.write(path, columns, listed)
    return listed, told


def _merged(fresh: dict[str, str], typed: dict[str, str] | None) -> dict[str, str]:
    """A row with what was typed into the earlier one; that one whole, if the label is another than was decided on."""
    if typed is None:
        return fresh
    is_same = fresh["given"] in (typed.get("given"), typed["decision"])
    return typed | {name: cell for name, cell in fresh.items() if name not in ("decision", "file", "index")} if is_same else typed


def _read_typed(path: Path, column: str) -> tuple[Sequence[str], list[dict[str, str]], str]:
    """The columns of the list, and the rows of the earlier one in which somebody typed; a list of another kind is kept beside.

    Raises ValueError if the earlier one can't be read.
    """
    ours = (column, *COLUMNS)
    if sentence := tables.nearly(path.parent, path.name):
        raise ValueError(sentence)
    if not path.exists():
        return ours, [], ""
    try:
        table = tables.read(path, (column, "decision"))
    except ValueError:
        tables.read(path, ("file" if column == "index" else "index", "decision"))  # of other images; else it says what is wrong
        kept = files.keep_beside(path, path.read_bytes())
        return ours, [], f"the former {path.name}, of other images, is kept as {kept.name}"
    told = "".join(f"{path.name}: {note}" for note in table.notes[:1])
    if table.notes:
        files.keep_beside(path, path.read_bytes())
    own = [name for name in table.columns if name not in ours]
    typed = [row for row in table.rows if row["decision"] or any(row[name] for name in own)]
    return (*ours, *own), typed, told


def write_sheet(path: Path, pool: Pool, listed: Sequence[dict[str, str]]) -> None:
    """Writes the picture of the ON_SHEET worst that are not decided; removes a former one if there is none."""
    worst = [row for row in listed if row["evidence"] and not row.get("decision") and row[pool.column] in pool.by_name][:ON_SHEET]
    path.unlink(missing_ok=True)
    if worst:
        titles = [f"{row['given'][:8]} → {row['suggested'][:8]}  {row['evidence']}" for row in worst]
        x = pool.images.x[[pool.by_name[row[pool.column]] for row in worst]]
        title = "Given label → what the other labels suggest, and the evidence that the given one is wrong"
        run_figures.images(x, titles, columns=min(10, len(worst)), title=title).savefig(path)


# --- the command


def check(data: str = "mnist", outputs: str = "outputs", side: str = "", features: str = "") -> Path:
    """Checks the labels of the data set, or the folder, `data`; writes list and sheet into `outputs`, and prints what it found.

    `features` from elsewhere, as `make` takes them, can be in place of our own.
    Raises ValueError for bad arguments, and if there is no label. The list.
    """
    name, folder = files.located(data), files.writable("OUTPUTS", files.outputs(outputs))
    check_name(name)
    path = folder / LIST
    pool, info, given, told = labels_of(name, folder, side_of(name, side))
    label_decisions.check_classes(given.classes)
    _read_typed(path, pool.column)  # what is wrong with it is said before any work
    for sentence in told:
        _tell(sentence)
    sizes = torch.bincount(given.y_l, minlength=len(given.classes))
    if sizes.max() < 2 or (sizes > 0).sum() < 2:
        fresh, left = [_only(pool, given, i) for i in range(len(given.labeled))][:MOST], max(0, len(given.labeled) - MOST)
        what = "each class has one label" if sizes.max() < 2 else f"all labels are {given.classes[int(sizes.argmax())]}"
        _tell(f"{counted(len(given.labeled), 'label')}, but {NONE}: {what}")
    else:
        elsewhere = kept.prepare(features, name)
        neighbors = graph_cache.load(pool.images, label_images.pretraining_of(info), info=info, features=elsewhere)
        n, n_classes = len(given.labeled), len(given.classes)
        uniform, alpha = info.uniform_prior, BEST.check_alpha_for(n, n_classes)
        found = label_errors.check(neighbors, given.labeled, given.y_l, n_classes, uniform_prior=uniform, alpha=alpha)
        for sentence in sentences(found, given.classes):
            _tell(sentence)
        fresh, left = rows(pool, given, found, neighbors)
    listed, former = write_list(path, pool, fresh)
    write_sheet(path.with_suffix(".png"), pool, listed)
    for sentence in (former, *_what_next(path, data, listed, left)):
        if sentence:
            _tell(sentence)
    return path


def _only(pool: Pool, given: Given, i: int) -> dict[str, str]:
    """The row of a label where no label can be checked."""
    y = int(given.y_l[i])
    why = _alone(1) if int((given.y_l == y).sum()) == 1 else "the only class that has labels"
    name = str(pool.names[int(given.labeled[i])])
    return {pool.column: name, "given": given.classes[y], "suggested": "", "evidence": "", "why": why}


def _what_next(path: Path, data: str, listed: Sequence[dict[str, str]], left: int) -> Iterator[str]:
    n_decided = sum(bool(row.get("decision")) for row in listed)
    kept = f", {counted(n_decided, 'decision')} kept" if n_decided else ""
    more = f", {left} with less evidence left out" if left else ""
    yield f"{counted(len(listed), 'label')} in {path}{kept}{more}"
    if any(is_suspect(row) and not row.get("decision") for row in listed):
        yield "decide in notebooks/check_labels.ipynb (make lab), one key each; or type keep, drop, no class, or a class into"
        yield f"the column decision, then make check-labels DATA={data} APPLY={path}; no label was changed now"


def _tell(sentence: str) -> None:
    print(f"check-labels: {sentence}", flush=True)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="mnist", help="a data set's name, or the path of a folder of images")
    parser.add_argument("--side", default="", help="the side of the images in pixels, as of make sweep")
    parser.add_argument("--outputs", default="outputs", help="where list and sheet go, from the project's root")
    parser.add_argument("--features", default="", help="from elsewhere: torchvision:NAME, timm:NAME, an ONNX file or a table")
    parser.add_argument(
        "--apply", default="", help="a list with decisions, to bring into the table of labels; nothing is checked"
    )


def command(args: argparse.Namespace) -> None:
    if args.apply.strip():
        for sentence in label_decisions.apply(files.located(args.data), files.expanded("APPLY", args.apply)):
            _tell(sentence)
    else:
        check(args.data, args.outputs, args.side, args.features)
