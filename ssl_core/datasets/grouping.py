"""Groups of images that belong together, by the column `group` of a table: a burst, a page, a writer. Each stays on one side."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence


def drawn(labels: Sequence[str], groups: Sequence[int], share: int) -> set[int]:
    """The groups whose images become test images, so that these are about one in `share` of each class.

    `labels` and `groups` are those of labelled images, in an order that decides which groups come first. Each class keeps an
    image to train with. Empty if no group can be taken so.
    """
    draw = _Draw(labels, groups, share)
    for group in dict.fromkeys(groups):
        if draw.gain(group) > 0:
            draw.take(group)
    for label in sorted(draw.wanted):
        if draw.wanted[label] and not draw.taken[label]:  # one more, although there are then too many of another class
            draw.take_best(group for group, counts in draw.counts.items() if label in counts)
    if not draw.members:
        draw.take_best(draw.counts)
    return draw.members


class _Draw:
    """The groups taken so far, and how far their images are from the numbers that are wanted."""

    def __init__(self, labels: Sequence[str], groups: Sequence[int], share: int):
        self.counts: dict[int, Counter[str]] = {}
        for label, group in zip(labels, groups, strict=True):
            self.counts.setdefault(group, Counter())[label] += 1
        self.total = Counter(labels)
        self.wanted = {label: count // share for label, count in self.total.items()}
        self.taken: Counter[str] = Counter()
        self.members: set[int] = set()

    def gain(self, group: int) -> float:
        """By how much the group brings the classes nearer to what is wanted, in squared differences; −inf: not allowed."""
        if not self.is_allowed(group):
            return -float("inf")
        gain = 0.0
        for label, count in self.counts[group].items():
            wanted = max(1, self.wanted[label])
            before = self.taken[label] - self.wanted[label]
            gain += (before**2 - (before + count) ** 2) / wanted**2
        return gain

    def is_allowed(self, group: int) -> bool:
        """Whether each class keeps an image to train with."""
        counts = self.counts[group]
        return group not in self.members and all(self.taken[label] + counts[label] < self.total[label] for label in counts)

    def take(self, group: int) -> None:
        self.members.add(group)
        self.taken += self.counts[group]

    def take_best(self, groups: Iterable[int]) -> None:
        """Takes the group that does least harm, of those that may be taken."""
        allowed = [group for group in groups if self.is_allowed(group)]
        if allowed:
            self.take(max(allowed, key=self.gain))


def on_both_sides(groups: Mapping[str, str], train: Iterable[str], test: Iterable[str]) -> list[tuple[str, str, str]]:
    """The groups, of files by their group, that have a file on both sides; each with its first files of `train` and of `test`."""
    first: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for side, files in zip(first, (train, test), strict=True):
        for file in sorted(files):
            if group := groups.get(file):
                side.setdefault(group, file)
    return [(group, first[0][group], first[1][group]) for group in sorted(first[0].keys() & first[1].keys())]
