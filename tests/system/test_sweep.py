import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import nbformat
import pandas as pd
import pytest
from filelock import FileLock

from ssl_core import progress
from ssl_core.lab.__main__ import main
from ssl_core.lab.page import build, reference, tables
from ssl_core.lab.runs import executors, files, graph_cache, notebook, records, sweep
from ssl_core.lab.runs.fingerprint import fingerprint
from ssl_core.lab.runs.spec import Run
from ssl_core.recipes import ABLATIONS

SMOKE = ("--labels", "50", "--recipes", "supervised published", "--smoke")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def swept(images, tmp_path_factory):
    """The outputs of a real sweep of two runs of a few steps."""
    outputs = tmp_path_factory.mktemp("swept")
    main(["sweep", *SMOKE, "--outputs", str(outputs)])
    return outputs


def test_sweep_leaves_records_notebooks_weights_table_and_page(swept):
    table = pd.read_csv(swept / "results.csv")
    assert {"data", "recipe", "n_labels", "seed", "accuracy", "nll", "seconds"} <= set(table)
    assert sorted(table["recipe"]) == ["published", "supervised"] and table["accuracy"].between(0, 1).all()
    for recipe in ("supervised", "published"):
        folder = swept / "mnist" / recipe / "m50" / "seed0"
        assert sorted(path.name for path in folder.iterdir()) == sorted(records.FILES)
        cells = nbformat.read(folder / "train.ipynb", as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 9
        assert f"mnist/{recipe}/m50/seed0 · epoch  2/2" in "".join(output.get("text", "") for output in outputs)
    html = (swept / "results.html").read_text()
    assert "data:image/png" in html and "from ssl_core" not in html
    for link in ('src="http', "src='http", 'href="http', "@import", "url(http"):
        assert link not in html, "the page must be complete without a network"


def test_finished_runs_are_not_repeated(swept, capsys):
    before = contents(swept / "mnist")
    main(["sweep", *SMOKE, "--outputs", str(swept)])
    assert "2 runs: 2 finished before, 0 to do" in capsys.readouterr().out
    assert contents(swept / "mnist") == before


def test_smoke_run_never_replaces_a_finished_one(swept, tmp_path):
    outputs = shutil.copytree(swept, tmp_path / "outputs")
    run = Run(50, "supervised", 0)
    path = run.folder(outputs) / "run.json"
    content = json.loads(path.read_text())
    content["run"]["smoke"] = False  # as if it had been trained in full
    content["fingerprint"] = "of the full run"
    path.write_text(json.dumps(content))
    before = contents(outputs / "mnist")
    with pytest.raises(
        SystemExit, match=rf"^sweep: OUTPUTS=.*: must be another folder for smoke runs: this one holds the finished run {run}$"
    ):
        main(["sweep", *SMOKE, "--outputs", str(outputs)])
    assert contents(outputs / "mnist") == before


def test_page_of_smoke_runs_says_so(swept):
    assert "2 of these are smoke runs of a few steps: their metrics mean nothing" in (swept / "results.html").read_text()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of the reference, and one page beside it; the smoke runs of `swept` are taken for runs in full."""
    monkeypatch.setattr(files, "REFERENCE", folder := tmp_path / "outputs" / "reference")
    monkeypatch.setattr(reference, "PAGES", (tmp_path / "README.md",))
    monkeypatch.setattr(records.Record, "smoke", False)
    return folder


def test_reference_takes_no_smoke_run(swept, elsewhere, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(files, "REFERENCE", elsewhere)
    monkeypatch.setattr(reference, "PAGES", ())
    reference.renew(swept)
    assert pd.read_csv(elsewhere / "results.csv").empty


@pytest.mark.parametrize("old", ["", "old\n"])
def test_reference_shows_the_finished_runs(swept, tmp_path, elsewhere, old):
    (tmp_path / "README.md").write_text(f"before\n<!-- results -->\n{old}<!-- end of results -->\nafter\n")
    reference.renew(swept)
    renewed = pd.read_csv(elsewhere / "results.csv")
    table = pd.read_csv(swept / "results.csv")
    assert renewed["accuracy"].tolist() == pytest.approx(table["accuracy"].tolist(), abs=1e-6)
    assert (elsewhere / "accuracy.png").exists()
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old\n" not in readme
    assert tables.page_tables(records.read_table(elsewhere / "results.csv"))["results"] in readme
    assert "| 50 | “the lowest” |" in readme


def test_page_settings_are_names_and_numbers():
    assert build.read_settings(" wage_per_hour=30  target_accuracy=0.995", notebook.RESULTS) == {
        "wage_per_hour": 30.0,
        "target_accuracy": 0.995,
    }
    with pytest.raises(ValueError, match=r"^SET='wage=30': must be a name of seconds_per_label, wage_per_hour, "):
        build.read_settings("wage=30", notebook.RESULTS)
    with pytest.raises(ValueError, match=r"^SET='wage_per_hour=dear': must be a number after the ="):
        build.read_settings("wage_per_hour=dear", notebook.RESULTS)
    for bad in ("nan", "inf", "-3"):
        with pytest.raises(ValueError, match=rf"^SET='wage_per_hour={bad}': must be a finite number from 0 after the =$"):
            build.read_settings(f"wage_per_hour={bad}", notebook.RESULTS)


def test_reference_keeps_rows_of_todays_code_alone(swept, tmp_path, elsewhere):
    rows = pd.read_csv(swept / "results.csv").iloc[[0, 0, 0]].drop(columns="current").assign(recipe="best", accuracy=0.5)
    rows["n_labels"] = [100, 250, 500]
    rows["fingerprint"] = [fingerprint(Run(100, "best", 0)), "of older code", fingerprint(Run(100, "best", 0))]
    elsewhere.mkdir(parents=True)
    rows.to_csv(elsewhere / "results.csv", index=False)
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- end of results -->\n")
    reference.renew(swept)
    renewed = pd.read_csv(elsewhere / "results.csv")
    assert renewed[["recipe", "n_labels"]].to_numpy().tolist() == [["best", 100], ["published", 50], ["supervised", 50]]
    reference.renew(swept)
    pd.testing.assert_frame_equal(pd.read_csv(elsewhere / "results.csv"), renewed)


def test_second_sweep_on_a_folder_is_refused(swept, command):
    before = contents(swept)
    with FileLock(swept / ".lock"):
        status, output = command("ssl_core.lab", "sweep", *SMOKE, "--outputs", str(swept))
    assert status != 0 and "another sweep is at work there" in output
    assert contents(swept) == before


def start(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ssl_core.lab", "sweep", *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def insert(project, cell):
    path = project / "notebooks" / "train.ipynb"
    content = nbformat.read(path, as_version=4)
    content.cells.insert(3, nbformat.v4.new_code_cell(cell))
    nbformat.write(content, path)


def test_failed_run_spares_the_rest_and_is_tried_again(project):
    insert(
        project, "if recipe == 'published' and not (files.ROOT / 'repaired').exists():\n    raise RuntimeError('made to fail')"
    )
    folder = project / "outputs" / "mnist" / "published" / "m50" / "seed0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"fingerprint": "of older code", "run": {}, "accuracy": 0.5, "nll": 1}')
    before = contents(folder)

    process = start(project, *SMOKE)
    output = process.communicate()[0]
    assert process.returncode != 0
    failed = folder.with_name("seed0.failed") / "train.ipynb"
    assert "FAILED mnist/published/m50/seed0: RuntimeError: made to fail" in output and str(failed) in output
    assert "1 of 2 runs failed" in output
    traces = [output for cell in nbformat.read(failed, as_version=4).cells for output in cell.get("outputs", [])]
    assert any(output.output_type == "error" and output.evalue == "made to fail" for output in traces)
    assert contents(folder) == before, "what an earlier sweep finished is not touched by a failure"
    table = pd.read_csv(project / "outputs" / "results.csv")
    assert table["recipe"].tolist() == ["supervised"], "the other run finished, and is in the table"

    (project / "repaired").touch()
    process = start(project, *SMOKE)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "2 runs: 1 finished before, 1 to do" in output
    assert not failed.exists() and pd.read_csv(project / "outputs" / "results.csv")["current"].all()


def test_interrupted_sweep_ends_its_runs_and_resumes(project):
    insert(project, "import time\nif not (files.ROOT / 'go').exists():\n    time.sleep(600)")
    process = start(project, *SMOKE)
    deadline = time.monotonic() + 60
    while len(list(project.glob("outputs/mnist/*/m50/seed0.part/train.ipynb"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode != 0 and "interrupted" in output and "Traceback" not in output
    (project / "go").touch()
    process = start(project, *SMOKE)
    assert "2 runs: 0 finished before, 2 to do" in process.communicate()[0] and process.returncode == 0


@pytest.mark.parametrize("attempt", ["part", "failed"])
def test_interrupted_run_leaves_its_checkpoint(tmp_path, attempt):
    swept_run = sweep.SweptRun(Run(50, "best", 0), tmp_path)
    for name in ("train.ipynb", records.CHECKPOINT):
        (folder := getattr(swept_run, attempt)).mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    swept_run.begin()
    assert [path.name for path in swept_run.part.iterdir()] == [records.CHECKPOINT]


def test_unwritable_files_fail_one_run(tmp_path):
    swept_run = sweep.SweptRun(Run(50, "best", 0), tmp_path)
    swept_run.begin()
    (swept_run.part / records.FILES[0]).touch()  # the other files are missing
    (future := Future()).set_result(None)
    assert swept_run.finish(future).startswith("the files of the run could not be written: ")
    assert records.read(swept_run.folder) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--labels", "0", "--recipes", "supervised"), "sweep: n_labels=0: must be 1 or more for recipe='supervised'"),
        (("--labels=-5",), "sweep: n_labels=-5: must be a whole number from 0 to 60000"),
        (("--labels", "50 60001"), "sweep: n_labels=60001: must be a whole number from 0 to 60000"),
        (("--labels", "many"), "sweep: n_labels='many': must be a whole number from 0 to 60000"),
        (("--labels", "50.5"), "sweep: n_labels='50.5': must be a whole number from 0 to 60000"),
        (("--labels", " "), "sweep: LABELS=' ': must be one value or more, separated by blanks"),
        (
            ("--recipes", "best bset"),
            "sweep: recipe='bset': must be one of published, supervised, corrected, best, quick, linear, or of recipes.ABLATIONS",
        ),
        (("--seeds=-1",), "sweep: seed=-1: must be a whole number from 0 to 4294967295"),
        (("--seeds", "1.5"), "sweep: seed='1.5': must be a whole number from 0 to 4294967295"),
        (("--data", "letters"), "sweep: data='letters': must be one of mnist, fashion-mnist"),
        (("--draw", "lucky"), "sweep: draw='lucky': must be one of random, class-balanced, typical"),
        (("--clusters", "12"), "sweep: CLUSTERS='12': must be empty unless there are 0 labels, not LABELS='6000 2000"),
        (("--jobs", "0"), "sweep: JOBS=0: must be a whole number from 1"),
        (("--device", "gpu"), "sweep: device='gpu': must be auto, cpu, or cuda where PyTorch finds a GPU"),
        (("--device", "gpu", "--scheduler", "tcp://127.0.0.1:9"), "sweep: device='gpu': must be one of auto, cpu, cuda"),
        (("--outputs", "/proc/nowhere"), "sweep: OUTPUTS='/proc/nowhere': must be a folder that can be written to"),
        (("--outputs", "README.md"), "must be a folder that can be written to"),
        (("--outputs", " "), "sweep: OUTPUTS=' ': must be the name of a folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_starts(swept, arguments, message):
    before = contents(swept)
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--outputs", str(swept), *arguments])
    output = stop.value.code  # a text: the shell shows it, and the status is 1
    assert message in output and "\n" not in output
    assert contents(swept) == before


def test_grid_values_are_split_and_deduplicated():
    grid = sweep.make_grid("50, 250 50", "best", "0 1")
    assert grid == [Run(50, "best", 0), Run(50, "best", 1), Run(250, "best", 0), Run(250, "best", 1)]
    assert [run.recipe for run in sweep.make_grid("50", "best ablations", "0")] == ["best", *ABLATIONS]


def test_jobs_fit_into_memory(monkeypatch):
    best, supervised = Run(50, "best", 0), Run(50, "supervised", 0)
    assert 1e9 < executors.memory(supervised) < executors.memory(best) < 2e9
    for free, at_a_time in ((64e9, 16), (4e9, 2), (2e9, 1), (0.1e9, 1)):
        monkeypatch.setattr(executors.machine, "memory", lambda free=free: free)
        assert executors.jobs_in_memory([supervised, best], 16) == at_a_time


def test_time_to_go_follows_the_remaining_work(monkeypatch, tmp_path):
    done, running = (sweep.SweptRun(Run(n, "best", 0), tmp_path) for n in (50, 250))
    board = sweep.Board([done, running])
    board.done, running.fraction = [done], 0.5
    monkeypatch.setattr(sweep.time, "monotonic", lambda: board.start + 300)
    share = (done.work + 0.5 * running.work) / (done.work + running.work)
    assert board._time_to_go() == f"about {progress.duration(300 * (1 / share - 1))} to go"
    assert progress.duration(89.6) == "90 s" and progress.duration(150) == "2 min"


def test_runs_without_graph_go_first_while_one_makes_it(monkeypatch, tmp_path):
    grid = sweep.make_grid("250 50", "best supervised", "0")
    swept_runs = [sweep.SweptRun(run, tmp_path) for run in grid]
    monkeypatch.setattr(graph_cache.path, "__defaults__", (tmp_path,))
    assert [e.run.recipe for e in sweep.in_order(swept_runs)] == ["best", "supervised", "supervised", "best"]
    maker = swept_runs[0]
    assert maker.graph_work > 0.5 * maker.work and not any(e.graph_work for e in swept_runs[1:])
    more = [sweep.SweptRun(run, tmp_path) for run in sweep.make_grid("50", "published supervised", "1 2 3 4")]
    order = [e.run.recipe for e in sweep.in_order([*more, *swept_runs], jobs=2)]  # four fill the time; the shortest end the sweep
    assert order == ["best", *["supervised"] * 4, "best", *["supervised"] * 2, *["published"] * 4]
    assert [e.run.recipe for e in sweep.in_order(swept_runs, jobs=1)] == ["best", "best", "supervised", "supervised"]
    maker.graph.touch()
    assert [e.run.recipe for e in sweep.in_order(swept_runs)] == ["best", "best", "supervised", "supervised"]
