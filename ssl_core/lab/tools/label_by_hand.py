"""Labels by hand, in JupyterLab: one image after the other, a key or a click for each; every answer is written at once.

`start` gives the panel that `notebooks/label.ipynb` shows. What is done is in the table alone: whoever begins anew goes on where
it stopped.
"""

import string
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ssl_core.datasets import tables
from ssl_core.datasets.pixels import UnreadableImage
from ssl_core.datasets.scan import TABLE
from ssl_core.datasets.table_names import clean

from ..runs import files
from .label_file import NO_CLASS, Answer, LabelFile
from .label_images import LARGE, SMALL, FolderImages, ImagesToLabel, images_to_label

LIST = "label_next.csv"  # which `make label-next` writes
RESERVED = " -/"  # keys that are no class's: a button's own; no class; the box
FREE = "1234567890" + string.ascii_lowercase


@dataclass(frozen=True)
class Step:
    """What an answer changed in the table, to be undone; or that an image was passed, by a skip, without a change."""

    image: str
    before: Answer | None = None  # None for no row
    after: Answer | None = None  # None if nothing was changed


@dataclass(frozen=True)
class Question:
    """Two answers for the image that is shown: one that somebody else gave meanwhile, and one that waits."""

    theirs: Answer
    mine: Answer


class Sitting:
    """The images that one person goes through, and the answers.

    `image` is the one shown, None at the end; `listed` are those of a list to go through first, in its order. What a method
    has to tell is in `message`. Nothing raises: an answer that can't be written stays on screen, with the reason.
    """

    ACTIONS: tuple[str, ...] = ("no_class", "skip", "undo", "keep", "overwrite", "go_on")  # of a button each
    DONE = "The list is done; make label-next selects more."

    def __init__(self, images: ImagesToLabel, file: LabelFile, listed: Sequence[str], message: str = ""):
        self.images, self.file, self.message = images, file, message
        self.image: str | None = None
        self.unwritten: Answer | None = None
        self.question: Question | None = None
        self._steps: list[Step] = []
        self._classes = dict.fromkeys(images.classes)
        self._queue = deque(self._unanswered(listed))
        self._is_list = bool(self._queue)
        if not self._is_list:
            self._queue.extend(self._unanswered(self._others()))
        self._show_next()

    # --- what a person does

    def label(self, name: str) -> None:
        """Gives the image the class called `name`, which may be a new one."""
        name, self.message = " ".join(clean(name).split()), ""
        if problem := self._problem(name):
            self.message = problem
        else:
            self._answer(Answer(name))

    def no_class(self) -> None:
        """Says that the image is of no class."""
        self._answer(NO_CLASS)

    def skip(self) -> None:
        """Puts the image behind all others of this sitting."""
        self.message, self.unwritten = "", None
        if self.image is None or self.question:
            return
        self._steps.append(Step(self.image))
        self._queue.append(self.image)
        self._show_next()
        if self._steps[-1].image == self.image:
            self.message = "this is the last one"

    def undo(self) -> None:
        """Takes the last answer or skip of this sitting back, and shows its image again."""
        self.message, self.unwritten = "", None
        if self.question or not self._steps:
            return
        step = self._steps[-1]
        if step.after is None:
            with suppress(ValueError):  # it was not skipped, but answered elsewhere
                self._queue.remove(step.image)
        elif not self._take_back(step):
            return
        self._steps.pop()
        if self.image not in (None, step.image):
            self._queue.appendleft(self.image)  # type: ignore[arg-type]  # not None
        self.image = step.image

    def keep(self) -> None:
        """Leaves the other person's answer, and goes on."""
        if self.question:
            self.message, self.question = "", None
            self._show_next()

    def overwrite(self) -> None:
        """Writes this person's answer in place of the other's."""
        if question := self.question:
            self.question = None
            self._answer(question.mine, question.theirs)

    def go_on(self) -> None:
        """At the end of the list, goes on with the images that are not on it."""
        self.message = ""
        if self.image is None:
            self._is_list = False
            self._queue.extend(self._unanswered(self._others()))
            self._show_next()

    # --- what is to be seen

    @property
    def classes(self) -> list[str]:
        """The classes, in the order in which they were first seen: a new one takes no other's key."""
        self._classes |= dict.fromkeys(answer.label for answer in self._labels().values() if answer.label)
        return list(self._classes)

    @property
    def progress(self) -> str:
        """How many images have an answer, and how many of this sitting have none."""
        counts = Counter(self._answers().values())
        n_given = sum(n for answer, n in counts.items() if answer.given)
        n_none = sum(n for answer, n in counts.items() if answer.kind[1])
        n_left = len(self._unanswered([*self._queue, *([self.image] if self.image else [])]))
        of_none = f" ({n_none} of no class)" if n_none else ""
        return f"{n_given} answered{of_none}, {n_left} to go{' on the list' * self._is_list}"

    def view(self) -> dict[str, Any]:
        """Everything that the panel shows: the image and its neighbours as pictures, and nothing of all others."""
        labels, image = self._labels(), self.image or ""
        counts, own_keys = Counter(answer.label for answer in labels.values()), keys(self.classes)
        classes = [{"name": name, "key": own_keys.get(name, ""), "count": counts[name]} for name in self.classes]
        question = self.question and {
            "theirs": self._told(image, self.question.theirs),
            "mine": self._told(image, self.question.mine),
        }
        pictures = self._pictures(image, labels) if image else {"picture": "", "fault": "", "neighbors": []}
        return pictures | {
            "image": image,
            "now": in_words(labels.get(image, Answer())),
            "classes": classes,
            "can_add": self.images.is_open,
            "can_undo": bool(self._steps),
            "message": self.message,
            "unwritten": self._told(image, self.unwritten) if self.unwritten else "",
            "question": question,
            "progress": self.progress,
            "file": str(self.file.path),
            "others": len(self._unanswered(self._others())) if self.image is None and self._is_list else 0,
            "done": self.DONE,
        }

    def _pictures(self, image: str, labels: Mapping[str, Answer]) -> dict[str, Any]:
        """The picture of an image, or why there is none, and its neighbours with what is known of them."""
        shown: dict[str, Any] = {"picture": "", "fault": "", "neighbors": []}
        try:
            shown["picture"] = self.images.picture(image, LARGE)
        except (UnreadableImage, OSError) as error:
            shown["fault"] = str(error)
        for name in self.images.neighbors(image):
            with suppress(UnreadableImage, OSError):
                told = in_words(labels.get(name, Answer()))
                shown["neighbors"].append({"name": name, "picture": self.images.picture(name, SMALL), "told": told})
        return shown

    # --- how

    def _labels(self) -> Mapping[str, Answer]:
        """The answers in the table, and beside them the labels that images have by their folders."""
        return {name: Answer(label) for name, label in self.images.labels.items()} | self.file.answers

    def _answers(self) -> Mapping[str, Answer]:
        """The answers by which an image is done."""
        return self._labels()

    def _others(self) -> Sequence[str]:
        """The images to go through after those listed."""
        return self.images.names

    def _told(self, image: str, answer: Answer) -> str:
        return in_words(answer)

    def _unanswered(self, names: Sequence[str]) -> list[str]:
        answers = self._answers()
        given = {answer for answer in {*answers.values()} if answer.given}
        return [name for name in names if answers.get(name) not in given]

    def _problem(self, label: str) -> str:
        """Why this is no label; '' if it is one."""
        if label in self.classes:
            return ""
        if not self.images.is_open:
            return f"label={tables.quoted(label)}: must be one of {', '.join(self.classes)}"
        if not label or len(label) > 100 or not label.isprintable():
            return f"label={tables.quoted(label)}: must be up to 100 printable characters"
        known = tables.look_alikes(self.classes)
        return "; ".join(each for each in tables.look_alikes([*self.classes, label]) if each not in known)

    def _answer(self, after: Answer, before: Answer | None = None) -> None:
        """Writes an answer for the image that is shown, where the table said `before`, and shows the next image."""
        self.message, image = "", self.image
        if image is None or self.question:
            return
        before = before or self.file.answers.get(image)
        is_there = self.images.is_there(image)
        try:
            is_changed = self.file.write(image, before, after, add=is_there)
        except (OSError, ValueError) as error:
            self.unwritten, self.message = after, f"not written, give the answer again: {_reason(error)}"
            return
        self.unwritten, there = None, self.file.answers.get(image)
        if there is not None and there.given and there.kind != after.kind:
            self.question = Question(there, after)
            return
        self._steps.append(Step(image, before, after) if is_changed else Step(image))
        self.message = f"image {image}: {self._told(image, after)}"
        self._show_next()
        if not is_there:
            what = "its row has your answer" if there is not None else "nothing was written"
            self.message = f"{image} is not in the folder any more: {what}"

    def _take_back(self, step: Step) -> bool:
        """Restores what the table said before an answer, unless somebody else changed it since; False if it can't be written."""
        try:
            self.file.write(step.image, step.after, step.before)
        except (OSError, ValueError) as error:
            self.message = f"not undone: {_reason(error)}"
            return False
        self.message, there = f"image {step.image}: undone", self.file.answers.get(step.image)
        if there is not None and there.given and there.kind != (step.before or Answer()).kind:
            self.message = (
                f"{step.image} was changed elsewhere, to {self._told(step.image, there)}: that stays, unless you answer again"
            )
        return True

    def _show_next(self) -> None:
        """Shows the next image that is there, and that nobody has answered."""
        self.image = None
        answers = self._answers()
        while self._queue and self.image is None:
            name = self._queue.popleft()
            if not (name in answers and answers[name].given) and self.images.is_there(name):
                self.image = name


