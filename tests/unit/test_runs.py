import json
import os
import subprocess
import sys
from dataclasses import asdict, field, fields, make_dataclass, replace
from types import SimpleNamespace

import nbformat
import pytest
import torch
from safetensors.torch import load_file

from ssl_core import device, experiment, recipes, train
from ssl_core.lab.runs import files, fingerprint, notebook, records, spec
from ssl_core.lab.runs.records import Record
from ssl_core.lab.runs.spec import Run


@pytest.fixture
def recorded(images, tmp_path):
    """A real, tiny run and its record."""
    run = Run(50, "supervised", 3, smoke=True)
    few = replace(images, x_test=images.x_test[:500], y_test=images.y_test[:500])
    task = experiment.prepare(few, run.labeling, run.settings)
    result = experiment.assess(few, task, train.fit(experiment.network(few, 3), task, run.settings, 3))
    folder = run.folder(tmp_path)
    path = records.save(folder, run, task, result)
    (folder / "train.ipynb").write_text("{}")
    return SimpleNamespace(run=run, folder=folder, path=path, task=task, result=result, outputs=tmp_path)


def test_record_says_what_was_run_and_measured(recorded):
    run, result = recorded.run, recorded.result
    assert recorded.folder == recorded.outputs / "mnist/supervised/m50/seed3"
    assert recorded.path == recorded.folder / "run.json"
    record, content = records.read(recorded.folder), json.loads(recorded.path.read_text())
    assert record.run == run
    assert record.accuracy == result.trained.accuracy and record.nll == pytest.approx(result.trained.nll)
    assert sum(map(sum, record.confusion)) == 500
    assert sum(content["labels_per_class"]) == 50
    assert record.recipe["weights"] == {"supervised": 1.0} and record.history == result.training.history
    assert content["versions"]["torch"] == torch.__version__
    weights = load_file(recorded.folder / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in result.training.model.state_dict().items())


def test_records_become_a_table(recorded):
    rows = records.table(records.read_all(recorded.outputs)).to_dict("records")
    assert len(rows) == 1
    assert {"data", "recipe", "n_labels", "seed", "accuracy", "nll", "seconds"} <= rows[0].keys()
    assert (rows[0]["data"], rows[0]["recipe"], rows[0]["n_labels"], rows[0]["seed"]) == ("mnist", "supervised", 50, 3)
    assert rows[0]["current"]


def test_run_is_finished_with_record_fingerprint_and_notebook(recorded):
    run, folder, outputs = recorded.run, recorded.folder, recorded.outputs
    assert records.finished(run, outputs)
    assert not records.finished(replace(run, seed=4), outputs)
    (folder / "train.ipynb").rename(folder / "other.ipynb")
    assert not records.finished(run, outputs)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"fingerprint": "x", "run": {}}'])
def test_damaged_record_is_no_record(recorded, content, capsys):
    recorded.path.write_text(content)
    assert records.read(recorded.folder) is None and not records.finished(recorded.run, recorded.outputs)
    assert records.read_all(recorded.outputs) == []
    assert capsys.readouterr().err == f"left out: {recorded.path}: it is damaged, or no record of a run\n"


def test_record_of_another_recipe_or_version_is_not_current(recorded):
    content = json.loads(recorded.path.read_text())
    for change in ({"recipe": "forgotten"}, {"unheard": 1}, {"seed": 4}):
        recorded.path.write_text(json.dumps(content | {"run": content["run"] | change}))
        assert [record.current for record in records.read_all(recorded.outputs)] == [False]


@pytest.mark.parametrize(
    "name, change",
    [("recipe", {"recipe": "published"}), ("seed", {"seed": 4}), ("n_labels", {"n_labels": 51})],
)
def test_save_refuses_a_result_of_another_run(recorded, tmp_path, name, change):
    other = replace(recorded.run, **change)
    with pytest.raises(ValueError, match=f"^{name}: training used another one than the run {other} states; not recorded$"):
        records.save(tmp_path / "other", other, recorded.task, recorded.result)
    assert not (tmp_path / "other").exists()


def test_record_with_former_names_is_read_and_current(recorded):
    run = Run(50, "best", 3, draw="class-balanced", label_noise=0.1, smoke=True)
    assert str(run) == "mnist/best/m50-stratified-wrong10/seed3" == str(replace(run, draw="class-balanced"))
    content = json.loads(recorded.path.read_text()) | {"fingerprint": fingerprint.fingerprint(run)}
    content["run"] = {"n_labels": 50, "recipe": "best", "seed": 3, "data": "mnist", "draw": "stratified", "smoke": True}
    content["run"] |= {"wrong_labels": 0.1, "fold": 0}
    content["recipe"] = {"graph": {"augment": {"clutter": 9, "flip": False}}, "graph_alone": 0.2, "guided": 0.4}
    content["recipe"] |= {"augment_guided": {"clutter": 9}, "test_copies": 8, "augment_test": None, "weight_decay": 0.0}
    (folder := run.folder(recorded.outputs)).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "train.ipynb").write_text("{}")
    record = records.read(folder)
    assert record.run == run and record.current and records.finished(run, recorded.outputs)
    assert (record.row["draw"], record.row["label_noise"]) == ("class-balanced", 0.1)
    assert record.recipe == {
        "pretraining": {"augment": {"overlay": 9}},
        "graph_warmup": 0.2,
        "graph_constrained": 0.4,
        "augment_constrained": {"overlay": 9},
        "tta_views": 8,
        "tta_augment": None,
    }


