"""Table and figure of MTML's toy experiment: results of its cells in, Markdown and a figure out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Sequence[dict[str, Any]]
"""Each: method, noise, seed (None of a baseline), scores (class or mean → AP, AP50, AP25), test_scenes."""
BEFORE, AFTER = "embedding only", "multi-task"


def voxel_table(cells: Cells) -> str:
    """One row a noise and method, AP50 of each class and the means in %, mean ± standard deviation over seeds; below it what the
    second task brings, seed by seed."""
    classes = [name for name in cells[0]["scores"] if name != "mean"]
    head = ["wrong blocks", "", *(f"{name} AP50" for name in classes), "mean AP50", "mean AP", "mean AP25"]
    lines = [head, ["---"] * len(head)]
    columns = [*((name, "AP50") for name in classes), ("mean", "AP50"), ("mean", "AP"), ("mean", "AP25")]
    for noise in _names(cells, "noise"):
        for method in _names(cells, "method"):
            values = [_spread(_values(cells, method, noise, *column)) for column in columns]
            lines.append([f"{noise:.0%}", method, *values])
    seeds = sorted({cell["seed"] for cell in cells if cell["seed"] is not None})
    told = (
        f"MTML on boxes of five classes, {cells[0]['test_scenes']} test scenes, seeds {', '.join(map(str, seeds)) or 'none yet'}; "
        "3-D AP in %, one coherent labelling."
    )
    gains = [line for noise in _names(cells, "noise") for line in _gain(cells, noise)]
    return "\n".join([told, "", *(f"| {' | '.join(line)} |" for line in lines), *([""] if gains else []), *gains]) + "\n"


def _gain(cells: Cells, noise: float) -> list[str]:
    """Multi-task less embedding only with the same seed, mean of the classes."""
    by_seed: dict[int, dict[str, float]] = {}
    for cell in cells:
        if cell["noise"] == noise and cell["method"] in (BEFORE, AFTER):
            by_seed.setdefault(cell["seed"], {})[cell["method"]] = cell["scores"]["mean"]["AP50"]
    gain = [100 * (pair[AFTER] - pair[BEFORE]) for pair in by_seed.values() if len(pair) == 2]
    if not gain:
        return []
    spread = f" ± {stdev(gain):.1f}" if len(gain) > 1 else ""
    return [f"- {noise:.0%} wrong: {AFTER} − {BEFORE} {mean(gain):+.1f}{spread} AP50, {len(gain)} seed{'s' * (len(gain) > 1)}"]


def voxel_figure(cells: Cells) -> Figure:
    """Left: mean AP50 over the noise, a curve a method; right: AP50 of each class with right semantics."""
    import matplotlib

    matplotlib.use("Agg")  # no display, on servers as on robots
    from matplotlib.figure import Figure

    from .figures import COLORS

    methods, noises = _names(cells, "method"), sorted(_names(cells, "noise"))
    classes = [name for name in cells[0]["scores"] if name != "mean"]
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (method, color) in enumerate(zip(methods, COLORS)):
        points = [(noise, values) for noise in noises if (values := _values(cells, method, noise, "mean", "AP50"))]
        left.errorbar(*_bars(points), color=color, marker="o", capsize=2, label=method)
        width = 0.8 / len(methods)
        at = [k + (i - (len(methods) - 1) / 2) * width for k in range(len(classes))]
        bars = [(x, values) for x, name in zip(at, classes) if (values := _values(cells, method, noises[0], name, "AP50"))]
        x, height, error = _bars(bars)
        right.bar(x, height, 0.92 * width, yerr=error, color=color, capsize=2)
    left.set(xlabel="share of the blocks whose class is wrong", ylabel="AP50 (%), mean of the classes", ylim=(0, 102), xticks=noises)
    right.set(title=f"{noises[0]:.0%} wrong", ylabel="AP50 (%)", ylim=(0, 102))
    right.set_xticks(range(len(classes)), classes)
    for panel in (left, right):
        panel.grid(axis="y", alpha=0.3)
    left.legend(fontsize=8)
    return figure


def _bars(points: Sequence[tuple[float, list[float]]]) -> tuple[list[float], list[float], list[float]]:
    """x, mean and standard deviation."""
    return [x for x, _ in points], [mean(v) for _, v in points], [stdev(v) if len(v) > 1 else 0.0 for _, v in points]


def _names(cells: Cells, key: str) -> list[Any]:
    return list(dict.fromkeys(cell[key] for cell in cells))


def _values(cells: Cells, method: str, noise: float, kind: str, figure: str) -> list[float]:
    """In %, of every seed that is there."""
    return [100 * c["scores"][kind][figure] for c in cells if c["method"] == method and c["noise"] == noise]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
