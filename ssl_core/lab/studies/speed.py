"""The figure of the benchmark: how fast training is, and where its time goes."""

from matplotlib.figure import Figure

from .style import OTHER, STYLE, new_figure, style


def figure(bench: dict) -> Figure:
    """Training speed against the report's loop, and the largest shares of the time of `best`; `bench` is bench.json."""
    rates = bench["rates"]
    bars = {"the report's loop": ("printed", OTHER["color"])} | {n: (n, style(n)["color"]) for n in STYLE if n in rates}
    drawn, ((left, right),) = new_figure(10, 3.2, 1, 2)
    for position, (key, color) in enumerate(bars.values()):
        left.barh(position, rates[key], color=color)
        left.text(rates[key], position, f" {rates[key]:.0f}", va="center")
    left.set_yticks(range(len(bars)), list(bars))
    left.set(xlabel="images a second, all cores", title="Training speed (medians)")
    left.set_xlim(right=1.25 * max(rates[key] for key, _ in bars.values()))
    kernels, shares = zip(*bench["profile"], strict=True)
    right.barh(kernels, [100 * share for share in shares], color=style("best")["color"])
    right.set(xlabel="share of the time of `best` (%), the five largest", title="Where the time goes")
    for axis in (left, right):
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
    return drawn
