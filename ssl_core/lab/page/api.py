"""The page of the estimator and the three questions, from their docstrings."""

import inspect
import re
from collections.abc import Callable

from pdoc.docstrings import numpy

from ssl_core import estimator, questions

ENTRIES: tuple[Callable, ...] = (
    *(estimator.SemiSupervisedClassifier, questions.suggest, questions.label_issues, questions.LabelIssues),
    *(questions.how_many, questions.Budget),
)
SOURCE = "ssl_core/api.md"  # of the page, as if it were a document of that name
INTRODUCTION = """# The estimator, and three questions

What the project does with folders and runs, on arrays and in scikit-learn's ways.
Import the names from `ssl_core`."""


def markdown() -> str:
    """The page, Markdown."""
    parts = [INTRODUCTION, _text(questions)]
    for thing in ENTRIES:
        parts.append(_entry("##", thing))
        if inspect.isclass(thing):
            methods = [method for key, method in vars(thing).items() if inspect.isfunction(method) and not key.startswith("_")]
            parts += [_entry("###", method) for method in methods]
    return "\n\n".join(parts)


def _entry(level: str, thing: Callable) -> str:
    """The heading, the signature and the docstring of a class or a function."""
    name = thing.__name__
    parameters = [each for each in inspect.signature(thing).parameters.values() if each.name != "self"]
    listed = ", ".join(each.name if each.default is each.empty else f"{each.name}={each.default!r}" for each in parameters)
    code = f"```python\n{name}({listed})\n```"
    return f"{level} {name}\n\n{code}\n\n{_text(thing)}"


def _text(thing: object) -> str:
    """A docstring of NumPy's kind, Markdown; its examples come last."""
    text = re.sub(r"^#+ (.*)$", r"**\1**\n", numpy(inspect.getdoc(thing) or ""), flags=re.MULTILINE)
    text, examples, session = text.partition(">>> ")
    return text + (f"```pycon\n{examples}{session.rstrip()}\n```" if examples else "")
