"""The report's figures beside those that were measured here."""

from dataclasses import replace

from ssl_core.lab.runs.records import Record
from ssl_core.lab.studies import report_claims

RECORD = Record(
    parameters={"data": "mnist", "recipe": "published", "n_labels": 6000, "seed": 0},
    fingerprint="",
    current=True,
    accuracy=0.983,
    nll=0.06,
    seconds=1.0,
    confusion=[[1]],
    missing_classes=[],
    recipe={},
    images={},
    history=[],
    test_accuracy={1: 0.84, 5: 0.97, 10: 0.98, 15: 0.983},
    untrained={"accuracy": 0.1, "nll": 2.306},
    held_out=None,
)


def test_beside_the_report():
    table = report_claims.table(report_claims.beside_report([RECORD]))
    assert table.loc["M = 6000, after epoch 15"].tolist() == ["98.28", "98.30 (1)"]
    assert table.loc["untrained, NLL"].tolist() == ["2.3059", "2.3060 (1)"]
    assert report_claims.beside_report([]).empty


def test_other_sizes_follow_from_the_largest():
    others = [replace(RECORD, parameters=dict(RECORD.parameters, n_labels=n), accuracy=0.9) for n in (50, 500)]
    table = report_claims.beside_report([*others, RECORD])
    assert table["what"].tolist()[-2:] == ["M = 500, 50 epochs", "M = 50, 50 epochs"]
    assert table["the report"].tolist()[-2:] == ["“95 plus”", "the lowest; no number"]
