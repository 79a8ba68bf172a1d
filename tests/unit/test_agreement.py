"""Two people's labels: their agreement, against scikit-learn, and the list of what they disagree on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from ssl_core.datasets import tables
from ssl_core.lab.__main__ import main
from ssl_core.lab.tools import agreement

labels = st.sampled_from("abcd")


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares two files of this content; gives what was printed."""

    def run(one, other):
        for name, content in (("one", one), ("other", other)):
            (tmp_path / f"{name}.csv").write_text(content)
        arguments = ["--a", str(tmp_path / "one.csv"), "--b", str(tmp_path / "other.csv"), "--outputs", str(tmp_path)]
        main(["compare-labels", *arguments])
        return capsys.readouterr().out

    return run


def disagreements(folder, column="file"):
    rows = tables.read(folder / "disagreements.csv", (column, "label", "one", "other")).rows
    return [tuple(row.values()) for row in rows]


@given(st.lists(st.tuples(labels, labels), min_size=1))
def test_kappa_is_that_of_scikit_learn(pairs):
    ones, others = zip(*pairs, strict=True)
    estimate = agreement.kappa(pairs)
    if len({*ones, *others}) == 1:
        assert estimate is None
    else:
        assert estimate.mean == pytest.approx(cohen_kappa_score(ones, others)) and estimate.n == len(pairs)
        assert (
            -1 <= estimate.low <= estimate.mean + 1e-12 and estimate.mean <= estimate.high + 1e-12 and estimate.high <= 1 + 1e-12
        )


@given(st.lists(st.tuples(labels, labels), min_size=1))
def test_agreement_of_a_class_is_its_f1(pairs):
    """With one person for the truth and the other for the prediction, either way."""
    ones, others = zip(*pairs, strict=True)
    rows = agreement.per_class(pairs)
    names = [row[0] for row in rows]
    assert sorted(names) == sorted({*ones, *others}) and [row[4] for row in rows] == sorted(row[4] for row in rows)
    assert [row[4] for row in rows] == pytest.approx(f1_score(ones, others, labels=names, average=None, zero_division=0))
    assert [row[1:3] for row in rows] == [(ones.count(name), others.count(name)) for name in names]


@pytest.mark.parametrize("n", [30, 200])
def test_interval_of_kappa_covers_it(n):
    """In 1,000 simulations: the second person says the same with any probability from 0.5 to 1, else one of three at random."""
    rng = np.random.default_rng(0)
    share = rng.uniform(0.5, 1, 1000)  # which is kappa here
    ones, random = rng.integers(3, size=(2, 1000, n))
    others = np.where(rng.random((1000, n)) < share[:, None], ones, random)
    pairs = [list(zip(one, other, strict=True)) for one, other in zip(ones.tolist(), others.tolist(), strict=True)]
    covered = [each.low <= kappa <= each.high for each, kappa in zip(map(agreement.kappa, pairs), share, strict=True)]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_full_agreement_on_few_images_is_no_certainty():
    estimate = agreement.kappa([("a", "a"), ("b", "b"), ("c", "c")])
    assert estimate.mean == estimate.high == 1 and estimate.low < 0.3


def test_two_files_are_compared(compare, tmp_path):
    told = compare(
        "file,label,note\na.png,cat,\nb.png,dog,sure\nc.png,cat,\nd.png,,\ne.png,dog,\n",
        "label;file\ncat;a.png\ncat;b.png\ncat;c.png\ndog;d.png\ndog;x.png\n",
    )
    assert "agreement 66.7 % (20.8 to 93.9): 2 of 3 images" in told and "Cohen's kappa 0.000 (" in told
    assert "dog: 1 and 0, 0 of them both, agreement 0 %" in told and "cat: 2 and 3, 2 of them both, agreement 80 %" in told
    assert "1 disagreement in" in told and "1 in A alone, 2 in B alone" in told and "A: 1 row without a label" in told
    assert disagreements(tmp_path) == [("b.png", "", "dog", "cat")]


@pytest.mark.parametrize(
    "one, other",
    [
        ("scans\\1.png", "scans/1.png"),
        ("./scans/1.png", "SCANS/1.PNG"),
        ("scans/é.png", "scans/e\u0301.png"),
        ("C:\\mine\\scans\\1.png", "/home/other/scans/1.png"),
        ("scans/a%201.png", "scans/a%201.png"),
        ("scans/a 1.png", "scans/a%201.png"),
    ],
)
def test_names_in_other_styles_are_matched(compare, tmp_path, one, other):
    told = compare(f"file,label\n{one},cat\n{one}2.png,dog\n", f"file,label\n{other},dog\n{other}2.png,dog\n")
    assert "agreement 50.0 %" in told and "0 in A alone, 0 in B alone" in told
    assert [row[1:] for row in disagreements(tmp_path)] == [("", "cat", "dog")]


