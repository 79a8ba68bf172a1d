"""The registry of studies: a study is added in one file, and what is shown follows from it."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from ssl_core.lab.page import reference, tables
from ssl_core.lab.runs import files, records
from ssl_core.lab.studies import registry
from ssl_core.lab.studies.study import NO_RECORDS, Results

ADDED = """
from ssl_core.lab.studies.study import Grid, Study, page_table

def summarize(results):
    return results.runs.groupby("recipe")["seconds"].median().rename("seconds").reset_index()

def table(summary):
    return summary.set_index("recipe").round(0)

STUDY = Study("added", "How long does a run take?", [Grid("50", "best", "0 1")], summarize, "No run.", table=table,
              markers={"durations": page_table(summarize, table)})
"""


@pytest.fixture
def shown(monkeypatch):
    """What studies display, as texts."""
    texts = []

    def display(*things):
        texts.extend(getattr(thing, "data", None) or type(thing).__name__ for thing in things)

    monkeypatch.setattr("ssl_core.lab.studies.study.display", display)
    monkeypatch.setattr(registry, "display", display)
    return texts


@pytest.fixture(scope="module")
def results():
    return Results(records.read_table(files.REFERENCE / "results.csv").assign(current=True))


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A study more, in one file of the package."""
    package = sys.modules["ssl_core.lab.studies"]
    (tmp_path / "added.py").write_text(ADDED)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    registry.studies.cache_clear()
    importlib.invalidate_caches()
    yield
    registry.studies.cache_clear()
    sys.modules.pop("ssl_core.lab.studies.added", None)


def test_a_study_is_added_in_one_file(added, results, shown):
    assert [str(run) for run in registry.runs(["added"])] == ["mnist/best/m50/seed0", "mnist/best/m50/seed1"]
    assert "| `best` |" in tables.page_tables(results.every)["durations"]
    others = [name for name, study in registry.studies().items() if study.notebook == "results" and name != "added"]
    registry.show_others("results", results, others)
    assert shown[0] == "## How long does a run take?" and shown[-1] == "DataFrame"


def test_an_unknown_study_is_named():
    with pytest.raises(ValueError, match=r"^study='drows': must be one of ablation, architectures, calibration, .*draws"):
        registry.get("drows")


def test_the_grids_of_all_studies_are_the_rows_of_the_reference(results):
    runs = registry.runs(registry.studies())
    assert len(runs) == len(set(runs)), "a run that two studies need is made once"
    planned = {tuple(getattr(run, name) for name in records.PARAMETERS) for run in runs}
    assert planned == set(results.every[list(records.PARAMETERS)].itertuples(index=False, name=None))


@pytest.mark.parametrize("name", registry.studies())
def test_each_study_shows_the_reference_or_says_what_it_lacks(name, results, shown):
    study = registry.get(name)
    study.show(results)
    if study.needs_records:
        assert shown == [NO_RECORDS]
    elif len(study.summarize(results)):
        assert ("Figure" in shown) == bool(study.figure) and ("DataFrame" in shown) == bool(study.table)
        assert not study.figure or shown[1].startswith("*How to read it:* ")
    else:
        assert shown == [study.nothing]


@pytest.mark.parametrize("name", registry.studies())
def test_each_study_says_what_it_lacks_where_there_is_no_run(name, shown):
    study = registry.get(name)
    study.show(Results(records.table([]).astype({"n_test": int, "current": bool})))
    assert shown in ([study.nothing], [NO_RECORDS])


def test_each_study_has_a_notebook_and_each_notebook_its_studies():
    for study in registry.studies().values():
        notebook = (files.ROOT / "notebooks" / f"{study.notebook}.ipynb").read_text()
        assert f'show(\\"{study.name}\\", results' in notebook


def test_the_dry_run_counts_runs_and_trains_none():
    told = reference.overview(["draws"], Path("nowhere"))
    assert told.startswith("draws: Which images should be labelled?\n    20 runs: LABELS='10 20'")
    assert re.search(r"60 different runs: 0 finished in nowhere, \d+ in the reference$", told)
