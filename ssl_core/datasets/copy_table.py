"""The copies in a data set as a table, and what there is to say of them: leaks into the test images, labels that disagree."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .copies import groups
from .duplicates import Pair
from .tables import counted

LABELED, UNLABELED, TEST, LEFT_OUT = PARTS = ("labelled", "unlabelled", "test", "left out")
LISTS = ": make duplicates lists them"
BEST = {"exact": 2, "near": 1, "one photo": 0}  # the kinds, by how much they say


class Copy(NamedTuple):
    """An image of which there are copies; all fields are text."""

    file: str
    group: str  # the first file of all its copies
    part: str  # one of PARTS
    label: str
    copy_of: str  # the one that it is most like
    kind: str  # exact, near or one photo
    likeness: str


def part(label: str, *, is_test: bool, is_used: bool = True) -> str:
    """The part of a data set that an image belongs to."""
    if not is_used:
        return LEFT_OUT
    return TEST if is_test else LABELED if label else UNLABELED


def table(names: Sequence[str], parts: Sequence[str], labels: Sequence[str], pairs: Iterable[Pair]) -> list[Copy]:
    """A row for each image that is in one of the `pairs`, by group and name; names, parts and labels are of all images.

    The rows do not depend on the order of the images.
    """
    pairs = list(pairs)
    same = _members(names, [pair for pair in pairs if pair.kind == "exact"])
    group = groups(len(names), [(pair.i, pair.j) for pair in pairs])
    first: dict[int, str] = {}
    best: dict[int, tuple[int, float, str]] = {}  # of each image: kind, likeness and name of its best copy

    def offer(i: int, pair: Pair, other: str) -> None:
        rank = BEST[pair.kind], pair.likeness
        if i not in best or rank > best[i][:2] or (rank == best[i][:2] and other < best[i][2]):
            best[i] = (*rank, other)

    for pair in pairs:
        first[group[pair.i]] = min(first.get(group[pair.i], names[pair.i]), names[pair.i], names[pair.j])
        for i, j in ((pair.i, pair.j), (pair.j, pair.i)):
            twins = [names[k] for k in same.get(j, [j]) if k != i]
            offer(i, pair, min(twins))
    kinds = {rank: kind for kind, rank in BEST.items()}
    rows = [
        Copy(names[i], first[group[i]], parts[i], labels[i], other, kinds[rank], f"{likeness:.4f}" if likeness else "")
        for i, (rank, likeness, other) in best.items()
    ]
    return sorted(rows, key=lambda row: (row.group, row.file))


def _members(names: Sequence[str], exact: Iterable[Pair]) -> dict[int, list[int]]:
    """Of each image that has exact copies: these and itself, by name."""
    clusters: dict[int, list[int]] = {}
    for i, j, *_ in exact:  # each with the first of its kind
        clusters.setdefault(i, [i]).append(j)
    return {k: sorted(cluster, key=lambda k: names[k]) for cluster in clusters.values() for k in cluster}


def by_group(rows: Iterable[Copy]) -> dict[str, list[Copy]]:
    """The rows of each group."""
    found: dict[str, list[Copy]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return found


def twins(rows: Iterable[Copy], part: str) -> dict[str, str]:
    """The test images that have a copy in `part`, each with that copy: the one that it is most like, if this is in `part`."""
    found: dict[str, str] = {}
    for members in by_group(rows).values():
        others = [row.file for row in members if row.part == part]
        tests = [row for row in members if row.part == TEST]
        found |= {row.file: row.copy_of if row.copy_of in others else others[0] for row in tests if others}
    return dict(sorted(found.items()))


def disagreeing(rows: Iterable[Copy]) -> list[tuple[Copy, Copy]]:
    """Two images of each group that has several labels, with different labels."""
    pairs = []
    for members in by_group(rows).values():
        labeled = [row for row in members if row.label]
        pairs += [(labeled[0], other) for other in labeled[1:] if other.label != labeled[0].label][:1]
    return pairs


def why(row: Copy, members: Sequence[Copy]) -> str:
    """What is the matter with an image and its copies, the `members` of its group; '' if nothing is."""
    told = []
    if other := next((each for each in members if row.label and each.label and each.label != row.label), None):
        told.append(f"{other.file} has another label, {other.label}")
    parts = {each.part for each in members}
    if TEST in parts and (trained := parts & {LABELED, UNLABELED}):
        told.append(f"one is a test image, one {' and one '.join(sorted(trained))}")
    return "; ".join(told)


def sentences(rows: Sequence[Copy], n_test: int) -> list[str]:
    """What there is to say of the copies in a data set with `n_test` test images; nothing if there are none."""
    if not rows:
        return []
    told = [*_leaks(rows, LABELED, "a labelled", "the accuracy may be too high", n_test)]
    told += _leaks(rows, UNLABELED, "an unlabelled", "on new images the accuracy may be lower", n_test)
    if pairs := disagreeing(rows):
        one, other = pairs[0]
        which = f"{one.file} ({one.label}) and {other.file} ({other.label})"
        have = "have" if len(pairs) > 1 else "has"
        told.append(f"{counted(len(pairs), 'group')} of copies {have} several labels, such as {which}: at least one is wrong")
    n_groups, exact = len({row.group for row in rows}), sum(row.kind == "exact" for row in rows)
    by_part = ", ".join(f"{count} {part}" for part in PARTS if (count := sum(row.part == part for row in rows)))
    told.append(f"{len(rows)} images in {counted(n_groups, 'group')} of copies, {exact} exact ({by_part}){LISTS}")
    return told


def _leaks(rows: Sequence[Copy], part: str, a: str, consequence: str, n_test: int) -> list[str]:
    """The sentence about test images that are near copies of images in `part`, if there are any."""
    exact = {row.file for row in rows if row.kind == "exact"}
    found = [(file, twin) for file, twin in twins(rows, part).items() if not {file, twin} <= exact]
    if not found:
        return []
    such = f"such as {found[0][0]} and {found[0][1]}"
    return [f"{len(found)} of {n_test} test images are nearly the same as {a} one, {such}: {consequence}"]