def test_absolute_names_of_the_folder_are_matched(compare, tmp_path):
    assert "1 of 1 image" in compare("file,label\nscans/1.png,cat\n", f"file,label\n{tmp_path}/scans/1.png,cat\n")


def test_lists_of_a_named_set_are_compared(compare, tmp_path):
    told = compare("index,label,cluster\n12,1,0\n13,2,1\n14,,2\n", "index,label,cluster\n12.0,1,0\n13,3,1\n14,4,2\n")
    assert "1 of 2 images" in told and "write these labels into outputs/label_next.csv" in told
    assert disagreements(tmp_path, "index") == [("13", "", "2", "3")]


def test_labels_that_look_alike_are_told(compare):
    assert "classes 'Cat' and 'cat' look alike" in compare(
        "file,label\na.png,Cat\nb.png,dog\n", "file,label\na.png,cat\nb.png,dog\n"
    )


def test_one_class_has_no_kappa(compare):
    assert "Cohen's kappa is not defined: both gave 'cat' alone" in compare("file,label\na.png,cat\n", "file,label\na.png,cat\n")


def test_many_classes_are_not_all_listed(compare):
    rows = "".join(f"{i}.png,class {i}\n" for i in range(50))
    assert "30 more classes, with no less agreement" in compare(f"file,label\n{rows}", f"file,label\n{rows}")


@pytest.mark.parametrize(
    "one, other, message",
    [
        ("file,label\na.png,cat\n", "file,label\nb.png,cat\n",
         r"B='.*other.csv': no image in common with A, of 1 and 1; A has 'a.png', B 'b.png'$"),
        ("file,label\na.png,cat\n", "index,label\n1,cat\n",
         "B='.*': must name images as A does, in the column file; it has index"),
        ("file,label\na.png,\nb.png,\n", "file,label\na.png,cat\n", r"A='.*one.csv': no label in its 2 rows$"),
        ("file,label\n", "file,label\na.png,cat\n", r"A='.*one.csv': no label in its 0 rows$"),
        ("", "file,label\na.png,cat\n", r"one.csv: must be a table with the columns file and label \(it is empty\)$"),
        ("file,class\na.png,cat\n", "file,label\na.png,cat\n", r"one.csv: must be a table .*: rename 'class' to label$"),
        ("file,label\na.png,cat\n./a.png,dog\n", "file,label\na.png,cat\n",
         r"A='.*': 1 image with two labels: keep one; 'a.png' has the labels 'cat' and 'dog'$"),
        ("file,label\na.png,cat\n", "file,label\nA.png,cat\n./a.PNG,dog\n",
         r"B: 'A.png' and 'a.PNG' are the same image in A: keep one$"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(compare, tmp_path, one, other, message):
    with pytest.raises(SystemExit, match=f"^compare-labels: {message}") as stop:
        compare(one, other)
    assert "\n" not in str(stop.value) and not (tmp_path / "disagreements.csv").exists()


@pytest.mark.parametrize(
    "a, b, message",
    [
        (" ", "x.csv", "A=' ': must be a table of labels: make compare-labels A=one.csv B=other.csv"),
        ("x.csv", "", "B='': must be a table of labels"),
        ("x.csv", "./x.csv", "B='./x.csv': must be another file than A"),
        ("nowhere.csv", "x.csv", "nowhere.csv: must be a table .* can't be read: No such file or directory"),
    ],
)
def test_missing_files_are_named(a, b, message):
    with pytest.raises(SystemExit, match=f"^compare-labels: {message}"):
        main(["compare-labels", "--a", a, "--b", b])


def test_decisions_that_somebody_typed_are_kept(compare, tmp_path):
    one, other = "file,label\na.png,cat\nb.png,dog\n", "file,label\na.png,dog\nb.png,dog\n"
    assert "kept" not in compare(one, other) + compare(one, other)
    typed = (tmp_path / "disagreements.csv").read_text().replace("a.png,", "a.png,cat")
    (tmp_path / "disagreements.csv").write_text(typed)
    assert "with what was typed there, is kept as disagreements." in compare(one, other)
    assert typed in [path.read_text() for path in tmp_path.glob("disagreements.*.csv")]
    assert disagreements(tmp_path) == [("a.png", "", "cat", "dog")]
