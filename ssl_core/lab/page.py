"""From records to what people look at: results.csv, the executed results notebook, and the page made from it."""

import argparse
import sys
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter

from . import runs

NOTEBOOK = runs.ROOT / "notebooks" / "results.ipynb"
# nbconvert would link these from the network; the page has no mathematics and no widgets, and must work without.
NOT_LINKED = {f"{name}_url": "" for name in ("mathjax", "require_js", "jquery", "jupyter_widgets_base", "mermaid_js")}


def build(outputs: Path) -> bool:
    """Writes `results.csv`, `results.ipynb` and `results.html` into `outputs`; False, with a message, if no run is finished."""
    records = runs.records(outputs)
    if not records:
        print(f"no finished run in {outputs}: `make sweep` makes them", file=sys.stderr)
        return False
    runs.write_atomically(outputs / "results.csv", runs.table(records).to_csv(index=False))
    executed = outputs / "results.ipynb"
    papermill.execute_notebook(
        NOTEBOOK, executed, {"outputs": str(outputs)}, kernel_name="python3", progress_bar=False, cwd=NOTEBOOK.parent
    )
    runs.write_atomically(outputs / "results.html", as_page(executed))
    print(f"{len(records)} runs in {outputs / 'results.csv'}; the page is {outputs / 'results.html'}")
    return True


def as_page(notebook: Path) -> str:
    """An executed notebook as one HTML file without code cells, complete without a network."""
    exporter = HTMLExporter(exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True)
    for name, value in NOT_LINKED.items():
        setattr(exporter, name, value)
    html, _ = exporter.from_notebook_node(
        nbformat.read(notebook, as_version=4), {"metadata": {"name": "How many digits must be labelled?"}}
    )
    return html


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.page", description=__doc__)
    parser.add_argument("--outputs", default="outputs", help="the folder of results, from the project's root")
    if not build(runs.ROOT / parser.parse_args().outputs):
        sys.exit(1)


if __name__ == "__main__":
    main()
