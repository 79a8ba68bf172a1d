import json
from dataclasses import asdict, field, fields, make_dataclass, replace

import pytest
import torch
from safetensors.torch import load_file

from ssl_core import recipes, train
from ssl_core.lab import runs
from ssl_core.lab.runs import Run
from ssl_core.model import init_net


@pytest.fixture
def recorded(images, tmp_path):
    """A real, tiny run and its record."""
    run = Run(50, "supervised", 3, smoke=True)
    x, y = images.x[:50], images.y[:50]
    fit = train.fit(init_net(3), x, y, x, run.settings, 3)
    before = train.evaluate(init_net(3), images.x_test[:500], images.y_test[:500])
    after = train.evaluate(fit.model, images.x_test[:500], images.y_test[:500])
    folder = run.folder(tmp_path)
    runs.save(folder, run, y, fit, before, after, {1: 0.1, 2: after.accuracy})
    (folder / "train.ipynb").write_text("{}")
    return run, folder, fit, after, tmp_path


def test_a_record_says_what_was_run_and_what_came_out(recorded):
    run, folder, fit, after, outputs = recorded
    assert folder == outputs / "mnist/supervised/m50/seed3"
    record = runs.read(folder)
    assert Run(**record["run"]) == run
    assert record["accuracy"] == after.accuracy and record["nll"] == pytest.approx(after.nll)
    assert sum(map(sum, record["confusion"])) == 500
    assert sum(record["labels_per_class"]) == 50
    assert record["recipe"]["weights"] == {"supervised": 1.0} and record["history"] == fit.history
    assert record["versions"]["torch"] == torch.__version__
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in fit.model.state_dict().items())


def test_records_become_a_table(recorded):
    *_, outputs = recorded
    rows = runs.table(runs.records(outputs)).to_dict("records")
    assert len(rows) == 1
    assert {"data", "recipe", "n_labels", "seed", "accuracy", "nll", "seconds"} <= rows[0].keys()
    assert (rows[0]["data"], rows[0]["recipe"], rows[0]["n_labels"], rows[0]["seed"]) == ("mnist", "supervised", 50, 3)
    assert rows[0]["current"]


def test_a_run_is_finished_when_record_fingerprint_and_notebook_are_there(recorded):
    run, folder, *_, outputs = recorded
    assert runs.finished(run, outputs)
    assert not runs.finished(replace(run, seed=4), outputs)
    (folder / "train.ipynb").rename(folder / "other.ipynb")
    assert not runs.finished(run, outputs)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"fingerprint": "x", "run": {}}'])
def test_a_damaged_record_is_no_record(recorded, content):
    run, folder, *_, outputs = recorded
    (folder / "run.json").write_text(content)
    assert runs.read(folder) is None and not runs.finished(run, outputs) and runs.records(outputs) == []


def test_a_record_of_another_recipe_or_version_is_not_current(recorded):
    _, folder, *_, outputs = recorded
    record = runs.read(folder)
    for change in ({"recipe": "forgotten"}, {"unheard": 1}, {"seed": 4}):
        (folder / "run.json").write_text(json.dumps(record | {"run": record["run"] | change}))
        assert [found["current"] for found in runs.records(outputs)] == [False]


def test_the_fingerprint_follows_parameters_recipe_and_code(monkeypatch):
    run = Run(50, "best", 0)
    others = [replace(run, n_labels=51), replace(run, seed=1), replace(run, recipe="supervised"), replace(run, smoke=True)]
    others.append(replace(run, draw="stratified"))
    assert len({r.fingerprint for r in [run, *others]}) == 6
    before = run.fingerprint
    monkeypatch.setitem(recipes.RECIPES, "best", replace(recipes.BEST, summary="in other words"))
    assert run.fingerprint == before
    monkeypatch.setitem(recipes.RECIPES, "best", replace(recipes.BEST, threshold=0.123))
    assert run.fingerprint != before and Run(50, "supervised", 0).fingerprint == replace(run, recipe="supervised").fingerprint
    monkeypatch.undo()
    monkeypatch.setattr(runs, "code_digest", lambda: "other code")
    assert run.fingerprint != before


def test_a_field_that_is_not_used_does_not_change_the_fingerprint(monkeypatch):
    run = Run(50, "supervised", 0)
    before = run.fingerprint
    with_more = make_dataclass("Recipe", [("noise", float, field(default=0.0))], bases=(recipes.Recipe,), frozen=True)
    values = {f.name: getattr(recipes.SUPERVISED, f.name) for f in fields(recipes.SUPERVISED)}
    monkeypatch.setitem(recipes.RECIPES, "supervised", with_more(**values))
    assert run.fingerprint == before
    monkeypatch.setitem(recipes.RECIPES, "supervised", with_more(**values, noise=0.1))
    assert run.fingerprint != before


