"""The sentences about one run."""

import html
from types import SimpleNamespace

import torch

from ssl_core.clusters import Clustering
from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import run_words
from ssl_core.recipes import RECIPES
from ssl_core.train import Evaluation


def evaluation(confusion, nll=0.1):
    """An evaluation of which the first column of `confusion` is right, and no more is known."""
    confusion = torch.tensor(confusion)
    correct = torch.cat([torch.arange(int(row.sum())) < row[i] for i, row in enumerate(confusion)])
    return Evaluation(torch.zeros(len(correct), confusion.shape[1]), correct, confusion, nll)


def result_of(untrained, trained, clustering=None):
    return SimpleNamespace(untrained=evaluation(untrained), trained=evaluation(trained), clustering=clustering)


def test_the_result_of_a_run_says_how_many_images_it_was_tested_on():
    said = run_words.run_sentences(Run(50, "best", 0), result_of([[20, 0], [20, 0]], [[20, 0], [0, 20]]), 60, [])
    assert "**100.00 %** of the 40 test images correctly (95 % interval: 91.24 to 100.00), against 50.00 % before" in said


def test_clustering_accuracy_is_called_by_its_name():
    result = result_of([[20, 0], [20, 0]], [[20, 0], [0, 20]], Clustering((1, 0), 1.0, 1.0, 0.875))
    said = run_words.run_sentences(Run(0, "best", 0), result, 60, [])
    assert "**Without a label** `best` finds 2 clusters." in said and "of the 40 test images (*clustering accuracy*, 95 %" in said
    assert "normalised mutual information 0.8750" in said and "labels**" not in said
    nothing = result_of([[0, 0], [0, 0]], [[0, 0], [0, 0]], Clustering((-1, -1), float("nan"), float("nan"), float("nan")))
    assert run_words.run_sentences(Run(0, "best", 0), nothing, 60, []).endswith("2 clusters; no image tells how good they are.")


def test_a_class_without_a_test_image_has_no_recall():
    trained = evaluation([[3, 1, 0], [0, 1, 0], [0, 0, 0]])
    training = SimpleNamespace(recipe=RECIPES["published"])
    result = SimpleNamespace(training=training, untrained=trained, trained=trained, held_out=None)
    said = run_words.metrics_list(result, ("a", "b", "c"))
    assert "- recall of each class, per cent of its test images: a 75.0 of 4, b 100.0 of 1\n- without a test image: c" in said
    assert "nan" not in said


def test_names_of_others_are_no_markup():
    name = '<script>alert("1")</script> [x](y) **b** | $z$'
    said = run_words.run_sentences(Run(50, "best", 0), result_of([[10, 30]], [[40, 0]]), 60, [name])
    assert not set("<>[]*|$()") & set(said.split("No label covers ")[1].split(": the network")[0])
    assert html.unescape(said).count(name) == 1


def test_the_prior_is_told_and_what_is_made_of_it():
    said = run_words.prior_sentences(torch.tensor([0.2, 0.7, 0.1]), ("a", "b", "c"), uniform=False)
    assert said == "Training estimates the class frequencies; by the graph, in per cent: b 70.0, a 20.0, c 10.0."
    said = run_words.prior_sentences(torch.full((100,), 0.01), tuple(f"class {i}" for i in range(100)), uniform=True)
    assert said.startswith("Training assumes equally frequent classes;") and said.count("1.0") == 12


def test_candidates_are_counted_in_words():
    candidates = torch.tensor([[True, False, False], [True, True, False], [False, True, False], [False, False, True]])
    said = run_words.candidates_sentences(candidates, torch.tensor([0, 1, 1, 0]))
    assert said.startswith("**75.0 %** of the unlabelled images have a single candidate, and for 66.67 % of these")
    assert "Of all unlabelled images, 75.00 % have the true class" in said
