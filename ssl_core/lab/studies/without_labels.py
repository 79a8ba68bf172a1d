"""How far do clusters go, without any label?"""

import pandas as pd

from . import words
from .study import Grid, Results, Study, page_table

GRID = (Grid("0", "best", "0 1 2 3 4"),)
PUBLISHED = {"mnist": 0.984}  # the mean of IIC (Ji et al. 2019, table 1); its best head of many reaches 0.992


def summarize(results: Results) -> pd.DataFrame:
    """A row for each recipe and number of clusters, 0 for as many as there are classes: mean and deviation over seeds."""
    groups = results.clustered.groupby(["recipe", "n_clusters"])
    return (
        groups.agg(
            mean=("accuracy", "mean"),
            std=("accuracy", "std"),
            worst=("accuracy", "min"),
            n=("seed", "nunique"),
            n_test=("n_test", "min"),
            ari=("ari", "mean"),
            nmi=("nmi", "mean"),
        )
        .reset_index()
        .assign(data=results.data)
    )


def table(clusters: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe and number of clusters."""
    rows = {
        "clustering accuracy": [
            words.percent(*row) for row in zip(clusters["mean"], clusters["std"], clusters["n"], strict=True)
        ],
        "worst": [f"{100 * worst:.2f}" for worst in clusters["worst"]],
        "adjusted Rand index": [f"{ari:.4f}" for ari in clusters["ari"]],
        "normalised mutual information": [f"{nmi:.4f}" for nmi in clusters["nmi"]],
        "published": [f"{100 * PUBLISHED[name]:.1f}" if name in PUBLISHED else "–" for name in clusters["data"]],
    }
    names = [
        f"{recipe}, {n or 'as many as classes'}" for recipe, n in zip(clusters["recipe"], clusters["n_clusters"], strict=True)
    ]
    return pd.DataFrame(rows, index=pd.Index(names, name="recipe, clusters"))


def sentences(clusters: pd.DataFrame) -> str:
    """The best of the rows in words, Markdown."""
    best = clusters.loc[clusters["mean"].idxmax()]
    share, tested, seeds = f"**{100 * best['mean']:.2f} %**", words.tested([best["n_test"]]), words.seeds([best["n"]])
    named = "if each cluster is named by the class that fits it best"
    return f"Without any label `{best['recipe']}` is right for {share} of the {tested} ({seeds}), {named}."


STUDY = Study(
    name="without_labels",
    question="How far do clusters go, without any label?",
    grid=GRID,
    summarize=summarize,
    nothing='No run without labels is finished; `make sweep LABELS="0"` trains one.',
    table=table,
    note="Clustering accuracy: the share of test images in a cluster that is named by their class, in the best one-to-one naming"
    " of clusters; in per cent, mean ± standard deviation over seeds (number of seeds). It is a measure of its own: the naming"
    " uses the classes of the test images.",
    sentences=sentences,
    markers={"without_labels": page_table(summarize, table)},
)