def test_table_keeps_its_former_names_on_disk(tmp_path):
    header, *rows = (files.REFERENCE / "results.csv").read_text().splitlines()
    rows = [rows[0], *[row for row in rows if "stratified" in row][:2], *[row for row in rows if ",0.1," in row][:2]]
    (path := tmp_path / "results.csv").write_text("\n".join([header, *rows]) + "\n")
    table = records.read_table(path)
    assert "wrong_labels" in header and set(table["draw"]) == {"random", "class-balanced"}
    assert table["current"].all() and table["label_noise"].tolist() == [0, 0, 0, 0.1, 0.1]
    records.write_table(tmp_path / "again.csv", table.drop(columns="current"), float_format="%.6g")
    assert records.read_table(tmp_path / "again.csv").equals(table)
    later = [name for name in records.LATER if name not in header.split(",")]  # columns that the reference got since
    cells = ["" if records.LATER[name] != records.LATER[name] else str(records.LATER[name]) for name in later]
    expected = [",".join([header, *later]), *(",".join([row, *cells]) for row in rows)]
    assert (tmp_path / "again.csv").read_text().splitlines() == expected


@pytest.mark.slow
def test_changed_notebook_leaves_runs_finished(recorded, project):
    """A reader adds a scratch cell and a cell with a shell command, and changes a title."""
    program = (
        "import sys; from ssl_core.lab.runs import fingerprint, records; from ssl_core.lab.runs.spec import Run;"
        "run = Run(50, 'supervised', 3, smoke=True); print(fingerprint.fingerprint(run), records.finished(run, sys.argv[1]))"
    )

    def ask():
        environment = os.environ | {"PYTHONPATH": str(project)}
        command = [sys.executable, "-c", program, str(recorded.outputs)]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout.split()

    before = ask()
    path = project / "notebooks" / "train.ipynb"
    content = nbformat.read(path, as_version=4)
    content.cells[0].source = content.cells[0].source + ", my title"
    content.cells += [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell("!ls")]
    nbformat.write(content, path)
    assert ask() == before == [fingerprint.fingerprint(recorded.run), "True"]


def test_fingerprint_follows_parameters_recipe_and_code(monkeypatch):
    run = Run(50, "best", 0)
    others = [replace(run, n_labels=51), replace(run, seed=1), replace(run, recipe="supervised"), replace(run, smoke=True)]
    others.append(replace(run, draw="class-balanced"))
    assert len({fingerprint.fingerprint(each) for each in [run, *others]}) == 6
    before, supervised = (fingerprint.fingerprint(each) for each in (run, replace(run, recipe="supervised")))
    monkeypatch.setitem(recipes.RECIPES, "best", replace(recipes.BEST, summary="in other words"))
    assert fingerprint.fingerprint(run) == before
    monkeypatch.setitem(recipes.RECIPES, "best", replace(recipes.BEST, threshold=0.123))
    assert fingerprint.fingerprint(run) != before and fingerprint.fingerprint(Run(50, "supervised", 0)) == supervised
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "code_digest", lambda *modules: "other code")
    assert fingerprint.fingerprint(run) != before


def test_unused_field_leaves_the_fingerprint(monkeypatch):
    run = Run(50, "supervised", 0)
    before = fingerprint.fingerprint(run)
    with_more = make_dataclass("Recipe", [("noise", float, field(default=0.0))], bases=(recipes.Recipe,), frozen=True)
    values = {f.name: getattr(recipes.SUPERVISED, f.name) for f in fields(recipes.SUPERVISED)}
    monkeypatch.setitem(recipes.RECIPES, "supervised", with_more(**values))
    assert fingerprint.fingerprint(run) == before
    monkeypatch.setitem(recipes.RECIPES, "supervised", with_more(**values, noise=0.1))
    assert fingerprint.fingerprint(run) != before


def test_comments_docstrings_and_layout_are_not_code():
    plain = "def f(x):\n    return x + 1\n"
    commented = '"""A module."""\n\n\ndef f(x):  # adds\n    """One more."""\n    return x+1\n'
    assert fingerprint.stripped(plain) == fingerprint.stripped(commented) != fingerprint.stripped(plain.replace("1", "2"))
    for constant in ("A = 1\n", "A: int = 1\n"):
        assert fingerprint.stripped(constant + plain, without_constants=True) == fingerprint.stripped(plain)


