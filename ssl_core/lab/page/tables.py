"""The generated tables of the pages: those of all studies, in Markdown."""

import pandas as pd

from ..runs import records
from ..studies.registry import studies
from ..studies.study import Results


def page_tables(results: pd.DataFrame) -> dict[str, str]:
    """The tables by the name of their marker, from a table of runs; "" where the runs do not suffice.

    All rows count, whatever code made them. Entries are mean ± standard deviation (number of seeds), in per cent or
    points.
    """
    reference = Results(results.assign(current=True))
    made = {marker: make(reference) for study in studies().values() for marker, make in study.markers.items()}
    return made | {"former": _former(results)}


def _former(results: pd.DataFrame) -> str:
    """How many rows are of versions before today's graph; "" if none is."""
    runs = results[list(records.PARAMETERS)].to_dict("records")
    n = sum(not records.is_current(run, digest) for run, digest in zip(runs, results["fingerprint"], strict=True))
    before = """are of earlier versions of the code. They lack:

- all of them: that labels spread less far where a class has many;
- most: that `best` distorts images less, varies their contrast, and trusts closer candidates, and its teacher earlier;
- some: histograms of gradients in the graph's features; the check of labels; that the seed alone orders the images, unless
  labels are drawn at random."""
    return f"{n} of the {len(results)} runs {before}" if n else ""
