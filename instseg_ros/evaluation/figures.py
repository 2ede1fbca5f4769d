"""The report's figures (matplotlib, Agg): results by name in, one figure out."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")  # no display, on servers as on robots

import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: E402

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe and Ito's palette: told apart with every kind of colour vision."""
Results = dict[str, dict]


def precision_recall(results: Results) -> Figure:
    """Precision over recall at IoU 0.50, at 0.75 and in the mean."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    recall = np.linspace(0, 1, 101)
    for axis, (key, title) in zip(
        figure.subplots(1, 3, sharey=True), (("IoU 0.50", "IoU ≥ 0.50"), ("IoU 0.75", "IoU ≥ 0.75"), ("mean", "mean of IoU 0.50…0.95"))
    ):
        for (name, result), color in zip(results.items(), _colors()):
            axis.plot(recall, np.clip(result["plots"]["precision"][key], 0, 1), color=color, label=name)
        axis.set(title=title, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("precision")
    _legend(figure)
    return figure


def occlusion(results: Results) -> Figure:
    """Average recall by how much of an instance is visible, with 95 % intervals."""
    classes = {"AR_heavy": "heavy\n(< 0.3 visible)", "AR_medium": "medium\n(0.3 to 0.75)", "AR_little": "little\n(≥ 0.75)"}
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(results)
    for i, ((name, result), color) in enumerate(zip(results.items(), _colors())):
        for j, key in enumerate(classes):
            if result[key] is None:
                continue
            at, value = j + (i - (len(results) - 1) / 2) * width, result[key]
            low, high = _interval(result, key)
            axis.bar(at, value, 0.92 * width, color=color, label=name if j == 0 or name not in _labels(axis) else None)
            axis.errorbar(at, value, [[max(value - low, 0)], [max(high - value, 0)]], color="#333333", capsize=2, linewidth=1)
    axis.set(xticks=range(3), xticklabels=classes.values(), ylabel="average recall", ylim=(0, 1.02), xlim=(-0.5, 2.5))
    axis.grid(axis="y", alpha=0.3)
    _legend(figure)
    return figure


def counts(results: Results) -> Figure:
    """How many parts were found against how many there are, one panel a method."""
    columns = min(len(results), 4)
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    # One scale for all panels, cut where hardly anything lies: fragments run into the hundreds.
    true = [row[0] for result in results.values() for row in result["plots"]["count"]]
    top = max(2 * max(true, default=1), 2)
    for axis, (name, result) in zip(grid, results.items()):
        table = np.zeros((top + 1, max(true, default=0) + 1))
        for n, m, times in result["plots"]["count"]:
            table[min(m, top), n] += times
        axis.imshow(np.ma.masked_equal(table, 0), origin="lower", cmap="viridis", aspect="auto", interpolation="nearest")
        axis.plot([-0.5, table.shape[1] - 0.5], [-0.5, table.shape[1] - 0.5], color="#d55e00", linewidth=1)
        axis.set(title=f"{name}: {_percent(result['count_accuracy'])} right", xlabel="true count", ylabel=f"found (top row: {top} or more)")
        axis.title.set_fontsize(9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(-0.5, top + 0.5)
    for axis in grid[len(results) :]:
        axis.axis("off")
    return figure


def centroid_errors(results: Results) -> Figure:
    """Distribution of the centroid errors of matched instances."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    for (name, result), color in zip(results.items(), _colors()):
        edges, count = np.array(result["plots"]["centroid_mm"]["edges"]), np.array(result["plots"]["centroid_mm"]["count"])
        if not count.sum():
            continue
        median = result["centroid_mm_median"]
        axis.plot(edges, np.append(0, np.cumsum(count)[:-1]) / count.sum(), color=color, label=f"{name} (median {median:.1f} mm)")
    axis.set(xlabel="centroid error, mm", ylabel="share of matched instances", xlim=(0, 20), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8, loc="upper left")
    return figure


def latency(results: Results) -> Figure:
    """Seconds an image."""
    measured = {
        name: [image["seconds"] for image in result["per_image"] if image["seconds"] is not None]
        for name, result in results.items()
    }
    measured = {name: values for name, values in measured.items() if values}
    figure = Figure(figsize=(7, 0.8 + 0.4 * max(len(measured), 1)), layout="constrained")
    axis = figure.subplots()
    if measured:
        axis.boxplot(list(measured.values()), orientation="horizontal", whis=(1, 99), showfliers=False, widths=0.6, medianprops={"color": "#d55e00"})
        axis.set_yticks(range(1, len(measured) + 1), measured)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.invert_yaxis()
    axis.set(xlabel="seconds an image (box: middle half; whiskers: 1st to 99th percentile)")
    axis.grid(axis="x", alpha=0.3, which="both")
    return figure


def parts(results: Results) -> Figure:
    """AP of each part."""
    names = sorted({part for result in results.values() for part in result["per_part"]})
    figure = Figure(figsize=(min(max(7, 0.25 * len(names) * len(results)), 11), 3.4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(results)
    for i, ((name, result), color) in enumerate(zip(results.items(), _colors())):
        values = [(result["per_part"].get(part) or {}).get("AP") for part in names]
        at = np.arange(len(names)) + (i - (len(results) - 1) / 2) * width
        axis.bar(at, [value or 0 for value in values], 0.92 * width, color=color, label=name)
    axis.set(xticks=range(len(names)), xticklabels=names, ylabel="AP", ylim=(0, 1.02), xlim=(-0.5, len(names) - 0.5))
    axis.grid(axis="y", alpha=0.3)
    _legend(figure)
    return figure


FIGURES: dict[str, tuple[str, Callable[[Results], Figure]]] = {
    "precision_recall": ("Precision and recall", precision_recall),
    "occlusion": ("Recall by occlusion", occlusion),
    "parts": ("Part by part", parts),
    "counts": ("Count", counts),
    "centroid_errors": ("Centroid error", centroid_errors),
    "latency": ("Latency", latency),
}
"""File name → (title, function)."""


def _colors():
    return (COLORS[i % len(COLORS)] for i in range(10_000))


def _legend(figure: Figure) -> None:
    """One line of names above the panels: inside it would cover bars and curves."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(max(len(names), 1), 8), fontsize=8, frameon=False)


def _labels(axis) -> list[str]:
    return axis.get_legend_handles_labels()[1]


def _interval(result: dict, key: str) -> tuple[float, float]:
    low, high = result["interval"].get(key) or (None, None)
    value = result[key]
    return (value if low is None else low), (value if high is None else high)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
