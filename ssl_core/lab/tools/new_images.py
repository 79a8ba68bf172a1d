"""New images for a finished run: read as those of training were, put into their frame where it is known, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_core.data import Pixels
from ssl_core.datasets import SIDE
from ssl_core.datasets.decoding import read_all
from ssl_core.datasets.framing import SIZE, Framing
from ssl_core.datasets.pixels import UnreadableImage, background, read_grey, reduced
from ssl_core.datasets.scan import images_below
from ssl_core.datasets.tables import counted
from ssl_core.familiarity import LEAST, Familiarity

from .trained import Trained

EXCHANGED, FRAMED = "light and dark exchanged", "cut out and centred"
# The fractions of training images that would count as far. A changed image must be more familiar than one that is as it was:
# it was made to look like them. Chosen on held-out training images of MNIST, photographed, and on letters and clothes.
FAR, CHANGED_FAR = 0.1, 0.15
MANY = 0.3  # of new images that are far: more than twice as many as of those of training
CHUNK = 1000  # images whose figures are looked for at a time


@dataclass(frozen=True)
class NewImages:
    """Images below a folder, as the run's network sees them."""

    names: list[str]
    x: Pixels | Tensor  # (N, C, side, side), normalised
    changes: np.ndarray  # (N,), texts: what was changed to make an image like those of training; '' if nothing was
    far: np.ndarray | None  # (N,), which are unlike all training images; None if these are too few to tell, or gone
    skipped: list[tuple[str, str]]  # files that are left out, and why
    notes: list[tuple[str, str]] = field(default_factory=list)  # files that are not used whole, and what of them is not


class Reader:
    """Reads new images for a run."""

    def __init__(self, trained: Trained):
        self.trained = trained
        sample = trained.sample
        self.familiarity = None
        if sample is not None and len(sample) >= LEAST:
            self.familiarity = Familiarity(trained.model, trained.normalized(sample))
        self.framing: Framing | None = None
        self.unframed = False  # whether they have a common framing that new images are not put into: not of another side
        self.dark = False  # whether the background of the training images is even and dark
        if sample is not None and sample.shape[1] == 1:
            framing, at_28 = Framing.of(reduced(sample.transpose(0, 2, 3, 1))[..., 0]), trained.model.side == SIDE
            self.framing, self.unframed = framing if at_28 else None, framing is not None and not at_28
            self.dark = _has_background(sample, light=False)

    def read(self, folder: Path) -> NewImages:
        """The images below `folder`; raises ValueError if there is none that can be read."""
        if not folder.is_dir():
            raise ValueError(f"IMAGES={str(folder)!r}: must be a folder of images")
        names, skipped = images_below(folder)
        pixels: dict[str, np.ndarray] = {}
        notes = []
        for name, result in zip(names, read_all([folder / name for name in names], self.trained.model.side), strict=True):
            try:
                frame = result.result()
            except UnreadableImage as error:
                skipped.append((name, str(error)))
                continue
            pixels[name] = frame.pixels(self.trained.scale)
            notes += [(name, text) for text in frame.notes]
        if not pixels:
            raise ValueError(f"IMAGES={str(folder)!r}: no image that can be read among {len(skipped)} files")
        plain = self.trained.as_trained(np.stack(list(pixels.values())))
        changed, changes = self._put_right(plain, [folder / name for name in pixels])
        x = self.trained.normalized(changed)
        return NewImages(list(pixels), x, changes, self.far(x, changed, changes), skipped, notes)

    def far(self, x: Tensor, pixels: np.ndarray, changes: np.ndarray) -> np.ndarray | None:
        """Which (N,) of the images are unlike those of training; None if that can't be known."""
        if self.familiarity is None:
            return None
        limits = np.where(changes == "", *map(self.familiarity.limit, (FAR, CHANGED_FAR)))
        far = self.familiarity.distance(x).numpy() > limits
        return far if self.framing is None else far | ~self.framing.fits(pixels[:, 0])

    def _put_right(self, pixels: np.ndarray, paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, C, side, side) with the changes that make them like those of training; and these changes, in words."""
        changes = np.full(len(pixels), "", dtype=object)
        if self.dark:
            light = np.array([_has_background(image[None], light=True) for image in pixels])
            pixels = np.where(light[:, None, None, None], 255 - pixels, pixels)
            changes[light] = EXCHANGED
        if self.framing is not None:
            others = np.flatnonzero(~self.framing.fits(pixels[:, 0]))
            for start in range(0, len(others), CHUNK):
                index = others[start : start + CHUNK]
                for i, (image, inverted) in self._framed(index, paths):
                    pixels[i, 0], changes[i] = image, f"{EXCHANGED}, {FRAMED}" if inverted else FRAMED
        return pixels, changes

    def _framed(self, index: np.ndarray, paths: Sequence[Path]) -> Iterator[tuple[int, tuple[np.ndarray, bool]]]:
        """For each of the images `index` that has a figure: it, in the frame of the training images, and whether it was dark.

        Of two that may be the figure, the more familiar one.
        """
        assert self.framing is not None  # asked by the caller
        found = []
        for i in index.tolist():
            image = read_grey(paths[i], SIZE, self.trained.scale)
            found += [(i, each) for each in self.framing.framed(255 - image if self.trained.inverted else image)]
        if not found:
            return
        distance = np.zeros(len(found))
        if self.familiarity is not None:
            x = self.trained.normalized(np.stack([image for _, (image, _) in found])[:, None])
            distance = self.familiarity.distance(x).numpy()
        best: dict[int, int] = {}
        for at in np.argsort(-distance, kind="stable"):  # the most familiar one last
            best[found[at][0]] = at
        for i, at in best.items():
            yield i, found[at][1]

    def sentences(self, images: NewImages) -> list[str]:
        """What was not used, what was changed and what is unlike the training images, in sum."""
        n = len(images.names)
        counts = {change: sum(change in each for each in images.changes) for change in (EXCHANGED, FRAMED)}
        lines = [f"{several(names)}: {text}." for text, names in by_text(images.notes).items()]
        if made := ", ".join(f"{change} ({count})" for change, count in counts.items() if count):
            changed = sum(images.changes != "")
            lines.append(f"{changed} of {counted(n, 'image')} changed to look like those of training: {made}.")
        if self.unframed:
            lines.append(f"Figures are not cut out and centred: that is done at {SIDE} × {SIDE} pixels alone, not of this run's.")
        if self.trained.sample is None:
            lines.append(
                "Whether these images look like those of training can't be told, nor are they changed: those are not here."
            )
        elif images.far is None:
            lines.append("Whether these images look like those of training can't be told: of those, too few are kept.")
        elif count := int(images.far.sum()):
            share = count / n
            are = f"{counted(count, 'image')} ({100 * share:.1f} %) {'is' if count == 1 else 'are'}"
            lines.append(f"{are} far from all training images: abstained on, however confident.")
            if share > MANY:
                lines.append("As a whole, these images look unlike those of training: do not rely on the other answers either.")
        return lines


def by_text(told: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The files of which the same is told."""
    files: dict[str, list[str]] = {}
    for file, text in told:
        files.setdefault(text, []).append(file)
    return files


def several(names: Sequence[str]) -> str:
    """`a.png and 2 more`."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _has_background(images: np.ndarray, *, light: bool) -> bool:
    """Whether images (N, 1, H, H), bytes, have an even background, all the same, and whether it is a light or a dark one."""
    color, even = background(images.transpose(0, 2, 3, 1))
    return even and bool(color.mean() > 127) == light