def test_comments_docstrings_and_layout_are_not_code():
    plain = "def f(x):\n    return x + 1\n"
    told = '"""A module."""\n\n\ndef f(x):  # adds\n    """One more."""\n    return x+1\n'
    assert runs._bare(plain) == runs._bare(told) != runs._bare(plain.replace("1", "2"))
    assert runs._bare("A = 1\n" + plain, without_constants=True) == runs._bare(plain)


def test_a_smoke_run_differs_only_in_length():
    full, smoke = Run(50, "best", 0).settings, Run(50, "best", 0, smoke=True).settings
    graph = asdict(full)["graph"] | {"steps": 3}
    assert asdict(smoke) == asdict(full) | {"epochs": 2, "steps_per_epoch": 3, "graph": graph, "tta_views": 1}


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_labels": 0}, "n_labels=0: must be a whole number from 1 to 60000"),
        ({"n_labels": "many"}, "n_labels='many': must be a whole number from 1 to 60000"),
        ({"recipe": "bset"}, "recipe='bset': must be published, supervised, corrected, best"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0"),
        ({"data": "letters"}, "data='letters': must be mnist"),
        ({"draw": "lucky"}, "draw='lucky': must be random, stratified"),
        ({"smoke": "true"}, "smoke='true': must be True or False"),
    ],
)
def test_a_bad_parameter_is_named(parameters, message):
    with pytest.raises(ValueError) as error:
        Run(**{"n_labels": 50, "recipe": "best", "seed": 0} | parameters)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_an_injected_parameter_that_the_notebook_lacks_is_named():
    given = {"n_labels": 50, "recipe": "best", "seed": 0, "data": "mnist", "draw": "random", "smoke": False, "threads": 1}
    given |= {"label_noise": 0.0, "fold": 0, "device": "auto"}
    assert runs.from_notebook(given | {"In": ["", "n_labels = 1", "# Parameters\nn_labels = 50\nsmoke = False\n"]}) == Run(
        50, "best", 0
    )
    with pytest.raises(
        ValueError, match=r"^unknown notebook parameter n_lables: must be data, device, draw, fold, folder, n_labels"
    ):
        runs.from_notebook(given | {"In": ["", "# Parameters\nn_lables = 1000\n"]})


def test_a_device_that_is_not_there_is_named_and_auto_is_the_gpu_that_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runs.processor("auto") == runs.processor("cpu") == torch.device("cpu")
    for bad in ("cuda", "gpu", "", None, 0):
        with pytest.raises(
            ValueError, match=f"^device={bad!r}: must be auto, cpu, or cuda where PyTorch finds a GPU, here cpu$"
        ):
            runs.processor(bad)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runs.processor("auto") == runs.processor("cuda") == torch.device("cuda")
    assert runs.processor("cpu") == torch.device("cpu")


def test_writing_replaces_the_whole_file_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    runs.write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        runs.write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_only_current_runs_of_one_data_set_and_one_draw_are_compared():
    def record(data, draw, current, recipe="best", **which):
        kind = {"run": {"data": data, "draw": draw, "recipe": recipe, "n_labels": 50, "seed": 0} | which, "current": current}
        return kind | {"accuracy": 0.9, "nll": 0.1, "seconds": 1.0, "confusion": [[9]], "missing_classes": [], "fingerprint": ""}

    found = [record("mnist", "random", True), record("mnist", "stratified", True), record("mnist", "random", False)]
    found += [record("other", "random", True), record("mnist", "random", True, "best-without-muon")]
    found += [record("mnist", "random", True, fold=2), record("mnist", "random", True, label_noise=0.1)]
    assert runs.select(found) == found[:1] and runs.select(found, draw="stratified") == found[1:2]
    assert runs.select(found, names=recipes.ABLATIONS) == found[4:5]
    assert runs.select(found, plain=False) == [found[0], *found[5:]]
    assert runs.select([]) == []


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", '"', "recipe,seed\nbest,0\n"])
def test_a_file_that_is_no_table_of_runs_is_named(tmp_path, content):
    (path := tmp_path / "results.csv").write_text(content)
    with pytest.raises(ValueError, match=r"results.csv: must be a table of runs as `make sweep` writes it"):
        runs.results(tmp_path)
    path.unlink()
    assert runs.results(tmp_path).empty and runs.comparable(runs.results(tmp_path)).empty
