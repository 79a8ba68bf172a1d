"""The estimator and the three questions: scikit-learn's own checks, labels of any kind, and the numbers of a sweep."""

import doctest
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import ssl_core
from ssl_core import (
    SemiSupervisedClassifier,
    arrays,
    data,
    estimator,
    experiment,
    graph,
    how_many,
    label_issues,
    labels,
    questions,
    suggest,
)
from ssl_core.lab.page import api
from ssl_core.recipes import BEST, SUPERVISED

# A few cheap steps: enough to tell scikit-learn's three blobs apart.
SHORT = replace(
    BEST,
    name="short",
    epochs=2,
    steps_per_epoch=20,
    batch_labeled=16,
    batch_unlabeled=8,
    augment_labeled=None,
    augment_weak=None,
    tta_views=0,
    learning_rate=3e-3,
    muon_rate=0.02,
    ema_decay=0.9,
    pretraining=replace(BEST.pretraining, steps=2, batch=16),
)
EXPECTED = {
    "check_classifiers_classes": "its classes are −1 and 1, and −1 means no label; scikit-learn excepts its own by their names",
}
OF_VIEWS = dict.fromkeys(
    ("check_methods_subset_invariance", "check_methods_sample_order_invariance"),
    "with test-time augmentation the place of an image decides how its views are distorted, as in a sweep",
)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300], np.where(np.arange(300) < 60, y[:300], -1)


@pytest.fixture(scope="module")
def fitted(digits):
    X, _, few = digits
    return SemiSupervisedClassifier(SHORT).fit(X, few)


@pytest.mark.slow
@parametrize_with_checks([SemiSupervisedClassifier(SHORT)], expected_failed_checks=lambda estimator: EXPECTED)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", OF_VIEWS)
def test_views_are_what_makes_it_depend_on_the_place(name):
    from sklearn.utils import estimator_checks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError, match="not invariant when applied"):
            getattr(estimator_checks, name)("SemiSupervisedClassifier", SemiSupervisedClassifier(replace(SHORT, tta_views=1)))


@pytest.mark.parametrize("kind", ["bytes", "floats", "square", "channels", "tensor", "frame"])
def test_the_same_images_in_any_array_are_the_same(digits, fitted, kind):
    X, _, few = digits
    levels = (X * 255 / 16).round()
    same = {
        "bytes": levels.astype(np.uint8),
        "floats": levels / 255,
        "square": X.reshape(-1, 8, 8),
        "channels": X.reshape(-1, 8, 8, 1),
        "tensor": torch.from_numpy(X).reshape(-1, 8, 8),
        "frame": pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)]),
    }[kind]
    again = clone(fitted).fit(same, pd.Series(few) if kind == "frame" else few)
    assert np.array_equal(again.predict_proba(same), fitted.predict_proba(X))


@pytest.mark.parametrize("kind", ["masked", "texts", "objects", "floats", "column"])
def test_labels_of_any_kind(digits, fitted, kind):
    X, _, few = digits
    names = np.array([f"digit {c}" for c in range(10)])
    y = {
        "masked": np.ma.masked_array(np.where(few < 0, 3, few), few < 0),
        "texts": np.where(few < 0, "-1", names[few]),
        "objects": np.array([-1 if c < 0 else names[c] for c in few], dtype=object),
        "floats": few.astype(float),
        "column": few[:, None],
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a column
        predictions = clone(fitted).fit(X, y).predict(X)
    expected = fitted.predict(X)
    assert np.array_equal(predictions, names[expected] if kind in ("texts", "objects") else expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=30), st.sampled_from([np.int8, np.int64, np.float64, str, object]))
def test_codes_are_numbers_of_classes(values, kind):
    codes, classes = labels.encoded(np.array(values).astype(kind))
    assert [-1 if code < 0 else int(float(classes[code])) for code in codes] == values
    assert list(classes) == sorted(set(classes)) and set(codes[codes >= 0]) == set(range(len(classes)))


def test_attributes_are_those_of_label_spreading(digits, fitted):
    X, y, _ = digits
    assert fitted.classes_.tolist() == list(range(10)) and fitted.n_features_in_ == 64 and fitted.n_iter_ == 2
    assert np.array_equal(fitted.transduction_, fitted.predict(X))
    assert np.array_equal(fitted.label_distributions_, fitted.predict_proba(X))
    assert fitted.score(X, y) == (fitted.predict(X) == y).mean()
    known = np.where(np.arange(300) % 2, y, -1)
    assert fitted.score(X, known) == fitted.score(X[1::2], y[1::2])
    assert np.isnan(fitted.score(X, np.full(300, -1)))


def test_it_is_pickled_whole(digits, fitted):
    X, _, _ = digits
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert np.array_equal(again.transduction_, fitted.transduction_)