def in_words(answer: Answer) -> str:
    """The answer as it is shown: the label, or `no class`; '' without one."""
    return answer.label or (tables.NO_CLASS if answer.kind[1] else "")


def keys(classes: Sequence[str]) -> dict[str, str]:
    """The key of each class: its name if that is one character, or one of FREE while there are any."""
    own = {name: name for name in classes if len(name) == 1 and name not in RESERVED}
    free = iter([key for key in FREE if key not in own])
    return {name: key for name in classes if (key := own.get(name) or next(free, ""))}


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class Panel(anywidget.AnyWidget):
    """What the cell shows of a sitting: `view` goes to the browser; keys and clicks come back as messages."""

    _esm = Path(__file__).with_name("label_by_hand.js")
    _css = Path(__file__).with_name("label_by_hand.css")
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, sitting: Sitting):
        super().__init__(view=sitting.view())
        self.sitting = sitting
        self.on_msg(self._do)

    def __repr__(self) -> str:  # in place of pictures, where there is no browser
        return f"{self.sitting.progress}; the answers are in {self.sitting.file.path}"

    def _do(self, _widget: object, message: Mapping[str, str], _buffers: object) -> None:
        """Does what a person asked for, unless another image was on screen than is now."""
        sitting = self.sitting
        if message["image"] == (sitting.image or ""):
            if message["do"] == "label":
                sitting.label(message["label"])
            elif message["do"] in sitting.ACTIONS:
                getattr(sitting, message["do"])()
        self.view = sitting.view() | {"turn": self.view.get("turn", 0) + 1}  # a new turn, even if all else is as it was


