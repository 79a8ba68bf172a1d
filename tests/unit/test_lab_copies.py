"""The notebooks that `make lab` opens are copies: the user's changes stay, and unchanged copies follow their originals."""

import pytest

from ssl_core.lab.tools.lab_copies import COPIED, copy_notebooks


@pytest.fixture
def folders(tmp_path):
    """Two notebooks, copied."""
    originals, copies = tmp_path / "notebooks", tmp_path / "copies"
    originals.mkdir()
    for name in ("results", "train"):
        (originals / f"{name}.ipynb").write_text(f"{name}, first version")
    assert copy_notebooks(originals, copies) == []
    return originals, copies


def test_new_notebooks_are_copied(folders):
    originals, copies = folders
    (originals / "watch.ipynb").write_text("watch")
    (originals / "README.md").write_text("no notebook")
    assert copy_notebooks(originals, copies) == []
    assert sorted(path.name for path in copies.glob("[!.]*")) == ["results.ipynb", "train.ipynb", "watch.ipynb"]
    assert all(path.read_text() == (originals / path.name).read_text() for path in copies.glob("*.ipynb"))


def test_an_unchanged_copy_is_refreshed(folders):
    originals, copies = folders
    (originals / "train.ipynb").write_text("second version")
    assert copy_notebooks(originals, copies) == []
    assert (copies / "train.ipynb").read_text() == "second version"


def test_a_changed_copy_stays(folders):
    originals, copies = folders
    (copies / "train.ipynb").write_text("the user's")
    assert copy_notebooks(originals, copies) == []
    assert (copies / "train.ipynb").read_text() == "the user's"


def test_if_both_changed_the_copy_stays_and_a_line_says_so(folders):
    originals, copies = folders
    (copies / "train.ipynb").write_text("the user's")
    (originals / "train.ipynb").write_text("second version")
    for _ in range(2):
        (line,) = copy_notebooks(originals, copies)
        assert line.startswith("train.ipynb: your changed copy is kept")
        assert (copies / "train.ipynb").read_text() == "the user's"
    (copies / "train.ipynb").unlink()
    assert copy_notebooks(originals, copies) == []
    assert (copies / "train.ipynb").read_text() == "second version"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_without_the_note_of_what_was_copied_nothing_is_overwritten(folders, damage):
    originals, copies = folders
    damage(copies / COPIED)
    (copies / "train.ipynb").write_text("the user's")
    (line,) = copy_notebooks(originals, copies)
    assert line.startswith("train.ipynb: ") and (copies / "train.ipynb").read_text() == "the user's"
    (originals / "results.ipynb").write_text("second version")
    assert copy_notebooks(originals, copies) == [line], "a copy that equals its original counts as unchanged"
    assert (copies / "results.ipynb").read_text() == "second version"
