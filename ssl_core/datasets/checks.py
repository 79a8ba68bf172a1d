"""Is a value one that can be worked with? Each check raises ValueError, naming the parameter, its value and what it must be."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, ClassVar, Protocol, get_args, get_origin

from .info import SIDE

MOST_CLASSES = 1000  # of a folder of images
FOLDS = 5  # of a cross-validation
DRAWS = ("random", "class-balanced", "typical")
LARGER = range(32, 97)  # pixels, the sides of images beside SIDE that there are networks for


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def require(condition: bool, owner: object, parameter: str, allowed: str) -> None:
    """Raises ValueError, naming the field `parameter` of `owner`, its value and what is allowed, unless `condition`."""
    if not condition:
        raise ValueError(f"{parameter}={getattr(owner, parameter)!r}: must be {allowed}")


def check_types(owner: Dataclass) -> None:
    """Raises ValueError, naming the field, unless each field of a dataclass is of its declared type; numbers must be finite."""
    for each in fields(owner):
        require(_is_a(getattr(owner, each.name), each.type), owner, each.name, _in_words(each.type))  # type: ignore[arg-type]  # types are hashable


@cache
def _in_words(kind: object) -> str:
    """What a field of that type must be."""
    words: dict[object, str] = {int: "a whole number", float: "a finite number"}
    words[tuple[float, float]] = "(low, high), two finite numbers"
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _is_a(value: object, kind: object) -> bool:
    if kind in (int, float):  # the frequent kinds come first: a table of runs makes thousands of recipes
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool) and isfinite(value)
    if isinstance(kind, type):
        return isinstance(value, kind)
    kinds = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is_a(value, one) for one in kinds)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_a, value, kinds))
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(_is_a(k, kinds[0]) and _is_a(v, kinds[1]) for k, v in value.items())
    return False


def check_draw(draw: object) -> None:
    """Raises ValueError unless `draw` is a known way to draw the labelled images."""
    if draw not in DRAWS:
        raise ValueError(f"draw={draw!r}: must be one of {', '.join(DRAWS)}")


def check_label_noise(fraction: object) -> None:
    """Raises ValueError unless `fraction` is a number from 0 to below 1."""
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 <= fraction < 1:
        raise ValueError(f"label_noise={fraction!r}: must be a number from 0 to below 1")


def check_fold(fold: object, n_labels: int) -> None:
    """Raises ValueError unless `fold` is 0, or one of the parts into which `n_labels` images can be divided."""
    most = FOLDS if n_labels >= FOLDS else 0
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold <= most:
        raise ValueError(f"fold={fold!r}: must be a whole number from 0 to {most} with {n_labels} labels")


def check_n_labels(n_labels: object, most: int = 60_000, least: int = 1) -> None:
    """Raises ValueError unless `n_labels` is a whole number from `least` to `most`, the images whose label may be used."""
    if not isinstance(n_labels, int) or isinstance(n_labels, bool) or not least <= n_labels <= most:
        raise ValueError(f"n_labels={n_labels!r}: must be a whole number from {least} to {most}")


def check_n_clusters(n_clusters: object, n_labels: int) -> None:
    """Raises ValueError unless `n_clusters` is 0, or, without labels, a number of clusters that can stand in for classes."""
    allowed = "0 with labels" if n_labels else f"0, for as many as there are classes, or from 2 to {MOST_CLASSES}"
    if n_labels or not isinstance(n_clusters, int) or isinstance(n_clusters, bool):
        valid = n_clusters == 0 and isinstance(n_clusters, int) and not isinstance(n_clusters, bool)
    else:
        valid = n_clusters == 0 or 2 <= n_clusters <= MOST_CLASSES
    if not valid:
        raise ValueError(f"n_clusters={n_clusters!r}: must be {allowed}")


def check_side(side: object) -> int:
    """The `side`; raises ValueError unless there is a network for images of `side` × `side` pixels, or for 0: what fits them."""
    if not isinstance(side, int) or isinstance(side, bool) or side not in (0, SIDE, *LARGER):
        allowed = f"{SIDE}, or a whole number from {LARGER[0]} to {LARGER[-1]}; 0: as it fits the images"
        raise ValueError(f"side={side!r}: must be {allowed}")
    return side


def check_seed(seed: object) -> int:
    """The `seed`; raises ValueError unless `seed` is a whole number from 0 to 2**32 - 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: must be a whole number from 0 to {2**32 - 1}")
    return seed


def check_whole(name: str, value: object) -> int:
    """The `value` of the parameter `name`; raises ValueError unless it is a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number from 1")
    return value
