"""From records to what people look at: results.csv, the results notebook and its page; the README's figure and table."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
from nbconvert import HTMLExporter

from . import budget, plots, runs

NOTEBOOK = runs.ROOT / "notebooks" / "results.ipynb"
# A shell of our own: nbconvert's links scripts from the network, and the page must be complete without one.
SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; }}
h1, h2, h3 {{ line-height: 1.2; margin-top: 2rem; }}
img {{ max-width: 100%; height: auto; }}
table {{ border: 0; border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ padding: 0.25rem 0.75rem; border: 0; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }}
th:first-child {{ text-align: left; }}
code {{ background: #f3f3f3; padding: 0 0.2em; }}
.anchor-link {{ display: none; }}
</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def build(outputs: Path, data: str = "mnist", draw: str = "random") -> bool:
    """Writes `results.csv`, `results.ipynb` and `results.html` into `outputs`; False, with a message, if no run is finished.

    The table has every finished run; the notebook and the page show those of one data set and one way to draw the labels.
    """
    records = runs.records(outputs)
    if not runs.select(records, data, draw):
        print(f"no finished run of data={data!r}, draw={draw!r} in {outputs}: `make sweep` makes them", file=sys.stderr)
        return False
    runs.write_atomically(outputs / "results.csv", runs.table(records).to_csv(index=False))
    executed = outputs / "results.ipynb"
    command = runs.papermill(NOTEBOOK, executed, {"outputs": str(outputs), "data": data, "draw": draw})
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{NOTEBOOK.name} failed, see {executed}\n{done.stdout[-2000:]}")
    runs.write_atomically(outputs / "results.html", as_page(executed))
    print(f"{len(records)} runs in {outputs / 'results.csv'}; the page is {outputs / 'results.html'}")
    return True


def as_page(notebook: Path) -> str:
    """An executed notebook as one HTML file without code cells, complete without a network."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
    return SHELL.format(title="How many digits must be labelled?", body=body)


def readme_table(results: pd.DataFrame) -> str:
    """The README's table, Markdown: a row for each number of labels, from the most; mean ± std (seeds), in per cent."""
    table = budget.accuracy_table(budget.curve(results)).sort_index(ascending=False)
    recipes = sorted(table.columns, key=plots.order, reverse=True)
    printed = {6000: "98.28", 500: "“95 plus”", 50: "“the lowest”"}
    lines = [["labels M", "the report prints", *(f"`{name}`" for name in recipes)], ["---:"] * (2 + len(recipes))]
    lines += [[str(n), printed.get(n, "–"), *row[recipes]] for n, row in table.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def refer(outputs: Path) -> None:
    """Renews the reference that the README shows, from the finished runs: its table, its figure, and the README's own table.

    Rows of runs that are not in `outputs` stay if today's code would make the same: the reference can grow in several sittings.
    """
    folder = runs.ROOT / "outputs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    results = runs.table(runs.select(runs.records(outputs))).drop(columns="current")
    if (folder / "results.csv").exists():
        results = pd.concat([results, _still_current(pd.read_csv(folder / "results.csv"))])
    identity = ["data", "recipe", "draw", "n_labels", "seed"]
    results = results.drop_duplicates(identity).sort_values(identity)
    runs.write_atomically(folder / "results.csv", results.to_csv(index=False, float_format="%.6g"))
    plots.accuracy_by_labels(budget.curve(results)).savefig(folder / "accuracy.png", dpi=150)
    readme = runs.ROOT / "README.md"
    marked = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)
    runs.write_atomically(readme, marked.sub(lambda m: m[1] + readme_table(results) + "\n" + m[2], readme.read_text()))


def _still_current(reference: pd.DataFrame) -> pd.DataFrame:
    """The rows of an earlier reference that today's code would make again."""
    parameters = reference[["n_labels", "recipe", "seed", "data", "draw"]].to_dict("records")
    fingerprints = reference.get("fingerprint", pd.Series("", reference.index))
    return reference[[runs.is_current(p, f) for p, f in zip(parameters, fingerprints, strict=True)]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ssl_core.lab.page", description=__doc__)
    parser.add_argument("--outputs", default="outputs", help="the folder of results, from the project's root")
    parser.add_argument("--data", default="mnist", help="the data set that the page is about")
    parser.add_argument("--draw", default="random", help="how the labelled images were drawn")
    parser.add_argument("--reference", action="store_true", help="also renew outputs/reference and the README's table")
    given = parser.parse_args()
    if not build(runs.ROOT / given.outputs, given.data, given.draw):
        sys.exit(1)
    if given.reference:
        refer(runs.ROOT / given.outputs)


if __name__ == "__main__":
    main()
