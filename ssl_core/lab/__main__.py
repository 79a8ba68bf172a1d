"""One command line for the lab: `python -m ssl_core.lab COMMAND --help` says what a command takes; `make` calls the same.

A module with a command has `configure(parser)` and `command(args)`. Bad input ends it with one line and status 1.
"""

import argparse
import locale
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from ssl_core.datasets import DataError

from . import LabError

COMMANDS = {  # name: module and summary; a module is imported when its command is called
    "sweep": ("ssl_core.lab.page.sweep_and_build", "train a grid of runs, then build the results page"),
    "results": ("ssl_core.lab.page.build", "build the results page again, without training"),
    "label-next": ("ssl_core.lab.tools.label_next", "select the images to label next"),
    "check-labels": ("ssl_core.lab.tools.check_labels", "list the labels that the others contradict, to decide on"),
    "label-strategies": ("ssl_core.lab.studies.strategy_cells", "measure selections of labels against those of the field"),
    "label-errors": ("ssl_core.lab.studies.label_error_cells", "measure which wrong labels each method finds"),
    "frontier": ("ssl_core.lab.studies.frontier", "measure how much accuracy each second buys"),
    "future-work": ("ssl_core.lab.studies.variants", "measure other clusterings, regularisations and networks"),
    "peers": ("ssl_core.lab.studies.peers", "run other packages on the same labels"),
    "pools": ("ssl_core.lab.studies.pools", "measure time and memory of pools of up to a million images"),
    "predict": ("ssl_core.lab.tools.predict", "classify images with a finished run"),
    "export-labels": ("ssl_core.lab.tools.label_studio", "write a folder's images and labels as tasks for Label Studio"),
    "import-labels": (
        "ssl_core.lab.tools.import_labels",
        "bring labels of Label Studio, or of a table, into a folder's labels.csv",
    ),
    "compare-labels": ("ssl_core.lab.tools.agreement", "compare the labels of two people"),
    "own-labels": ("ssl_core.lab.studies.own_labels", "check MNIST's own labels by networks that did not see them"),
    "duplicates": ("ssl_core.lab.tools.duplicates", "list the images that are there twice"),
    "bench": ("ssl_core.lab.tools.bench", "measure the speed of training and of a sweep"),
    "certify": ("ssl_core.lab.runs.certify", "check whether a change of the code changes a number"),
    "reference": ("ssl_core.lab.page.reference", "make everything that the pages show, and renew outputs/reference"),
    "lab": ("ssl_core.lab.tools.lab_copies", "copy the notebooks to outputs/lab/notebooks, to be changed"),
    "site": ("ssl_core.lab.page.site", "build a static site of executed notebooks and results"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab", description="Run experiments and read their results.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if arguments[:1] == [name]:
            _imported(name, module).configure(sub)
    args = parser.parse_args(arguments)
    # SIGTERM and Ctrl-C interrupt it, Ctrl-C also where a shell had it ignored: a sweep then ends with its runs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        import_module(COMMANDS[args.command][0]).command(args)
    except KeyboardInterrupt:
        sys.exit(f"{args.command}: interrupted")
    except (ValueError, OSError, DataError, LabError) as error:
        sys.exit(f"{args.command}: {error}")
    except LookupError as error:
        if type(error) is not LookupError:  # an IndexError or a KeyError is a bug
            raise
        sys.exit(f"{args.command}: {error}")


def _imported(command: str, module: str) -> ModuleType:
    """The module; ends the program with one line where a package that the lab needs is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ssl_core"):
            raise
        sys.exit(f"{command}: the package {error.name} is not installed: `make setup`, in a clone of the project, installs all")


def use_utf8() -> None:
    """Begins again in Python's UTF-8 mode where the locale is of another encoding: the project's files are all UTF-8.

    What a terminal cannot show, as parts of some files' names, is then shown by its number and ends nothing.
    """
    other = not sys.flags.utf8_mode and locale.getencoding().lower() not in ("utf-8", "utf8")
    if other and os.name == "posix" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # files, since nobody replaced them yet


if __name__ == "__main__":
    use_utf8()
    main()
