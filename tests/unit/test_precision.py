"""The precision of the network's products: it belongs to a run, and all but the products stays float32."""

from dataclasses import replace

import pytest
import torch

from ssl_core import data, experiment, graph, recipes
from ssl_core.lab.runs import files, graph_cache, spec
from ssl_core.lab.runs.fingerprint import fingerprint
from ssl_core.lab.runs.spec import Run
from ssl_core.model import init_net

RUN = Run(60, "best", 0, data="digits", smoke=True)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", files.DATA)


def test_bfloat16_has_eight_bits_and_results_are_float32(digits):
    exact, rough = init_net(0), init_net(0)
    rough.precision = "bfloat16"
    for with_gradient in (True, False):
        with torch.set_grad_enabled(with_gradient):
            wanted, got = exact(digits.x[:50]), rough(digits.x[:50])
        for one, other in zip(wanted, got, strict=True):
            assert other.dtype == torch.float32
            error = (one - other).norm() / one.norm()
            assert 1e-5 < error < 0.02, "bfloat16 rounds to 2⁻⁸ of the value, and does so here"


def test_all_but_the_products_is_float32(digits):
    settings = RUN.settings.in_precision("bfloat16")
    neighbors = graph.build(digits.x, settings.pretraining)
    result = experiment.run(digits, RUN.labeling, settings, neighbors)[1]
    again = experiment.run(digits, RUN.labeling, settings, neighbors)[1]
    model, repeated = result.training.model, again.training.model
    assert model.precision == "bfloat16" and {weight.dtype for weight in model.parameters()} == {torch.float32}
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, repeated.state_dict()[name]), "the same bits each time"
    assert result.trained.probabilities.dtype == torch.float32
    exact = experiment.run(digits, RUN.labeling, RUN.settings.in_precision("float32"), neighbors)[1].training
    difference = sum((a - b).norm() ** 2 for a, b in zip(model.parameters(), exact.model.parameters(), strict=True)) ** 0.5
    moved = sum((a - b).norm() ** 2 for a, b in zip(model.parameters(), init_net(0).parameters(), strict=True)) ** 0.5
    assert 0 < difference < 0.5 * moved, "training goes the same way"


def test_run_in_bfloat16_resumes_in_it(digits, tmp_path):
    from ssl_core.checkpoint import Checkpoint
    from ssl_core.train import fit

    settings = replace(RUN, recipe="supervised").settings.in_precision("bfloat16")
    task = experiment.prepare(digits, RUN.labeling, settings)
    whole = fit(init_net(0), task, settings, 0)

    def stop(row, epochs):
        raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "key")
    with pytest.raises(KeyboardInterrupt):
        fit(init_net(0), task, settings, 0, stop, checkpoint)
    resumed = fit(init_net(0), task, settings, 0, checkpoint=checkpoint)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])


def test_precision_identifies_a_run_that_asks_for_it(monkeypatch):
    asked = [replace(RUN, precision=precision) for precision in ("auto", "float32", "bfloat16")]
    assert [str(run).split("/")[2] for run in asked] == ["m60", "m60-float32", "m60-bfloat16"]
    assert len({fingerprint(run) for run in asked}) == 3
    seen = []
    for best in ("float32", "bfloat16"):
        monkeypatch.setattr(spec, "best_precision", lambda best=best: best)
        assert [RUN.settings.precision, RUN.settings.pretraining.precision] == [best, best]
        seen.append((fingerprint(RUN), graph_cache.path_for(RUN)))
    assert seen[0][0] == seen[1][0], "the same run on another machine"
    assert seen[0][1] != seen[1][1], "but another graph"
    assert replace(RUN, precision="float32").settings.precision == "float32"


def test_report_as_printed_stays_in_float32():
    run = Run(60, "published", 0, data="digits", precision="bfloat16")
    assert run.precision == "auto" and run.settings.precision == "float32"


def test_precision_that_is_none_or_not_there_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^precision='half': must be one of auto, float32, bfloat16$"):
        replace(RUN, precision="half")
    with pytest.raises(ValueError, match=r"^precision='half': must be one of float32, bfloat16$"):
        replace(recipes.BEST, precision="half")
    monkeypatch.setattr(spec, "computes_bfloat16", lambda: False)
    assert replace(RUN, precision="float32").check()
    with pytest.raises(ValueError, match=r"^precision='bfloat16': must be auto or float32 on this processor"):
        replace(RUN, precision="bfloat16").check()


@pytest.mark.slow
def test_sweep_in_a_precision_has_its_own_folder_and_page(tmp_path, capsys):
    from ssl_core.lab.__main__ import main

    options = ["--data", "digits", "--labels", "60", "--recipes", "supervised published", "--smoke", "--outputs", str(tmp_path)]
    main(["sweep", *options, "--precision", "float32"])
    written = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("run.json"))
    assert written == ["digits/published/m60/seed0", "digits/supervised/m60-float32/seed0"]
    assert (tmp_path / "results.html").exists() and "2 runs" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^sweep: precision='exact': must be one of auto, float32, bfloat16"):
        main(["sweep", *options, "--precision", "exact"])
    with pytest.raises(SystemExit, match=r"^sweep: precision='float32': must be auto with --study"):
        main(["sweep", "--study", "ablation", "--precision", "float32", "--outputs", str(tmp_path)])
