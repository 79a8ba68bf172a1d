"""The sentences about one run."""

import html

import torch

from ssl_core.lab.runs.spec import Run
from ssl_core.lab.studies import run_words


def test_names_of_others_are_no_markup():
    name = '<script>alert("1")</script> [x](y) **b** | $z$'
    said = run_words.run_sentences(Run(50, "best", 0), 0.1, 0.9, 60, [name])
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