def start(data: str = "mnist", outputs: str = "outputs", labels: str = "", *, make_graph: bool = False) -> Panel:
    """The panel to label the images of the data set, or the folder, `data`, first those that `make label-next` listed.

    The answers go to the table `labels`; by default to the folder's own labels.csv, or, where labels are elsewhere, to the list
    in `outputs`. `make_graph` makes the graph of neighbours first if it is missing. Raises ValueError for bad arguments.
    """
    images = images_to_label(files.located(data), make_graph=make_graph)
    folder = files.outputs(outputs)
    path = files.expanded("labels", labels) if labels.strip() else _own_table(images) or folder / LIST
    files.writable("outputs" if path.parent == folder else "labels", path.parent)
    file = LabelFile(path, images.column, images.match)
    listed, message = _listed(images, folder / LIST)
    return Panel(Sitting(images, file, listed, message))


def _own_table(images: ImagesToLabel) -> Path | None:
    """The labels.csv of a folder whose labels are there, or that has none yet; None for other data sets."""
    if not isinstance(images, FolderImages) or images.labels or (images.folder / "labeled").exists():
        return None
    return images.folder / TABLE


def _listed(images: ImagesToLabel, path: Path) -> tuple[list[str], str]:
    """The images that the list of `make label-next` names without an answer, in its order; and why it is not used, or ''."""
    if not path.exists():
        return [], ""
    try:
        rows = tables.read(path, [images.column, "label"]).rows
    except ValueError as error:
        return [], f"not used: {error}"
    found = images.match(list(dict.fromkeys(row[images.column] for row in rows)))
    answered = {found.get(row[images.column]) for row in rows if Answer(row["label"], row.get("status", "")).given}
    names = dict.fromkeys(found.get(row[images.column]) for row in rows)
    known = {*images.names}
    return [name for name in names if name is not None and name in known and name not in answered], ""