@pytest.mark.slow
def test_numbers_are_those_of_the_experiment(digits):
    """A user who has no other label than those drawn gets the network that somebody gets who draws them from all."""
    X, y, _ = digits
    look, pixels = arrays.Look.of(X, None, 0)
    x, nothing = look.images(pixels), torch.empty(0, dtype=torch.int64)
    images = data.Images("digits", x, torch.from_numpy(y), x[:0], nothing, tuple("0123456789"))
    recipe = SHORT.for_images(look.background)
    neighbors = graph.build(images.x, recipe.pretraining)
    for draw in ("random", "class-balanced"):
        task, result = experiment.run(images, experiment.Labeling(80, 3, draw), recipe, neighbors)
        few = np.full(300, -1)
        few[task.check.labeled] = task.check.y_l
        assert len(set(few)) == 11, "the user knows all classes"
        fitted = SemiSupervisedClassifier(SHORT, uniform_prior=True, random_state=3, precision="float32").fit(X, few)
        expected = result.training.model.state_dict()
        assert all(torch.equal(weights, expected[name]) for name, weights in fitted.model_.state_dict().items())
        assert torch.equal(fitted.graph_.index, neighbors.index)


@pytest.mark.slow
def test_the_graph_is_kept_between_fits(digits, tmp_path, monkeypatch):
    X, _, few = digits
    built = []
    original = graph.build
    monkeypatch.setattr(graph, "build", lambda *arguments: built.append(1) or original(*arguments))
    one = SemiSupervisedClassifier(SHORT, graph=tmp_path / "graphs").fit(X, few)
    again = SemiSupervisedClassifier(SHORT, graph=str(tmp_path / "graphs")).fit(X, few)
    assert len(built) == 1 and torch.equal(one.graph_.index, again.graph_.index)
    again.fit(X, np.where(np.arange(300) < 70, digits[1], -1))
    SemiSupervisedClassifier(SHORT, graph=one.graph_).fit(X, few)
    assert len(built) == 1
    one.fit(X[:200], few[:200])
    assert len(built) == 2, "other images have another graph"
    with pytest.raises(ValueError, match=r"^graph: must be of the 200 images of X; it is of 300$"):
        SemiSupervisedClassifier(SHORT, graph=again.graph_).fit(X[:200], few[:200])


