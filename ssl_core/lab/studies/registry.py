"""The studies by name: every module of this package that defines `STUDY`. A new module of that kind needs no entry
anywhere.
"""

import pkgutil
from collections.abc import Collection, Iterable
from functools import cache
from importlib import import_module

from IPython.display import Markdown, display

import ssl_core.lab.studies as package

from ..runs.spec import Run
from ..runs.sweep import make_grid
from .study import Grid, Results, Study


@cache
def studies() -> dict[str, Study]:
    """All studies by name, in alphabetical order."""
    modules = [import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]
    found = [module.STUDY for module in modules if hasattr(module, "STUDY")]
    return {study.name: study for study in sorted(found, key=lambda study: study.name)}


def get(name: str) -> Study:
    """The study called `name`; raises ValueError that lists the studies if there is none."""
    if name not in studies():
        raise ValueError(f"study={name!r}: must be one of {', '.join(studies())}")
    return studies()[name]


def grid_runs(grid: Grid, data: str = "mnist", *, smoke: bool = False) -> list[Run]:
    """The runs of one grid; those on MNIST on another data set if `data` names one."""
    on = data if grid.data == "mnist" else grid.data
    return make_grid(**vars(grid) | {"data": on, "smoke": smoke})


def runs(names: Iterable[str], data: str = "mnist", *, smoke: bool = False) -> list[Run]:
    """The runs of the grids of these studies, each once; see grid_runs."""
    grids = [grid for name in names for grid in get(name).grid]
    return list(dict.fromkeys(run for grid in grids for run in grid_runs(grid, data, smoke=smoke)))


def notebooks(names: Iterable[str]) -> list[str]:
    """The names of the notebooks that show these studies."""
    return list(dict.fromkeys(get(name).notebook for name in names))


def show(name: str, results: Results, *more: object) -> None:
    """Displays a study in a notebook; see Study.show."""
    get(name).show(results, *more)


def show_others(notebook: str, results: Results, shown: Collection[str]) -> None:
    """Displays the studies of a notebook that it does not show by name: those that were added since."""
    for name, study in studies().items():
        if study.notebook == notebook and name not in shown:
            display(Markdown(f"## {study.question}"))
            study.show(results)
