"""The style of figures: one colour, marker and dash for each recipe, and the axes that several figures share."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib.style
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib_inline.backend_inline import set_matplotlib_formats
from numpy.typing import ArrayLike

# The colours are Okabe and Ito's, which colour-blind readers can tell apart.
STYLE = {
    "best": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "supervised": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "quick": {"color": "#56B4E9", "marker": "P", "linestyle": "--"},
    "corrected": {"color": "#009E73", "marker": "^", "linestyle": "-."},
    "linear": {"color": "#CC79A7", "marker": "X", "linestyle": "-."},
    "published": {"color": "#D55E00", "marker": "v", "linestyle": ":"},
}
OTHER = {"color": "#666666", "marker": "D", "linestyle": "-"}
GAINS = (-50, -20, -10, -5, -2, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # ticks of an axis of points


def style(recipe: str) -> dict[str, str]:
    """Colour, marker and dash of a recipe."""
    return STYLE.get(recipe, OTHER)


def order(recipe: str) -> tuple[int, str]:
    """Sorts recipes in the order of STYLE, others after them by name."""
    names = list(STYLE)
    return (names.index(recipe) if recipe in names else len(names), recipe)


@cache
def use_style() -> None:
    """Sets Matplotlib's defaults to style.mplstyle, whatever a matplotlibrc says; in a notebook figures get twice the
    pixels, for fine screens and paper.
    """
    matplotlib.rcdefaults()
    matplotlib.style.use(Path(__file__).with_name("style.mplstyle"))
    if get_ipython():
        set_matplotlib_formats("retina")


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches in this style, and its axes (rows, columns).

    pyplot does not know the figure, so there is nothing to close. `options` are those of `Figure.subplots`.
    """
    use_style()
    made = Figure(figsize=(width, height))
    return made, made.subplots(rows, columns, squeeze=False, **options)


def drawn_error(accuracy: ArrayLike, n_test: ArrayLike) -> np.ndarray:
    """Errors in per cent for a logarithmic axis, which has no zero: a perfect score is drawn at a tenth of a test image.

    That is less than the mean of a few seeds of which one misclassifies one image.
    """
    return 100 * np.maximum(1 - np.asarray(accuracy, float), 0.1 / np.asarray(n_test, float))


def error_axis(axis: Axes, n_test: int) -> None:
    """Makes y a logarithmic axis of `drawn_error`, upside down, with the accuracies at its ticks."""
    perfect = float(drawn_error(1, n_test))
    axis.set_yscale("log")
    axis.invert_yaxis()
    high, low = axis.get_ylim()
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 2, 3, 5, 10, 20, 30, 50, 90) if low <= tick <= high]
    if len(ticks) < 3:
        ticks = list(MaxNLocator(5).tick_values(low, high))
    if low <= perfect:
        ticks = [perfect, *(tick for tick in ticks if tick > 1.5 * perfect)]
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda error, _: "100" if error <= perfect else accuracy_of_error(error)))
    axis.yaxis.set_minor_locator(NullLocator())


def accuracy_of_error(error: float, _: object = None) -> str:
    """The accuracy in per cent that belongs to an error in per cent, as a tick label."""
    return f"{100 - error:.2f}".rstrip("0").rstrip(".")


def label_axis(axis: Axes, sizes: Iterable[float], names: Mapping[float, str] = MappingProxyType({})) -> None:
    """Makes x a logarithmic axis of the number of labels, with a tick at each measured size; some have `names`."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(sizes))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: names.get(n, f"{n:g}")))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("labelled images M (the rest unlabelled)")


def points_axis(axis: XAxis | YAxis, linear: float) -> None:
    """Makes `axis.xaxis` or `axis.yaxis` one of signed points: linear up to ± `linear`, logarithmic beyond."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("symlog", linthresh=linear)
    axis.set_major_locator(FixedLocator([tick for tick in GAINS if not 0 < abs(tick) < min(linear, 0.5)]))
    axis.set_major_formatter(FuncFormatter(lambda points, _: f"{points:+g}" if points else "0"))
    axis.set_minor_locator(NullLocator())