@pytest.mark.slow
def test_it_stands_in_pipelines_and_searches(digits, tmp_path):
    X, _, few = digits
    classifier = SemiSupervisedClassifier(SHORT, graph=str(tmp_path))
    pipeline = make_pipeline(FunctionTransformer(lambda x: 16 - x), classifier).fit(X, few)
    assert pipeline.predict(X).shape == (300,)
    scores = cross_val_score(classifier, X, few, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all(), "images without a label are left out of the score"
    search = GridSearchCV(classifier, {"uniform_prior": [True, False]}, cv=2).fit(X, few)
    assert search.best_params_["uniform_prior"] in (True, False)


def test_without_a_label_classes_are_clusters(digits):
    X, _, _ = digits
    with pytest.warns(UserWarning, match="y has no label: classes are clusters"):
        fitted = SemiSupervisedClassifier(SHORT, n_clusters=10).fit(X, np.full(300, -1))
    assert fitted.classes_.tolist() == list(range(10)) and set(fitted.predict(X)) <= set(range(10))
    with pytest.raises(ValueError, match=r"^n_labels=0: must be 1 or more for recipe='supervised'"):
        SemiSupervisedClassifier(SUPERVISED).fit(X, np.full(300, -1))
    with pytest.warns(UserWarning, match="y has no label"), pytest.raises(ValueError, match=r"^n_clusters=1: must be"):
        SemiSupervisedClassifier(SHORT, n_clusters=1).fit(X, np.full(300, -1))


@pytest.mark.parametrize(
    "y, message",
    [
        (np.zeros(300, int), r"the number of classes has to be greater than one; got 1 class \(-1 is no class, but no label\)$"),
        (np.linspace(0, 1, 300), r"Unknown label type: continuous"),
        (np.full(300, np.nan), r"Input y contains NaN"),
        (np.array([None] * 300), r"Input y contains NaN or None: images without a label have -1$"),
        (pd.array([1, None] * 150, dtype="Int64"), r"Input y contains NaN"),
        (np.array(["a", pd.NA] * 150, dtype=object), r"Input y contains NaN or None"),
        (np.array(["a", 1] * 150, dtype=object), r"^Unknown label type: y has texts and numbers; must be all of one kind$"),
        (np.arange(300) - 2, r"^y has the label -2: must be 0 or more, or -1 for an image without a label$"),
        (np.zeros((300, 2)), r"y should be a 1d array"),
        (np.arange(299), r"^Found input variables with inconsistent numbers of samples: \[300, 299\]$"),
        (None, r"requires y to be passed, but the target y is None"),
    ],
)
def test_bad_labels_are_named(digits, y, message):
    with pytest.raises(ValueError, match=message):
        SemiSupervisedClassifier(SHORT).fit(digits[0], y)


def test_bad_images_are_named(digits, fitted):
    from scipy import sparse

    X, _, few = digits
    hole = X.copy()
    hole[3, 5] = np.nan
    for bad, message in (
        (hole, "Input X contains NaN"),
        (sparse.csr_matrix(X), "Sparse data was passed"),
        (np.zeros((300, 64)), r"^X: all images are of one colour, there is nothing to tell apart$"),
        (X.reshape(-1, 1, 8, 8), r"^X.shape=\(300, 1, 8, 8\): must end with 1 or 3 channels"),
        (X[:0], "Found array with 0 sample"),
        (X[0], "Expected 2D array, got 1D array instead"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            SemiSupervisedClassifier(SHORT).fit(bad, few)
    with pytest.raises(ValueError, match="X has 63 features, but SemiSupervisedClassifier is expecting 64 features as input"):
        fitted.predict(X[:, :63])
    with pytest.raises(ValueError, match=r"X has images of shape \(4, 16\), but SemiSupervisedClassifier is expecting \(8, 8\)"):
        fitted.predict(X.reshape(-1, 4, 16))
    with pytest.warns(UserWarning, match="are they in the same units"):
        fitted.predict(X / 1600)
    with pytest.warns(UserWarning, match=r"rows of 63 numbers, which make no square image: they are taken as images of 1 × 63"):
        SemiSupervisedClassifier(SHORT).fit(X[:, :63], few)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"recipe": "worst"}, "recipe='worst': must be one of"),
        ({"recipe": "linear"}, "recipe='linear': must be another one"),
        ({"recipe": "published", "side": 48}, "side=48: must be 28"),
        ({"side": 20}, "side=20: must be 28, or a whole number from 32 to 96"),
        ({"n_jobs": 0}, "n_jobs=0: must be None, a whole number from 1, or −1 for all cores"),
        ({"random_state": -1}, "seed=-1: must be a whole number"),
        ({"precision": "float8"}, "precision='float8': must be one of auto, float32, bfloat16"),
        ({"device": "tpu"}, "device='tpu': must be auto, cpu"),
    ],
)
def test_bad_parameters_are_named(digits, parameters, message):
    with pytest.raises(ValueError, match=message):
        SemiSupervisedClassifier(**{"recipe": SHORT, **parameters}).fit(digits[0], digits[2])


def test_an_interrupted_fit_leaves_the_one_before(digits, monkeypatch):
    X, _, few = digits
    classifier = SemiSupervisedClassifier(SHORT).fit(X, few)
    expected = classifier.predict_proba(X)
    monkeypatch.setattr(estimator, "fit", lambda *_: pytest.fail("interrupted"))
    with pytest.raises(pytest.fail.Exception, match="interrupted"):
        classifier.fit(16 - X[:250, :49], few[:250])
    assert len(classifier.graph_.index) == 300
    with pytest.raises(ValueError, match="got 1 class"):
        classifier.fit(X[:, :36], np.zeros(300, int))
    assert np.array_equal(classifier.predict_proba(X), expected)


def test_numbers_of_numpy_are_numbers(digits, tmp_path, monkeypatch):
    X, _, few = digits
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"side": np.int64(28), "n_jobs": np.int64(1), "random_state": np.int64(3), "graph": "~/graphs"}
    expected = SemiSupervisedClassifier(SHORT, random_state=3, graph=str(tmp_path / "graphs")).fit(X, few).predict_proba(X)
    assert np.array_equal(SemiSupervisedClassifier(SHORT, **options).fit(X, few).predict_proba(X), expected)
    (kept,) = (tmp_path / "graphs").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(SemiSupervisedClassifier(SHORT, **options).fit(X, few).predict_proba(X), expected), "made anew"
    for bad in ("", 5):
        with pytest.raises(ValueError, match=r"^graph=.*: must be None, a folder, or the graph_ of an estimator$"):
            SemiSupervisedClassifier(SHORT, graph=bad).fit(X, few)


def test_unfitted_says_so(digits):
    classifier = SemiSupervisedClassifier(SHORT)
    for use in (lambda: classifier.predict(digits[0]), lambda: classifier.label_distributions_, lambda: classifier.transduction_):
        with pytest.raises(NotFittedError):
            use()