def test_smoke_run_differs_only_in_length():
    full, smoke = Run(50, "best", 0).settings, Run(50, "best", 0, smoke=True).settings
    pretraining = asdict(full)["pretraining"] | {"steps": 3}
    assert asdict(smoke) == asdict(full) | {"epochs": 2, "steps_per_epoch": 3, "pretraining": pretraining, "tta_views": 1}


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_labels": 0, "recipe": "published"}, "n_labels=0: must be 1 or more for recipe='published', which needs labels"),
        ({"n_labels": -1}, "n_labels=-1: must be a whole number from 0 to 60000"),
        ({"n_labels": "many"}, "n_labels='many': must be a whole number from 0 to 60000"),
        ({"n_clusters": 3}, "n_clusters=3: must be 0 with labels"),
        ({"recipe": "bset"}, "recipe='bset': must be one of published, supervised, corrected, best"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0"),
        ({"data": "letters"}, "data='letters': must be one of mnist"),
        ({"draw": "lucky"}, "draw='lucky': must be one of random, class-balanced"),
        ({"smoke": "true"}, "smoke='true': must be True or False"),
    ],
)
def test_bad_parameter_is_named(parameters, message):
    with pytest.raises(ValueError) as error:
        Run(**{"n_labels": 50, "recipe": "best", "seed": 0} | parameters)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_unknown_notebook_parameter_is_named():
    parameters = {"n_labels": 50, "recipe": "best", "seed": 0, "data": "mnist", "draw": "random", "smoke": False, "threads": 1}
    parameters |= {"label_noise": 0.0, "fold": 0, "device": "auto"}
    cells = ["", "n_labels = 1", "# Parameters\nn_labels = 50\nsmoke = False\n"]
    assert notebook.run_of(parameters | {"In": cells}) == Run(50, "best", 0)
    assert notebook.run_of(parameters | {"n_labels": 0, "n_clusters": 4, "In": []}) == Run(0, "best", 0, n_clusters=4)
    former = parameters | {"wrong_labels": 0.1, "In": ["# Parameters\nwrong_labels = 0.1\n"]}
    assert notebook.run_of(former) == Run(50, "best", 0, label_noise=0.1)
    must = r"^unknown notebook parameter n_lables: must be one of data, device, draw, features, fold, folder, label_noise, n_c"
    with pytest.raises(ValueError, match=must):
        notebook.run_of(parameters | {"In": ["", "# Parameters\nn_lables = 1000\n"]})


def test_missing_device_is_named_and_auto_prefers_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.training_device("auto") == device.training_device("cpu") == torch.device("cpu")
    for bad in ("cuda", "gpu", "", None, 0):
        must = f"^device={bad!r}: must be auto, cpu, or cuda where PyTorch finds a GPU; here: auto, cpu$"
        with pytest.raises(ValueError, match=must):
            device.training_device(bad)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (12, 0))
    monkeypatch.setattr(device, "attempt", lambda: None)
    assert device.training_device("auto") == device.training_device("cuda") == torch.device("cuda")
    assert device.training_device("cpu") == torch.device("cpu")


def test_write_atomically_replaces_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_comparable_runs_are_current_and_of_one_draw():
    def record(*, current=True, **parameters):
        defaults = {"data": "mnist", "draw": "random", "recipe": "best", "n_labels": 50, "seed": 0}
        nothing = {name: {} for name in ("recipe", "images", "history", "test_accuracy", "untrained", "held_out")}
        measured = {"accuracy": 0.9, "nll": 0.1, "seconds": 1.0, "confusion": [[9]], "missing_classes": [], "fingerprint": ""}
        return Record(parameters=defaults | parameters, current=current, **nothing, **measured)

    run_records = [record(), record(draw="class-balanced"), record(current=False)]
    run_records += [record(data="other"), record(recipe="best-without-muon"), record(fold=2), record(label_noise=0.1)]
    assert records.select(run_records) == run_records[:1]
    assert records.select(run_records, draw="class-balanced") == run_records[1:2]
    assert records.select(run_records, names=recipes.ABLATIONS) == run_records[4:5]
    assert records.select(run_records, variants=True) == [run_records[0], *run_records[5:]]
    assert records.select([]) == []


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", '"', "recipe,seed\nbest,0\n"])
def test_file_without_runs_is_named(tmp_path, content):
    (path := tmp_path / "results.csv").write_text(content)
    with pytest.raises(ValueError, match=r"results.csv: must be a table of runs as `make sweep` writes it"):
        records.results(tmp_path)
    path.unlink()
    assert records.results(tmp_path).empty and records.comparable(records.results(tmp_path)).empty


def test_former_draw_is_translated_and_an_unknown_one_named():
    assert spec.current_draw("stratified") == spec.current_draw("class-balanced") == "class-balanced"
    with pytest.raises(ValueError, match=r"^draw='lucky': must be one of random, class-balanced, typical$"):
        spec.current_draw("lucky")
