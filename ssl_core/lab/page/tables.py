"""The generated tables of the pages: those of all studies, in Markdown."""

import pandas as pd

from ..studies.registry import studies
from ..studies.study import Results


def page_tables(results: pd.DataFrame) -> dict[str, str]:
    """The tables by the name of their marker, from a table of runs; "" where the runs do not suffice.

    All rows count, whatever code made them. Entries are mean ± standard deviation (number of seeds), in per cent or
    points.
    """
    reference = Results(results.assign(current=True))
    return {marker: make(reference) for study in studies().values() for marker, make in study.markers.items()}