def test_progress_is_told(digits, capsys):
    SemiSupervisedClassifier(SHORT, verbose=1).fit(digits[0], digits[2])
    told = capsys.readouterr().out
    assert "SemiSupervisedClassifier · graph · step 2/2" in told and "epoch  2/2" in told and "to go" in told
    SemiSupervisedClassifier(SHORT).fit(digits[0], digits[2])
    assert capsys.readouterr().out == ""


# --- the three questions


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


def test_suggested_images_stand_for_all_and_have_no_label(digits, graphs):
    X, y, few = digits
    chosen = suggest(X, 20, recipe=SHORT, graph=graphs)
    assert len(set(chosen.tolist())) == 20 and len(set(y[chosen])) >= 9
    assert np.array_equal(chosen, suggest(X, 20, np.full(300, -1), recipe=SHORT, graph=graphs))
    assert (suggest(X, 30, few, recipe=SHORT, graph=graphs) >= 60).all()
    with pytest.raises(ValueError, match=r"^n_labels=301: must be a whole number from 1 to 300$"):
        suggest(X, 301, recipe=SHORT, graph=graphs)


def test_swapped_labels_are_found(digits, graphs):
    X, y, _ = digits
    spoilt = y.copy()
    swapped = np.array([5, 40, 77, 130, 222])
    spoilt[swapped] = (spoilt[swapped] + 3) % 10
    issues = label_issues(X, spoilt, recipe=SHORT, graph=graphs)
    found = np.isin(issues.index, swapped)
    assert found.sum() == 5 and len(found) <= 8
    right = issues.suggested[found] == y[issues.index[found]]
    assert right.sum() >= 4 and np.array_equal(issues.given, spoilt[issues.index])
    assert (np.diff(issues.p_wrong) <= 0).all() and issues.low <= issues.n_wrong <= issues.high
    with pytest.raises(ValueError, match="has to be greater than one; got 1 class"):
        label_issues(X, np.zeros(300, int), recipe=SHORT, graph=graphs)
    with pytest.raises(ValueError, match=r"^recipe='supervised': must be one with a graph of neighbours"):
        label_issues(X, y, recipe="supervised")


@pytest.mark.slow
def test_a_budget_has_its_interval(digits, graphs):
    X, y, few = digits
    quick = replace(SHORT, epochs=1)
    budget = how_many(X, y, 0.8, recipe=quick, graph=graphs)
    assert list(budget.accuracy) == [37, 75, 150] and budget.n_test == sum(n // 2 for n in np.bincount(y))
    assert all(len(values) == 2 for values in budget.accuracy.values())
    assert 0 < budget.low <= budget.n_labels <= budget.high
    again = how_many(X, y, 0.8, recipe=quick, graph=graphs)
    assert again == budget
    for arguments, message in (
        ({"target": 1.0}, r"^target=1.0: must be a number between 0 and 1$"),
        ({"repeats": 0}, r"^repeats=0: must be a whole number from 1$"),
        ({"sizes": [50, 100]}, r"^sizes=\[50, 100\]: must be 3 or more different whole numbers from 10 to 150$"),
    ):
        with pytest.raises(ValueError, match=message):
            how_many(X, y, **{"target": 0.8, "recipe": quick, "graph": graphs, **arguments})
    with pytest.raises(ValueError, match=r"^y has 60 labels: must be 80 or more, of 10 classes: half of them are held back"):
        how_many(X, few, 0.8, recipe=quick, graph=graphs)


@pytest.mark.slow
@pytest.mark.parametrize("module", [estimator, questions])
def test_examples_of_the_docstrings(module, graphs):
    result = doctest.testmod(module, extraglobs={"folder": graphs})
    assert result.attempted and not result.failed


def test_each_name_of_the_interface_has_its_sections():
    """Shapes, units, errors and sources: what a page of the interface is made from."""
    text = api.markdown()
    for name in ("SemiSupervisedClassifier", "fit", "suggest", "label_issues", "how_many"):
        assert f" {name}\n\n```python\n{name}(" in text
    assert text.count("**Parameters**") >= 5 and text.count("**Returns**") >= 4 and text.count("```pycon") == 2


@pytest.mark.slow
def test_a_budget_of_unequal_classes_learns_all(digits, graphs):
    X, y, _ = digits
    budget = how_many(X, np.where(y == 3, 1, 0), 0.95, recipe=replace(SHORT, epochs=4), repeats=1, graph=graphs)
    assert 140 <= budget.n_test <= 150 and max(max(each) for each in budget.accuracy.values()) > 0.92
    with pytest.raises(ValueError, match="got 1 class"):
        how_many(X, np.zeros(300, int), 0.9, recipe=SHORT)


def test_names_are_imported_when_they_are_asked_for():
    assert set(ssl_core.__all__) <= set(dir(ssl_core)) | {"SemiSupervisedClassifier", "how_many", "label_issues", "suggest"}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        ssl_core.nothing  # noqa: B018
