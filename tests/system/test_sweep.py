import fcntl
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from ssl_core.lab import page, places, runs, sweep
from ssl_core.lab.runs import Run
from ssl_core.recipes import ABLATIONS

SMOKE = ("--labels", "50", "--recipes", "supervised published", "--smoke")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def swept(images, tmp_path_factory):
    """The outputs of a real sweep of two runs of a few steps."""
    outputs = tmp_path_factory.mktemp("swept")
    sweep.main([*SMOKE, "--outputs", str(outputs)])
    return outputs


def test_a_sweep_leaves_records_notebooks_weights_table_and_page(swept):
    table = pd.read_csv(swept / "results.csv")
    assert {"data", "recipe", "n_labels", "seed", "accuracy", "nll", "seconds"} <= set(table)
    assert sorted(table["recipe"]) == ["published", "supervised"] and table["accuracy"].between(0, 1).all()
    for recipe in ("supervised", "published"):
        folder = swept / "mnist" / recipe / "m50" / "seed0"
        assert sorted(path.name for path in folder.iterdir()) == sorted(runs.FILES)
        cells = nbformat.read(folder / "train.ipynb", as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 9
        assert f"mnist/{recipe}/m50/seed0 · epoch  2/2" in "".join(output.get("text", "") for output in outputs)
    html = (swept / "results.html").read_text()
    assert "data:image/png" in html and "from ssl_core" not in html
    for link in ('src="http', "src='http", 'href="http', "@import", "url(http"):
        assert link not in html, "the page must be complete without a network"


def test_what_is_finished_is_not_repeated(swept, capsys):
    before = contents(swept / "mnist")
    sweep.main([*SMOKE, "--outputs", str(swept)])
    assert "2 runs: 2 finished before, 0 to do" in capsys.readouterr().out
    assert contents(swept / "mnist") == before


@pytest.mark.parametrize("old", ["", "old\n"])
def test_the_reference_is_the_finished_runs(swept, tmp_path, monkeypatch, old):
    (tmp_path / "README.md").write_text(f"before\n<!-- results -->\n{old}<!-- end of results -->\nafter\n")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    page.refer(swept)
    reference = pd.read_csv(tmp_path / "outputs" / "reference" / "results.csv")
    table = pd.read_csv(swept / "results.csv")
    assert reference["accuracy"].tolist() == pytest.approx(table["accuracy"].tolist(), abs=1e-6)
    assert (tmp_path / "outputs" / "reference" / "accuracy.png").exists()
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old\n" not in readme
    assert page.readme_tables(reference)["results"] in readme and "| 50 | “the lowest” |" in readme


def test_settings_of_the_results_page_are_names_and_numbers():
    assert page.read_settings(" wage_per_hour=30  target_accuracy=0.995", page.RESULTS) == {
        "wage_per_hour": 30.0,
        "target_accuracy": 0.995,
    }
    with pytest.raises(ValueError, match=r"^SET='wage=30': must be a name of seconds_per_label, wage_per_hour, "):
        page.read_settings("wage=30", page.RESULTS)
    with pytest.raises(ValueError, match=r"^SET='wage_per_hour=dear': must be a number after the ="):
        page.read_settings("wage_per_hour=dear", page.RESULTS)


def test_the_reference_keeps_what_todays_code_would_make_and_nothing_older(swept, tmp_path, monkeypatch):
    rows = pd.read_csv(swept / "results.csv").iloc[[0, 0, 0]].drop(columns="current").assign(recipe="best", accuracy=0.5)
    rows["n_labels"] = [100, 250, 500]
    rows["fingerprint"] = [Run(100, "best", 0).fingerprint, "of older code", Run(100, "best", 0).fingerprint]
    folder = tmp_path / "outputs" / "reference"
    folder.mkdir(parents=True)
    rows.to_csv(folder / "results.csv", index=False)
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- end of results -->\n")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    page.refer(swept)
    reference = pd.read_csv(folder / "results.csv")
    assert reference[["recipe", "n_labels"]].values.tolist() == [["best", 100], ["published", 50], ["supervised", 50]]
    page.refer(swept)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results.csv"), reference)


def test_two_sweeps_at_once_on_one_folder_are_refused(swept, command):
    before = contents(swept)
    with (swept / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, said = command("ssl_core.lab.sweep", *SMOKE, "--outputs", str(swept))
    assert status != 0 and "another sweep is at work there" in said
    assert contents(swept) == before


def start(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ssl_core.lab.sweep", *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def insert(project, cell):
    path = project / "notebooks" / "train.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(3, nbformat.v4.new_code_cell(cell))
    nbformat.write(notebook, path)


def test_a_failed_run_keeps_its_notebook_spares_the_rest_and_is_tried_again(project):
    insert(project, "if recipe == 'published' and not (runs.ROOT / 'mended').exists():\n    raise RuntimeError('made to fail')")
    folder = project / "outputs" / "mnist" / "published" / "m50" / "seed0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"fingerprint": "of older code", "run": {}, "accuracy": 0.5, "nll": 1}')
    before = contents(folder)

    process = start(project, *SMOKE)
    said = process.communicate()[0]
    assert process.returncode != 0
    failed = folder.with_name("seed0.failed") / "train.ipynb"
    assert "FAILED mnist/published/m50/seed0: RuntimeError: made to fail" in said and str(failed) in said
    assert "1 of 2 runs failed" in said
    traces = [output for cell in nbformat.read(failed, as_version=4).cells for output in cell.get("outputs", [])]
    assert any(output.output_type == "error" and output.evalue == "made to fail" for output in traces)
    assert contents(folder) == before, "what an earlier sweep finished is not touched by a failure"
    table = pd.read_csv(project / "outputs" / "results.csv")
    assert table["recipe"].tolist() == ["supervised"], "the other run finished, and is in the table"

    (project / "mended").touch()
    process = start(project, *SMOKE)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "2 runs: 1 finished before, 1 to do" in said
    assert not failed.exists() and pd.read_csv(project / "outputs" / "results.csv")["current"].all()


def test_an_interrupted_sweep_ends_its_runs_and_goes_on_when_called_again(project):
    insert(project, "import time\nif not (runs.ROOT / 'go').exists():\n    time.sleep(600)")
    process = start(project, *SMOKE)
    deadline = time.monotonic() + 60
    while len(list(project.glob("outputs/mnist/*/m50/seed0.part/train.ipynb"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    assert process.returncode != 0 and "interrupted" in said and "Traceback" not in said
    (project / "go").touch()
    process = start(project, *SMOKE)
    assert "2 runs: 0 finished before, 2 to do" in process.communicate()[0] and process.returncode == 0


@pytest.mark.parametrize("attempt", ["part", "failed"])
def test_what_was_cut_off_leaves_its_checkpoint_to_the_next_attempt(tmp_path, attempt):
    execution = sweep.Execution(Run(50, "best", 0), tmp_path)
    for name in ("train.ipynb", runs.CHECKPOINT):
        (folder := getattr(execution, attempt)).mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    execution.begin()
    assert [path.name for path in execution.part.iterdir()] == [runs.CHECKPOINT]


def test_what_can_not_be_written_fails_alone(tmp_path):
    execution = sweep.Execution(Run(50, "best", 0), tmp_path)
    execution.begin()
    (execution.part / runs.FILES[0]).touch()  # the other files are missing
    assert execution.finish("").startswith("what came out could not be written: ")
    assert runs.read(execution.folder) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--labels", "0"), "sweep: n_labels=0: must be a whole number from 1 to 60000"),
        (("--labels=-5",), "sweep: n_labels=-5: must be a whole number from 1 to 60000"),
        (("--labels", "50 60001"), "sweep: n_labels=60001: must be a whole number from 1 to 60000"),
        (("--labels", "many"), "sweep: n_labels='many': must be a whole number from 1 to 60000"),
        (("--labels", "50.5"), "sweep: n_labels='50.5': must be a whole number from 1 to 60000"),
        (("--labels", " "), "sweep: LABELS=' ': must be one value or more, separated by blanks"),
        (
            ("--recipes", "best bset"),
            "sweep: recipe='bset': must be published, supervised, corrected, best, or one of recipes.ABLATIONS",
        ),
        (("--seeds=-1",), "sweep: seed=-1: must be a whole number from 0 to 4294967295"),
        (("--seeds", "1.5"), "sweep: seed='1.5': must be a whole number from 0 to 4294967295"),
        (("--data", "letters"), "sweep: data='letters': must be mnist, fashion-mnist"),
        (("--draw", "lucky"), "sweep: draw='lucky': must be random, stratified, typical"),
        (("--jobs", "0"), "sweep: JOBS=0: must be a whole number from 1"),
        (("--device", "gpu"), "sweep: device='gpu': must be auto, cpu, or cuda where PyTorch finds a GPU"),
        (("--device", "gpu", "--scheduler", "tcp://127.0.0.1:9"), "sweep: device='gpu': must be auto, cpu or cuda"),
        (("--outputs", "/proc/nowhere"), "sweep: OUTPUTS='/proc/nowhere': must be a folder that can be written to"),
        (("--outputs", "README.md"), "must be a folder that can be written to"),
    ],
)
def test_bad_input_is_one_line_that_names_it_before_anything_starts(swept, arguments, message):
    before = contents(swept)
    with pytest.raises(SystemExit) as stop:
        sweep.main(["--outputs", str(swept), *arguments])
    said = stop.value.code  # a text: the shell shows it, and the status is 1
    assert message in said and "\n" not in said
    assert contents(swept) == before


def test_values_are_separated_by_blanks_or_commas_and_taken_once():
    grid = sweep.make_grid("50, 250 50", "best", "0 1")
    assert grid == [Run(50, "best", 0), Run(50, "best", 1), Run(250, "best", 0), Run(250, "best", 1)]
    assert [run.recipe for run in sweep.make_grid("50", "best ablations", "0")] == ["best", *ABLATIONS]


def test_no_more_runs_at_a_time_than_there_is_memory_for(monkeypatch):
    best, supervised = Run(50, "best", 0), Run(50, "supervised", 0)
    assert 1e9 < places.memory(supervised) < places.memory(best) < 2e9
    for free, at_a_time in ((64e9, 16), (4e9, 2), (2e9, 1), (0.1e9, 1)):
        monkeypatch.setattr(places.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert places.at_a_time([supervised, best], 16) == at_a_time


def test_time_to_go_follows_the_work_that_is_left(monkeypatch, tmp_path):
    done, running = (sweep.Execution(Run(n, "best", 0), tmp_path) for n in (50, 250))
    board = sweep.Board([done, running])
    board.done, running.fraction = [done], 0.5
    monkeypatch.setattr(sweep.time, "monotonic", lambda: board.start + 300)
    share = (done.work + 0.5 * running.work) / (done.work + running.work)
    assert board._time_to_go() == f"about {sweep._duration(300 * (1 / share - 1))} to go"
    assert sweep._duration(89.6) == "90 s" and sweep._duration(150) == "2 min"


def test_while_one_run_makes_the_graph_those_that_need_none_go_first(monkeypatch, tmp_path):
    grid = sweep.make_grid("250 50", "best supervised", "0")
    executions = [sweep.Execution(run, tmp_path) for run in grid]
    monkeypatch.setattr(sweep.shared.path, "__defaults__", (tmp_path,))
    assert [e.run.recipe for e in sweep.in_order(executions)] == ["best", "supervised", "supervised", "best"]
    maker = executions[0]
    assert maker.graph_work > 0.5 * maker.work and not any(e.graph_work for e in executions[1:])
    more = [sweep.Execution(run, tmp_path) for run in sweep.make_grid("50", "published supervised", "1 2 3 4")]
    told = [e.run.recipe for e in sweep.in_order([*more, *executions], jobs=2)]  # four fill the time; the shortest end the sweep
    assert told == ["best", *["supervised"] * 4, "best", *["supervised"] * 2, *["published"] * 4]
    assert [e.run.recipe for e in sweep.in_order(executions, jobs=1)] == ["best", "best", "supervised", "supervised"]
    maker.graph.touch()
    assert [e.run.recipe for e in sweep.in_order(executions)] == ["best", "best", "supervised", "supervised"]
